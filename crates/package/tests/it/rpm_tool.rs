//! What we build is a package in the eyes of RPM itself.

use std::process::Command;

use obfleet_package::build::{BuildSpec, build_obproxy_rpm};

use crate::craft::{self, Bench};

/// Whether `rpm` is there; without it the test fails if `OBFLEET_TEST_TOOLS=1` promises the tools.
fn rpm_is_there() -> bool {
    let there = Command::new("rpm")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    let promised = std::env::var_os("OBFLEET_TEST_TOOLS").is_some_and(|value| value == "1");
    assert!(
        there || !promised,
        "OBFLEET_TEST_TOOLS=1, but the program rpm is not installed"
    );
    if !there {
        println!("skipped: the program rpm is not installed");
    }
    there
}

#[test]
fn rpm_accepts_what_we_build() {
    if !rpm_is_there() {
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
