//! Proxies that somebody else started are adopted as they run, looked after by the agent, and given back.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::chown,
    process::Command,
    time::{Duration, Instant},
};

use nix::unistd::geteuid;
use obfleet_agent::client::{CallError, Endpoint};
use obfleet_obproxy::{admin::AdminConn, process};
use obfleet_standin::{
    Faults,
    foreign::{Foreign, Tool},
};
use obfleet_wire::agent::{
    DrainPolicy, Examination, ExamineRequest, Obstacle, Operation, Outcome, ProxySpec, RestartMethod,
};

use crate::{
    authority::Authority,
    foreign::{PASSWORD, Stranger},
    host::{Caller, DRAIN, Host, LONG, NEW, OLD, end, kill_process, rpm},
};

const RETIRE: Operation = Operation::RetireWatchdogs { proxy_id: 7 };
const REVIVE: Operation = Operation::ReviveWatchdogs { proxy_id: 7 };
const RELEASE: Operation = Operation::ReleaseProxy {
    proxy_id: 7,
    for_good: true,
};

fn of_cluster() -> Operation {
    Operation::SetSysPassword {
        proxy_id: 7,
        password: "Cluster-s3cret1".into(),
    }
}

async fn examine(endpoint: &Endpoint, stranger: &Stranger, passwords: &[&str]) -> Examination {
    let request = ExamineRequest {
        sql_port: stranger.order.sql_port,
        passwords: passwords.iter().map(ToString::to_string).collect(),
    };
    endpoint.examine(&request).await.unwrap()
}

async fn obstacles(endpoint: &Endpoint, stranger: &Stranger) -> Vec<Obstacle> {
    examine(endpoint, stranger, &[PASSWORD]).await.obstacles
}

