//! A package somebody uploaded: it is taken or refused, within bounds, and nothing is written but one slot.
//!
//! The input is a package, tried as it is, and then with digests that fit what is in it.

#![no_main]

use std::{fs, path::Path};

use libfuzzer_sys::fuzz_target;
use obfleet_fuzz::rpm::{self, Bench};
use obfleet_package::{FileKind, Limits, extract, inspect, list_slots, read_slot, verify};

/// What each part may be at most: little enough that a bomb is told from what is allowed.
const LIMITS: Limits = Limits {
    package_bytes: 1 << 20,
    header_bytes: 1 << 20,
    entries: 64,
    file_bytes: 1 << 20,
    total_bytes: 2 << 20,
};

fuzz_target!(
    // Nothing would be learned of what is behind a check that nothing passes.
    init: if cfg!(target_arch = "x86_64") {
        assert!(is_taken(include_bytes!("../seeds/package/plain.rpm")), "a good package is refused");
    },
    |package: &[u8]| {
        is_taken(package);
        if let Some(pieces) = rpm::take_apart(package) {
            is_taken(&pieces.sealed());
        }
    }
);

/// Does everything that is done with a package; whether a slot came of it.
fn is_taken(package: &[u8]) -> bool {
    let bench = Bench::new();
    let path = bench.file("package.rpm", package);
    let info = inspect(&path);
    let verified = verify(&path);
    if let Ok(info) = &info {
        let name = info.package_name();
        assert_eq!(name.file_name().parse().as_ref(), Ok(&name), "its name is read again");
        assert!(!name.file_name().contains(['/', '\0', '\n']), "its name is a file's");
        assert_eq!(info.size, package.len() as u64);
        for file in &info.files {
            let parts = Path::new(&file.path).components().skip(1);
            assert!(file.path.starts_with('/') && !file.path.contains(char::is_control));
            assert!(
                parts
                    .clone()
                    .all(|part| matches!(part, std::path::Component::Normal(_)))
            );
        }
    }
    let slots = bench.path("slots");
    let slot = extract(&path, &slots, &LIMITS);
    let names = bench.names();
    assert!(
        names.iter().all(|name| name == "package.rpm" || name == "slots"),
        "{names:?}"
    );
    let Ok(slot) = slot else {
        let left = match slots.exists() {
            true => names_in(&slots),
            false => Vec::new(),
        };
        assert!(
            left.iter().all(|name| name == ".lock"),
            "a refused package left {left:?}"
        );
        return false;
    };
    let info = info.expect("what is extracted can be inspected");
    verified.expect("what is extracted is what was verified");
    assert_eq!(slot.version, info.version);
    assert_eq!(read_slot(&slot.path).expect("a new slot is whole"), slot);
    assert_eq!(
        list_slots(&slots).expect("slots can be listed"),
        std::slice::from_ref(&slot)
    );
    assert_eq!(slot.path.parent(), Some(slots.as_path()));
    let mut written = 0;
    look_through(&slot.path, &slot.path, &mut written);
    assert!(
        written <= LIMITS.total_bytes + (1 << 20),
        "{written} bytes were written"
    );
    let regular = info.files.iter().filter(|file| file.kind == FileKind::Regular).count();
    assert!(regular > 0, "a slot comes from files");
    assert_eq!(
        extract(&path, &slots, &LIMITS).expect("it can be extracted again"),
        slot
    );
    true
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("it is there");
    let names = entries.map(|entry| entry.expect("it can be listed").file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// Adds up the bytes of all files; no link leads out, none has more rights than it needs.
fn look_through(slot: &Path, dir: &Path, written: &mut u64) {
    use std::os::unix::fs::PermissionsExt as _;
    for name in names_in(dir) {
        let path = dir.join(name);
        let metadata = fs::symlink_metadata(&path).expect("it is there");
        if metadata.is_dir() {
            look_through(slot, &path, written);
        } else if metadata.is_symlink() {
            // Followed by the text: what it leads to need not be there.
            let target = fs::read_link(&path).expect("it is a link");
            let mut at = dir.to_owned();
            for part in target.components() {
                match part {
                    std::path::Component::ParentDir => assert!(at.pop()),
                    part => at.push(part),
                }
                assert!(at.starts_with(slot), "{} leads to {}", path.display(), target.display());
            }
        } else {
            assert!(metadata.is_file() && metadata.permissions().mode() & 0o7022 == 0);
            *written += metadata.len();
        }
    }
}
