//! What befalls real proxies is seen, told as an event, and measured.

#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use obfleet_lab::{
    api::contents,
    process,
    testbed::{PATIENCE, Proxy, Testbed},
};
use serde_json::Value;

const EXE: &str = env!("CARGO_BIN_EXE_obfleet");

/// The events of a proxy, the newest first.
fn path_of(proxy: &Proxy) -> String {
    format!("/api/v2/obproxy/events?obproxyId={}&size=100", proxy.id)
}

/// How long it takes until the newest event is of this kind and the proxy has this status.
async fn told(bed: &Testbed, proxy: &Proxy, kind: &str, status: &str) -> Duration {
    let began = Instant::now();
    let newest = |page: &Value| page["contents"][0]["type"] == kind;
    let api = bed.api().unwrap();
    api.until(&path_of(proxy), PATIENCE, newest).await.unwrap();
    bed.listed_as(status).await.unwrap();
    began.elapsed()
}

fn only_process(proxy: &Proxy) -> u32 {
    let found = process::of_home(&proxy.home);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]
}

#[tokio::test]
async fn a_proxy_that_hangs_or_crashes_is_told_of() {
    let bed = Testbed::start(Path::new(EXE), 1, 5).await.unwrap();
    let proxy = bed.proxies[0].clone();
    let pid = only_process(&proxy);

    process::signal(pid, Signal::SIGSTOP);
    let hung = told(&bed, &proxy, "PROXY_UNAVAILABLE", "UNAVAILABLE").await;
    process::signal(pid, Signal::SIGCONT);
    let back = told(&bed, &proxy, "PROXY_AVAILABLE", "RUNNING").await;

    let began = Instant::now();
    process::signal(pid, Signal::SIGKILL);
    let crashed = |page: &Value| contents(page).iter().any(|event| event["type"] == "PROXY_CRASHED");
    let api = bed.api().unwrap();
    let events = api.until(&path_of(&proxy), PATIENCE, crashed).await.unwrap();
    let crash = contents(&events)
        .iter()
        .find(|event| event["type"] == "PROXY_CRASHED")
        .unwrap();
    assert_eq!(
        (&crash["restarts"], &crash["clusterId"]),
        (&Value::from(1), &Value::from(bed.cluster))
    );
    let told_of = began.elapsed();
    bed.at_rest_as(obfleet_lab::packages::OLD).await.unwrap();
    assert_ne!(only_process(&proxy), pid);
    // Not asserted: the machine may be busy.
    println!(
        "hung: {hung:?}, back: {back:?}, crash told of: {told_of:?}, serving again: {:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn an_agent_that_hangs_is_told_of_and_its_proxy_serves_on() {
    let bed = Testbed::start(Path::new(EXE), 1, 5).await.unwrap();
    let (proxy, host) = (bed.proxies[0].clone(), bed.fleet.hosts[0].id);
    let process = only_process(&proxy);
    let events = format!("/api/v2/obproxy/events?hostId={host}&type=AGENT_OFFLINE,AGENT_ONLINE");
    let (events, host) = (events.as_str(), format!("/api/v2/compute/hosts/{host}"));
    let told = async |bed: &Testbed, kind: &str, status: &str| {
        let began = Instant::now();
        let api = bed.api().unwrap();
        let newest = |page: &Value| page["contents"][0]["type"] == kind;
        api.until(events, PATIENCE, newest).await.unwrap();
        api.until(&host, PATIENCE, |host: &Value| host["hostAgentStatus"] == status)
            .await
            .unwrap();
        began.elapsed()
    };

    process::signal(bed.fleet.hosts[0].pid(), Signal::SIGSTOP);
    let stopped = told(&bed, "AGENT_OFFLINE", "OFFLINE").await;
    process::signal(bed.fleet.hosts[0].pid(), Signal::SIGCONT);
    let back = told(&bed, "AGENT_ONLINE", "AVAILABLE").await;
    bed.at_rest_as(obfleet_lab::packages::OLD).await.unwrap();
    assert_eq!(only_process(&proxy), process, "nobody touched the proxy");
    // Not asserted: the machine may be busy.
    println!("stopped: {stopped:?}, back: {back:?}");
}

#[tokio::test]
async fn proxies_are_measured() {
    let bed = Testbed::start(Path::new(EXE), 1, 5).await.unwrap();
    let proxy = bed.proxies[0].clone();
    let now = bed.api().unwrap().get_text("/api/v2/time").await.unwrap();
    let from = now.trim().replace('+', "%2B");
    let path = format!(
        "/api/v2/monitor/metricsWithLabel?startTime={from}&groupBy=obproxy_id&interval=15\
         &metrics=obproxy_up,obproxy_rss_memory,odp_current_session,obproxy_client_connections&labels=obproxy_id:{}",
        proxy.id
    );
    let known = |data: &Value| {
        let samples = &data["contents"][0]["data"];
        samples.as_array().is_some_and(|samples| {
            samples.iter().any(|sample| {
                sample["obproxy_up"] == 1.0
                    && sample["obproxy_rss_memory"].as_f64() > Some(1e5)
                    && sample["odp_current_session"].is_number()
                    && sample["obproxy_client_connections"].as_f64() >= Some(1.0)
            })
        })
    };
    bed.api().unwrap().until(&path, PATIENCE, known).await.unwrap();
    let text = bed.api().unwrap().get_text("/api/v2/obproxy/metrics").await.unwrap();
    let labelled = format!("obproxy_id=\"{}\"", proxy.id);
    let session = text
        .lines()
        .find(|line| line.starts_with("odp_current_session{") && line.contains(&labelled));
    assert!(session.is_some(), "{text}");
}
