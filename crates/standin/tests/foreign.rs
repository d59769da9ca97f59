//! Stand-ins started as other tools do, and what the tools' watchdogs then do about them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::{
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use obfleet_obproxy::process;
use obfleet_standin::{
    Faults, Trailer,
    foreign::{Foreign, Order, Tool},
    pack,
    ports::PortLease,
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

struct Started {
    foreign: Foreign,
    port: u16,
    _ports: [PortLease; 3],
    _dir: TempDir,
}

fn start(tool: Tool) -> Started {
    let dir = tempfile::tempdir().unwrap();
    let ports = [(); 3].map(|()| PortLease::take().unwrap());
    let binary = dir.path().join("packed");
    let trailer = Trailer {
        version: "4.2.1.0".into(),
        release: "11.el7".into(),
        faults: Faults::default(),
        fake_backend: true,
    };
    pack(Path::new(env!("CARGO_BIN_EXE_standin")), &trailer, &binary).unwrap();
    let order = Order {
        binary,
        home: dir.path().join("obproxy"),
        sql_port: ports[0].port(),
        exporter_port: ports[1].port(),
        rpc_port: ports[2].port(),
        root_servers: "127.0.0.1:2881;127.0.0.1:2882".into(),
        ob_cluster: "ob1".into(),
        password: "Secret1".into(),
        items: vec![("proxy_mem_limited".into(), "1G".into())],
        user: None,
    };
    Started {
        foreign: Foreign::start(tool, &order).unwrap(),
        port: ports[0].port(),
        _ports: ports,
        _dir: dir,
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "not in time: {what}");
        sleep(Duration::from_millis(20));
    }
}

fn is_back_after_a_kill(tool: Tool) {
    let started = start(tool);
    let foreign = &started.foreign;
    assert!(!foreign.watchdogs().is_empty());
    let [first] = foreign.processes()[..] else { panic!() };
    kill(Pid::from_raw(first.pid), Signal::SIGKILL).unwrap();
    until("another process", || {
        let now = foreign.processes();
        now.len() == 1 && now[0] != first && process::listens_on(now[0].pid, started.port).unwrap()
    });
}

#[test]
fn the_loop_of_obd_brings_it_back() {
    let started = start(Tool::Obd);
    let pid = started.foreign.processes()[0].pid;
    let line = process::command_line(pid).unwrap();
    let home = started.foreign.home.display();
    assert_eq!(
        line,
        [
            format!("{home}/bin/obproxy"),
            "--listen_port".into(),
            started.port.to_string()
        ]
    );
    assert_eq!(started.foreign.obd_pid(), Some(pid));
    drop(started);
    is_back_after_a_kill(Tool::Obd);
}

#[test]
fn the_loop_of_the_package_brings_it_back() {
    is_back_after_a_kill(Tool::Package);
}

#[test]
fn obshell_and_people_leave_no_watchdog() {
    for tool in [Tool::Obshell, Tool::Hand] {
        let started = start(tool);
        assert_eq!(started.foreign.watchdogs(), [0; 0]);
        let line = process::command_line(started.foreign.processes()[0].pid).unwrap();
        assert_eq!(line[0], "./bin/obproxy");
        assert!(
            line.iter().any(|word| word.contains("obproxy_sys_password=")),
            "{line:?}"
        );
        assert_eq!(
            started.foreign.home.join("run/obproxy.pid").exists(),
            tool == Tool::Obshell
        );
    }
}
