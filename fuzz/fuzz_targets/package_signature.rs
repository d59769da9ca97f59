//! Signatures of packages and the keys they are compared with: whatever they are, nothing is good for two packages.
//!
//! The input is a byte that says where the signature is, the length of the keys in two bytes, the keys, and the signature.

#![no_main]

use std::{
    fs,
    time::{Duration, SystemTime},
};

use libfuzzer_sys::fuzz_target;
use obfleet_fuzz::rpm::{Bench, take_apart};
use obfleet_package::{TrustedKeys, verify_signed};

/// The package that the seeds sign, and another one.
const SIGNED: &[u8] = include_bytes!("../seeds/package/plain.rpm");
const OTHER: &[u8] = include_bytes!("../seeds/package/gzip.rpm");
/// Tags of RSA, DSA, OpenPGP in base64, PGP and GPG in a signature header.
const TAGS: [u32; 5] = [268, 267, BASE64, 1002, 1005];
const BASE64: u32 = 278;
/// A day of 2027: the seeds' keys are older.
const NOW: u64 = 1_800_000_000;
/// Seeds of each kind.
const GOOD: [&[u8]; 4] = [
    include_bytes!("../seeds/package_signature/ed25519-header"),
    include_bytes!("../seeds/package_signature/ed25519-whole"),
    include_bytes!("../seeds/package_signature/rsa2048-base64"),
    include_bytes!("../seeds/package_signature/rsa2048-armored"),
];

fuzz_target!(
    // Nothing would be learned of what is behind a check that nothing passes.
    init: for good in GOOD {
        assert_eq!(signed(good), [true, false], "a good signature does not count");
    },
    |input: &[u8]| {
        let signed = signed(input);
        assert!(signed != [true, true], "something signed two packages at once");
    }
);

/// Which of the two packages the input is a signature of.
fn signed(input: &[u8]) -> [bool; 2] {
    let [place, high, low, rest @ ..] = input else {
        return [false; 2];
    };
    let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
    let (keys, signature) = rest.split_at(length);
    let bench = Bench::new();
    let dir = bench.path("keys");
    fs::create_dir(&dir).expect("a directory can be made");
    fs::write(dir.join("key"), keys).expect("a file can be written");
    let Ok(keys) = TrustedKeys::read(&dir) else {
        return [false; 2];
    };
    assert!(!keys.fingerprints().is_empty(), "keys that were read are keys");
    let tag = TAGS[usize::from(*place) % TAGS.len()];
    let mut signature = signature.to_vec();
    if tag == BASE64 {
        signature.retain(|byte| *byte != 0);
        signature.push(0);
    }
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    [SIGNED, OTHER].map(|package| {
        let package = take_apart(package).expect("a seed is a package");
        let path = bench.file("package.rpm", &package.signed(&[(tag, signature.clone())]));
        verify_signed(&path, &keys, now).is_ok_and(|(_, signer)| {
            assert!(
                keys.fingerprints().contains(&signer.fingerprint),
                "{} is not trusted",
                signer.fingerprint
            );
            true
        })
    })
}
