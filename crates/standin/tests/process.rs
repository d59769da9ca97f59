//! Starting, failing to start, configuration on disk, and stopping.
#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

#[path = "common/proxy.rs"]
mod proxy;

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use obfleet_mysqlwire::ClientError;
use obfleet_standin::Faults;
use proxy::{NEW, OLD, ProxyHome, send, until};
use tokio::net::TcpListener;

#[tokio::test]
async fn a_start_listens_and_leaves_the_files_of_a_real_one() {
    let home = ProxyHome::new();
    home.start("").await;
    assert_eq!(home.version().await.unwrap(), OLD);
    for directory in ["etc", "log", ".conf", "control-config", "sharding-config"] {
        assert!(home.join(directory).is_dir(), "{directory}");
    }
    assert!(home.join("etc/proxyconfig_v1.db").is_file());
    assert!(!home.join("etc/obproxy_config.bin").exists());
    let pids = home.pids();
    assert_eq!(pids.len(), 1);
    let reboots = home.read("log/obproxy_diagnosis.log");
    let expected = format!("obproxy version: ObProxy-OceanBase {OLD}-1.el7, ");
    assert!(reboots.contains(&expected), "{reboots}");
    assert!(
        reboots.contains(&format!("pid: {}, ppid: ", pids[0])) && reboots.contains("result: reboot success\")\n"),
        "{reboots}"
    );
}

#[test]
fn version_and_release_are_told_as_the_real_proxy_tells_them() {
    let home = ProxyHome::new();
    home.install(
        NEW,
        Faults {
            exit: Some(1),
            hang: true,
            ..Faults::default()
        },
    );
    let version = home.run(&["-V"]);
    assert!(version.status.success() && version.stdout.is_empty());
    let text = String::from_utf8(version.stderr).unwrap();
    assert!(
        text.starts_with("./bin/obproxy -V\nobproxy (OceanBase 4.3.1.0 1.el7)\nREVISION: "),
        "{text}"
    );
    let release = home.run(&["-R"]);
    assert!(release.status.success() && release.stdout.is_empty());
    assert!(home.run(&["-h"]).status.success());
}

#[tokio::test]
async fn failed_starts_end_with_code_0_and_say_why_in_the_logs() {
    let home = ProxyHome::new();
    for arguments in [
        ["-p", "1024"],
        ["-p", "x"],
        ["--nonsense", ""],
        ["-r", "127.0.0.1"],
        ["-H", "1"],
    ] {
        assert_eq!(home.run(&arguments).status.code(), Some(0));
    }
    let failed_starts = || {
        home.read("log/obproxy_diagnosis.log")
            .matches("result: reboot failed")
            .count()
    };
    assert_eq!(failed_starts(), 0);

    let arguments = home.first_arguments("");
    let port_only = [arguments[0].as_str(), &arguments[1]];
    assert_eq!(home.run(&port_only).status.code(), Some(0));
    until("no root server list", async || failed_starts() == 1).await;
    assert!(home.read("log/obproxy.log").contains("obproxy init failed(ret=-4147)"));

    for (count, items) in [(2, ",proxy_mem_limited=1M"), (3, ",enable_prometheus='true'")] {
        let arguments = home.first_arguments(items);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert_eq!(home.run(&arguments).status.code(), Some(0));
        until("an invalid value", async || failed_starts() == count).await;
    }

    let _busy = TcpListener::bind(("127.0.0.1", home.rpc_port())).await.unwrap();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    assert_eq!(home.run(&arguments).status.code(), Some(0));
    until("the busy port", async || failed_starts() == 4).await;
    assert!(home.read("log/obproxy.log").contains("fail to do listen(ret=-10098)"));
    home.until_process_count(0).await;
}

#[tokio::test]
async fn options_and_settings_outlive_a_kill() {
    let home = ProxyHome::new();
    home.start(",nosuchkey=1,proxy_cluster=north").await;
    let mut admin = home.admin().await;
    admin
        .query("alter proxyconfig set hot_upgrade_rollback_timeout = '77s'")
        .await
        .unwrap();
    admin.query("alter proxyconfig set proxy_local_cmd = 3").await.unwrap();
    let first = home.pids();
    send(first[0], Signal::SIGKILL);
    home.until_process_count(0).await;

    assert!(home.run(&[]).status.success());
    home.until_version(OLD).await;
    assert_ne!(home.pids(), first);
    let mut admin = home.admin().await;
    for (name, value) in [
        ("proxy_cluster", "north"),
        ("hot_upgrade_rollback_timeout", "77s"),
        ("proxy_local_cmd", "0"),
    ] {
        let shown = admin.query(&format!("show proxyconfig like '{name}'")).await.unwrap();
        assert_eq!(shown.text(0, "value").as_deref(), Some(value), "{name}");
    }
    let commands = fs::read(format!("/proc/{}/cmdline", home.pids()[0])).unwrap();
    assert_eq!(commands, b"./bin/obproxy\0");
}

