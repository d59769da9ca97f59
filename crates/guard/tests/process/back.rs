//! The ways back: each kind of bad build, and the order to go back.

use std::{os::unix::fs::MetadataExt as _, sync::Arc};

use obfleet_guard::{Phase, Verdict};
use obfleet_obproxy::process::ProcessId;
use obfleet_standin::Faults;
use obfleet_wire::agent::{DrainPolicy, RestartMethod};

use crate::lab::{DRAIN, Lab, NEW, OLD, PATIENCE, end, reverted};

/// Restarts onto a build with these faults; the old one must serve again, and a session on it must have survived when
/// the old process itself took over.
async fn undone(faults: Faults, same_process: bool) -> (Arc<Lab>, String) {
    let lab = Arc::new(Lab::new(faults).await);
    let before = lab.processes()[0];
    let executable = executable_of(before);
    let mut inside = lab.client().await;
    inside.query("begin").await.unwrap();
    let traffic = lab.traffic();
    let handle = lab.start(&lab.plan(RestartMethod::Hot, DRAIN)).await;
    let verdict = handle.wait_verdict(PATIENCE).await.unwrap();
    assert!(matches!(verdict.verdict(), Some(Verdict::Bad(_))), "{verdict:?}");
    let state = end(&lab, &handle).await;
    let reason = reverted(&lab, &state);
    assert_eq!(before.is_alive(), same_process, "{}", lab.log());
    if same_process {
        inside.query("commit").await.unwrap();
    }
    let seen = traffic.stop().await;
    assert!(
        !seen.keys().any(|outcome| outcome.contains("connection refused")),
        "{seen:?}: {}",
        lab.log()
    );
    lab.assert_serves(OLD).await;
    // Clients on this host are told by it which process served them.
    assert_eq!(
        executable_of(lab.processes()[0]),
        executable,
        "the very file serves again"
    );
    (lab, reason)
}

/// The file a process executes, whatever its name is by now.
fn executable_of(process: ProcessId) -> (u64, u64) {
    let file = std::fs::metadata(format!("/proc/{}/exe", process.pid)).unwrap();
    (file.dev(), file.ino())
}

#[tokio::test]
async fn a_child_that_exits() {
    let (lab, reason) = undone(
        Faults {
            exit: Some(1),
            ..Faults::default()
        },
        true,
    )
    .await;
    assert!(reason.contains("ended"), "{reason}: {}", lab.log());
}

#[tokio::test]
async fn a_process_that_took_over_again_is_restarted_hot_by_the_next_attempt() {
    let exits = Faults {
        exit: Some(1),
        ..Faults::default()
    };
    let mut lab = Lab::new(exits).await;
    let old = lab.processes()[0];
    let failed = lab.start(&lab.plan(RestartMethod::Hot, DRAIN)).await;
    reverted(&lab, &end(&lab, &failed).await);
    assert!(old.is_alive(), "{}", lab.log());

    lab.next_restart(Faults::default()).await;
    let good = lab.start(&lab.plan(RestartMethod::Hot, DRAIN)).await;
    let state = end(&lab, &good).await;
    assert!(
        matches!(state.phase, Phase::Finished { .. }),
        "{state:?}: {}",
        lab.log()
    );
    assert_eq!(state.before.unwrap().process, old, "{}", lab.log());
    lab.assert_serves(NEW).await;
    let serving = lab.admin().await.upgrade_info().await.unwrap();
    assert!(serving.is_inherited, "{}", lab.log());
}

#[tokio::test]
async fn a_child_that_hangs() {
    let (_, reason) = undone(
        Faults {
            hang: true,
            ..Faults::default()
        },
        true,
    )
    .await;
    assert!(reason.contains("cannot be logged in to"), "{reason}");
}

#[tokio::test]
async fn a_child_that_turns_logins_away() {
    let (_, reason) = undone(
        Faults {
            no_login: true,
            ..Faults::default()
        },
        true,
    )
    .await;
    assert!(reason.contains("turns root@proxysys away"), "{reason}");
}

