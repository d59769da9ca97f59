//! What the agent tells of a proxy is true soon after it is, and why one does not come back is told.

use std::fs;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use obfleet_obproxy::process;
use obfleet_standin::Faults;
use obfleet_wire::agent::Operation;

use crate::{
    authority::Authority,
    host::{Caller, Host, OLD, kill_process, rpm},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_hangs_is_seen_and_so_is_one_that_does_not_start() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let client = authority.client();
    let mut caller = Caller::new(host.endpoint(&client), 1);
    caller.install(&rpm(OLD, Faults::default()), OLD).await;
    let spec = host.spec(7);
    let create = Operation::CreateProxy {
        spec: spec.clone(),
        version: OLD.parse().unwrap(),
    };
    let pid = caller.proxy(create).await.pid;
    caller.proxy_status(7, |p| p.serving == Some(true)).await;

    // It takes connections and greets nobody.
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    let seen = caller.proxy_status(7, |p| p.serving == Some(false)).await;
    assert_eq!((seen.pid, seen.restarts), (Some(pid), 0), "it is there, and left alone");
    kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
    caller.proxy_status(7, |p| p.serving == Some(true)).await;

    let home = fs::read_dir(host.root().join("proxies"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let faults = home.join("standin-faults.json");
    fs::write(&faults, r#"{"exit": 1}"#).unwrap();
    kill_process(pid);
    let seen = caller.proxy_status(7, |p| p.trouble.is_some()).await;
    assert!(seen.serving == Some(false) && seen.restarts >= 1, "{seen:?}");
    assert!(!seen.trouble.unwrap().contains("Sys-s3cret"));
    fs::remove_file(&faults).unwrap();
    let seen = caller
        .proxy_status(7, |p| p.serving == Some(true) && p.trouble.is_none())
        .await;
    assert_eq!(process::of_home(&home).unwrap().len(), 1);
    assert_ne!(seen.pid, Some(pid));
}
