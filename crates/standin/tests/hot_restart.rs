//! The hot restart between real processes: good children, bad children, and the drain.
#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

#[path = "common/proxy.rs"]
mod proxy;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use obfleet_mysqlwire::{Client, ClientError};
use obfleet_standin::{Faults, Trailer};
use proxy::{NEW, OLD, ProxyHome, refusal, send, until, upgrade_field};
use tokio::time::{Duration, Instant};

const RESTART: &str = "alter proxyconfig set proxy_local_cmd = 2";

/// A started proxy, its pid, and an open session of an administrator on it.
async fn started(items: &str) -> (ProxyHome, i32, Client) {
    let home = ProxyHome::new();
    home.start(items).await;
    let pid = home.pids()[0];
    let keeper = home.admin().await;
    (home, pid, keeper)
}

async fn process_of(admin: &mut Client) -> i32 {
    admin
        .query("show processlist")
        .await
        .unwrap()
        .text(0, "pid")
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test]
async fn a_new_version_takes_over_while_the_keeper_holds_the_old() {
    let (home, old, mut keeper) = started("").await;
    home.install(NEW, Faults::default());
    keeper.query(RESTART).await.unwrap();
    home.until_version(NEW).await;

    let mut admin = home.admin().await;
    let new = process_of(&mut admin).await;
    assert_ne!(new, old);
    assert_eq!(upgrade_field(&mut admin, "is_inherited").await, "true");
    assert_eq!(upgrade_field(&mut admin, "argc").await, "1");
    assert_eq!(upgrade_field(&mut admin, "state").await, "HU_STATE_WAIT_HU_CMD");
    assert_eq!(fs::read(format!("/proc/{new}/cmdline")).unwrap(), b"./bin/obproxy\0");
    let environment = String::from_utf8(fs::read(format!("/proc/{new}/environ")).unwrap()).unwrap();
    let mut names: Vec<&str> = environment
        .split_terminator('\0')
        .filter_map(|pair| pair.split('=').next())
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "OBPROXY_INHERITED_FD",
            "OBPROXY_INHERITED_IPV6_FD",
            "OBPROXY_INHERITED_RPC_FD"
        ]
    );
    assert!(home.join("etc/obproxy_config.bin").is_file());
    let reboots = home.read("log/obproxy_diagnosis.log");
    assert!(
        reboots.contains(&format!("pid: {new}, ppid: {old}, result: reboot success")),
        "{reboots}"
    );

    // The old one answers its old version, shows that it drains, and takes no settings.
    assert_eq!(process_of(&mut keeper).await, old);
    assert_eq!(
        keeper
            .query("select proxy_version() as v")
            .await
            .unwrap()
            .text(0, "v")
            .unwrap(),
        OLD
    );
    until("the old one drains", async || {
        upgrade_field(&mut keeper, "received_sig").await == "10"
    })
    .await;
    assert_eq!(upgrade_field(&mut keeper, "need_conn_accept").await, "false");
    assert_eq!(upgrade_field(&mut keeper, "sub_pid").await, new.to_string());
    assert_ne!(upgrade_field(&mut keeper, "graceful_exit_end_time").await, "0");
    assert_eq!(refusal(keeper.query(RESTART).await), 4016);
    keeper.ping().await.unwrap();

    // The last session closed, it leaves; the new one stays.
    keeper.close().await;
    home.until_process_count(1).await;
    assert_eq!(home.pids(), [new]);
    assert_eq!(home.version().await.unwrap(), NEW);
}

#[tokio::test]
async fn ping_proxy_loses_the_connection_of_a_draining_process() {
    let (home, _, mut keeper) = started("").await;
    keeper.query("ping proxy").await.unwrap();
    keeper.query(RESTART).await.unwrap();
    until("the old one drains", async || {
        upgrade_field(&mut keeper, "received_sig").await == "10"
    })
    .await;
    assert!(matches!(keeper.query("ping proxy").await, Err(ClientError::Lost(_))));
    home.until_process_count(1).await;
}

