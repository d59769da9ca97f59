//! What the agent measures of a real process.

use std::time::{Duration, Instant};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use obfleet_agent::client::Endpoint;
use obfleet_standin::Faults;
use obfleet_wire::{
    agent::{AgentMetrics, Operation, ProxySample},
    time::Timestamp,
};

use crate::{
    authority::Authority,
    host::{Caller, DRAIN, Host, LONG, OLD, rpm},
};

/// What was measured once a sample after `after` satisfies `condition`.
async fn measured(endpoint: &Endpoint, after: Timestamp, condition: impl Fn(&ProxySample) -> bool) -> AgentMetrics {
    let give_up = Instant::now() + LONG;
    loop {
        let told = endpoint.metrics(after, true).await.unwrap();
        if told.samples.iter().any(&condition) {
            return told;
        }
        assert!(Instant::now() < give_up, "{told:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_measured_whatever_becomes_of_it() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let client = authority.client();
    let mut caller = Caller::new(host.endpoint(&client), 1);
    assert!(
        caller
            .endpoint
            .metrics(Timestamp(0), true)
            .await
            .unwrap()
            .samples
            .is_empty()
    );
    caller.install(&rpm(OLD, Faults::default()), OLD).await;
    let create = Operation::CreateProxy {
        spec: host.spec(7),
        version: OLD.parse().unwrap(),
    };
    let pid = caller.proxy(create).await.pid;
    let whole = |sample: &ProxySample| {
        let has = |key: &str| sample.values.contains_key(key);
        // Two measurements make a share of the processor.
        has("obproxy_process_cpu_percent") && has("odp_current_session/client") && has("obproxy_client_connections")
    };
    let told = measured(&caller.endpoint, Timestamp(0), whole).await;
    let sample = told.samples.iter().find(|sample| whole(sample)).unwrap();
    let value = |key: &str| sample.values[key];
    assert_eq!((sample.proxy_id, value("obproxy_up")), (7, 1.0));
    assert!(
        value("obproxy_rss_memory") > 1e5 && value("obproxy_fd_count") > 3.0,
        "{sample:?}"
    );
    assert!(
        value("obproxy_thread_count") >= 1.0 && value("obproxy_client_max_connections") > 0.0,
        "{sample:?}"
    );
    let exported = &told.exported[0];
    assert!(
        exported
            .series
            .iter()
            .any(|series| series.label("sessionType") == Some("server"))
    );
    assert!(told.samples.is_sorted_by_key(|sample| sample.at));
    let later = caller.endpoint.metrics(sample.at, false).await.unwrap();
    assert!(later.exported.is_empty() && later.samples.iter().all(|other| other.at > sample.at));

    // One that hangs is measured all the same, by what can be seen of it.
    let now = later.time;
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    let silent = |sample: &ProxySample| {
        sample.values.contains_key("obproxy_rss_memory") && !sample.values.contains_key("odp_current_session/client")
    };
    let told = measured(&caller.endpoint, now, silent).await;
    assert!(
        told.exported[0].at < told.samples.last().unwrap().at,
        "its last words grow old"
    );
    kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();

    let stop = Operation::StopProxy {
        proxy_id: 7,
        drain: DRAIN,
    };
    caller.call(stop).await.unwrap();
    let told = measured(&caller.endpoint, told.time, |sample| sample.values["obproxy_up"] == 0.0).await;
    let last = told.samples.last().unwrap();
    assert_eq!(last.values.len(), 1, "{last:?}");
}
