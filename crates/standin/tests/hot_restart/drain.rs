//! The old process on its way out.

use nix::sys::signal::Signal;
use obfleet_mysqlwire::{Client, ClientError};
use obfleet_standin::{Faults, Trailer};
use tokio::time::{Duration, Instant};

use crate::proxy::{NEW, OLD, ProxyHome, send, until, upgrade_field};
use crate::{RESTART, started};

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
