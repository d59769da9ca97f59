//! Every name, system, architecture and layout that OBProxy's packages have had.

use std::fs;

use obfleet_package::{
    Integrity, Limits, PackageError, PackageKind,
    build::{BuildSpec, Layout, build_obproxy_rpm_as},
    extract, inspect, verify,
};

use crate::craft::{self, Bench};

/// Name, version, and release without the system, of a package of each generation.
const GENERATIONS: [(&str, PackageKind, &str, &str); 4] = [
    ("obproxy", PackageKind::Obproxy, "1.9.1.1", "1919579"),
    ("obproxy", PackageKind::Obproxy, "3.2.2", "20210918"),
    ("obproxy-ce", PackageKind::ObproxyCe, "3.2.3.5", "2"),
    ("obproxy-ce", PackageKind::ObproxyCe, "4.3.1.0", "100000032024030511"),
];

#[test]
fn packages_are_told_by_what_they_say_and_unpacked_where_they_fit() {
    let bench = Bench::new();
    let (other_arch, other_machine) = craft::other_arch();
    for (name, kind, version, build) in GENERATIONS {
        for os in ["el7", "el8", "el9", "alios7"] {
            for (layout, prefix) in [
                (Layout::HomeAdmin, "/home/admin"),
                (Layout::OptTaobao, "/opt/taobao/install"),
            ] {
                for arch in [std::env::consts::ARCH, other_arch] {
                    let is_ours = arch != other_arch;
                    let content = match is_ours {
                        true => craft::program(1000),
                        false => craft::program_for(other_machine, 1000),
                    };
                    let binary = bench.file("program", &content);
                    let spec = BuildSpec {
                        name: name.to_owned(),
                        version: version.to_owned(),
                        release: format!("{build}.{os}"),
                        arch: arch.to_owned(),
                    };
                    let path = build_obproxy_rpm_as(layout, &spec, &binary, bench.dir.path()).unwrap();
                    let label = path.file_name().unwrap().to_str().unwrap().to_owned();
                    // What the file is called counts for nothing.
                    let path = {
                        let renamed = bench.dir.path().join("renamed.rpm");
                        fs::rename(&path, &renamed).unwrap();
                        renamed
                    };
                    let info = inspect(&path).unwrap();
                    assert_eq!(info.package_name().file_name(), label);
                    assert_eq!(
                        (info.kind, info.os.as_str(), info.arch.as_str()),
                        (kind, os, arch),
                        "{label}"
                    );
                    let executable = format!("{prefix}/obproxy-{version}/bin/obproxy");
                    assert_eq!(info.executable.as_deref(), Some(executable.as_str()), "{label}");
                    assert_eq!(verify(&path).unwrap(), Integrity::Payload, "{label}");

                    // One place for each: the same version in the other layout would be another slot's content.
                    let slots = bench.dir.path().join(format!("{layout:?}"));
                    let slot = extract(&path, &slots, &Limits::default());
                    if is_ours {
                        let slot = slot.unwrap();
                        assert_eq!(fs::read(slot.binary()).unwrap(), content, "{label}");
                        let named = format!("obproxy-{version}-{build}.{os}");
                        assert_eq!(slot.path, slots.join(named), "{label}");
                    } else {
                        assert!(matches!(slot, Err(PackageError::WrongMachine { .. })), "{label}");
                    }
                }
            }
        }
    }
}
