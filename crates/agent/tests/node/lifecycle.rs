use std::{fs, net::TcpListener};

use obfleet_agent::client::CallError;
use obfleet_obproxy::process;
use obfleet_standin::Faults;
use obfleet_wire::agent::{Operation, Outcome, ProxySpec};

use crate::{
    authority::Authority,
    host::{Caller, DRAIN, Host, OLD, kill_process, rpm},
};

fn create(spec: &ProxySpec) -> Operation {
    Operation::CreateProxy {
        spec: spec.clone(),
        version: OLD.parse().unwrap(),
    }
}

fn start() -> Operation {
    Operation::StartProxy {
        proxy_id: 7,
        wait: true,
    }
}

fn restore(start: bool) -> Operation {
    Operation::RestoreProxy { proxy_id: 7, start }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_crashes_is_back_and_does_not_notice_the_agent_restart() {
    let authority = Authority::start().await;
    let mut host = Host::started(&authority);
    let client = authority.client();
    let mut caller = Caller::new(host.endpoint(&client), 1);
    caller.install(&rpm(OLD, Faults::default()), OLD).await;
    let spec = host.spec(7);
    assert_eq!(
        caller
            .call(Operation::CheckAbsent { spec: spec.clone() })
            .await
            .unwrap(),
        Outcome::Done
    );
    let creation = caller.request(create(&spec));
    let Ok(Outcome::Proxy(created)) = caller.perform(&creation).await else {
        panic!("{:#?}", caller.lines)
    };
    assert_eq!(created.version.to_string(), OLD);
    assert_eq!(
        caller.proxy(create(&spec)).await,
        created,
        "asked again under another key, it looks first"
    );
    let again = caller.call(Operation::CheckAbsent { spec: spec.clone() }).await;
    assert!(matches!(again, Err(CallError::Failed { .. })));
    let secrets = |text: String| assert!(!text.contains("Sys-s3cret"), "{text}");
    secrets(fs::read_to_string(host.state().join("journal/journal.jsonl")).unwrap());
    secrets(fs::read_to_string(host.state().join("proxies/7.json")).unwrap());
    secrets(process::command_line(created.pid).unwrap().join(" "));

    let seen = caller
        .proxy_status(7, |p| p.serving == Some(true) && p.version.is_some())
        .await;
    assert_eq!((seen.pid, seen.restarts), (Some(created.pid), 0));
    kill_process(created.pid);
    let seen = caller
        .proxy_status(7, |p| p.serving == Some(true) && p.pid != Some(created.pid))
        .await;
    assert_eq!(seen.restarts, 1);

    host.kill_agent();
    host.start().unwrap();
    let mut caller = Caller::new(host.endpoint(&client), 2);
    let untouched = caller.proxy_status(7, |p| p.serving == Some(true)).await;
    assert_eq!((untouched.pid, untouched.restarts), (seen.pid, 1));
    assert_eq!(
        caller.perform(&creation).await.unwrap(),
        Outcome::Proxy(created),
        "from the journal, not anew"
    );

    // The new agent supervises it all the same.
    kill_process(seen.pid.unwrap());
    caller
        .proxy_status(7, |p| p.serving == Some(true) && p.restarts == 2)
        .await;
    // Its slot cannot be taken from under it.
    let slot = Operation::RemoveSlot {
        version: OLD.parse().unwrap(),
    };
    assert_eq!(caller.call(slot).await.unwrap(), Outcome::Done);
    assert!(
        caller.lines.iter().any(|line| line.contains("stays: proxies [7]")),
        "{:#?}",
        caller.lines
    );
    assert!(
        host.root()
            .join(format!("slots/obproxy-{OLD}.el7/bin/obproxy"))
            .is_file()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_stopped_removed_restored_and_discarded() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let mut caller = Caller::new(host.endpoint(&authority.client()), 1);
    caller.install(&rpm(OLD, Faults::default()), OLD).await;
    let spec = host.spec(7);
    let created = caller.proxy(create(&spec)).await;
    let home = process::Process::read(created.pid).unwrap().cwd;

    for _ in 0..2 {
        let stopped = caller
            .call(Operation::StopProxy {
                proxy_id: 7,
                drain: DRAIN,
            })
            .await;
        assert_eq!(stopped.unwrap(), Outcome::Done);
        assert!(process::of_home(&home).unwrap().is_empty());
    }
    let inspected = caller.call(Operation::Inspect { proxy_id: 7 }).await;
    assert!(matches!(&inspected, Err(CallError::Failed { message }) if message.contains("start it first")));
    let started = caller.proxy(start()).await;
    assert_ne!(started.pid, created.pid);
    assert_eq!(caller.proxy(start()).await, started);
    assert_eq!(caller.proxy(Operation::Inspect { proxy_id: 7 }).await, started);

    for _ in 0..2 {
        caller
            .call(Operation::RemoveProxy {
                proxy_id: 7,
                drain: DRAIN,
            })
            .await
            .unwrap();
        assert!(!home.exists());
    }
    TcpListener::bind(("127.0.0.1", spec.sql_port)).expect("its port is free");
    assert_eq!(fs::read_dir(host.root().join("removed")).unwrap().count(), 1);
    let start = caller.call(start()).await;
    assert!(matches!(&start, Err(CallError::Failed { message }) if message.contains("restore it first")));
    assert_eq!(caller.call(restore(false)).await.unwrap(), Outcome::Done);
    assert!(process::of_home(&home).unwrap().is_empty(), "back, and stopped");
    let restored = caller.proxy(restore(true)).await;
    assert_eq!(caller.proxy(restore(true)).await, restored);
    assert_eq!(fs::read_dir(host.root().join("removed")).unwrap().count(), 0);

    for _ in 0..2 {
        let discarded = caller.call(Operation::DiscardProxy { proxy_id: 7 }).await;
        assert_eq!(discarded.unwrap(), Outcome::Done);
        assert!(!home.exists());
    }
    assert_eq!(fs::read_dir(host.state().join("proxies")).unwrap().count(), 0);
    assert_eq!(
        caller.call(Operation::CheckAbsent { spec }).await.unwrap(),
        Outcome::Done
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsupervised_proxy_stays_down_until_supervision_is_back() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let mut caller = Caller::new(host.endpoint(&authority.client()), 1);
    caller.install(&rpm(OLD, Faults::default()), OLD).await;
    let created = caller.proxy(create(&host.spec(7))).await;
    caller
        .call(Operation::Supervise { proxy_id: 7, on: false })
        .await
        .unwrap();
    kill_process(created.pid);
    let down = caller
        .proxy_status(7, |p| p.serving == Some(false) && p.pid.is_none())
        .await;
    assert_eq!(down.restarts, 0);
    caller
        .call(Operation::Supervise { proxy_id: 7, on: true })
        .await
        .unwrap();
    caller
        .proxy_status(7, |p| p.serving == Some(true) && p.restarts == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_is_named() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let mut caller = Caller::new(host.endpoint(&authority.client()), 1);
    let spec = host.spec(7);
    let taken = TcpListener::bind(("127.0.0.1", spec.sql_port)).unwrap();
    let refused = caller.call(Operation::CheckAbsent { spec: spec.clone() }).await;
    let port = spec.sql_port.to_string();
    assert!(
        matches!(&refused, Err(CallError::Failed { message }) if message.contains(&port)),
        "{refused:?}"
    );
    drop(taken);
    let home = host.root().join("proxies/ob_proxy_1-7");
    fs::create_dir_all(home.join("etc")).unwrap();
    let refused = caller.call(Operation::CheckAbsent { spec: spec.clone() }).await;
    assert!(
        matches!(&refused, Err(CallError::Failed { message }) if message.contains("not empty")),
        "{refused:?}"
    );
    fs::remove_dir(home.join("etc")).unwrap();
    assert_eq!(
        caller
            .call(Operation::CheckAbsent { spec: spec.clone() })
            .await
            .unwrap(),
        Outcome::Done
    );
    // Without its slot a proxy cannot be made; discarding leaves nothing of the try.
    let refused = caller.call(create(&spec)).await;
    assert!(matches!(refused, Err(CallError::Failed { .. })), "{refused:?}");
    caller.call(Operation::DiscardProxy { proxy_id: 7 }).await.unwrap();
    assert!(!home.exists());
}