fn adopt(stranger: &Stranger) -> Operation {
    let order = &stranger.order;
    Operation::AdoptProxy {
        spec: ProxySpec {
            proxy_id: 7,
            cluster_name: "c1".into(),
            sql_port: order.sql_port,
            exporter_port: order.exporter_port,
            rpc_port: Some(order.rpc_port),
            ob_cluster: Some("ob1".into()),
            root_servers: vec!["127.0.0.1:2881".into()],
            parameters: Vec::new(),
            sys_password: "Cluster-s3cret1".into(),
        },
        passwords: vec!["wrong".into(), PASSWORD.into()],
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < give_up, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A client that greets once and stays.
fn client(foreign: &Foreign) -> TcpStream {
    let mut client = TcpStream::connect(foreign.address()).unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    let mut greeting = [0; 5];
    client.read_exact(&mut greeting).unwrap();
    client
}

/// Whether the proxy has not let go of it.
fn is_open(client: &mut TcpStream) -> bool {
    client.set_nonblocking(true).unwrap();
    let mut rest = [0; 512];
    loop {
        match client.read(&mut rest) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_has_against_it_is_told_by_name() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let endpoint = host.endpoint(&authority.client());
    let mut stranger = Stranger::new("obproxy");
    let port = stranger.order.sql_port;
    assert_eq!(obstacles(&endpoint, &stranger).await, [Obstacle::NotRunning { port }]);

    stranger
        .order
        .items
        .push(("proxy_hot_upgrade_check_interval".into(), "2s".into()));
    let foreign = stranger.start(Tool::Hand);
    let fine = examine(&endpoint, &stranger, &["wrong", PASSWORD]).await;
    assert_eq!(fine.obstacles, []);
    let parameters = fine.parameters.unwrap();
    assert_eq!(parameters.version.to_string(), OLD);
    let value = |name: &str| {
        parameters
            .items
            .iter()
            .find(|item| item.name == name)
            .unwrap()
            .value
            .clone()
    };
    assert_eq!(value("proxy_hot_upgrade_check_interval"), "2s");
    assert_eq!(value("obproxy_sys_password"), "******");
    let locked = examine(&endpoint, &stranger, &["wrong"]).await;
    assert_eq!(
        (locked.obstacles, locked.parameters),
        (vec![Obstacle::WrongPassword], None)
    );

    let script = stranger.dir().join("keep.sh");
    fs::write(&script, "sleep 600; exec true\n").unwrap();
    let mut keeper = Command::new("/bin/sh").arg(&script).arg(&foreign.home).spawn().unwrap();
    let pid = keeper.id().cast_signed();
    let command = format!("/bin/sh {}", script.display());
    let watched = obstacles(&endpoint, &stranger).await;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    keeper.kill().unwrap();
    keeper.wait().unwrap();
    children
        .split_whitespace()
        .for_each(|child| end(child.parse().unwrap()));
    assert_eq!(watched, [Obstacle::UnknownWatchdog { pid, command }]);

    // Started again it would run as whoever its configuration belongs to.
    if geteuid().is_root() {
        let store = foreign.home.join("etc/proxyconfig_v1.db");
        chown(&store, Some(65534), Some(65534)).unwrap();
        let user = "root".to_owned();
        let path = store.display().to_string();
        assert_eq!(
            obstacles(&endpoint, &stranger).await,
            [Obstacle::OtherOwner { user, path }]
        );
        chown(&store, Some(0), Some(0)).unwrap();
    }

    // Two processes of one home: the second as a hot restart has it.
    let first = foreign.processes()[0].pid;
    let mut admin = AdminConn::connect(foreign.address(), PASSWORD, LONG).await.unwrap();
    admin.local_command(2).await.unwrap();
    until("two processes", || foreign.processes().len() == 2);
    let restarting = obstacles(&endpoint, &stranger).await;
    assert!(
        matches!(&restarting[..], [Obstacle::Restarting { pids }, ..] if pids[0] == first),
        "{restarting:?}"
    );
    admin.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_called_by_another_name_is_refused() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let endpoint = host.endpoint(&authority.client());
    let stranger = Stranger::new("obproxy");
    let foreign = stranger.start(Tool::Hand);
    let pid = foreign.processes()[0].pid;
    kill_process(pid);
    until("its end", || foreign.processes().is_empty());
    let elsewhere = stranger.dir().join("obproxy-elsewhere").join("obproxy");
    fs::create_dir(elsewhere.parent().unwrap()).unwrap();
    fs::copy(&stranger.order.binary, &elsewhere).unwrap();
    let mut started = Command::new(&elsewhere).current_dir(&foreign.home).spawn().unwrap();
    started.wait().unwrap();
    let seen = |found: &[Obstacle]| found.iter().any(|one| matches!(one, Obstacle::CalledElsewhere { .. }));
    let give_up = Instant::now() + LONG;
    while !seen(&obstacles(&endpoint, &stranger).await) {
        assert!(Instant::now() < give_up, "{:?}", obstacles(&endpoint, &stranger).await);
    }
    let pids = process::all_pids().unwrap();
    pids.filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == elsewhere))
        .for_each(end);
}

/// Taken over with nobody noticing: the watchdog gone, the password another, and a death mended by the agent alone; then
/// given back as it came.
async fn comes_and_goes(tool: Tool, change: impl FnOnce(Stranger) -> Stranger) {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let mut caller = Caller::new(host.endpoint(&authority.client()), 1);
    let stranger = change(Stranger::new("obproxy"));
    let foreign = stranger.start(tool);
    let (before, watchdogs) = (foreign.processes(), foreign.watchdogs().len());
    let mut client = client(&foreign);

    let adopted = caller.proxy(adopt(&stranger)).await;
    assert_eq!(
        (adopted.pid, adopted.version.to_string()),
        (before[0].pid, OLD.to_owned())
    );
    assert_eq!(caller.proxy(adopt(&stranger)).await, adopted, "twice is once");
    let managed = obstacles(&caller.endpoint, &stranger).await;
    assert!(managed.contains(&Obstacle::Managed { proxy_id: 7 }), "{managed:?}");
    for _ in 0..2 {
        caller.call(RETIRE).await.unwrap();
        assert_eq!(foreign.watchdogs(), [0; 0]);
    }
    for _ in 0..2 {
        caller.call(of_cluster()).await.unwrap();
    }
    caller.proxy(Operation::Inspect { proxy_id: 7 }).await;
    assert_eq!(foreign.processes(), before, "it was restarted");
    assert!(is_open(&mut client), "a client was cut off");

    kill_process(before[0].pid);
    let report = caller
        .proxy_status(7, |p| p.serving == Some(true) && p.pid != Some(before[0].pid))
        .await;
    assert_eq!(report.restarts, 1);
    let after = foreign.processes();
    assert_eq!(after.len(), 1, "two of them");
    let is_of = |pid: i32| process::user(pid).unwrap();
    assert_eq!(
        is_of(after[0].pid),
        stranger.order.user.map_or(geteuid().as_raw(), |(uid, _)| uid)
    );

    caller
        .call(Operation::RestoreSysPassword { proxy_id: 7 })
        .await
        .unwrap();
    let mut client = self::client(&foreign);
    for _ in 0..2 {
        caller.call(REVIVE).await.unwrap();
        assert_eq!(foreign.watchdogs().len().min(1), watchdogs.min(1));
    }
    for _ in 0..2 {
        caller.call(RELEASE).await.unwrap();
    }
    assert_eq!(foreign.processes(), after, "it was restarted");
    assert!(is_open(&mut client), "a client was cut off");
    client.flush().unwrap();
    let found = examine(&caller.endpoint, &stranger, &[PASSWORD]).await;
    assert_eq!(found.obstacles, []);
    assert!(
        fs::read_dir(host.root().join("slots"))
            .unwrap()
            .flatten()
            .all(|entry| { !entry.file_name().to_string_lossy().starts_with("obproxy") })
    );
    if watchdogs > 0 {
        kill_process(after[0].pid);
        until("its own watchdog to bring it back", || {
            let now = foreign.processes();
            now.len() == 1 && now[0] != after[0] && process::listens_on(now[0].pid, stranger.order.sql_port).unwrap()
        });
        if tool == Tool::Obd {
            until("obd's pid file", || {
                foreign.obd_pid() == Some(foreign.processes()[0].pid)
            });
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_obd_comes_and_goes() {
    comes_and_goes(Tool::Obd, Stranger::linked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_the_package_comes_and_goes() {
    comes_and_goes(Tool::Package, |stranger| stranger).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_users_proxy_stays_that_users() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root can start one");
    }
    let of_nobody = |mut stranger: Stranger| {
        stranger.order.user = Some((65534, 65534));
        stranger
    };
    comes_and_goes(Tool::Obd, of_nobody).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_one_is_upgraded_like_any_other_and_its_home_is_left_alone() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let mut caller = Caller::new(host.endpoint(&authority.client()), 1);
    let mut stranger = Stranger::new("obproxy").linked();
    stranger
        .order
        .items
        .push(("proxy_hot_upgrade_check_interval".into(), "1s".into()));
    if geteuid().is_root() {
        stranger.order.user = Some((65534, 65534));
    }
    let foreign = stranger.start(Tool::Obd);
    let before = caller.proxy(adopt(&stranger)).await;
    caller.call(RETIRE).await.unwrap();
    caller.install(&rpm(NEW, Faults::default()), NEW).await;
    let version: obfleet_wire::version::ProxyVersion = NEW.parse().unwrap();
    let method = RestartMethod::Hot;
    let preflight = Operation::Preflight {
        proxy_id: 7,
        version: version.clone(),
        method,
    };
    caller.call(preflight).await.unwrap();
    let restart = Operation::Restart {
        proxy_id: 7,
        restart_id: "up-1".into(),
        version: version.clone(),
        method,
        drain: DRAIN,
        probe: None,
    };
    let Outcome::Restarted(report) = caller.call(restart).await.unwrap() else {
        panic!()
    };
    assert_eq!((report.before.pid, report.after.version), (before.pid, version));
    let awaited = Operation::AwaitRestart {
        proxy_id: 7,
        restart_id: "up-1".into(),
    };
    caller.call(awaited).await.unwrap();
    let back = Operation::RevertRestart {
        proxy_id: 7,
        restart_id: "up-1".into(),
        drain: DRAIN,
        probe: None,
    };
    let back = caller.proxy(back).await;
    assert_eq!(back.version.to_string(), OLD, "there was no way back");
    assert_eq!(back.binary_sha256, before.binary_sha256);

    let remove = Operation::RemoveProxy {
        proxy_id: 7,
        drain: DrainPolicy {
            window_ms: 100,
            ..DRAIN
        },
    };
    caller.call(remove).await.unwrap();
    assert_eq!(foreign.processes(), []);
    assert!(foreign.home.join("etc").exists(), "what somebody else made is gone");
    assert!(
        caller.lines.iter().any(|line| line.contains("stays where it is")),
        "{:#?}",
        caller.lines
    );
    let restored = caller
        .proxy(Operation::RestoreProxy {
            proxy_id: 7,
            start: true,
        })
        .await;
    assert_eq!(restored.version.to_string(), OLD);
    let refused: Result<Outcome, CallError> = caller.call(adopt(&Stranger::new("other"))).await;
    assert!(refused.is_err());
}
