//! A child that is of no use, and what becomes of the proxy then.

use std::fs;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use obfleet_mysqlwire::{Client, ClientError};
use obfleet_standin::Faults;
use tokio::time::{Duration, Instant};

use crate::proxy::{NEW, OLD, ProxyHome, send, until, upgrade_field};
use crate::{RESTART, process_of, started};

/// As [`started`], with a new process that will never serve.
async fn with_hanging_child(items: &str) -> (ProxyHome, i32, Client) {
    let (home, old, mut keeper) = started(items).await;
    home.install(
        NEW,
        Faults {
            hang: true,
            ..Faults::default()
        },
    );
    keeper.query(RESTART).await.unwrap();
    home.until_process_count(2).await;
    (home, old, keeper)
}

#[tokio::test]
async fn a_child_that_exits_is_undone_and_the_file_stays() {
    let (home, old, mut keeper) = started("").await;
    home.install(
        NEW,
        Faults {
            exit: Some(1),
            ..Faults::default()
        },
    );
    let bad = fs::read(home.join("bin/obproxy")).unwrap();
    keeper.query(RESTART).await.unwrap();
    until("the restart was tried", async || {
        home.read("log/obproxy.log").contains("rollback succeed")
    })
    .await;
    assert_eq!(home.version().await.unwrap(), OLD);
    assert_eq!(home.pids(), [old]);
    assert!(fs::read(home.join("bin/obproxy")).unwrap() == bad);
    assert_eq!(upgrade_field(&mut keeper, "sub_pid").await, "-1");
    let rollback_at = upgrade_field(&mut keeper, "timeout_rollback_timeout_at").await;
    assert_ne!(rollback_at, "0");
    for _ in 0..20 {
        let again = upgrade_field(&mut keeper, "timeout_rollback_timeout_at").await;
        assert_eq!(again, rollback_at, "the time of a fork stays to the nanosecond");
    }

    // A good one afterwards works.
    home.install(NEW, Faults::default());
    keeper.query(RESTART).await.unwrap();
    home.until_version(NEW).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_executed_is_undone() {
    let (home, old, mut keeper) = started("").await;
    fs::write(home.join("bin/staged"), "no program").unwrap();
    fs::rename(home.join("bin/staged"), home.join("bin/obproxy")).unwrap();
    keeper.query(RESTART).await.unwrap();
    until("the restart was tried", async || {
        home.read("log/obproxy.log").contains("rollback succeed")
    })
    .await;
    assert_eq!(home.version().await.unwrap(), OLD);
    assert_eq!(home.pids(), [old]);
}

#[tokio::test]
async fn a_child_that_hangs_is_killed_after_the_rollback_timeout() {
    let (home, old, mut keeper) = with_hanging_child(",hot_upgrade_rollback_timeout=5s").await;
    // Nobody accepts: the connect succeeds, the greeting does not come before the rollback.
    let waiting = Client::connect(
        home.address(),
        "root@proxysys",
        "",
        Instant::now() + Duration::from_millis(300),
    )
    .await;
    assert!(matches!(waiting, Err(ClientError::NoGreeting)), "{waiting:?}");
    assert_eq!(upgrade_field(&mut keeper, "need_conn_accept").await, "false");
    assert_eq!(upgrade_field(&mut keeper, "graceful_exit_end_time").await, "0");
    home.until_version(OLD).await;
    home.until_process_count(1).await;
    assert_eq!(home.pids(), [old]);
    assert_eq!(upgrade_field(&mut keeper, "sub_status").await, "exited");
}

#[tokio::test]
async fn a_child_killed_by_the_manager_is_undone() {
    let (home, old, mut keeper) = with_hanging_child("").await;
    let child = home.pids().into_iter().find(|pid| *pid != old).unwrap();
    send(child, Signal::SIGKILL);
    // One connect is enough: it waits in the queue until the old one accepts again.
    assert_eq!(home.version().await.unwrap(), OLD);
    assert_eq!(upgrade_field(&mut keeper, "sub_pid").await, "-1");
}

#[tokio::test]
async fn a_child_killed_during_the_drain_is_undone_as_long_as_the_keeper_holds() {
    let (home, old, mut keeper) = started("").await;
    home.install(NEW, Faults::default());
    for _ in 0..2 {
        keeper.query(RESTART).await.unwrap();
        home.until_version(NEW).await;
        until("the old one drains", async || {
            upgrade_field(&mut keeper, "received_sig").await == "10"
        })
        .await;
        let child = home.pids().into_iter().find(|pid| *pid != old).unwrap();
        send(child, Signal::SIGKILL);
        home.until_version(OLD).await;
        assert_eq!(process_of(&mut keeper).await, old);
        assert_eq!(upgrade_field(&mut keeper, "need_conn_accept").await, "true");
        keeper
            .query("alter proxyconfig set proxy_cluster = back")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_child_that_crashes_during_the_drain_is_undone() {
    let (home, old, mut keeper) = started("").await;
    home.install(
        NEW,
        Faults {
            crash_after_s: Some(0.7),
            ..Faults::default()
        },
    );
    keeper.query(RESTART).await.unwrap();
    until("the child was undone", async || {
        home.read("log/obproxy.log").contains("rollback succeed")
    })
    .await;
    assert!(
        home.read("log/obproxy.log").contains("receive signal(sig=10)"),
        "the old one had begun to drain"
    );
    assert_eq!(home.version().await.unwrap(), OLD);
    assert_eq!(process_of(&mut keeper).await, old);
}

#[tokio::test]
async fn a_child_ended_by_sigusr1_during_the_drain_leaves_nobody_to_accept() {
    let (home, old, mut keeper) = started("").await;
    home.install(NEW, Faults::default());
    keeper.query(RESTART).await.unwrap();
    home.until_version(NEW).await;
    let child = home.pids().into_iter().find(|pid| *pid != old).unwrap();
    send(child, Signal::SIGUSR1);
    home.until_process_count(1).await;
    until("the old one forgot its child", async || {
        upgrade_field(&mut keeper, "sub_pid").await == "-1"
    })
    .await;
    let waiting = Client::connect(
        home.address(),
        "root@proxysys",
        "",
        Instant::now() + Duration::from_millis(1500),
    )
    .await;
    assert!(matches!(waiting, Err(ClientError::NoGreeting)), "{waiting:?}");
}

#[tokio::test]
async fn a_goodbye_before_the_child_is_ready_ends_the_proxy_and_its_child_only() {
    let (bystander, ..) = started("").await;
    let (home, old, _keeper) = with_hanging_child(",hot_upgrade_rollback_timeout=5s").await;
    send(old, Signal::SIGUSR2);
    home.until_process_count(0).await;
    assert!(home.read("log/obproxy.log").contains("KILL_ALL"));
    assert_eq!(bystander.version().await.unwrap(), OLD);
}

#[tokio::test]
async fn faults_of_a_child_that_serves() {
    let (home, _, mut keeper) = started("").await;
    home.install(
        NEW,
        Faults {
            no_login: true,
            ..Faults::default()
        },
    );
    keeper.query(RESTART).await.unwrap();
    until(
        "logins are refused",
        async || matches!(home.try_admin().await, Err(ClientError::LoginRefused(error)) if error.code == 1045),
    )
    .await;
    until("the old one drains", async || {
        upgrade_field(&mut keeper, "received_sig").await == "10"
    })
    .await;

    let (home, _, mut keeper) = started("").await;
    home.install(
        NEW,
        Faults {
            wrong_version: Some("4.3.0.9".into()),
            ..Faults::default()
        },
    );
    keeper.query(RESTART).await.unwrap();
    home.until_version("4.3.0.9").await;
    let binary = home
        .admin()
        .await
        .query("show proxyinfo binary")
        .await
        .unwrap()
        .text(0, "info")
        .unwrap();
    assert!(binary.starts_with("ObProxy-OceanBase 4.3.0.9-1.el7\n"), "{binary}");
}

#[tokio::test]
async fn a_silent_child_serves_until_it_is_killed() {
    let (home, old, _keeper) = started(",hot_upgrade_rollback_timeout=5s").await;
    home.install(
        NEW,
        Faults {
            never_signal: true,
            ..Faults::default()
        },
    );
    home.admin().await.query(RESTART).await.unwrap();
    home.until_version(NEW).await;
    home.until_version(OLD).await;
    home.until_process_count(1).await;
    assert_eq!(home.pids(), [old]);
}

/// The child of PID 1 takes its parent for init and does not tell it that it serves.
#[tokio::test]
async fn as_pid_1_the_old_version_comes_back_at_the_rollback_timeout() {
    let unshare = ["--pid", "--fork", "--kill-child"];
    let probe = Command::new("unshare").args(unshare).arg("true").status();
    if !probe.is_ok_and(|status| status.success()) {
        return eprintln!("skipped: no new pid namespace can be made here");
    }
    let home = ProxyHome::new();
    let mut arguments = home.first_arguments(",hot_upgrade_rollback_timeout=5s");
    arguments.push("-N".into());
    let mut namespace = Command::new("unshare")
        .args(unshare)
        .arg("./bin/obproxy")
        .args(arguments)
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    home.until_version(OLD).await;
    let mut keeper = home.admin().await;
    assert_eq!(process_of(&mut keeper).await, 1);
    home.install(NEW, Faults::default());
    keeper.query(RESTART).await.unwrap();
    home.until_version(NEW).await;
    assert_eq!(
        upgrade_field(&mut keeper, "graceful_exit_end_time").await,
        "0",
        "it does not drain"
    );
    home.until_version(OLD).await;
    assert_eq!(process_of(&mut home.admin().await).await, 1);
    namespace.kill().unwrap();
    namespace.wait().unwrap();
}
