use std::time::Duration;

use obfleet_agent::client::CallError;
use obfleet_guard::{Handle, Phase, State};
use obfleet_mysqlwire::Client;
use obfleet_standin::Faults;
use obfleet_wire::agent::{Operation, OperationRequest, Outcome, ProxyFacts, RestartMethod};

use crate::{
    authority::Authority,
    host::{Caller, DRAIN, Host, LONG, NEW, OLD, kill_process, rpm},
};

const ID: &str = "r-1";

fn restart(id: &str) -> Operation {
    Operation::Restart {
        proxy_id: 7,
        restart_id: id.into(),
        version: NEW.parse().unwrap(),
        method: RestartMethod::Hot,
        drain: DRAIN,
        probe: None,
    }
}

fn await_end(id: &str) -> Operation {
    Operation::AwaitRestart {
        proxy_id: 7,
        restart_id: id.into(),
    }
}

fn revert(id: &str) -> Operation {
    Operation::RevertRestart {
        proxy_id: 7,
        restart_id: id.into(),
        drain: DRAIN,
        probe: None,
    }
}

fn preflight() -> Operation {
    Operation::Preflight {
        proxy_id: 7,
        version: NEW.parse().unwrap(),
        method: RestartMethod::Hot,
    }
}

/// A proxy on the old version, the new one in its slot.
async fn ready(host: &Host, authority: &Authority, faults: Faults) -> (Caller, ProxyFacts) {
    let mut caller = Caller::new(host.endpoint(&authority.client()), 1);
    caller.install(&rpm(OLD, Faults::default()), OLD).await;
    caller.install(&rpm(NEW, faults), NEW).await;
    let create = Operation::CreateProxy {
        spec: host.spec(7),
        version: OLD.parse().unwrap(),
    };
    let created = caller.proxy(create).await;
    (caller, created)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_goes_up_and_back_again() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let (mut caller, old) = ready(&host, &authority, Faults::default()).await;
    let checked = caller.call(preflight()).await.unwrap();
    assert!(
        matches!(&checked, Outcome::Preflight(report) if report.running == old),
        "{checked:?}"
    );
    let backup = Operation::BackupConfig {
        proxy_id: 7,
        version: NEW.parse().unwrap(),
    };
    assert_eq!(caller.call(backup).await.unwrap(), Outcome::Done);
    assert!(host.root().join(format!("backups/7-before-{NEW}.db")).is_file());

    assert_eq!(caller.proxy(revert(ID)).await, old, "never begun: nothing to revert");
    let up = caller.call(restart(ID)).await;
    let Ok(Outcome::Restarted(report)) = up else {
        panic!("{up:?}: {:#?}", caller.lines)
    };
    assert_eq!((&report.before, report.after.version.to_string().as_str()), (&old, NEW));
    let drained = caller.call(await_end(ID)).await;
    assert!(matches!(drained, Ok(Outcome::Drained(_))), "{drained:?}");
    assert_eq!(caller.proxy(Operation::Inspect { proxy_id: 7 }).await, report.after);
    let again = caller.call(restart(ID)).await;
    assert!(
        matches!(&again, Ok(Outcome::Restarted(same)) if *same == report),
        "nothing is left to do: {again:?}"
    );
    let mut lines = caller.lines.clone();
    lines.dedup();
    assert_eq!(lines, caller.lines, "nothing is said twice in a row");

    let back = caller.proxy(revert(ID)).await;
    assert_eq!(
        (back.version.to_string().as_str(), &back.binary_sha256),
        (OLD, &old.binary_sha256)
    );
    assert_eq!(caller.proxy(revert(ID)).await, back, "once is enough");
    let slot = Operation::RemoveSlot {
        version: NEW.parse().unwrap(),
    };
    assert_eq!(
        caller.call(slot).await.unwrap(),
        Outcome::Done,
        "nobody uses it any more"
    );
    kill_process(back.pid);
    let risen = caller
        .proxy_status(7, |p| p.serving == Some(true) && p.pid != Some(back.pid))
        .await;
    assert_eq!(risen.version.unwrap().to_string(), OLD);
}

