//! A good child takes over.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use obfleet_mysqlwire::Client;
use obfleet_standin::Faults;
use tokio::time::{Duration, Instant};

use crate::proxy::{NEW, OLD, refusal, until, upgrade_field};
use crate::{RESTART, process_of, started};

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
