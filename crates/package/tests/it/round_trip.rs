//! A package built here is read, verified and extracted to what went in.

use std::{fs, os::unix::fs::PermissionsExt as _};

use obfleet_package::{
    FileKind, Integrity, Limits, PackageError, PackageKind, build, extract, inspect, list_slots, read_slot, verify,
};
use rpm::{CompressionWithLevel, FileOptions};
use sha2::{Digest as _, Sha256};

use crate::craft::{self, Bench};

fn spec() -> build::BuildSpec {
    build::BuildSpec {
        name: "obproxy-ce".to_owned(),
        version: "4.3.1.0".to_owned(),
        release: "1.el7".to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
    }
}

#[test]
fn what_is_built_is_what_is_extracted() {
    let bench = Bench::new();
    let program = craft::program(700_000);
    let binary = bench.file("obproxy", &program);
    let path = build::build_obproxy_rpm(&spec(), &binary, bench.dir.path()).unwrap();
    assert_eq!(path.file_name().unwrap().to_str().unwrap(), spec().file_name());

    // The name of the file says nothing: only the header does.
    let renamed = bench.dir.path().join("other-1.0-9.el9.noarch.rpm");
    fs::rename(&path, &renamed).unwrap();
    let info = inspect(&renamed).unwrap();
    assert_eq!(info.package_name().file_name(), spec().file_name());
    assert_eq!((info.kind, info.release().as_str()), (PackageKind::ObproxyCe, "1.el7"));
    assert_eq!(
        info.executable.as_deref(),
        Some("/home/admin/obproxy-4.3.1.0/bin/obproxy")
    );
    let whole = fs::read(&renamed).unwrap();
    assert_eq!(
        (info.size, info.sha256),
        (whole.len() as u64, hex::encode(Sha256::digest(&whole)))
    );
    assert_eq!(info.sha1.len(), 40);
    let listed: Vec<_> = info
        .files
        .iter()
        .map(|file| (file.path.as_str(), &file.kind, file.size))
        .collect();
    assert!(
        listed.contains(&("/home/admin/obproxy-4.3.1.0/bin", &FileKind::Directory, 0)),
        "{listed:?}"
    );
    assert!(
        listed.contains(&("/home/admin/obproxy-4.3.1.0/bin/obproxy", &FileKind::Regular, 700_000)),
        "{listed:?}"
    );

    assert_eq!(verify(&renamed).unwrap(), Integrity::Payload);

    let slot = extract(&renamed, &bench.slots(), &Limits::default()).unwrap();
    assert_eq!(slot.path, bench.slot());
    assert_eq!(slot.version.to_string(), "4.3.1.0-1");
    assert_eq!(fs::read(slot.binary()).unwrap(), program);
    assert_eq!(slot.binary_sha256, hex::encode(Sha256::digest(&program)));
    assert_eq!(
        fs::metadata(slot.binary()).unwrap().permissions().mode() & 0o7777,
        0o755
    );
    assert_eq!(fs::metadata(&slot.path).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(read_slot(&slot.path).unwrap(), slot);
    assert_eq!(list_slots(&bench.slots()).unwrap(), [slot]);
}

#[test]
fn every_compression_is_read() {
    let each = [
        CompressionWithLevel::None,
        CompressionWithLevel::Gzip(6),
        CompressionWithLevel::Zstd(3),
        CompressionWithLevel::Xz(6),
    ];
    for compression in each {
        let bench = Bench::new();
        let mut builder = craft::builder_for("obproxy", std::env::consts::ARCH, compression);
        craft::add(&mut builder, "bin/obproxy", &craft::program(300_000), 0o755);
        let path = bench.package(&builder.build().unwrap());
        assert_eq!(verify(&path).unwrap(), Integrity::Payload, "{compression}");
        assert_eq!(inspect(&path).unwrap().kind, PackageKind::Obproxy);
        let slot = extract(&path, &bench.slots(), &Limits::default()).unwrap();
        assert_eq!(
            fs::read(slot.binary()).unwrap(),
            craft::program(300_000),
            "{compression}"
        );
    }
}

#[test]
fn only_bin_and_lib_are_taken_and_modes_are_tamed() {
    let bench = Bench::new();
    let package = craft::good_with(|builder| {
        craft::add(builder, "bin/obproxyd.sh", b"#!/bin/sh\n", 0o6777);
        craft::add(builder, "lib/libstdc++.so.6.0.25", b"library", 0o666);
        craft::add_link(builder, "lib/libstdc++.so.6", "libstdc++.so.6.0.25");
        craft::add_link(builder, "lib/proxy", "../bin/obproxy");
        craft::add(builder, "etc/secret", b"not wanted", 0o644);
        craft::add(builder, "binary/x", b"not wanted", 0o644);
        builder
            .with_file_contents("not wanted", FileOptions::new("/etc/cron.d/obproxy"))
            .unwrap();
        builder.pre_install_script("touch /tmp/obfleet-scriptlet-ran; rm -rf /home/admin/obproxy-4.3.1.0/etc");
    });
    let slot = extract(&bench.package(&package), &bench.slots(), &Limits::default()).unwrap();
    let inside = format!("slots/{}", craft::SLOT);
    let expected: Vec<String> = [
        "/bin",
        "/bin/obproxy",
        "/bin/obproxyd.sh",
        "/lib",
        "/lib/libstdc++.so.6",
        "/lib/libstdc++.so.6.0.25",
        "/lib/proxy",
        "/slot.json",
    ]
    .iter()
    .map(|path| format!("{inside}{path}"))
    .collect();
    assert_eq!(
        bench
            .tree()
            .into_iter()
            .filter(|path| path.starts_with(&format!("{inside}/")))
            .collect::<Vec<_>>(),
        expected
    );
    let mode = |path: &str| fs::metadata(slot.path.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        (mode("bin/obproxyd.sh"), mode("lib/libstdc++.so.6.0.25")),
        (0o755, 0o644)
    );
    assert_eq!(fs::read(slot.path.join("lib/proxy")).unwrap(), craft::program(5000));
    assert!(!std::path::Path::new("/tmp/obfleet-scriptlet-ran").exists());
}

#[test]
fn other_software_is_inspected_but_not_extracted() {
    let bench = Bench::new();
    let mut builder = craft::builder_for("oceanbase-ce", std::env::consts::ARCH, CompressionWithLevel::Gzip(1));
    craft::add(&mut builder, "bin/observer", &craft::program(100), 0o755);
    let path = bench.package(&builder.build().unwrap());
    let info = inspect(&path).unwrap();
    assert_eq!((info.kind, info.executable), (PackageKind::Other, None));
    let error = extract(&path, &bench.slots(), &Limits::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("oceanbase-ce") && error.contains("no bin/obproxy"),
        "{error}"
    );
}

#[test]
fn a_package_that_cannot_be_named_is_not_built() {
    let bench = Bench::new();
    let binary = bench.file("obproxy", &craft::program(100));
    for (spec, reason) in [
        (
            build::BuildSpec {
                version: "../4".to_owned(),
                ..spec()
            },
            "dotted numbers",
        ),
        (
            build::BuildSpec {
                release: "1".to_owned(),
                ..spec()
            },
            "operating system",
        ),
        (
            build::BuildSpec {
                arch: "../x".to_owned(),
                ..spec()
            },
            "architecture",
        ),
    ] {
        let error = build::build_obproxy_rpm(&spec, &binary, bench.dir.path()).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    let error = build::build_obproxy_rpm(&spec(), &bench.dir.path().join("missing"), bench.dir.path()).unwrap_err();
    assert!(matches!(error, PackageError::Build { .. }), "{error}");
    assert_eq!(bench.tree(), ["obproxy"]);
}
