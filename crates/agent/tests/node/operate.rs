use std::{net::SocketAddr, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use obfleet_agent::client::CallError;
use obfleet_obproxy::{admin::AdminConn, process::Process};
use obfleet_standin::Faults;
use obfleet_wire::agent::{Operation, OperationRequest, Outcome, ProxyFacts};

use crate::{
    authority::Authority,
    host::{Caller, DRAIN, Host, LONG, OLD, kill_process, rpm},
};

const CYCLE: Operation = Operation::CycleProxy {
    proxy_id: 7,
    drain: DRAIN,
};
const STOP: Operation = Operation::StopProxy {
    proxy_id: 7,
    drain: DRAIN,
};
const START: Operation = Operation::StartProxy {
    proxy_id: 7,
    wait: true,
};

fn set_online(online: bool) -> Operation {
    Operation::SetOnline {
        proxy_id: 7,
        online,
        best_effort: false,
    }
}

/// A host with a proxy that serves.
async fn ready(host: &Host, authority: &Authority) -> (Caller, ProxyFacts) {
    let mut caller = Caller::new(host.endpoint(&authority.client()), 1);
    caller.install(&rpm(OLD, Faults::default()), OLD).await;
    let create = Operation::CreateProxy {
        spec: host.spec(7),
        version: OLD.parse().unwrap(),
    };
    let created = caller.proxy(create).await;
    (caller, created)
}

/// The same under the name of a later attempt.
fn retried(request: &OperationRequest) -> OperationRequest {
    let key = request.key.to_string();
    OperationRequest {
        key: format!("{}.RETRY.2", key.strip_suffix(".EXECUTE.1").unwrap())
            .parse()
            .unwrap(),
        epoch: 2,
        operation: request.operation.clone(),
    }
}

async fn log_in(host: &Host) -> AdminConn {
    let address: SocketAddr = format!("127.0.0.1:{}", host.spec(7).sql_port).parse().unwrap();
    AdminConn::connect(address, "Sys-s3cret", LONG).await.unwrap()
}

async fn told(host: &Host) -> String {
    let mut admin = log_in(host).await;
    let status = admin.proxy_status().await.unwrap();
    admin.close().await;
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_was_stopped_stays_so() {
    let authority = Authority::start().await;
    let mut host = Host::started(&authority);
    let (mut caller, created) = ready(&host, &authority).await;
    let home = Process::read(created.pid).unwrap().cwd;
    let serving = caller.proxy_status(7, |p| p.serving == Some(true)).await;
    assert!(!serving.stopped);
    caller.call(STOP).await.unwrap();
    // Told at once, and not only at the next look.
    let report = caller.proxy_status(7, |_| true).await;
    assert_eq!((report.serving, report.stopped), (Some(false), true));

    // Nor does an agent that starts bring it up: what ought to run is up long before this proxy of another order is.
    host.kill_agent();
    host.start().unwrap();
    let mut caller = Caller::new(host.endpoint(&authority.client()), 2);
    let report = caller.proxy_status(7, |p| p.serving.is_some()).await;
    assert_eq!(
        (report.serving, report.stopped, report.restarts),
        (Some(false), true, 0)
    );
    assert!(obfleet_obproxy::process::of_home(&home).unwrap().is_empty());

    let not_yet = caller.call(Operation::AwaitServing {
        proxy_id: 7,
        limit_ms: 1,
    });
    let not_yet = not_yet.await;
    assert!(
        matches!(&not_yet, Err(CallError::Failed { message }) if message.contains("does not run")),
        "{not_yet:?}"
    );
    // The supervisor's to start, and nobody waits.
    let left_to_it = Operation::StartProxy {
        proxy_id: 7,
        wait: false,
    };
    assert_eq!(caller.call(left_to_it).await.unwrap(), Outcome::Done);
    let awaited = caller.proxy(Operation::AwaitServing {
        proxy_id: 7,
        limit_ms: 30_000,
    });
    assert_eq!(awaited.await.version.to_string(), OLD);
    caller.call(STOP).await.unwrap();
    let started = caller.proxy(START).await;
    let report = caller.proxy_status(7, |p| p.serving == Some(true)).await;
    assert_eq!((report.pid, report.stopped), (Some(started.pid), false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_replaced_once_for_all_attempts_of_a_subtask() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let (mut caller, created) = ready(&host, &authority).await;
    let first = caller.request(CYCLE);
    let Ok(Outcome::Proxy(second)) = caller.perform(&first).await else {
        panic!("{:#?}", caller.lines)
    };
    assert_ne!(second.pid, created.pid);
    let again = caller.perform(&retried(&first)).await.unwrap();
    assert_eq!(again, Outcome::Proxy(second.clone()), "{:#?}", caller.lines);
    let third = caller.proxy(CYCLE).await;
    assert_ne!(third.pid, second.pid, "another subtask, another process");

    // One that is down, and is not to be started by the supervisor.
    caller
        .call(Operation::Supervise { proxy_id: 7, on: false })
        .await
        .unwrap();
    kill_process(third.pid);
    let fourth = caller.proxy(CYCLE).await;
    assert_ne!(fourth.pid, third.pid);

    // One that answers nobody, and a request that was cut off when it had just begun.
    kill(Pid::from_raw(fourth.pid), Signal::SIGSTOP).unwrap();
    let fifth = caller.proxy(CYCLE).await;
    assert_ne!(fifth.pid, fourth.pid);
    let report = caller.proxy_status(7, |p| p.serving == Some(true)).await;
    assert_eq!((report.pid, report.restarts), (Some(fifth.pid), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_ended_when_the_agent_dies_is_followed_by_another() {
    let authority = Authority::start().await;
    let mut host = Host::started(&authority);
    let (mut caller, created) = ready(&host, &authority).await;
    // It takes its time to end, so that there is a middle.
    let home = Process::read(created.pid).unwrap().cwd;
    std::fs::write(home.join("standin-faults.json"), r#"{"ignore_term_s": 3}"#).unwrap();
    let slow = caller.proxy(CYCLE).await;
    std::fs::remove_file(home.join("standin-faults.json")).unwrap();
    let request = caller.request(CYCLE);
    caller.endpoint.start(&request).await.unwrap();
    host.kill_agent();
    host.start().unwrap();
    caller.endpoint = host.endpoint(&authority.client());
    let Ok(Outcome::Proxy(next)) = caller.perform(&request).await else {
        panic!("{:#?}", caller.lines)
    };
    assert_ne!(next.pid, slow.pid);
    let report = caller.proxy_status(7, |p| p.serving == Some(true)).await;
    assert_eq!(report.pid, Some(next.pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn load_balancers_are_told_by_the_process_that_was_told() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let (mut caller, created) = ready(&host, &authority).await;
    assert_eq!(told(&host).await, "ACTIVE");
    for _ in 0..2 {
        caller.call(set_online(false)).await.unwrap();
        assert_ne!(told(&host).await, "ACTIVE");
    }
    assert!(caller.proxy_status(7, |p| p.serving == Some(true)).await.offline);
    // Started again by nobody: the order stands.
    assert_eq!(caller.proxy(START).await, created);
    assert_ne!(told(&host).await, "ACTIVE");
    for _ in 0..2 {
        caller.call(set_online(true)).await.unwrap();
        assert_eq!(told(&host).await, "ACTIVE");
    }
    assert!(!caller.proxy_status(7, |p| p.serving == Some(true)).await.offline);

    caller.call(set_online(false)).await.unwrap();
    kill_process(created.pid);
    let risen = caller
        .proxy_status(7, |p| p.serving == Some(true) && p.pid != Some(created.pid))
        .await;
    assert!(!risen.offline);
    assert_eq!(told(&host).await, "ACTIVE");

    caller.call(STOP).await.unwrap();
    let refused = caller.call(set_online(false)).await;
    assert!(
        matches!(&refused, Err(CallError::Failed { message }) if message.contains("does not run")),
        "{refused:?}"
    );
    let best_effort = Operation::SetOnline {
        proxy_id: 7,
        online: false,
        best_effort: true,
    };
    assert_eq!(caller.call(best_effort).await.unwrap(), Outcome::Done);
    // Nothing of it is left to the next process.
    tokio::time::timeout(Duration::from_secs(60), caller.proxy(START))
        .await
        .unwrap();
    assert_eq!(told(&host).await, "ACTIVE");
}

/// The attempt that gave it was broken off before the proxy's tick.
#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_is_not_obeyed_yet_does_not_outlive_a_later_one() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let (mut caller, _) = ready(&host, &authority).await;
    for (given_before, online) in [(3, true), (4, false)] {
        caller.call(set_online(online)).await.unwrap();
        let mut admin = log_in(&host).await;
        admin.local_command(given_before).await.unwrap();
        caller.call(set_online(online)).await.unwrap();
        let obeyed = async {
            while admin.config_value("proxy_local_cmd").await.unwrap().as_deref() != Some("0") {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LONG, obeyed).await.unwrap();
        admin.close().await;
        assert_eq!(told(&host).await == "ACTIVE", online);
    }
}