#[tokio::test]
async fn sessions_are_cut_at_the_deadline() {
    let (home, old, mut keeper) = started(",hot_upgrade_exit_timeout=500000").await;
    home.install(NEW, Faults::default());
    keeper.query(RESTART).await.unwrap();
    home.until_version(NEW).await;
    until("the session is cut", async || keeper.ping().await.is_err()).await;
    until("the old one is gone", async || !home.pids().contains(&old)).await;
    assert_eq!(home.version().await.unwrap(), NEW);
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
    let (home, old, mut keeper) = started(",hot_upgrade_rollback_timeout=5s").await;
    home.install(
        NEW,
        Faults {
            hang: true,
            ..Faults::default()
        },
    );
    keeper.query(RESTART).await.unwrap();
    home.until_process_count(2).await;
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
    let (home, old, mut keeper) = started("").await;
    home.install(
        NEW,
        Faults {
            hang: true,
            ..Faults::default()
        },
    );
    keeper.query(RESTART).await.unwrap();
    home.until_process_count(2).await;
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
    let (home, old, keeper) = started(",hot_upgrade_rollback_timeout=5s").await;
    let (bystander, ..) = started("").await;
    let mut keeper = keeper;
    home.install(
        NEW,
        Faults {
            hang: true,
            ..Faults::default()
        },
    );
    keeper.query(RESTART).await.unwrap();
    home.until_process_count(2).await;
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

#[tokio::test]
async fn a_drain_that_never_ends_survives_its_deadline() {
    let home = ProxyHome::new();
    home.install_build(&Trailer {
        version: OLD.into(),
        release: "1.el7".into(),
        faults: Faults {
            drain_never_ends: true,
            ..Faults::default()
        },
        fake_backend: false,
    });
    home.start(",hot_upgrade_exit_timeout=0").await;
    let old = home.pids()[0];
    home.install(NEW, Faults::default());
    let mut keeper = home.admin().await;
    keeper.query(RESTART).await.unwrap();
    home.until_version(NEW).await;
    until("the deadline has passed", async || {
        let end: u128 = upgrade_field(&mut keeper, "graceful_exit_end_time")
            .await
            .parse()
            .unwrap();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_nanos();
        end > 0 && now > end + 3_000_000_000
    })
    .await;
    keeper.ping().await.unwrap();
    send(old, Signal::SIGTERM);
    home.until_process_count(1).await;
    assert_eq!(home.version().await.unwrap(), NEW);
}

#[tokio::test]
async fn back_to_back_restarts_keep_every_keeper() {
    let (home, _, mut first) = started("").await;
    home.install(NEW, Faults::default());
    first.query(RESTART).await.unwrap();
    home.until_version(NEW).await;
    let mut second = home.admin().await;
    home.install(OLD, Faults::default());
    second.query(RESTART).await.unwrap();
    home.until_version(OLD).await;
    home.until_process_count(3).await;
    assert_eq!(
        first
            .query("select proxy_version() v")
            .await
            .unwrap()
            .text(0, "v")
            .unwrap(),
        OLD
    );
    assert_eq!(
        second
            .query("select proxy_version() v")
            .await
            .unwrap()
            .text(0, "v")
            .unwrap(),
        NEW
    );
    first.close().await;
    second.close().await;
    home.until_process_count(1).await;
}

#[tokio::test]
async fn offline_is_a_flag_that_a_restart_forgets() {
    let (home, _, mut admin) = started("").await;
    let status = async |admin: &mut Client| {
        admin
            .query("select proxy_status()")
            .await
            .unwrap()
            .text(0, "proxy_status")
            .unwrap()
    };
    assert_eq!(status(&mut admin).await, "ACTIVE");
    let other = home.admin().await;
    admin.query("alter proxyconfig set proxy_local_cmd = 3").await.unwrap();
    until("becoming inactive", async || status(&mut admin).await == "BE_INACTIVE").await;
    other.close().await;
    until("inactive", async || status(&mut admin).await == "INACTIVE").await;
    admin.query("alter proxyconfig set proxy_local_cmd = 4").await.unwrap();
    until("active", async || status(&mut admin).await == "ACTIVE").await;
}

#[tokio::test]
async fn no_connect_is_refused_across_restarts_up_and_down() {
    let (home, _, _keeper) = started("").await;
    let done = Arc::new(AtomicBool::new(false));
    let address = home.address();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let done = Arc::clone(&done);
            tokio::spawn(async move {
                let mut connects = 0;
                while !done.load(Ordering::Relaxed) {
                    let deadline = Instant::now() + Duration::from_secs(40);
                    let client = Client::connect(address, "root@proxysys", "", deadline).await.unwrap();
                    client.close().await;
                    connects += 1;
                }
                connects
            })
        })
        .collect();
    for version in [NEW, OLD, NEW] {
        home.install(version, Faults::default());
        let mut keeper = home.admin().await;
        keeper.query(RESTART).await.unwrap();
        home.until_version(version).await;
        keeper.close().await;
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 0);
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
async fn sigusr1_without_a_child_drains_and_lets_new_connects_hang() {
    let (home, pid, mut session) = started("").await;
    send(pid, Signal::SIGUSR1);
    until("it drains", async || {
        upgrade_field(&mut session, "received_sig").await == "10"
    })
    .await;
    assert_eq!(upgrade_field(&mut session, "state").await, "HU_STATE_WAIT_HU_CMD");
    let waiting = Client::connect(
        home.address(),
        "root@proxysys",
        "",
        Instant::now() + Duration::from_millis(300),
    )
    .await;
    assert!(matches!(waiting, Err(ClientError::NoGreeting)), "{waiting:?}");
    session.ping().await.unwrap();
    session.close().await;
    home.until_process_count(0).await;
    assert!(matches!(home.try_admin().await, Err(ClientError::Refused)));
}

#[tokio::test]
async fn with_no_session_left_the_old_process_leaves_by_itself() {
    let (home, old, mut admin) = started("").await;
    home.install(NEW, Faults::default());
    admin.query(RESTART).await.unwrap();
    admin.close().await;
    until("the old one is gone", async || !home.pids().contains(&old)).await;
    assert_eq!(home.version().await.unwrap(), NEW);
    // Nobody is left to fall back to.
    send(home.pids()[0], Signal::SIGKILL);
    home.until_process_count(0).await;
    assert!(matches!(home.try_admin().await, Err(ClientError::Refused)));
    assert!(home.run(&[]).status.success());
    home.until_version(NEW).await;
}
