//! Claiming what is READY when a slot comes free, and taking up unfinished tasks at start.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::shared::{Moved, Shared};
use crate::core::Command;
use crate::error::EngineError;
use crate::state::{TaskId, TaskState};
use crate::store::StoreError;

/// Wait before a claim is tried again when the database is away.
const STORE_RETRY: Duration = Duration::from_millis(200);

/// Serves woken tasks in turn, one slot each, until the engine drains. A task with more to claim goes to the end of the queue.
pub(super) async fn dispatch<C: Send + Sync + 'static>(shared: Arc<Shared<C>>) {
    let draining = shared.draining.clone();
    let serve = async {
        loop {
            let turn = shared.wakes.next().await;
            let Ok(slot) = Arc::clone(&shared.slots).acquire_owned().await else {
                return;
            };
            let shared = Arc::clone(&shared);
            shared.tracker.clone().spawn(async move {
                claim_next(&shared, turn.task, slot).await;
                drop(turn);
            });
        }
    };
    tokio::select! {
        () = draining.cancelled() => {}
        () = serve => {}
    }
}

async fn claim_next<C: Send + Sync + 'static>(shared: &Arc<Shared<C>>, task: TaskId, slot: OwnedSemaphorePermit) {
    if shared.draining.is_cancelled() {
        return;
    }
    let choose = |state: &TaskState, now_ms: i64| {
        let index = shared.claimable(state, now_ms).next()?;
        Some(Command::Claim {
            subtask: state.subtasks[index].id,
        })
    };
    match shared.advance_by(task, None, choose, &[], Some(slot)).await {
        Ok(Moved::To(_)) => {}
        // Nothing is due here: claimed by another commit, still backing off (then its timer is set again), or not for us.
        Ok(Moved::Not(state)) => shared.wake_for(&state),
        Err(EngineError::Store(StoreError::Unavailable(error))) => {
            tracing::warn!(%task, error, "the state database is away; trying again");
            shared.wake_in(task, STORE_RETRY);
        }
        Err(EngineError::Store(error)) => shared.note(task, &error),
        Err(error) => tracing::error!(%task, error = &error as &dyn std::error::Error, "a claim failed"),
    }
}

/// For a server alone on its database: takes over what dead processes had under way, which is all that is not its own, and
/// wakes every unfinished task.
pub(super) async fn resume<C: Send + Sync + 'static>(shared: &Arc<Shared<C>>) -> Result<(), StoreError> {
    let running = shared.store.load_running().await?;
    for (task, reason) in running.unreadable {
        shared.set_aside(task, reason);
    }
    let own = shared.lease.tenure().owner.incarnation.clone();
    for state in running.tasks {
        let task = state.task.id;
        let mut dead = owners(&state);
        dead.remove(&own);
        shared.adopt(state, &[]).await;
        if dead.is_empty() {
            continue;
        }
        match shared.advance(task, None, Command::Orphan { dead }, &[], None).await {
            Ok(_) => {}
            Err(EngineError::Store(error @ StoreError::Unavailable(_))) => return Err(error),
            Err(EngineError::Store(error)) => shared.note(task, &error),
            Err(error) => shared.set_aside(task, error.to_string()),
        }
    }
    Ok(())
}

fn owners(state: &TaskState) -> BTreeSet<String> {
    let owners = state.subtasks.iter().filter_map(|subtask| subtask.owner.as_ref());
    owners.map(|owner| owner.incarnation.clone()).collect()
}
