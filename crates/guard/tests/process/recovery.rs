//! A guard that is killed, in each phase, and another that goes on.

use std::{fs, io::ErrorKind, sync::Arc};

use obfleet_guard::{Handle, Phase, WaitError};
use obfleet_standin::Faults;
use obfleet_wire::agent::RestartMethod;

use crate::lab::{DRAIN, Lab, NEW, OLD, PATIENCE, end};

/// Kills the guard in a phase, starts another, and returns what serves in the end.
async fn killed_at(phase: &str, method: RestartMethod, faults: Faults) -> (Arc<Lab>, Phase) {
    let lab = Arc::new(Lab::new(faults).await);
    let mut inside = lab.client().await;
    inside.query("begin").await.unwrap();
    lab.die_at(phase);
    // Killed before it said hello, it lets the start fail: that is no matter here.
    drop(lab.try_start(&lab.plan(method, DRAIN)).await);
    let handle = Handle::attach(&lab.dir());
    let died = handle.wait_end(PATIENCE).await;
    assert!(
        matches!(died, Err(WaitError::GuardDied { .. })),
        "{died:?}: {}",
        lab.log()
    );
    assert_eq!(handle.state().unwrap().phase.name(), phase);
    assert!(!handle.alive().unwrap());
    lab.recover().await;
    // Without a keeper an old process waits for its clients.
    drop(inside);
    let state = end(&lab, &handle).await;
    (lab, state.phase)
}

async fn assert_back(phase: &str, method: RestartMethod, faults: Faults) -> Arc<Lab> {
    let (lab, end) = killed_at(phase, method, faults).await;
    assert!(matches!(end, Phase::Reverted { .. }), "{end:?}: {}", lab.log());
    lab.assert_serves(OLD).await;
    lab
}

#[tokio::test]
async fn preparing() {
    assert_back("preparing", RestartMethod::Hot, Faults::default()).await;
}

#[tokio::test]
async fn swapped() {
    assert_back("swapped", RestartMethod::Hot, Faults::default()).await;
}

#[tokio::test]
async fn triggered() {
    assert_back("triggered", RestartMethod::Hot, Faults::default()).await;
}

#[tokio::test]
async fn judging_a_good_child() {
    let (lab, end) = killed_at("judging", RestartMethod::Hot, Faults::default()).await;
    assert!(matches!(end, Phase::Finished { .. }), "{end:?}: {}", lab.log());
    lab.assert_serves(NEW).await;
}

/// Nobody is served while it is there, so it is not asked twice.
async fn assert_gone_after_one_look(faults: Faults) {
    let lab = assert_back("judging", RestartMethod::Hot, faults).await;
    assert!(!lab.log().contains("nobody answers"), "{}", lab.log());
}

#[tokio::test]
async fn judging_a_child_that_hangs() {
    assert_gone_after_one_look(Faults {
        hang: true,
        ..Faults::default()
    })
    .await;
}

#[tokio::test]
async fn judging_a_child_that_turns_logins_away() {
    assert_gone_after_one_look(Faults {
        no_login: true,
        ..Faults::default()
    })
    .await;
}

#[tokio::test]
async fn draining() {
    let (lab, end) = killed_at("draining", RestartMethod::Hot, Faults::default()).await;
    assert!(matches!(end, Phase::Finished { .. }), "{end:?}: {}", lab.log());
    lab.assert_serves(NEW).await;
}

#[tokio::test]
async fn reverting() {
    let faults = Faults {
        wrong_version: Some("4.3.9.9".to_owned()),
        ..Faults::default()
    };
    assert_back("reverting", RestartMethod::Hot, faults).await;
}

#[tokio::test]
async fn reverting_when_nobody_is_left() {
    let lab = Lab::new(Faults {
        hang: true,
        ..Faults::default()
    })
    .await;
    lab.die_at("reverting");
    let handle = lab.start(&lab.plan(RestartMethod::Hot, DRAIN)).await;
    assert!(matches!(
        handle.wait_end(PATIENCE).await,
        Err(WaitError::GuardDied { .. })
    ));
    for process in lab.processes() {
        obfleet_obproxy::stop::kill(process).await.unwrap();
    }
    lab.recover().await;
    let state = end(&lab, &handle).await;
    assert!(
        matches!(state.phase, Phase::Reverted { .. }),
        "{state:?}: {}",
        lab.log()
    );
    lab.assert_serves(OLD).await;
}

#[tokio::test]
async fn cold_while_draining() {
    assert_back("draining", RestartMethod::Cold, Faults::default()).await;
}

#[tokio::test]
async fn cold_before_the_new_one_is_started() {
    assert_back("triggered", RestartMethod::Cold, Faults::default()).await;
}

#[tokio::test]
async fn a_guard_that_dies_before_it_listens_is_told_as_dead_and_can_be_replaced() {
    let lab = Lab::new(Faults::default()).await;
    // A directory cannot be locked like a file.
    let obstacle = lab.dir().join("lock");
    fs::create_dir_all(&obstacle).unwrap();
    let failed = lab.try_start(&lab.plan(RestartMethod::Hot, DRAIN)).await.unwrap_err();
    assert!(
        failed.kind() != ErrorKind::TimedOut && failed.to_string().contains("died at its start"),
        "{failed:?}"
    );
    let said = fs::read_to_string(lab.dir().join("guard.log")).unwrap();
    assert!(said.contains("directory"), "{said}");
    fs::remove_dir(&obstacle).unwrap();
    lab.recover().await;
    let state = end(&lab, &Handle::attach(&lab.dir())).await;
    assert!(
        matches!(state.phase, Phase::Finished { .. }),
        "{state:?}: {}",
        lab.log()
    );
    lab.assert_serves(NEW).await;
}

#[tokio::test]
async fn nothing_is_recovered_twice() {
    let lab = Lab::new(Faults::default()).await;
    let handle = lab.start(&lab.plan(RestartMethod::Hot, DRAIN)).await;
    lab.recover().await;
    let state = end(&lab, &handle).await;
    assert!(
        matches!(state.phase, Phase::Finished { .. }),
        "{state:?}: {}",
        lab.log()
    );
    let log = lab.log();
    lab.recover().await;
    assert_eq!(lab.log(), log);
    assert!(!log.contains("an earlier guard"), "{log}");
}
