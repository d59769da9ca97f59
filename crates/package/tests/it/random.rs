//! Whatever the bytes, a package is read or refused: no panic, nothing outside the slots directory.

use std::{path::Path, sync::LazyLock};

use obfleet_package::{Limits, extract, inspect, verify};
use proptest::prelude::*;

use crate::craft::{self, Bench};

/// Bounds that let a random package cost little.
fn limits() -> Limits {
    Limits {
        total_bytes: 8 << 20,
        file_bytes: 8 << 20,
        ..Limits::default()
    }
}

/// Does everything with the package and looks where it wrote.
fn try_all(bytes: &[u8]) -> Result<(), TestCaseError> {
    let bench = Bench::new();
    let path = bench.file("package.rpm", bytes);
    let _ = inspect(&path);
    let _ = verify(&path);
    let extracted = extract(&path, &bench.slots(), &limits());
    for written in bench.tree() {
        let inside = Path::new(&written).strip_prefix("slots");
        prop_assert!(inside.is_ok(), "{written} is outside the slots");
    }
    prop_assert!(
        extracted.is_ok()
            || bench
                .tree()
                .iter()
                .all(|path| matches!(path.as_str(), "slots" | "slots/.lock"))
    );
    Ok(())
}

/// Changes single bytes, and now and then a whole number, at places anywhere in what it is given.
fn mutations() -> impl Strategy<Value = Vec<(prop::sample::Index, u32, bool)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u32>(), any::<bool>()), 1..6)
}

fn mutate(bytes: &mut [u8], mutations: &[(prop::sample::Index, u32, bool)]) {
    for (at, value, whole) in mutations {
        let at = at.index(bytes.len());
        let value = value.to_be_bytes();
        if *whole && at + 4 <= bytes.len() {
            bytes[at / 4 * 4..at / 4 * 4 + 4].copy_from_slice(&value);
        } else {
            bytes[at] = value[0];
        }
    }
}

static SUBJECT: LazyLock<rpm::Package> = LazyLock::new(|| {
    craft::good_with(|builder| {
        craft::add(builder, "lib/x.so", b"library", 0o644);
        craft::add_link(builder, "lib/y.so", "x.so");
    })
});

proptest! {
    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000), magic in any::<bool>()) {
        let mut bytes = bytes;
        if magic {
            bytes.splice(..0, *b"\xed\xab\xee\xdb");
        }
        try_all(&bytes)?;
    }

    #[test]
    fn mutated_packages(mutations in mutations()) {
        let mut bytes = craft::bytes(&SUBJECT);
        mutate(&mut bytes, &mutations);
        try_all(&bytes)?;
    }

    // Sealed again, so that the digest does not hide what lies behind it.
    #[test]
    fn mutated_headers(mutations in mutations()) {
        let package = &*SUBJECT;
        let mut header = package.metadata.header_bytes().unwrap();
        mutate(&mut header, &mutations);
        try_all(&craft::seal(package, &header))?;
    }

    #[test]
    fn mutated_header_index(mutations in mutations()) {
        let package = &*SUBJECT;
        let mut header = package.metadata.header_bytes().unwrap();
        let index = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize * 16;
        mutate(&mut header[..16 + index], &mutations);
        try_all(&craft::seal(package, &header))?;
    }

    #[test]
    fn mutated_archives(mutations in mutations()) {
        let package = &*SUBJECT;
        let mut archive = craft::archive(package);
        // The headers of the entries are what is interesting, not the program between them.
        mutate(&mut archive[..160], &mutations);
        let behind_the_program = archive.windows(6).rposition(|window| window == b"070701").unwrap() - 300;
        mutate(&mut archive[behind_the_program..], &mutations);
        try_all(&craft::bytes(&craft::with_payload(package, archive)))?;
    }
}
