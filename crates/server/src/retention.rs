//! How long the history of tasks is kept. A task that is FAILED and holds something is kept whatever its age.

use std::time::Duration;

use obfleet_engine::{Engine, EngineError};
use obfleet_wire::time::Timestamp;
use tokio_util::sync::CancellationToken;

/// Time between two looks for what is too old.
const PERIOD: Duration = Duration::from_secs(3600);
/// Tasks deleted in one transaction: few enough that no step waits long behind it.
const BATCH: u32 = 20;
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
