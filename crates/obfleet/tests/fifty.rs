//! Fifty proxies, each with an agent of its own, on one machine: installed, upgraded, restarted and deleted. It takes minutes,
//! so it is among the long tests.

#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use obfleet_lab::{
    api,
    packages::{NEW, OLD},
    process,
    testbed::Testbed,
};
use serde_json::{Value, json};

const EXE: &str = env!("CARGO_BIN_EXE_obfleet");
const PROXIES: u8 = 50;
/// Fifty hot restarts one after another, each of which waits for a tick of its proxy.
const PATIENCE: Duration = Duration::from_secs(1800);

/// MiB that a process holds in memory.
fn resident_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().next().unwrap().parse().unwrap();
    kib / 1024
}

/// Waits for a task; says how long it took and what the server holds.
async fn done(bed: &Testbed, what: &str, began: Instant, task: &Value) {
    let id = api::id(task).unwrap();
    bed.api().unwrap().success(id, PATIENCE).await.unwrap();
    let server = resident_mib(bed.fleet.server_pid().unwrap());
    println!("{what}: {:.1} s, server {server} MiB", began.elapsed().as_secs_f64());
}

#[tokio::test]
#[ignore = "takes minutes: cargo xtask test --long"]
async fn fifty_proxies_are_installed_upgraded_restarted_and_deleted() {
    let began = Instant::now();
    let mut bed = Testbed::start(Path::new(EXE), PROXIES, 1).await.unwrap();
    let server = resident_mib(bed.fleet.server_pid().unwrap());
    println!(
        "started and installed: {:.1} s, server {server} MiB",
        began.elapsed().as_secs_f64()
    );
    assert_eq!(bed.proxies.len(), usize::from(PROXIES));
    bed.at_rest_as(OLD).await.unwrap();

    bed.upload(NEW, None).await.unwrap();
    let began = Instant::now();
    let task = bed.upgrade(NEW).await.unwrap();
    done(&bed, "upgraded, one after another", began, &task).await;
    bed.at_rest_as(NEW).await.unwrap();

    let ids: Vec<i64> = bed.proxies.iter().map(|proxy| proxy.id).collect();
    let servers = format!("/api/v2/obproxy/clusters/{}/servers", bed.cluster);
    for (what, hot) in [("restarted by force, all at once", false), ("restarted hot", true)] {
        let began = Instant::now();
        let body = json!({"obproxyServerIds": ids, "hotRestart": hot});
        let task = bed
            .api()
            .unwrap()
            .post(&format!("{servers}/restart"), &body)
            .await
            .unwrap();
        done(&bed, what, began, &task).await;
        bed.at_rest_as(NEW).await.unwrap();
    }

    let agents: Vec<u64> = bed.fleet.hosts.iter().map(|host| resident_mib(host.pid())).collect();
    println!(
        "agents: {} of them, {} MiB at most",
        agents.len(),
        agents.iter().max().unwrap()
    );
    let began = Instant::now();
    let task = bed.submit_removal(&bed.proxies).await.unwrap();
    done(&bed, "deleted", began, &task).await;
    for proxy in std::mem::take(&mut bed.proxies) {
        assert_eq!(process::of_home(&proxy.home), [0_u32; 0], "{proxy:?}");
    }
    let path = format!("/api/v2/obproxy/clusters/{}", bed.cluster);
    assert_eq!(bed.api().unwrap().get(&path).await.unwrap()["obproxies"], json!([]));
}
