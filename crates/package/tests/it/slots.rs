//! Slots appear whole, stay as they are, and vanish whole.

use std::{fs, thread};

use obfleet_package::{Limits, PackageError, extract, list_slots, read_slot, remove_slot};

use crate::craft::{self, Bench};

#[test]
fn extracting_twice_changes_nothing() {
    let bench = Bench::new();
    let path = bench.package(&craft::good());
    let first = extract(&path, &bench.slots(), &Limits::default()).unwrap();
    let before = (bench.tree(), fs::metadata(first.binary()).unwrap().modified().unwrap());
    let second = extract(&path, &bench.slots(), &Limits::default()).unwrap();
    assert_eq!(first, second);
    assert_eq!(
        before,
        (bench.tree(), fs::metadata(first.binary()).unwrap().modified().unwrap())
    );
}

#[test]
fn another_package_of_the_same_release_is_a_conflict() {
    let bench = Bench::new();
    let slot = extract(&bench.package(&craft::good()), &bench.slots(), &Limits::default()).unwrap();
    let mut builder = craft::builder();
    craft::add(&mut builder, "bin/obproxy", &craft::program(6000), 0o755);
    let other = bench.file("other.rpm", &craft::bytes(&builder.build().unwrap()));
    let error = extract(&other, &bench.slots(), &Limits::default()).unwrap_err();
    assert!(
        matches!(&error, PackageError::SlotConflict { slot, .. } if *slot == bench.slot()),
        "{error}"
    );
    assert_eq!(read_slot(&slot.path).unwrap(), slot, "the old one is untouched");

    let more = bench.package(&craft::good_with(|builder| {
        craft::add(builder, "lib/x.so", b"x", 0o644);
    }));
    let error = extract(&more, &bench.slots(), &Limits::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("list of files"), "{error}");

    remove_slot(&slot.path).unwrap();
    let replaced = extract(&other, &bench.slots(), &Limits::default()).unwrap();
    assert_ne!(replaced.binary_sha256, slot.binary_sha256);
}

#[test]
fn a_slot_changed_on_disk_is_noticed() {
    let bench = Bench::new();
    let path = bench.package(&craft::good_with(|builder| {
        craft::add(builder, "lib/x.so", b"x", 0o644);
    }));
    let slot = extract(&path, &bench.slots(), &Limits::default()).unwrap();
    fs::write(slot.path.join("lib/x.so"), "changed").unwrap();
    let error = extract(&path, &bench.slots(), &Limits::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("lib/x.so was changed"), "{error}");

    fs::write(slot.binary(), "changed").unwrap();
    let error = read_slot(&slot.path).unwrap_err();
    assert!(
        matches!(&error, PackageError::BadSlot { reason, .. } if reason.contains("SHA-256")),
        "{error}"
    );
    let error = extract(&path, &bench.slots(), &Limits::default()).unwrap_err();
    assert!(matches!(error, PackageError::SlotConflict { .. }), "{error}");

    fs::remove_file(slot.binary()).unwrap();
    assert!(matches!(
        read_slot(&slot.path).unwrap_err(),
        PackageError::BadSlot { .. }
    ));
    fs::remove_file(slot.path.join("slot.json")).unwrap();
    assert!(matches!(
        read_slot(&slot.path).unwrap_err(),
        PackageError::BadSlot { .. }
    ));
    assert_eq!(list_slots(&bench.slots()).unwrap(), []);
    remove_slot(&slot.path).unwrap();
    assert!(!slot.path.exists());
}

#[test]
fn leftovers_of_crashes_are_no_slots_and_are_cleared() {
    let bench = Bench::new();
    for name in [
        ".incoming-obproxy-4.3.1.0-1.el7",
        ".incoming-obproxy-9-1.el7",
        ".outgoing-obproxy-4.2.1.0-11.el7",
    ] {
        fs::create_dir_all(bench.slots().join(name).join("bin")).unwrap();
        fs::write(bench.slots().join(name).join("bin/obproxy"), "half").unwrap();
    }
    fs::create_dir(bench.slots().join("obproxy-not-a-slot")).unwrap();
    fs::write(bench.slots().join("note.txt"), "not ours").unwrap();
    assert_eq!(list_slots(&bench.slots()).unwrap(), []);
    let slot = extract(&bench.package(&craft::good()), &bench.slots(), &Limits::default()).unwrap();
    assert_eq!(list_slots(&bench.slots()).unwrap(), [slot]);
    let mut names: Vec<_> = fs::read_dir(bench.slots())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [".lock", "note.txt", craft::SLOT, "obproxy-not-a-slot"],
        "what is not ours stays"
    );
}

#[test]
fn extractions_at_the_same_time_agree() {
    let bench = Bench::new();
    let path = bench.package(&craft::good());
    let extracted = thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| extract(&path, &bench.slots(), &Limits::default())))
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap().unwrap())
            .collect::<Vec<_>>()
    });
    assert!(extracted.iter().all(|slot| *slot == extracted[0]));
    assert_eq!(list_slots(&bench.slots()).unwrap().len(), 1);
}

#[test]
fn slots_are_listed_by_version() {
    let bench = Bench::new();
    for version in ["4.10.0.0", "4.9.0.0"] {
        let spec = obfleet_package::build::BuildSpec {
            name: "obproxy-ce".to_owned(),
            version: version.to_owned(),
            release: "100000032024030511.el7".to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
        };
        let binary = bench.file("obproxy", &craft::program(100));
        let path = obfleet_package::build::build_obproxy_rpm(&spec, &binary, bench.dir.path()).unwrap();
        extract(&path, &bench.slots(), &Limits::default()).unwrap();
    }
    let versions: Vec<_> = list_slots(&bench.slots())
        .unwrap()
        .iter()
        .map(|slot| slot.version.to_string())
        .collect();
    assert_eq!(versions, ["4.9.0.0-100000032024030511", "4.10.0.0-100000032024030511"]);
    assert_eq!(list_slots(&bench.dir.path().join("missing")).unwrap(), []);
}

#[test]
fn only_slots_are_removed() {
    let bench = Bench::new();
    fs::create_dir(bench.slots()).unwrap();
    let precious = bench.slots().join("precious");
    fs::create_dir(&precious).unwrap();
    assert!(matches!(
        remove_slot(&precious).unwrap_err(),
        PackageError::BadSlot { .. }
    ));
    let link = bench.slots().join("obproxy-link");
    std::os::unix::fs::symlink(&precious, &link).unwrap();
    assert!(matches!(remove_slot(&link).unwrap_err(), PackageError::BadSlot { .. }));
    assert!(precious.is_dir());
    remove_slot(&bench.slot()).expect("a slot that is gone needs no removal");
}
