//! Packages made to do harm are refused before they write anything outside, and leave nothing behind.

use std::fs;

use obfleet_package::{Limits, PackageError, extract, inspect};
use rpm::{CompressionWithLevel, FileOptions, IndexData, IndexTag, Package, PackageBuilder};

use crate::craft::{self, Bench, PREFIX};

/// Extracts, expects a refusal, and looks that nothing was written.
fn refuse(package: &Package) -> PackageError {
    refuse_within(package, &Limits::default())
}

fn refuse_within(package: &Package, limits: &Limits) -> PackageError {
    let bench = Bench::new();
    let path = bench.package(package);
    let error = extract(&path, &bench.slots(), limits).unwrap_err();
    bench.assert_nothing_written();
    error
}

fn with(extra: impl FnOnce(&mut PackageBuilder)) -> PackageError {
    refuse(&craft::good_with(extra))
}

fn assert_unsafe(error: &PackageError, named: &str) {
    assert!(
        matches!(error, PackageError::UnsafePath { path, .. } if path.contains(named)),
        "{error}"
    );
}

#[test]
fn a_climbing_path_in_the_header_is_refused() {
    for path in [
        "/../../../../../../tmp/obfleet-climbed",
        &format!("{PREFIX}/bin/../../../x"),
    ] {
        let package = craft::good_with(|builder| {
            builder.with_file_contents("x", FileOptions::new(path)).unwrap();
        });
        assert_unsafe(&refuse(&package), "..");
        let bench = Bench::new();
        assert_unsafe(&inspect(&bench.package(&package)).unwrap_err(), "..");
    }
    assert!(!std::path::Path::new("/tmp/obfleet-climbed").exists());
}

#[test]
fn a_climbing_base_name_is_refused() {
    for base_name in ["../../../../../tmp/x", ".."] {
        let package = craft::change_header(&craft::good(), |tag, data| {
            let base_names = tag == IndexTag::RPMTAG_BASENAMES as u32;
            Some(if base_names {
                IndexData::StringArray(vec![base_name.to_owned()])
            } else {
                data
            })
        });
        assert_unsafe(&refuse(&package), "..");
    }
}

#[test]
fn a_name_in_the_archive_that_the_header_does_not_list_is_refused() {
    let package = craft::good();
    let name = format!(".{PREFIX}/bin/obproxy");
    for (lie, climbs) in [
        ("./home/admin/obproxy-4.3.1.0/bin/obprox2", false),
        ("../../../../../../../../../../tmp/xxxxxxx", true),
    ] {
        let lie = format!("{lie:/<width$}", width = name.len());
        let mut archive = craft::archive(&package);
        let at = archive
            .windows(name.len())
            .position(|window| window == name.as_bytes())
            .unwrap();
        archive[at..at + name.len()].copy_from_slice(&lie.as_bytes()[..name.len()]);
        let error = refuse(&craft::with_payload(&package, archive));
        if climbs {
            assert_unsafe(&error, "..");
        } else {
            assert!(error.to_string().contains("which its header does not list"), "{error}");
        }
    }
}

#[test]
fn header_and_archive_must_agree() {
    let package = craft::good();
    let archive = craft::archive(&package);
    let name = archive.windows(3).position(|window| window == b"./h").unwrap();
    let entry = name - 110;
    let lie = |field: usize, value: &str| {
        let mut archive = archive.clone();
        archive[entry + 6 + field * 8..entry + 14 + field * 8].copy_from_slice(value.as_bytes());
        refuse(&craft::with_payload(&package, archive)).to_string()
    };
    assert!(
        lie(1, "0000a1ff").contains("disagree on the type"),
        "a link in the archive, a file in the header"
    );
    assert!(lie(6, "00000001").contains("disagree on the size"));
    assert!(lie(6, "ffffffff").contains("disagree on the size"));
    assert!(lie(11, "ffffffff").contains("name of 4294967295 bytes"));
    assert!(lie(11, "00000000").contains("name of 0 bytes"));
    assert!(lie(6, "+0000001").contains("malformed header"));

    let trailer = archive
        .windows(13)
        .position(|window| window.starts_with(b"TRAILER!!!"))
        .unwrap()
        - 110;
    let twice = [&archive[..trailer], &archive[entry..]].concat();
    assert!(
        refuse(&craft::with_payload(&package, twice))
            .to_string()
            .contains("twice")
    );
    let none = archive[trailer..].to_vec();
    assert!(
        refuse(&craft::with_payload(&package, none))
            .to_string()
            .contains("lacks")
    );
}