#[tokio::test]
async fn a_child_that_never_signals() {
    let (_, reason) = undone(
        Faults {
            never_signal: true,
            ..Faults::default()
        },
        true,
    )
    .await;
    assert!(reason.contains("has not told the old one"), "{reason}");
}

#[tokio::test]
async fn a_child_of_the_wrong_version_is_left_by_a_hot_restart() {
    let faults = Faults {
        wrong_version: Some("4.3.9.9".to_owned()),
        ..Faults::default()
    };
    let (lab, reason) = undone(faults, false).await;
    assert!(
        reason.contains("4.3.9.9") && lab.log().contains("by a hot restart"),
        "{reason}: {}",
        lab.log()
    );
}

#[tokio::test]
async fn a_child_that_crashes_during_the_drain() {
    let lab = Arc::new(
        Lab::new(Faults {
            crash_after_s: Some(1.0),
            ..Faults::default()
        })
        .await,
    );
    let before = lab.processes()[0];
    let mut inside = lab.client().await;
    inside.query("begin").await.unwrap();
    let drain = DrainPolicy {
        window_ms: 30_000,
        closes_per_second: 100,
    };
    let handle = lab.start(&lab.plan(RestartMethod::Hot, drain)).await;
    let reason = reverted(&lab, &end(&lab, &handle).await);
    assert!(reason.contains("serves no more"), "{reason}");
    assert!(before.is_alive(), "{}", lab.log());
    inside.query("commit").await.unwrap();
    lab.assert_serves(OLD).await;
}

#[tokio::test]
async fn a_probe_that_fails() {
    let lab = Lab::new(Faults::default()).await;
    let mut plan = lab.plan(RestartMethod::Hot, DRAIN);
    // The proxy's own users get no such query answered.
    plan.probe.as_mut().unwrap().user = "root@proxysys".to_owned();
    let handle = lab.start(&plan).await;
    let reason = reverted(&lab, &end(&lab, &handle).await);
    assert!(reason.contains("probe query"), "{reason}");
    lab.assert_serves(OLD).await;
}

#[tokio::test]
async fn an_order_to_go_back_while_the_old_process_drains() {
    let lab = Arc::new(Lab::new(Faults::default()).await);
    let mut inside = lab.client().await;
    inside.query("begin").await.unwrap();
    let traffic = lab.traffic();
    let long = DrainPolicy {
        window_ms: 60_000,
        closes_per_second: 100,
    };
    let handle = lab.start(&lab.plan(RestartMethod::Hot, long)).await;
    handle
        .wait_for(PATIENCE, |state| state.phase == Phase::Draining)
        .await
        .unwrap();
    let mut on_new = lab.client().await;
    on_new.query("begin").await.unwrap();
    handle.revert(DRAIN).await.unwrap();
    handle
        .wait_for(PATIENCE, |state| matches!(state.phase, Phase::Reverting { .. }))
        .await
        .unwrap();
    inside.query("commit").await.unwrap();
    on_new.query("commit").await.unwrap();
    let state = end(&lab, &handle).await;
    assert!(reverted(&lab, &state).contains("ordered"));
    let Phase::Reverted { drain, .. } = &state.phase else {
        unreachable!()
    };
    assert_eq!(drain.cut, [], "{}", lab.log());
    traffic.assert_all_served().await;
    lab.assert_serves(OLD).await;
}

#[tokio::test]
async fn a_file_that_is_not_what_was_ordered_is_never_run() {
    let lab = Lab::new(Faults::default()).await;
    let before = lab.processes();
    let mut plan = lab.plan(RestartMethod::Hot, DRAIN);
    plan.binary_sha256 = "0".repeat(64);
    let handle = lab.start(&plan).await;
    let reason = reverted(&lab, &end(&lab, &handle).await);
    assert!(
        reason.contains("SHA-256") && reason.contains("nothing was changed"),
        "{reason}"
    );
    assert_eq!(lab.processes(), before);
    lab.assert_serves(OLD).await;
}
