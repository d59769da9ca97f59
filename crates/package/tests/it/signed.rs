//! Signatures made by RPM's and GnuPG's own programs, on good packages, changed ones, and with keys that should not count.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use md5::Md5;
use obfleet_package::{Integrity, PackageError, SignatureFault, TrustedKeys, verify_signed};
use rpm::{Header, HeaderEntry, IndexData, IndexSignatureTag, IndexTag, Package};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::{
    craft::{self, Bench},
    rpm_tool::is_there,
};

/// A day of 2020, and later ones, as GnuPG takes them.
const MARCH: &str = "20200301T000000";
const APRIL: &str = "20200401T000000";
const JUNE: &str = "20200601T000000";

fn programs_are_there() -> bool {
    is_there("gpg") && is_there("rpmsign")
}

/// Where GnuPG is.
fn gpg() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let mut places = std::env::split_paths(&path).map(|dir| dir.join("gpg"));
    places.find(|path| path.is_file()).unwrap()
}

/// GnuPG with keys of its own, and the packages they sign.
struct Signing {
    bench: Bench,
    /// GnuPG's, and short: a socket is in it.
    home: TempDir,
}

impl Signing {
    fn new() -> Self {
        Self {
            bench: Bench::new(),
            home: tempfile::tempdir_in("/tmp").unwrap(),
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new(program)
            .env("GNUPGHOME", self.home.path())
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    fn gpg(&self, arguments: &[&str]) -> Vec<u8> {
        let quiet = [
            "--batch",
            "--quiet",
            "--yes",
            "--no-tty",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ];
        self.run("gpg", &[&quiet, arguments].concat())
    }

    /// Makes a key, as `options` say, and returns its fingerprint.
    fn key(&self, name: &str, kind: &str, usage: &str, options: &[&str]) -> String {
        self.gpg(&[options, &["--quick-generate-key", name, kind, usage, "never"]].concat());
        let listed = String::from_utf8(self.gpg(&["--list-keys", "--with-colons", name])).unwrap();
        let line = listed.lines().find(|line| line.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    }

    /// Signs the package and returns its path.
    fn sign(&self, package: &Package, key: &str, options: &[&str], gpg_options: &str) -> PathBuf {
        let path = self.bench.package(package);
        let home = format!("_gpg_path {}", self.home.path().display());
        let extra = format!("_gpg_sign_cmd_extra_args --batch --pinentry-mode loopback {gpg_options}");
        let key = format!("_gpg_name {key}");
        // RPM of Debian expects it elsewhere.
        let gpg = format!("__gpg {}", gpg().display());
        let ours = [
            "--define", &home, "--define", &extra, "--define", &key, "--define", &gpg,
        ];
        let path_text = path.display().to_string();
        self.run("rpmsign", &[&ours, options, &["--addsign", &path_text]].concat());
        path
    }

    /// A signature of what the package's header, and with `payload` its payload, have.
    fn signature(&self, package: &Package, key: &str, payload: bool) -> Vec<u8> {
        let mut content = package.header_bytes().unwrap();
        if payload {
            content.extend(&package.payload);
        }
        let path = self.bench.file("content", &content).display().to_string();
        self.gpg(&["--local-user", key, "--detach-sign", "--output", "-", &path])
    }

    /// The package with exactly these signatures, and a digest of its header, as RPM of its time would have written it.
    fn with(&self, package: &Package, signatures: Vec<(IndexSignatureTag, IndexData)>) -> PathBuf {
        let digest = hex::encode(Sha256::digest(package.header_bytes().unwrap()));
        let digest = (IndexSignatureTag::RPMSIGTAG_SHA256, IndexData::StringTag(digest));
        let entries = signatures.into_iter().chain([digest]);
        let entries: Vec<_> = entries.map(|(tag, data)| HeaderEntry::new(tag as u32, data)).collect();
        let mut signed = package.clone();
        signed.metadata.signature = Header::from_entries(entries, IndexSignatureTag::HEADER_SIGNATURES);
        self.bench.package(&signed)
    }

    /// Puts a key's public part into the directory of trusted keys; `trust` lists several, separated by spaces.
    fn trust(&self, keys: &str) -> TrustedKeys {
        let dir = self.bench.dir.path().join("keys");
        fs::create_dir_all(&dir).unwrap();
        for key in keys.split(' ') {
            let exported = self.gpg(&["--armor", "--export", key]);
            fs::write(dir.join(format!("{key}.asc")), exported).unwrap();
        }
        TrustedKeys::read(&dir).unwrap()
    }
}

impl Drop for Signing {
    fn drop(&mut self) {
        // GnuPG starts an agent of its own for each home.
        let ended = Command::new("gpgconf")
            .env("GNUPGHOME", self.home.path())
            .args(["--kill", "gpg-agent"])
            .status();
        println!("gpg-agent: {ended:?}");
    }
}

/// The fingerprint of who signed, or why nobody counts.
fn verdict(path: &Path, keys: &TrustedKeys) -> Result<(Integrity, String), SignatureFault> {
    verdict_at(path, keys, SystemTime::now())
}

fn verdict_at(path: &Path, keys: &TrustedKeys, now: SystemTime) -> Result<(Integrity, String), SignatureFault> {
    match verify_signed(path, keys, now) {
        Ok((integrity, signer)) => Ok((integrity, signer.fingerprint)),
        Err(PackageError::Signature { fault, .. }) => Err(fault),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_trusted_key_vouches_for_a_package() {
    if !programs_are_there() {
        return;
    }
    let signing = Signing::new();
    let key = signing.key("vendor", "rsa2048", "sign", &[]);
    let other = signing.key("somebody", "ed25519", "sign", &[]);
    let keys = signing.trust(&key);
    assert_eq!(keys.fingerprints(), std::slice::from_ref(&key));

    let path = signing.bench.package(&craft::good());
    assert_eq!(verdict(&path, &keys), Err(SignatureFault::Unsigned));
    for options in [
        &[][..],
        &["--rpmv3"],
        &["--digest-algo", "sha1"],
        &["--digest-algo", "sha512"],
    ] {
        let path = signing.sign(&craft::good(), &key, options, "");
        assert_eq!(
            verdict(&path, &keys),
            Ok((Integrity::Payload, key.clone())),
            "{options:?}"
        );
        let before = SystemTime::now() - Duration::from_secs(3 * 24 * 60 * 60);
        let early = verdict_at(&path, &keys, before);
        assert_eq!(early, Err(SignatureFault::NotNow { key: key.clone() }), "{options:?}");
    }
    // GnuPG signs over MD5 only when it is told twice.
    let path = signing.sign(
        &craft::good(),
        &key,
        &["--digest-algo", "md5"],
        "--allow-weak-digest-algos",
    );
    let algorithm = "MD5".to_owned();
    assert_eq!(
        verdict(&path, &keys),
        Err(SignatureFault::Weak {
            key: key.clone(),
            algorithm
        })
    );

    let path = signing.sign(&craft::good(), &other, &[], "");
    assert_eq!(
        verdict(&path, &keys),
        Err(SignatureFault::UnknownKey { key: other.clone() })
    );
    let keys = signing.trust(&format!("{key} {other}"));
    assert_eq!(verdict(&path, &keys), Ok((Integrity::Payload, other)));
}

/// Changes a byte of the header, and the digests of it that anybody can make.
fn forge(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let package = Package::open(path).unwrap();
    let offsets = package.metadata.get_package_segment_offsets();
    let (from, to) = (offsets.header as usize, offsets.payload as usize);
    let summary = bytes[from..to].windows(6).position(|at| at == b"a test").unwrap();
    let digests = |bytes: &[u8]| {
        let header = &bytes[from..to];
        [hex::encode(Sha256::digest(header)), hex::encode(Sha1::digest(header))]
    };
    let before = digests(&bytes);
    bytes[from + summary] = b'b';
    for (old, new) in before.iter().zip(digests(&bytes)) {
        if let Some(at) = bytes[..from].windows(old.len()).position(|at| at == old.as_bytes()) {
            bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
        }
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_was_changed_after_signing_is_refused() {
    if !programs_are_there() {
        return;
    }
    let signing = Signing::new();
    let key = signing.key("vendor", "ed25519", "sign", &[]);
    let keys = signing.trust(&key);
    for options in [&[][..], &["--rpmv3"]] {
        let path = signing.sign(&craft::good(), &key, options, "");
        let good = fs::read(&path).unwrap();
        forge(&path);
        obfleet_package::verify(&path).unwrap();
        assert_eq!(
            verdict(&path, &keys),
            Err(SignatureFault::Bad { key: key.clone() }),
            "{options:?}"
        );

        let payload = Package::parse(&mut good.as_slice()).unwrap().payload.len();
        for at in [good.len() - payload, good.len() - 1] {
            let mut changed = good.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).unwrap();
            verify_signed(&path, &keys, SystemTime::now()).unwrap_err();
        }
        let mut longer = good.clone();
        longer.push(0);
        fs::write(&path, &longer).unwrap();
        verify_signed(&path, &keys, SystemTime::now()).unwrap_err();
        // Any byte after the signatures: RPM's old place for them is bound by nothing.
        let header = good.len() - payload - 1000;
        for at in (header..good.len()).step_by(97) {
            let mut changed = good.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(&path, &changed).unwrap();
            verify_signed(&path, &keys, SystemTime::now()).unwrap_err();
        }
    }
}

/// As RPM of EL7's time made them: without a digest of the payload, here with files' digests of the given kind.
fn older(digest: &str, algorithm: Option<u32>) -> Package {
    let payload_digests = [
        IndexTag::RPMTAG_PAYLOADSHA256 as u32,
        IndexTag::RPMTAG_PAYLOADSHA256ALT as u32,
        IndexTag::RPMTAG_PAYLOADSHA256ALGO as u32,
        IndexTag::RPMTAG_PAYLOAD_SHA512 as u32,
        IndexTag::RPMTAG_PAYLOAD_SHA512_ALT as u32,
        IndexTag::RPMTAG_PAYLOAD_SHA3_256 as u32,
        IndexTag::RPMTAG_PAYLOAD_SHA3_256_ALT as u32,
    ];
    craft::change_header(&craft::good(), |tag, data| match tag {
        _ if payload_digests.contains(&tag) => None,
        _ if tag == IndexTag::RPMTAG_FILEDIGESTS as u32 => Some(IndexData::StringArray(vec![digest.to_owned()])),
        _ if tag == IndexTag::RPMTAG_FILEDIGESTALGO as u32 => algorithm.map(|kind| IndexData::Int32(vec![kind])),
        _ => Some(data),
    })
}

#[test]
fn of_older_packages_every_file_is_bound() {
    if !programs_are_there() {
        return;
    }
    use IndexSignatureTag as Tag;
    let signing = Signing::new();
    let content = craft::program(5000);
    let strong = older(&hex::encode(Sha256::digest(&content)), Some(8));
    let weak = older(&hex::encode(Md5::digest(&content)), None);
    for (kind, of_header, of_all) in [
        ("rsa2048", Tag::RPMSIGTAG_RSA, Tag::RPMSIGTAG_PGP),
        ("dsa2048", Tag::RPMSIGTAG_DSA, Tag::RPMSIGTAG_GPG),
    ] {
        let key = signing.key(kind, kind, "sign", &[]);
        let keys = signing.trust(&key);
        let good = Ok((Integrity::PerFile, key.clone()));
        let header = |package| (of_header, IndexData::Bin(signing.signature(package, &key, false)));
        let all = |package| (of_all, IndexData::Bin(signing.signature(package, &key, true)));

        assert_eq!(
            verdict(&signing.with(&strong, vec![header(&strong)]), &keys),
            good,
            "{kind}"
        );
        assert_eq!(
            verdict(&signing.with(&strong, vec![header(&strong), all(&strong)]), &keys),
            good,
            "{kind}"
        );
        // MD5 of files binds nothing, a signature of header and payload needs no digests.
        let unbound = Err(SignatureFault::FilesUnbound { key: key.clone() });
        assert_eq!(
            verdict(&signing.with(&weak, vec![header(&weak)]), &keys),
            unbound,
            "{kind}"
        );
        assert_eq!(verdict(&signing.with(&weak, vec![all(&weak)]), &keys), good, "{kind}");
        // Each signature by a trusted key has to be good: this one is another package's.
        let bad = Err(SignatureFault::Bad { key: key.clone() });
        let mixed = signing.with(&strong, vec![header(&strong), all(&weak)]);
        assert_eq!(verdict(&mixed, &keys), bad, "{kind}");
        // A signature of the header is none of header and payload.
        let misplaced = (of_all, IndexData::Bin(signing.signature(&strong, &key, false)));
        assert_eq!(verdict(&signing.with(&strong, vec![misplaced]), &keys), bad, "{kind}");
    }
}

#[test]
fn of_several_signatures_a_trusted_one_counts() {
    if !programs_are_there() {
        return;
    }
    use IndexSignatureTag as Tag;
    let signing = Signing::new();
    let key = signing.key("vendor", "ed25519", "sign", &[]);
    let other = signing.key("somebody", "ed25519", "sign", &[]);
    let keys = signing.trust(&key);
    let package = craft::good();
    // As RPM 6 writes them.
    let texts = |of: &[&str]| {
        let one = |key: &&str| STANDARD.encode(signing.signature(&package, key, false));
        vec![(
            Tag::RPMSIGTAG_OPENPGP,
            IndexData::StringArray(of.iter().map(one).collect()),
        )]
    };
    let both = signing.with(&package, texts(&[&other, &key]));
    assert_eq!(verdict(&both, &keys), Ok((Integrity::Payload, key.clone())));
    let foreign = signing.with(&package, texts(&[&other]));
    assert_eq!(
        verdict(&foreign, &keys),
        Err(SignatureFault::UnknownKey { key: other.clone() })
    );

    let one = signing.signature(&package, &key, false);
    for junk in [
        vec![],
        b"junk".to_vec(),
        one[..one.len() - 1].to_vec(),
        [one.clone(), one.clone()].concat(),
        vec![0x88; 20_000],
    ] {
        let path = signing.with(&package, vec![(Tag::RPMSIGTAG_RSA, IndexData::Bin(junk.clone()))]);
        let refused = verify_signed(&path, &keys, SystemTime::now());
        let unreadable = matches!(
            &refused,
            Err(PackageError::Signature {
                fault: SignatureFault::Unreadable { .. },
                ..
            })
        );
        assert!(
            unreadable || matches!(&refused, Err(PackageError::Malformed { .. })),
            "{}: {refused:?}",
            junk.len()
        );
    }
    let many = vec![other.as_str(); 17];
    let path = signing.with(&package, texts(&many));
    let refused = verdict(&path, &keys);
    assert!(matches!(refused, Err(SignatureFault::Unreadable { .. })), "{refused:?}");
    let path = signing.with(
        &package,
        vec![(Tag::RPMSIGTAG_OPENPGP, IndexData::StringArray(vec!["?".into()]))],
    );
    let refused = verdict(&path, &keys);
    assert!(matches!(refused, Err(SignatureFault::Unreadable { .. })), "{refused:?}");
}

#[test]
fn a_key_counts_while_it_is_valid_and_for_what_it_is_for() {
    if !programs_are_there() {
        return;
    }
    let signing = Signing::new();
    let then = |day: &str| format!("--faked-system-time={day}");
    let key = signing.key("vendor", "rsa2048", "sign", &[&then(MARCH)]);
    let early = signing.sign(&craft::good(), &key, &[], &then(APRIL));
    let early_bytes = fs::read(&early).unwrap();
    let late_bytes = fs::read(signing.sign(&craft::good(), &key, &[], "")).unwrap();
    let write = |bytes: &[u8]| {
        let path = signing.bench.dir.path().join("package.rpm");
        fs::write(&path, bytes).unwrap();
        path
    };
    let keys = signing.trust(&key);
    for bytes in [&early_bytes, &late_bytes] {
        assert_eq!(verdict(&write(bytes), &keys), Ok((Integrity::Payload, key.clone())));
    }
    // The owner says afterwards that it ends in June 2020.
    signing.gpg(&[&then(APRIL), "--quick-set-expire", &key, JUNE]);
    let keys = signing.trust(&key);
    assert_eq!(
        verdict(&write(&early_bytes), &keys),
        Ok((Integrity::Payload, key.clone()))
    );
    let over = Err(SignatureFault::KeyNotValid { key: key.clone() });
    assert_eq!(verdict(&write(&late_bytes), &keys), over);
    // Then that nobody should trust it any more.
    let revocation = signing.home.path().join(format!("openpgp-revocs.d/{key}.rev"));
    let text = fs::read_to_string(&revocation)
        .unwrap()
        .replace(":-----BEGIN", "-----BEGIN");
    fs::write(&revocation, text).unwrap();
    signing.gpg(&["--import", &revocation.display().to_string()]);
    let keys = signing.trust(&key);
    let revoked = Err(SignatureFault::KeyRevoked { key });
    assert_eq!(verdict(&write(&early_bytes), &keys), revoked);
}

#[test]
fn a_subkey_signs_for_its_key() {
    if !programs_are_there() {
        return;
    }
    let signing = Signing::new();
    let key = signing.key("vendor", "ed25519", "cert", &[]);
    signing.gpg(&["--quick-add-key", &key, "rsa2048", "sign", "never"]);
    let keys = signing.trust(&key);
    let path = signing.sign(&craft::good(), &key, &[], "");
    assert_eq!(verdict(&path, &keys), Ok((Integrity::Payload, key)));
}