#[tokio::test]
async fn a_second_start_in_the_same_home_changes_nothing() {
    let home = ProxyHome::new();
    home.start("").await;
    let pids = home.pids();
    assert!(home.run(&[]).status.success());
    until("the failed start is logged", async || {
        home.read("log/obproxy_diagnosis.log").contains("reboot failed")
    })
    .await;
    home.until_process_count(1).await;
    assert_eq!(home.pids(), pids);
    assert_eq!(home.version().await.unwrap(), OLD);
}

#[tokio::test]
async fn sigterm_ends_with_code_1_and_refuses_from_then_on() {
    let home = ProxyHome::new();
    let arguments = home.first_arguments("");
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.push("-N");
    let mut foreground = home.spawn(&arguments);
    home.until_version(OLD).await;
    let mut admin = home.admin().await;
    let pid = i32::try_from(foreground.id()).unwrap();
    assert_eq!(home.pids(), [pid]);
    send(pid, Signal::SIGTERM);
    assert_eq!(foreground.wait().unwrap().code(), Some(1));
    assert!(matches!(admin.ping().await, Err(ClientError::Lost(_))));
    assert!(matches!(home.try_admin().await, Err(ClientError::Refused)));
}

#[tokio::test]
async fn proxy_local_cmd_1_ends_the_process() {
    let home = ProxyHome::new();
    home.start("").await;
    home.admin()
        .await
        .query("alter proxyconfig set proxy_local_cmd = 1")
        .await
        .unwrap();
    home.until_process_count(0).await;
}

#[tokio::test]
async fn a_foreign_holder_of_the_store_fails_the_start() {
    let home = ProxyHome::new();
    home.start("").await;
    send(home.pids()[0], Signal::SIGKILL);
    home.until_process_count(0).await;
    let mut holder = sqlx::SqlitePool::connect(&format!("sqlite:{}", home.join("etc/proxyconfig_v1.db").display()))
        .await
        .unwrap()
        .acquire()
        .await
        .unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut *holder).await.unwrap();
    assert!(home.run(&[]).status.success());
    until("the failed start is logged", async || {
        home.read("log/obproxy_diagnosis.log").contains("reboot failed")
    })
    .await;
}

#[tokio::test]
async fn metrics_are_served_whatever_the_switch_says() {
    let home = ProxyHome::new();
    home.start(",enable_prometheus=false").await;
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", home.prometheus_port()))
        .await
        .unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /metrics HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text)
        .await
        .unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200 OK") && text.contains("odp_new_client_connections"),
        "{text}"
    );
}

#[tokio::test]
async fn faults_of_the_home_act_at_the_next_start() {
    let home = ProxyHome::new();
    home.start("").await;
    let first = home.pids()[0];
    let faults = r#"{"slow_start_s": 0.5, "crash_after_s": 4, "ignore_term_s": 3600}"#;
    fs::write(home.join("standin-faults.json"), faults).unwrap();
    assert_eq!(home.version().await.unwrap(), OLD);
    send(first, Signal::SIGTERM);
    home.until_process_count(0).await;

    let started_at = Instant::now();
    assert!(home.run(&[]).status.success());
    let starts = || home.read("log/obproxy_diagnosis.log").matches("reboot success").count();
    until("the slow start is over", async || starts() == 2).await;
    assert!(started_at.elapsed() >= Duration::from_millis(500));
    send(home.pids()[0], Signal::SIGTERM);
    home.until_process_count(0).await;
    let log = home.read("log/obproxy.log");
    let of_the_second = log.split("obproxy start up successful").nth(2).unwrap();
    assert!(
        of_the_second.contains("sig=15") && !of_the_second.contains("graceful exit finished"),
        "{of_the_second}"
    );
}
