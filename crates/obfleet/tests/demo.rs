//! The whole thing, as a user sees it: `obfleet demo` with real processes, its exit status and its last line.

#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

use std::process::{Command, Output};

use serde_json::Value;

fn demo(arguments: &[&str]) -> (Output, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_obfleet"))
        .args(["demo", "--json"])
        .args(arguments)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout.clone()).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    let [first, last] = lines[..] else {
        panic!("{told}\n{}", String::from_utf8_lossy(&output.stderr));
    };
    let first: Value = serde_json::from_str(first).unwrap();
    assert_eq!(first["obproxyIds"].as_array().unwrap().len(), 3, "{first}");
    let last = serde_json::from_str(last).unwrap();
    (output, last)
}

fn assert_ok((output, report): &(Output, Value)) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(report["ok"], true, "{report}\n{told}");
    assert!(output.status.success(), "{}\n{told}", output.status);
    assert_eq!(report["refused"], 0);
    assert_eq!(report["broken_transactions"], 0);
    assert!(report["connects"].as_u64().unwrap() > 1000, "{report}");
    // The server stays small, however often it has checked a password.
    assert!(report["server_rss_mb"].as_u64().unwrap() <= 64, "{report}");
}

#[test]
fn a_fleet_is_upgraded_and_nobody_is_harmed() {
    let shown = demo(&[]);
    assert_ok(&shown);
    let report = &shown.1;
    assert_eq!(report["proxies"], 3);
    assert_eq!(report["upgraded"], 3);
    assert_eq!(report["rolled_back"], false);
    assert_eq!(report["fault"], Value::Null);
    assert!(report["closed_at_boundary"].as_u64().unwrap() > 0, "{report}");
}

/// One after another: each is a whole fleet.
#[test]
fn a_bad_package_finds_its_way_back() {
    for fault in ["exit", "hang", "wrong-version", "no-login"] {
        let shown = demo(&["--fault", fault]);
        assert_ok(&shown);
        let report = &shown.1;
        assert_eq!(report["upgraded"], 0, "{fault}: {report}");
        assert_eq!(report["rolled_back"], true, "{fault}: {report}");
        assert_eq!(report["fault"], fault);
    }
}
