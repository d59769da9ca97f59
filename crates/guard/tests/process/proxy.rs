//! What the crate below does to one proxy, tried on a real process: launch, preflight, configuration store.

use std::{fs, net::TcpListener};

use obfleet_obproxy::{
    admin::{AdminConn, AdminError},
    config_store, launch,
    launch::LaunchError,
    preflight::{self, Obstacles, Request},
    process, stop,
};
use obfleet_standin::Faults;
use obfleet_wire::{
    agent::{PreflightReport, RestartMethod},
    version::ProxyVersion,
};

use crate::lab::{Lab, NEW, OLD, PASSWORD, PATIENCE};

async fn preflight_as(lab: &Lab, password: &str, version: &str) -> Result<PreflightReport, Obstacles> {
    let version: ProxyVersion = version.parse().unwrap();
    let request = Request {
        home: &lab.home(),
        address: lab.address(),
        sys_password: password,
        binary: &lab.slot(),
        version: &version,
        method: RestartMethod::Hot,
    };
    preflight::check(&request).await
}

/// The single obstacle of a preflight.
fn only(found: Result<PreflightReport, Obstacles>) -> String {
    let Obstacles(obstacles) = found.unwrap_err();
    assert_eq!(obstacles.len(), 1, "{obstacles:?}");
    assert!(!obstacles[0].next_step.is_empty());
    obstacles[0].to_string()
}

#[tokio::test]
async fn a_preflight_tells_what_runs_and_what_is_in_the_way() {
    let lab = Lab::new(Faults::default()).await;
    let client = lab.client().await;
    let report = preflight_as(&lab, PASSWORD, NEW).await.unwrap();
    assert_eq!(report.running.version.to_string(), OLD);
    assert_eq!(report.running.pid, lab.processes()[0].pid);
    assert_eq!(report.sessions, 1);
    client.close().await;

    assert!(only(preflight_as(&lab, PASSWORD, "4.3.9.9-1").await).contains("wanted is 4.3.9.9-1"));
    assert!(only(preflight_as(&lab, "wrong", NEW).await).contains("password"));

    fs::write(lab.slot(), "#!/bin/sh\n").unwrap();
    assert!(only(preflight_as(&lab, PASSWORD, NEW).await).contains("not an ELF"));

    stop::kill(lab.processes()[0]).await.unwrap();
    let Obstacles(obstacles) = preflight_as(&lab, PASSWORD, NEW).await.unwrap_err();
    assert!(
        obstacles.iter().any(|obstacle| obstacle.reason == "no proxy runs here"),
        "{obstacles:?}"
    );
}

#[tokio::test]
async fn a_first_start_leaves_no_password_behind_and_can_be_repeated_bare() {
    let lab = Lab::new(Faults::default()).await;
    let first = lab.processes()[0];
    let line = process::command_line(first.pid).unwrap();
    assert_eq!(line, ["./bin/obproxy"]);
    assert_eq!(process::environment(first.pid).unwrap(), []);
    let mut admin = lab.admin().await;
    assert_eq!(
        admin
            .config_value("proxy_hot_upgrade_check_interval")
            .await
            .unwrap()
            .as_deref(),
        Some("1s")
    );
    assert_eq!(admin.proxy_status().await.unwrap(), "ACTIVE");
    assert_eq!(admin.proxy_version().await.unwrap(), "4.2.1.0");
    admin.ping_proxy().await.unwrap();
    let refused = admin.set_config("no_such_item", "1").await;
    assert!(
        matches!(refused, Err(AdminError::Server { code: 5099, .. })),
        "{refused:?}"
    );
    admin.close().await;

    let again = launch::bare_start(&lab.home(), lab.address(), PASSWORD).await;
    assert!(
        matches!(again, Err(LaunchError::AlreadyRunning { pid, .. }) if pid == first.pid),
        "{again:?}"
    );
    stop::kill(first).await.unwrap();
    let second = launch::bare_start(&lab.home(), lab.address(), PASSWORD).await.unwrap();
    assert_ne!(second.id, first);
    let denied = AdminConn::connect(lab.address(), "wrong", PATIENCE).await;
    assert!(matches!(denied, Err(AdminError::Denied { .. })), "{denied:?}");
}

#[tokio::test]
async fn a_start_that_fails_says_why() {
    let lab = Lab::new(Faults::default()).await;
    stop::kill(lab.processes()[0]).await.unwrap();
    let squatter = TcpListener::bind(lab.address()).unwrap();
    let taken = launch::bare_start(&lab.home(), lab.address(), PASSWORD).await;
    assert!(matches!(taken, Err(LaunchError::PortTaken { .. })), "{taken:?}");
    drop(squatter);
    let refused = AdminConn::connect(lab.address(), PASSWORD, PATIENCE).await;
    assert!(matches!(refused, Err(AdminError::Refused { .. })), "{refused:?}");

    // Neither root servers nor a config server: a proxy refuses to start.
    fs::remove_dir_all(lab.home().join("etc")).unwrap();
    match launch::bare_start(&lab.home(), lab.address(), PASSWORD).await {
        Err(LaunchError::Failed { log, .. }) => assert!(log.iter().any(|line| line.contains("ret=-4147")), "{log:?}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_configuration_comes_back_from_its_copy() {
    let lab = Lab::new(Faults::default()).await;
    let copy = lab.home().join("etc/copy.db");
    let mut admin = lab.admin().await;
    admin.set_config("proxy_idc_name", "before").await.unwrap();
    config_store::back_up(&lab.home(), &copy).await.unwrap();
    admin.set_config("proxy_idc_name", "after").await.unwrap();
    admin.close().await;
    assert!(
        config_store::restore(&lab.home(), &copy).is_err(),
        "a proxy has it open"
    );
    stop::kill(lab.processes()[0]).await.unwrap();
    config_store::restore(&lab.home(), &copy).unwrap();
    launch::bare_start(&lab.home(), lab.address(), PASSWORD).await.unwrap();
    assert_eq!(
        lab.admin()
            .await
            .config_value("proxy_idc_name")
            .await
            .unwrap()
            .as_deref(),
        Some("before")
    );
}