/// The state of the restart once `condition` holds of it.
async fn reached(guard: &Handle, condition: impl Fn(&State) -> bool) -> State {
    let wait = async {
        loop {
            match guard.state() {
                Ok(state) if condition(&state) => return state,
                _ => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap()
}

/// A client that has begun a transaction.
async fn inside_a_transaction(host: &Host) -> Client {
    let address = format!("127.0.0.1:{}", host.spec(7).sql_port).parse().unwrap();
    let give_up = tokio::time::Instant::now() + LONG;
    let mut client = Client::connect(address, "app@t#c", "", give_up).await.unwrap();
    assert!(client.query("begin").await.unwrap().in_transaction());
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_that_dies_while_nobody_asks_is_replaced_and_the_transaction_ends_well() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let (mut caller, _) = ready(&host, &authority, Faults::default()).await;
    let mut client = inside_a_transaction(&host).await;
    let mut order = restart(ID);
    if let Operation::Restart { drain, .. } = &mut order {
        drain.window_ms = 60_000;
    }
    let up = caller.call(order).await;
    let Ok(Outcome::Restarted(report)) = up else {
        panic!("{up:?}: {:#?}", caller.lines)
    };
    let refused = caller
        .call(Operation::StopProxy {
            proxy_id: 7,
            drain: DRAIN,
        })
        .await;
    assert!(
        matches!(&refused, Err(CallError::Failed { message }) if message.contains(ID)),
        "{refused:?}"
    );

    let guard = Handle::attach(&host.root().join("restarts").join(ID));
    let first = reached(&guard, |state| state.guard.is_some()).await.guard.unwrap();
    kill_process(first.pid);
    let second = reached(&guard, |state| state.guard.is_some_and(|guard| guard != first)).await;
    assert!(second.guard.is_some());
    client.query("commit").await.unwrap();
    client.close().await;
    let drained = caller.call(await_end(ID)).await;
    assert!(
        matches!(&drained, Ok(Outcome::Drained(report)) if report.cut.is_empty()),
        "{drained:?}"
    );
    assert_eq!(caller.proxy(Operation::Inspect { proxy_id: 7 }).await, report.after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_called_back_while_the_old_process_drains() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let (mut caller, old) = ready(&host, &authority, Faults::default()).await;
    let mut client = inside_a_transaction(&host).await;
    let mut order = restart(ID);
    if let Operation::Restart { drain, .. } = &mut order {
        drain.window_ms = 60_000;
    }
    let up = caller.call(order).await;
    assert!(matches!(up, Ok(Outcome::Restarted(_))), "{up:?}");
    let mut back = revert(ID);
    if let Operation::RevertRestart { drain, .. } = &mut back {
        drain.window_ms = 60_000;
    }
    let back = caller.request(back);
    caller.endpoint.start(&back).await.unwrap();
    let guard = Handle::attach(&host.root().join("restarts").join(ID));
    reached(&guard, |state| matches!(state.phase, Phase::Reverting { .. })).await;
    client.query("commit").await.unwrap();
    client.close().await;
    let back = caller.perform(&back).await;
    let Ok(Outcome::Proxy(back)) = back else {
        panic!("{back:?}: {:#?}", caller.lines)
    };
    assert_eq!((&back.version, &back.binary_sha256), (&old.version, &old.binary_sha256));
    let awaited = caller.call(await_end(ID)).await;
    assert!(matches!(awaited, Err(CallError::Failed { .. })), "{awaited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_attempt_takes_the_restart_over_and_still_knows_the_way_back() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let (mut caller, old) = ready(&host, &authority, Faults::default()).await;
    let first = caller.request(restart("r-1"));
    let retry = OperationRequest {
        key: format!("{}.RETRY.2", first.key.to_string().strip_suffix(".EXECUTE.1").unwrap())
            .parse()
            .unwrap(),
        epoch: 2,
        operation: restart("r-2"),
    };
    caller.endpoint.start(&first).await.unwrap();
    let up = caller.perform(&retry).await;
    let Ok(Outcome::Restarted(report)) = up else {
        panic!("{up:?}: {:#?}", caller.lines)
    };
    assert_eq!(
        report.before, old,
        "one restart, not a second one from the new version to itself"
    );
    let drained = caller.call(await_end("r-2")).await;
    assert!(matches!(drained, Ok(Outcome::Drained(_))), "{drained:?}");
    let back = caller.proxy(revert("r-2")).await;
    assert_eq!((&back.version, &back.binary_sha256), (&old.version, &old.binary_sha256));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_binary_is_undone_before_the_failure_is_told() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let faults = Faults {
        exit: Some(1),
        ..Faults::default()
    };
    let (mut caller, old) = ready(&host, &authority, faults).await;
    let up = caller.call(restart(ID)).await;
    assert!(matches!(up, Err(CallError::Failed { .. })), "{up:?}");
    assert_eq!(
        caller.proxy(Operation::Inspect { proxy_id: 7 }).await,
        old,
        "{:#?}",
        caller.lines
    );
    let awaited = caller.call(await_end(ID)).await;
    assert!(matches!(awaited, Err(CallError::Failed { .. })), "{awaited:?}");
    assert_eq!(caller.proxy(revert(ID)).await, old);
    // A new attempt on the same process begins afresh, under the same name.
    let again = caller.call(restart(ID)).await;
    assert!(matches!(again, Err(CallError::Failed { .. })), "{again:?}");
    assert!(host.root().join("restarts/r-1.1").is_dir());
    assert_eq!(
        caller.proxy(Operation::Inspect { proxy_id: 7 }).await,
        old,
        "{:#?}",
        caller.lines
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_found_again_by_a_new_agent() {
    let authority = Authority::start().await;
    let mut host = Host::started(&authority);
    let client = authority.client();
    let (mut caller, old) = ready(&host, &authority, Faults::default()).await;
    let order = caller.request(restart(ID));
    caller.endpoint.start(&order).await.unwrap();
    let guard = Handle::attach(&host.root().join("restarts").join(ID));
    // An agent killed before its guard is at work leaves a restart that changes nothing.
    reached(&guard, |state| state.guard.is_some()).await;
    host.kill_agent();
    host.start().unwrap();
    caller.endpoint = host.endpoint(&client);
    let up = caller.perform(&order).await;
    let Ok(Outcome::Restarted(report)) = up else {
        panic!("{up:?}: {:#?}", caller.lines)
    };
    assert_eq!((&report.before, report.after.version.to_string().as_str()), (&old, NEW));
    caller.call(await_end(ID)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_guard_is_replaced() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let (mut caller, _) = ready(&host, &authority, Faults::default()).await;
    let order = caller.request(restart(ID));
    caller.endpoint.start(&order).await.unwrap();
    let guard = Handle::attach(&host.root().join("restarts").join(ID));
    let begun = reached(&guard, |state| state.guard.is_some()).await;
    kill_process(begun.guard.unwrap().pid);
    // Whichever way the new guard decides, one healthy proxy serves, and the agent says which.
    let ended = caller.perform(&order).await;
    let serving = caller.proxy(Operation::Inspect { proxy_id: 7 }).await;
    match ended {
        Ok(Outcome::Restarted(report)) => assert_eq!(serving, report.after),
        Err(CallError::Failed { .. }) => assert_eq!(serving.version.to_string(), OLD),
        other => panic!("{other:?}: {:#?}", caller.lines),
    }
    tokio::time::timeout(LONG, guard.wait_end(LONG)).await.unwrap().unwrap();
    assert_eq!(caller.proxy(revert(ID)).await.version.to_string(), OLD);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_restart_has_nothing_to_go_back_to() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let (mut caller, old) = ready(&host, &authority, Faults::default()).await;
    let mut order = restart(ID);
    if let Operation::Restart { version, .. } = &mut order {
        *version = OLD.parse().unwrap();
    }
    let Ok(Outcome::Restarted(report)) = caller.call(order.clone()).await else {
        panic!("{:#?}", caller.lines)
    };
    assert_eq!(report.before, old);
    assert_eq!(
        (&report.after.version, &report.after.binary_sha256),
        (&old.version, &old.binary_sha256)
    );
    caller.call(await_end(ID)).await.unwrap();
    assert_eq!(caller.proxy(revert(ID)).await, report.after);
    assert_eq!(std::fs::read_dir(host.root().join("restarts")).unwrap().count(), 1);
    // Of another task it is another restart.
    if let Operation::Restart { restart_id, .. } = &mut order {
        *restart_id = "r-2".into();
    }
    let Ok(Outcome::Restarted(next)) = caller.call(order).await else {
        panic!("{:#?}", caller.lines)
    };
    assert_eq!(next.before, report.after);
    assert_ne!(next.after.pid, report.after.pid);
}