#[test]
fn links_that_lead_out_are_refused() {
    for target in [
        "/etc",
        "/",
        "../../..",
        "../../other-slot/bin/obproxy",
        "./../lib/../../x",
    ] {
        assert_unsafe(
            &with(|builder| craft::add_link(builder, "lib/link", target)),
            "lib/link",
        );
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    let error = with(|builder| {
        craft::add_link(builder, "lib/dir", "../bin");
        craft::add(builder, "lib/dir/file", b"x", 0o644);
    });
    assert_unsafe(&error, "lib/dir/file");
    let mut builder = craft::builder();
    craft::add_link(&mut builder, "bin", "lib");
    craft::add(&mut builder, "bin/obproxy", &craft::program(100), 0o755);
    assert_unsafe(&refuse(&builder.build().unwrap()), "bin/obproxy");
}

#[test]
fn special_files_are_refused() {
    for (options, named) in [
        (FileOptions::fifo("/home/admin/pipe"), "a named pipe"),
        (FileOptions::character_device("/dev/x", 1, 3), "a device"),
        (FileOptions::block_device("/dev/y", 8, 0), "a device"),
        (FileOptions::socket("/run/z"), "a socket"),
    ] {
        let error = with(|builder| {
            builder.with_special_file(options).unwrap();
        });
        assert!(
            matches!(error, PackageError::SpecialFile { kind, .. } if kind == named),
            "{error}"
        );
    }
}

#[test]
fn limits_hold() {
    let package = craft::good_with(|builder| craft::add(builder, "etc/unwanted", &[0; 3000], 0o644));
    let limits = Limits::default();
    let error = refuse_within(
        &package,
        &Limits {
            entries: 1,
            ..limits.clone()
        },
    );
    assert!(
        matches!(
            error,
            PackageError::TooManyEntries {
                entries: 2,
                limit: 1,
                ..
            }
        ),
        "{error}"
    );
    let error = refuse_within(
        &package,
        &Limits {
            file_bytes: 4999,
            ..limits.clone()
        },
    );
    assert!(
        matches!(&error, PackageError::TooLarge { object, limit: 4999, .. } if object.ends_with("obproxy")),
        "{error}"
    );
    let error = refuse_within(
        &package,
        &Limits {
            total_bytes: 7999,
            ..limits.clone()
        },
    );
    assert!(
        matches!(error, PackageError::TooLarge { limit: 7999, .. }),
        "skipped files count: {error}"
    );
    let error = refuse_within(
        &package,
        &Limits {
            total_bytes: 8000,
            ..limits.clone()
        },
    );
    assert!(
        matches!(error, PackageError::TooLarge { limit: 8000, .. }),
        "the archive's own bytes count: {error}"
    );
    let error = refuse_within(
        &package,
        &Limits {
            header_bytes: 100,
            ..limits.clone()
        },
    );
    assert!(
        matches!(&error, PackageError::TooLarge { object, .. } if object.contains("header")),
        "{error}"
    );
    let error = refuse_within(
        &package,
        &Limits {
            package_bytes: 1000,
            ..limits
        },
    );
    assert!(
        matches!(&error, PackageError::TooLarge { object, .. } if object == "the file"),
        "{error}"
    );
}

#[test]
fn a_bomb_stops_at_the_budget() {
    // 200 MB of zeros after the archive's first entry, in a few hundred bytes of zstd.
    let mut builder = craft::builder_for("obproxy-ce", std::env::consts::ARCH, CompressionWithLevel::Zstd(1));
    craft::add(&mut builder, "bin/obproxy", &craft::program(100), 0o755);
    craft::add(&mut builder, "etc/bomb", &vec![0; 200 << 20], 0o644);
    let mut bomb = builder.build().unwrap();
    assert!(bomb.payload.len() < 100_000);
    let error = refuse_within(
        &bomb,
        &Limits {
            total_bytes: 100 << 20,
            ..Limits::default()
        },
    );
    assert!(matches!(error, PackageError::TooLarge { .. }), "{error}");
    // The header lies about the sizes: now the archive gives it away.
    bomb = craft::change_header(&bomb, |tag, data| {
        let sizes = tag == IndexTag::RPMTAG_FILESIZES as u32;
        Some(if sizes { IndexData::Int32(vec![100, 100]) } else { data })
    });
    let error = refuse_within(&bomb, &Limits::default());
    assert!(error.to_string().contains("disagree on the size"), "{error}");
}

#[test]
fn what_is_no_program_of_this_host_is_refused() {
    let proxy = |content: &[u8], mode| {
        let mut builder = craft::builder();
        craft::add(&mut builder, "bin/obproxy", content, mode);
        refuse(&builder.build().unwrap())
    };
    let error = proxy(b"#!/bin/sh\nrm -rf /home/admin\n", 0o755);
    assert!(
        matches!(&error, PackageError::NotExecutable { reason, .. } if reason.contains("ELF")),
        "{error}"
    );
    let error = proxy(b"", 0o755);
    assert!(
        matches!(&error, PackageError::NotExecutable { reason, .. } if reason.contains("shorter")),
        "{error}"
    );
    let error = proxy(&craft::program(100), 0o644);
    assert!(
        matches!(&error, PackageError::NotExecutable { reason, .. } if reason.contains("execute bit")),
        "{error}"
    );
    let (other, machine) = craft::other_arch();
    let error = proxy(&craft::program_for(machine, 100), 0o755).to_string();
    assert!(
        error.contains(other) && error.contains(std::env::consts::ARCH),
        "both are named: {error}"
    );
}

#[test]
fn a_package_for_another_machine_is_refused() {
    let (other, machine) = craft::other_arch();
    let package = |arch: &str| {
        let mut builder = craft::builder_for("obproxy-ce", arch, CompressionWithLevel::Gzip(1));
        craft::add(&mut builder, "bin/obproxy", &craft::program_for(machine, 100), 0o755);
        builder.build().unwrap()
    };
    let error = refuse(&package(other));
    assert!(
        matches!(&error, PackageError::WrongMachine { found, .. } if found == other),
        "{error}"
    );
    let bench = Bench::new();
    assert_eq!(
        inspect(&bench.package(&package(other))).unwrap().arch,
        other,
        "the server keeps packages for any host"
    );
    let error = inspect(&bench.package(&package("s390x"))).unwrap_err();
    assert!(
        matches!(&error, PackageError::UnsupportedArch { arch, .. } if arch == "s390x"),
        "{error}"
    );
}

#[test]
fn names_from_the_header_do_not_reach_the_disk_unchecked() {
    for (tag, lie) in [
        (IndexTag::RPMTAG_VERSION, "../../../tmp"),
        (IndexTag::RPMTAG_RELEASE, "1.el7/../../x"),
        (IndexTag::RPMTAG_NAME, "obproxy-ce/../x"),
        (IndexTag::RPMTAG_VERSION, "4.3.1.0 "),
    ] {
        let package = craft::change_header(&craft::good(), |each, data| {
            Some(if each == tag as u32 {
                IndexData::StringTag(lie.to_owned())
            } else {
                data
            })
        });
        let error = refuse(&package);
        assert!(matches!(error, PackageError::Malformed { .. }), "{error}");
    }
}

#[test]
fn an_obproxy_package_without_the_proxy_is_refused() {
    let bench = Bench::new();
    let mut builder = craft::builder();
    craft::add(&mut builder, "lib/only.so", b"x", 0o644);
    builder
        .with_ghost(FileOptions::ghost(format!("{PREFIX}/bin/obproxy")))
        .unwrap();
    let path = bench.package(&builder.build().unwrap());
    for error in [
        inspect(&path).unwrap_err(),
        extract(&path, &bench.slots(), &Limits::default()).unwrap_err(),
    ] {
        assert!(matches!(error, PackageError::NoProxyBinary { .. }), "{error}");
    }
}

#[test]
fn links_in_the_slots_directory_are_not_followed() {
    let bench = Bench::new();
    let elsewhere = bench.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::create_dir(bench.slots()).unwrap();
    std::os::unix::fs::symlink(&elsewhere, bench.slot()).unwrap();
    let incoming = bench.slots().join(format!(".incoming-{}", craft::SLOT));
    std::os::unix::fs::symlink(&elsewhere, &incoming).unwrap();
    let error = extract(&bench.package(&craft::good()), &bench.slots(), &Limits::default()).unwrap_err();
    assert!(matches!(error, PackageError::SlotConflict { .. }), "{error}");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}
