//! How long the history of tasks and the audit records are kept. A task that is FAILED and holds something is kept whatever its
//! age.

use std::time::Duration;

use obfleet_engine::{Engine, EngineError};
use obfleet_store::audit::{Audit, AuditError};
use obfleet_wire::time::Timestamp;
use tokio_util::sync::CancellationToken;

/// Time between two looks for what is too old.
const PERIOD: Duration = Duration::from_secs(3600);
/// Tasks deleted in one transaction: few enough that no step waits long behind it.
const BATCH: u32 = 20;
/// Audit records removed in one transaction, which leaves one record that tells of it.
const RECORDS: i64 = 2000;
/// They are removed by whole days of UTC, so that there is one such record a day.
const DAY_MS: i64 = 86_400_000;
/// Time that steps have the database to themselves between two of them.
const PAUSE: Duration = Duration::from_millis(50);

/// Deletes what ended longer than `keep` ago, at once and then every hour, until told to stop.
pub async fn keep<C: Send + Sync + 'static>(engine: Engine<C>, keep: Duration, stop: CancellationToken) {
    loop {
        match prune(&engine, keep, Timestamp::now(), &stop).await {
            Ok(0) => {}
            Ok(pruned) => tracing::info!(pruned, "the history of old tasks was deleted"),
            Err(error) => tracing::warn!(%error, "old tasks are not deleted yet; trying again in an hour"),
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn prune<C: Send + Sync + 'static>(
    engine: &Engine<C>,
    keep: Duration,
    now: Timestamp,
    stop: &CancellationToken,
) -> Result<u32, EngineError> {
    let before = now.millis() - i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
    let mut pruned = 0;
    while !stop.is_cancelled() {
        let batch = engine.prune(before, BATCH).await?;
        pruned += batch;
        if batch < BATCH {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(pruned)
}

/// Removes audit records older than `keep`, at once and then every hour, until told to stop.
pub async fn keep_audit(audit: Audit, keep: Duration, stop: CancellationToken) {
    loop {
        if let Err(error) = prune_audit(&audit, keep, Timestamp::now(), &stop).await {
            tracing::warn!(%error, "old audit records are not removed yet; trying again in an hour");
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn prune_audit(
    audit: &Audit,
    keep: Duration,
    now: Timestamp,
    stop: &CancellationToken,
) -> Result<(), AuditError> {
    let before = now.millis() - i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
    let before = Timestamp(before - before.rem_euclid(DAY_MS));
    while !stop.is_cancelled() {
        let Some((removed, told)) = audit.prune(before, RECORDS, now).await? else {
            break;
        };
        tracing::info!(
            removed,
            seq = told.seq,
            hash = told.hash,
            "old audit records were removed"
        );
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
