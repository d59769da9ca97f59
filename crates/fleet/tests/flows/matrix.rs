//! Runs the cases of a flow beside each other, and names those that failed.

use std::future::Future;

use anyhow::Result;
use futures::{StreamExt as _, stream};

use crate::{flow::Flow, trouble::Place};

/// Only cases whose name contains this are run.
const ONLY: &str = "OBFLEET_FLOW_CASES";
/// Cases at a time.
const BESIDE: usize = 8;

/// `HotRestart[0] After(1)` and so on.
pub fn named(place: &Place, how: impl std::fmt::Debug) -> String {
    format!("{place} {how:?}")
}

/// Runs all cases, by name.
pub async fn all<F: Future<Output = Result<()>>>(test: &str, flow: Flow, cases: Vec<(String, F)>) {
    let only = std::env::var(ONLY).unwrap_or_default();
    let cases: Vec<_> = cases.into_iter().filter(|(name, _)| name.contains(&only)).collect();
    let many = cases.len();
    let runs = cases.into_iter().map(|(name, case)| async { (name, case.await) });
    let ended: Vec<_> = stream::iter(runs).buffer_unordered(BESIDE).collect().await;
    let failed: Vec<_> = ended
        .into_iter()
        .filter_map(|(name, result)| Some((name, result.err()?)))
        .collect();
    for (name, error) in &failed {
        eprintln!("FAILED {flow:?} {test}: {name}\n    {error:#}\n    again: {ONLY}='{name}'\n");
    }
    assert!(
        failed.is_empty(),
        "{flow:?} {test}: {} of {many} cases failed",
        failed.len()
    );
}
