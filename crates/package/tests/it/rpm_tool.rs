//! RPM itself accepts what we build, and we what RPM builds.

use std::{fs, process::Command};

use obfleet_package::{
    Integrity, Limits, PackageKind,
    build::{BuildSpec, build_obproxy_rpm},
    extract, inspect, verify,
};

use crate::craft::{self, Bench};

/// Whether the program is there; without it the test fails if `OBFLEET_TEST_TOOLS=1` promises it.
pub fn is_there(program: &str) -> bool {
    let there = Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    let promised = std::env::var_os("OBFLEET_TEST_TOOLS").is_some_and(|value| value == "1");
    assert!(
        there || !promised,
        "OBFLEET_TEST_TOOLS=1, but the program {program} is not installed"
    );
    if !there {
        println!("skipped: the program {program} is not installed");
    }
    there
}

#[test]
fn rpm_accepts_what_we_build() {
    if !is_there("rpm") {
        return;
    }
    let bench = Bench::new();
    let binary = bench.file("obproxy", &craft::program(200_000));
    let spec = BuildSpec {
        name: "obproxy-ce".to_owned(),
        version: "4.2.1.0".to_owned(),
        release: "11.el7".to_owned(),
        arch: "x86_64".to_owned(),
    };
    let path = build_obproxy_rpm(&spec, &binary, bench.dir.path()).unwrap();
    let rpm = |arguments: &[&str]| {
        let dbpath = bench.dir.path().join("rpmdb");
        let output = Command::new("rpm")
            .arg("--dbpath")
            .arg(dbpath)
            .args(arguments)
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let checked = rpm(&["-K"]);
    assert!(checked.trim_end().ends_with("digests OK"), "{checked}");
    let listed = rpm(&[
        "-qp",
        "--queryformat",
        "%{NEVRA} [%{FILENAMES} %{FILEUSERNAME} %{FILEMODES:perms}\\n]",
    ]);
    assert!(listed.starts_with("obproxy-ce-4.2.1.0-11.el7.x86_64 "), "{listed}");
    assert!(
        listed.contains("/home/admin/obproxy-4.2.1.0/bin/obproxy admin -rwxr-xr-x"),
        "{listed}"
    );
}

/// A package made by rpmbuild as the vendor's is, with hard-to-please parts: links, modes, directories, scriptlets.
const SPEC: &str = r"
Name: obproxy-ce
Version: 4.3.1.0
Release: 1.el7
Summary: a test
License: none
AutoReqProv: no
%global debug_package %{nil}
%global __os_install_post %{nil}
%define prefix /home/admin/obproxy-%{version}
%description
A test.
%install
mkdir -p %{buildroot}%{prefix}/bin %{buildroot}%{prefix}/lib
cp %{program} %{buildroot}%{prefix}/bin/obproxy
echo '#!/bin/sh' > %{buildroot}%{prefix}/bin/obproxyd.sh
echo library > %{buildroot}%{prefix}/lib/libstdc++.so.6.0.25
ln -s libstdc++.so.6.0.25 %{buildroot}%{prefix}/lib/libstdc++.so.6
%pre
rm -rf /nonexistent
%files
%defattr(-,admin,admin,0755)
%dir %{prefix}
%dir %{prefix}/bin
%dir %{prefix}/lib
%attr(755,admin,admin) %{prefix}/bin/*
%{prefix}/lib/*
%ghost %{prefix}/bin/obproxy.log
";

#[test]
fn packages_of_rpmbuild_are_read() {
    if !is_there("rpmbuild") {
        return;
    }
    for payload in ["w2.xzdio", "w6.gzdio", "w3.zstdio"] {
        let bench = Bench::new();
        let program = bench.file("program", &craft::program(300_000));
        let spec = bench.file("obproxy.spec", SPEC.as_bytes());
        let output = Command::new("rpmbuild")
            .arg("-bb")
            .args([
                "--define",
                &format!("_topdir {}", bench.dir.path().join("rpmbuild").display()),
            ])
            .args(["--define", &format!("program {}", program.display())])
            .args(["--define", &format!("_binary_payload {payload}")])
            .arg(&spec)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let arch = std::env::consts::ARCH;
        let path = bench
            .dir
            .path()
            .join(format!("rpmbuild/RPMS/{arch}/obproxy-ce-4.3.1.0-1.el7.{arch}.rpm"));
        assert_eq!(inspect(&path).unwrap().kind, PackageKind::ObproxyCe);
        assert_eq!(verify(&path).unwrap(), Integrity::Payload, "{payload}");
        let slot = extract(&path, &bench.slots(), &Limits::default()).unwrap();
        assert_eq!(fs::read(slot.binary()).unwrap(), craft::program(300_000), "{payload}");
        assert_eq!(
            fs::read_to_string(slot.path.join("lib/libstdc++.so.6")).unwrap(),
            "library\n"
        );
        assert!(!slot.path.join("bin/obproxy.log").exists(), "ghosts are not shipped");
    }
}
