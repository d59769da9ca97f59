//! A restart onto the executable that runs: only the process tells before and after apart.

use std::sync::Arc;

use obfleet_guard::{Handle, Phase};
use obfleet_obproxy::process::ProcessId;
use obfleet_standin::Faults;
use obfleet_wire::agent::RestartMethod;

use crate::lab::{DRAIN, Lab, OLD, PATIENCE, end, reverted};

/// A proxy that will be restarted onto itself, and its process.
async fn lab() -> (Arc<Lab>, ProcessId) {
    let lab = Arc::new(Lab::new(Faults::default()).await);
    lab.restart_onto_itself().await;
    let before = lab.processes()[0];
    (lab, before)
}

#[tokio::test]
async fn a_hot_restart_ends_with_another_process() {
    let (lab, before) = lab().await;
    let mut inside = lab.client().await;
    inside.query("begin").await.unwrap();
    let traffic = lab.traffic();
    let handle = lab.start(&lab.plan_onto_itself(RestartMethod::Hot, DRAIN)).await;
    let state = handle.wait_verdict(PATIENCE).await.unwrap();
    let report = state.report.unwrap_or_else(|| panic!("{}", lab.log()));
    assert_eq!(
        (&report.before.version, &report.before.binary_sha256),
        (&report.after.version, &report.after.binary_sha256)
    );
    assert_eq!(report.before.pid, before.pid);
    assert_ne!(report.after.pid, before.pid);
    inside.query("commit").await.unwrap();
    let state = end(&lab, &handle).await;
    assert!(
        matches!(state.phase, Phase::Finished { .. }),
        "{state:?}: {}",
        lab.log()
    );
    assert!(!before.is_alive());
    assert_eq!(lab.processes()[0].pid, report.after.pid);
    traffic.assert_all_served().await;
    lab.assert_serves(OLD).await;
}

/// Its version is the right one, and it serves no client: the old process does.
#[tokio::test]
async fn a_child_that_is_unfit_is_not_taken_for_what_ran_before() {
    let (lab, before) = lab().await;
    let mut inside = lab.client().await;
    inside.query("begin").await.unwrap();
    let mut plan = lab.plan_onto_itself(RestartMethod::Hot, DRAIN);
    // The proxy's own users get no such query answered.
    plan.probe.as_mut().unwrap().user = "root@proxysys".to_owned();
    let handle = lab.start(&plan).await;
    let reason = reverted(&lab, &end(&lab, &handle).await);
    assert!(reason.contains("probe query"), "{reason}");
    assert!(before.is_alive(), "{}", lab.log());
    inside.query("commit").await.unwrap();
    lab.assert_serves(OLD).await;
}

#[tokio::test]
async fn a_cold_restart_ends_with_another_process() {
    let (lab, before) = lab().await;
    let handle = lab.start(&lab.plan_onto_itself(RestartMethod::Cold, DRAIN)).await;
    let state = end(&lab, &handle).await;
    assert!(
        matches!(state.phase, Phase::Finished { .. }),
        "{state:?}: {}",
        lab.log()
    );
    assert!(!before.is_alive());
    lab.assert_serves(OLD).await;
}

#[tokio::test]
async fn a_guard_that_dies_is_followed_by_one_that_tells_the_processes_apart() {
    for (phase, keeps_old) in [("swapped", true), ("triggered", true), ("judging", false)] {
        let (lab, before) = lab().await;
        let mut inside = lab.client().await;
        inside.query("begin").await.unwrap();
        lab.die_at(phase);
        // Killed before it said hello, it lets the start fail: that is no matter here.
        drop(lab.try_start(&lab.plan_onto_itself(RestartMethod::Hot, DRAIN)).await);
        let handle = Handle::attach(&lab.dir());
        handle.wait_end(PATIENCE).await.unwrap_err();
        lab.recover().await;
        // Without a keeper an old process waits for its clients.
        drop(inside);
        let state = end(&lab, &handle).await;
        let expected = match &state.phase {
            Phase::Reverted { .. } => keeps_old,
            Phase::Finished { .. } => !keeps_old,
            _ => false,
        };
        assert!(expected, "{phase}: {state:?}: {}", lab.log());
        assert_eq!(before.is_alive(), keeps_old, "{phase}: {}", lab.log());
        lab.assert_serves(OLD).await;
    }
}
