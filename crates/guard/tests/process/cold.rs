//! Drain, stop, start: for proxies too old for a hot restart.

use obfleet_guard::Phase;
use obfleet_standin::Faults;
use obfleet_wire::agent::RestartMethod;

use crate::lab::{DRAIN, Lab, NEW, OLD, end, reverted};

#[tokio::test]
async fn transactions_end_before_the_proxy_stops() {
    let lab = Lab::new(Faults::default()).await;
    let mut short = lab.client().await;
    short.query("begin").await.unwrap();
    let handle = lab.start(&lab.plan(RestartMethod::Cold, DRAIN)).await;
    handle
        .wait_for(crate::lab::PATIENCE, |state| state.phase == Phase::Draining)
        .await
        .unwrap();
    let mut late = lab.client().await;
    late.query("begin").await.unwrap();
    short.query("commit").await.unwrap();
    let state = end(&lab, &handle).await;
    let Phase::Finished { drain } = &state.phase else {
        panic!("{state:?}: {}", lab.log())
    };
    assert_eq!(drain.closed_at_boundary, 1, "{drain:?}");
    assert_eq!(drain.cut.len(), 1, "who came during the drain is told, too: {drain:?}");
    assert!(state.report.unwrap().probed);
    lab.assert_serves(NEW).await;
}

#[tokio::test]
async fn a_build_that_does_not_start_is_undone() {
    let lab = Lab::new(Faults {
        exit: Some(0),
        ..Faults::default()
    })
    .await;
    let handle = lab.start(&lab.plan(RestartMethod::Cold, DRAIN)).await;
    let reason = reverted(&lab, &end(&lab, &handle).await);
    assert!(reason.contains("did not start"), "{reason}");
    lab.assert_serves(OLD).await;
}

#[tokio::test]
async fn a_build_of_the_wrong_version_is_undone() {
    let lab = Lab::new(Faults {
        wrong_version: Some("4.3.9.9".to_owned()),
        ..Faults::default()
    })
    .await;
    let handle = lab.start(&lab.plan(RestartMethod::Cold, DRAIN)).await;
    let reason = reverted(&lab, &end(&lab, &handle).await);
    assert!(reason.contains("4.3.9.9"), "{reason}");
    lab.assert_serves(OLD).await;
}
