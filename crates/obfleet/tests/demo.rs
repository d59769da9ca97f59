//! The whole thing, as a user sees it: `obfleet demo` with real processes, its exit status and its last line.

#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Lines},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// Longest a demo that was ended may take to be gone.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// Without the upgrade, which is the same as in the other demo.
#[test]
fn proxies_of_somebody_else_are_taken_over() {
    let output = Command::new(env!("CARGO_BIN_EXE_obfleet"))
        .args(["demo", "--json", "--scenario", "takeover", "--no-upgrade"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(
        told.contains("3 proxies are taken over, in the processes they ran in"),
        "{told}"
    );
    let first: Value = serde_json::from_slice(&output.stdout).unwrap();
    // What is not taken over yet has no id.
    assert_eq!(first["obproxyIds"], Value::Array(Vec::new()));
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

/// A demo that has set everything up and told so.
struct Running {
    demo: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut demo = Command::new(env!("CARGO_BIN_EXE_obfleet"))
            .args(["demo", "--json"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
        let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert!(first["url"].is_string(), "{first}");
        Self { demo, lines }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.demo.id()).unwrap()), signal).unwrap();
    }

    /// The fleet's directory, as its server was told.
    fn root(&self) -> PathBuf {
        let parent = format!("PPid:\t{}", self.demo.id());
        let state_dir = processes().find_map(|process| {
            let status = fs::read_to_string(process.join("status")).ok()?;
            let line = fs::read(process.join("cmdline")).ok()?;
            let arguments: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
            let at = arguments.iter().position(|argument| argument == "--state-dir")?;
            let is_server = arguments[1] == "server" && status.lines().any(|line| line == parent);
            is_server.then(|| PathBuf::from(&*arguments[at + 1]))
        });
        state_dir.unwrap().parent().unwrap().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.demo.kill();
        let _ = self.demo.wait();
    }
}

fn processes() -> impl Iterator<Item = PathBuf> {
    fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path())
}

/// The processes that work below a directory, also one that is gone.
fn at_work_below(root: &Path) -> usize {
    processes()
        .filter(|process| fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(root)))
        .count()
}

#[test]
fn a_demo_that_is_told_to_end_still_reports() {
    let mut running = Running::start(&[]);
    running.signal(Signal::SIGTERM);
    let last = running.lines.next().unwrap().unwrap();
    let report: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(
        (&report["ok"], &report["proxies"]),
        (&Value::Bool(false), &Value::from(3)),
        "{report}"
    );
    assert!(running.lines.next().is_none());
    assert_eq!(running.demo.wait().unwrap().code(), Some(1));
}

#[test]
fn a_killed_demo_takes_its_fleet_with_it() {
    let running = Running::start(&["--no-upgrade", "--keep"]);
    let root = running.root();
    // The server, three agents, three proxies.
    assert!(at_work_below(&root) >= 7);
    running.signal(Signal::SIGKILL);
    let deadline = Instant::now() + PATIENCE;
    while root.exists() || at_work_below(&root) > 0 {
        assert!(Instant::now() < deadline, "{} processes are left", at_work_below(&root));
        sleep(Duration::from_millis(50));
    }
}
