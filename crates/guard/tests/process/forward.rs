//! The way there.

use std::{sync::Arc, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getsid},
};
use obfleet_guard::Phase;
use obfleet_standin::Faults;
use obfleet_wire::agent::RestartMethod;
use tokio::{task::JoinSet, time::sleep};

use crate::lab::{DRAIN, Lab, NEW, OLD, PATIENCE, end};

#[tokio::test]
async fn a_hot_restart_refuses_nobody_and_lets_transactions_end() {
    let lab = Arc::new(Lab::new(Faults::default()).await);
    let before = lab.processes()[0];
    let mut idle = lab.client().await;
    idle.query("select 1 from t").await.unwrap();
    let mut short = lab.client().await;
    short.query("begin").await.unwrap();
    let mut endless = lab.client().await;
    endless.query("begin").await.unwrap();
    let traffic = lab.traffic();

    let handle = lab.start(&lab.plan(RestartMethod::Hot, DRAIN)).await;
    let restarts = lab.dir().parent().unwrap().to_owned();
    assert_eq!(obfleet_guard::owns(&restarts, 7).unwrap(), Some(lab.dir()));
    assert_eq!(obfleet_guard::owns(&restarts, 8).unwrap(), None);
    assert!(obfleet_guard::start("/bin/false".as_ref(), &lab.dir(), &handle.plan().unwrap()).is_err());

    let state = handle.wait_verdict(PATIENCE).await.unwrap();
    let report = state.report.unwrap_or_else(|| panic!("{}", lab.log()));
    assert_eq!(
        (report.before.version.to_string(), report.after.version.to_string()),
        (OLD.into(), NEW.into())
    );
    assert_eq!(report.before.pid, before.pid);
    assert!(report.probed);
    assert!(before.is_alive(), "the old process drains");
    short.query("commit").await.unwrap();

    let state = end(&lab, &handle).await;
    let Phase::Finished { drain } = &state.phase else {
        panic!("{state:?}: {}", lab.log())
    };
    assert!(drain.closed_at_boundary >= 2, "{drain:?}");
    assert_eq!(drain.cut.len(), 1, "{drain:?}");
    assert_eq!(drain.cut[0].user, "app@t#ob1");
    assert!(!before.is_alive());
    assert!(idle.query("select 1 from t").await.is_err());
    traffic.assert_all_served().await;
    lab.assert_serves(NEW).await;
    assert_eq!(obfleet_guard::owns(&restarts, 7).unwrap(), None);
    assert!(
        handle.revert(DRAIN).await.is_err(),
        "there is nothing to call back any more"
    );
    let (lines, next) = handle.log_from(0).unwrap();
    assert!(
        lines.iter().any(|line| line.contains("inside a transaction")),
        "{lines:?}"
    );
    assert_eq!(handle.log_from(next).unwrap().0, [""; 0]);
}

/// Clients that never rest for as long as two looks of the window take.
#[tokio::test]
async fn busy_clients_are_closed_at_one_of_their_short_rests() {
    const CLIENTS: u64 = 6;
    const INSIDE: Duration = Duration::from_millis(300);
    const REST: Duration = Duration::from_millis(150);
    let lab = Lab::new(Faults::default()).await;
    let mut busy = JoinSet::new();
    for _ in 0..CLIENTS {
        let mut client = lab.client().await;
        busy.spawn(async move {
            while client.query("begin").await.is_ok() {
                sleep(INSIDE).await;
                if client.query("commit").await.is_err() {
                    break;
                }
                sleep(REST).await;
            }
        });
    }
    let handle = lab.start(&lab.plan(RestartMethod::Hot, DRAIN)).await;
    let state = end(&lab, &handle).await;
    let Phase::Finished { drain } = &state.phase else {
        panic!("{state:?}: {}", lab.log())
    };
    assert_eq!(
        (drain.closed_at_boundary, drain.cut.as_slice()),
        (CLIENTS, [].as_slice())
    );
    busy.join_all().await;
    lab.assert_serves(NEW).await;
}

#[tokio::test]
async fn a_slow_child_within_the_limit_is_waited_for() {
    let lab = Arc::new(
        Lab::new(Faults {
            slow_start_s: Some(2.0),
            ..Faults::default()
        })
        .await,
    );
    let traffic = lab.traffic();
    let handle = lab.start(&lab.plan(RestartMethod::Hot, DRAIN)).await;
    let state = end(&lab, &handle).await;
    assert!(
        matches!(state.phase, Phase::Finished { .. }),
        "{state:?}: {}",
        lab.log()
    );
    traffic.assert_all_served().await;
    lab.assert_serves(NEW).await;
}

#[tokio::test]
async fn an_old_process_that_does_not_leave_is_ended() {
    let lab = Lab::new(Faults::default()).await;
    std::fs::write(lab.home().join("standin-faults.json"), r#"{"drain_never_ends":true}"#).unwrap();
    // The faults of the home are read at a start.
    let first = lab.plan(RestartMethod::Cold, DRAIN);
    let handle = lab.start(&first).await;
    assert!(
        matches!(end(&lab, &handle).await.phase, Phase::Finished { .. }),
        "{}",
        lab.log()
    );
    std::fs::remove_dir_all(lab.dir()).unwrap();
    std::fs::remove_file(lab.home().join("standin-faults.json")).unwrap();

    let stubborn = lab.processes()[0];
    let handle = lab.start(&lab.plan(RestartMethod::Hot, DRAIN)).await;
    let state = end(&lab, &handle).await;
    assert!(
        matches!(state.phase, Phase::Finished { .. }),
        "{state:?}: {}",
        lab.log()
    );
    assert!(!stubborn.is_alive());
    assert!(lab.log().contains("did not leave by itself"), "{}", lab.log());
    lab.assert_serves(NEW).await;
}

#[tokio::test]
async fn the_signals_of_proxies_and_terminals_do_not_end_a_guard() {
    let lab = Lab::new(Faults::default()).await;
    let mut inside = lab.client().await;
    inside.query("begin").await.unwrap();
    let handle = lab.start(&lab.plan(RestartMethod::Hot, DRAIN)).await;
    let state = handle
        .wait_for(PATIENCE, |state| state.phase == Phase::Draining)
        .await
        .unwrap();
    let guard = Pid::from_raw(state.guard.unwrap().pid);
    assert_eq!(getsid(Some(guard)).unwrap(), guard, "it leads a session of its own");
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGHUP] {
        kill(guard, signal).unwrap();
    }
    let state = end(&lab, &handle).await;
    assert!(
        matches!(state.phase, Phase::Finished { .. }),
        "{state:?}: {}",
        lab.log()
    );
    lab.assert_serves(NEW).await;
}
