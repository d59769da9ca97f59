//! Packages of older RPM versions: no digest of the payload, SHA-1 or MD5 elsewhere.

use md5::{Digest as _, Md5};
use obfleet_package::{Integrity, Limits, PackageError, extract, verify};
use rpm::{IndexData, IndexTag, Package};

use crate::craft::{self, Bench};

fn without_payload_digest(package: &Package) -> Package {
    let payload_digests = [
        IndexTag::RPMTAG_PAYLOADSHA256 as u32,
        IndexTag::RPMTAG_PAYLOAD_SHA512 as u32,
    ];
    craft::change_header(package, |tag, data| (!payload_digests.contains(&tag)).then_some(data))
}

#[test]
fn each_file_vouches_for_itself() {
    let bench = Bench::new();
    let package = without_payload_digest(&craft::good());
    let path = bench.package(&package);
    assert_eq!(verify(&path).unwrap(), Integrity::PerFile);
    extract(&path, &bench.slots(), &Limits::default()).unwrap();
}

#[test]
fn damage_to_a_file_is_found_by_its_own_digest() {
    let bench = Bench::new();
    let mut package = without_payload_digest(&craft::good());
    package.payload = craft::archive(&package);
    let at = package
        .payload
        .windows(4)
        .position(|window| window == b"\x7fELF")
        .unwrap()
        + 50;
    package.payload[at] ^= 1;
    let path = bench.package(&package);
    let error = verify(&path).unwrap_err();
    assert!(
        matches!(&error, PackageError::DigestMismatch { object, .. } if object.ends_with("bin/obproxy")),
        "{error}"
    );
    assert!(extract(&path, &bench.slots(), &Limits::default()).is_err());
    bench.assert_nothing_written();
}

#[test]
fn without_any_digest_it_is_refused() {
    let bench = Bench::new();
    let bare = craft::change_header(&without_payload_digest(&craft::good()), |tag, data| {
        let files = tag == IndexTag::RPMTAG_FILEDIGESTS as u32;
        Some(if files {
            IndexData::StringArray(vec![String::new()])
        } else {
            data
        })
    });
    let error = verify(&bench.package(&bare)).unwrap_err();
    assert!(
        error.to_string().contains("neither a digest of its payload nor one of"),
        "{error}"
    );
}

#[test]
fn md5_digests_of_files_are_compared() {
    let bench = Bench::new();
    let with_md5 = |content: &[u8]| {
        let digest = hex::encode(Md5::digest(content));
        craft::change_header(&without_payload_digest(&craft::good()), move |tag, data| match tag {
            _ if tag == IndexTag::RPMTAG_FILEDIGESTS as u32 => Some(IndexData::StringArray(vec![digest.clone()])),
            _ if tag == IndexTag::RPMTAG_FILEDIGESTALGO as u32 => None,
            _ => Some(data),
        })
    };
    assert_eq!(
        verify(&bench.package(&with_md5(&craft::program(5000)))).unwrap(),
        Integrity::PerFile
    );
    let error = verify(&bench.package(&with_md5(b"something else"))).unwrap_err();
    assert!(matches!(error, PackageError::DigestMismatch { .. }), "{error}");
}
