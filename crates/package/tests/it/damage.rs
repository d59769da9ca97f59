//! Damaged packages are refused with the part that is damaged, and nothing stays behind.

use std::{fs, path::Path};

use obfleet_package::{Limits, PackageError, extract, inspect, verify};

use crate::craft::{self, Bench};

fn refuse(bench: &Bench, path: &Path) -> PackageError {
    let error = extract(path, &bench.slots(), &Limits::default()).unwrap_err();
    assert!(!bench.slot().exists());
    error
}

#[test]
fn a_flipped_byte_of_the_payload_is_found() {
    let bench = Bench::new();
    let mut package = craft::good();
    let middle = package.payload.len() / 2;
    package.payload[middle] ^= 1;
    let path = bench.package(&package);
    for error in [verify(&path).unwrap_err(), refuse(&bench, &path)] {
        assert!(
            matches!(&error, PackageError::DigestMismatch { object, .. } if object == "the payload"),
            "{error}"
        );
    }
    bench.assert_nothing_written();
}

#[test]
fn a_flipped_byte_of_the_header_is_found() {
    let bench = Bench::new();
    let package = craft::good();
    let at = package.metadata.get_package_segment_offsets().payload as usize - 200;
    let mut bytes = craft::bytes(&package);
    bytes[at] ^= 1;
    let path = bench.file("package.rpm", &bytes);
    for error in [
        inspect(&path).unwrap_err(),
        verify(&path).unwrap_err(),
        refuse(&bench, &path),
    ] {
        assert!(
            matches!(&error, PackageError::DigestMismatch { object, .. } if object.contains("header")),
            "{error}"
        );
    }
}

#[test]
fn a_truncated_package_is_refused_wherever_it_ends() {
    let bench = Bench::new();
    let package = craft::good();
    let bytes = craft::bytes(&package);
    let payload = package.metadata.get_package_segment_offsets().payload as usize;
    for length in [
        5,
        95,
        96,
        100,
        150,
        300,
        payload - 1,
        payload,
        payload + 1,
        payload + 100,
        bytes.len() - 1,
    ] {
        let path = bench.file("package.rpm", &bytes[..length]);
        let error = refuse(&bench, &path);
        let known = matches!(
            error,
            PackageError::Malformed { .. } | PackageError::DigestMismatch { .. }
        );
        assert!(known, "{length}: {error}");
        assert!(verify(&path).is_err(), "{length}");
        assert_eq!(
            inspect(&path).is_ok(),
            length >= payload,
            "{length}: the header alone decides"
        );
    }
    bench.assert_nothing_written();
}

#[test]
fn a_file_of_another_type_is_named() {
    let bench = Bench::new();
    for (content, found) in [
        (&b""[..], "empty"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1f\x8b\x08", "a gzip file"),
        (b"\x7fELF\x02\x01", "an ELF program or library"),
        (b"!<arch>\ndebian-binary", "a Debian package"),
        (b"hello there, this is no package", "a text file"),
        (b"\x01\x02\x03\x04", "a file of another type"),
    ] {
        let path = bench.file("package.rpm", content);
        let error = inspect(&path).unwrap_err();
        assert!(
            matches!(error, PackageError::NotAnRpm { found: is, .. } if is == found),
            "{error}"
        );
    }
    let error = inspect(bench.dir.path()).unwrap_err();
    assert!(
        matches!(
            error,
            PackageError::NotAnRpm {
                found: "not a regular file",
                ..
            }
        ),
        "{error}"
    );
    let error = inspect(&bench.dir.path().join("missing.rpm")).unwrap_err();
    assert!(matches!(error, PackageError::Io { action: "open", .. }), "{error}");
}

#[test]
fn a_payload_that_does_not_unpack_is_refused() {
    let bench = Bench::new();
    let package = craft::good();
    let archive = craft::archive(&package);
    for (payload, reason) in [
        (b"junk that is no archive".to_vec(), "not compressed with"),
        (Vec::new(), "no payload"),
        (package.payload[..package.payload.len() / 2].to_vec(), "payload"),
        (archive[..archive.len() / 2].to_vec(), "ends too early"),
        (b"07070X00000000".to_vec(), "payload"),
    ] {
        let path = bench.package(&craft::with_payload(&package, payload));
        verify(&path).expect("its digests fit");
        let error = refuse(&bench, &path);
        assert!(
            matches!(&error, PackageError::Malformed { reason: is, .. } if is.contains(reason)),
            "{error}"
        );
    }
    bench.assert_nothing_written();
}

#[test]
fn a_file_with_another_digest_than_listed_is_refused() {
    let bench = Bench::new();
    let package = craft::good();
    let mut archive = craft::archive(&package);
    let at = archive.windows(4).position(|window| window == b"\x7fELF").unwrap() + 1000;
    archive[at] ^= 1;
    let path = bench.package(&craft::with_payload(&package, archive));
    let error = refuse(&bench, &path);
    assert!(
        matches!(&error, PackageError::DigestMismatch { object, .. } if object.ends_with("/bin/obproxy")),
        "{error}"
    );
    bench.assert_nothing_written();
    assert!(fs::read_dir(bench.slots()).is_ok());
}
