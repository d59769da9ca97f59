//! What a server that shares its database finds out by looking: steps that are due, attempts of its own that another server
//! was told to stop, and what dead servers left under way.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::shared::Shared;
use crate::core::Command;
use crate::error::EngineError;
use crate::state::TaskId;
use crate::store::{DueTask, HeldSubtask, StoreError};

/// Due tasks asked for per free slot: several servers that look at the same time begin with different ones.
const CHOICE: u32 = 4;

/// Most due tasks asked for at once.
const MOST_DUE: u32 = 256;

/// Time between two tries to read what could not be read.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// Shortest time between two looks while there is more to do than was taken.
const AT_ONCE: Duration = Duration::from_millis(20);

/// Looks again and again, for as long as the engine runs.
pub(super) async fn watch<C: Send + Sync + 'static>(shared: Arc<Shared<C>>, pace: Duration) {
    let mut away = false;
    let mut read_again = Instant::now() + READ_AGAIN;
    loop {
        let begun = Instant::now();
        if begun >= read_again {
            read_unreadable(&shared).await;
            read_again = begun + READ_AGAIN;
        }
        let found = look(&shared).await;
        if let Err(error) = &found
            && !away
            && !matches!(error, StoreError::LeaseLost)
        {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "cannot look for work; trying again"
            );
        }
        away = found.is_err();
        if matches!(found, Ok(Found::More)) {
            sleep_until(begun + AT_ONCE).await;
            // What was found has the slots now: the next look is worth it when one comes free.
            drop(shared.slots.acquire().await);
            continue;
        }
        tokio::select! {
            () = shared.lease.look_now.notified() => {}
            () = sleep(jittered(pace)) => {}
        }
    }
}

/// Within a tenth of `pace`, so that servers do not look all at the same time.
fn jittered(pace: Duration) -> Duration {
    let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
    let percent = u32::try_from(random % 21).unwrap_or(0) + 90;
    pace * percent / 100
}

/// Whether a look found more than there were slots for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    All,
    More,
}

/// Looks once, and does what there is to do.
pub(super) async fn look<C: Send + Sync + 'static>(shared: &Arc<Shared<C>>) -> Result<Found, StoreError> {
    let tenure = shared.lease.current()?;
    let free = if shared.draining.is_cancelled() {
        0
    } else {
        shared.slots.available_permits()
    };
    let limit = u32::try_from(free)
        .unwrap_or(MOST_DUE)
        .saturating_mul(CHOICE)
        .min(MOST_DUE);
    // What is not for this server must not hide the rest.
    let in_vain = u32::try_from(shared.unknown.count()).unwrap_or(u32::MAX);
    let limit = if free == 0 { 0 } else { limit.saturating_add(in_vain) };
    let now = shared.clock.steady_ms();
    let sighting = shared.store.look(now, limit).await?;
    for row in &sighting.held {
        if row.canceling && row.owner == tenure.owner {
            shared.cancel_attempt(row.subtask, row.epoch);
        }
    }
    take_over(shared, &sighting.held).await;
    let mut due = sighting.due;
    if free > 0 {
        shared.unknown.pass_over(&mut due, now);
    }
    due.retain(|due| !shared.is_set_aside(due.task));
    shuffle(&mut due);
    let more = due.len() > free;
    for DueTask { task, .. } in due.into_iter().take(free) {
        shared.wakes.wake(task);
    }
    Ok(if more { Found::More } else { Found::All })
}

/// Takes tasks up again that can be read meanwhile: somebody has mended the rows, or a later release has finished them.
async fn read_unreadable<C: Send + Sync + 'static>(shared: &Shared<C>) {
    for &task in shared.set_aside_tasks().keys() {
        if shared.store.load(task).await.is_ok() {
            shared.readable_again(task);
        }
    }
}

/// Servers that look at the same time begin with different tasks, and however much there is to do, every task comes first
/// at some look.
fn shuffle(due: &mut [DueTask]) {
    let order = RandomState::new();
    due.sort_by_cached_key(|due| order.hash_one(due.task.0));
}

/// Takes over what processes without a lease hold. Whoever commits first has it; the others find that out by then.
async fn take_over<C: Send + Sync + 'static>(shared: &Arc<Shared<C>>, held: &[HeldSubtask]) {
    let mut orphaned = BTreeMap::<TaskId, BTreeSet<String>>::new();
    for row in held.iter().filter(|row| !row.alive && !shared.is_set_aside(row.task)) {
        orphaned
            .entry(row.task)
            .or_default()
            .insert(row.owner.incarnation.clone());
    }
    let mut moves = JoinSet::new();
    for (task, dead) in orphaned {
        let shared = Arc::clone(shared);
        moves.spawn(async move {
            tracing::info!(%task, "a server died over this task: taking it over");
            match shared.advance(task, None, Command::Orphan { dead }, &[], None).await {
                Ok(_) => {}
                Err(EngineError::Store(error)) => shared.note(task, &error),
                Err(error) => tracing::debug!(%task, %error, "another server was faster"),
            }
        });
    }
    moves.join_all().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_spread_over_a_tenth_around_their_pace() {
        let pace = Duration::from_millis(200);
        let waits: BTreeSet<_> = (0..1_000).map(|_| jittered(pace)).collect();
        let (shortest, longest) = (Duration::from_millis(180), Duration::from_millis(220));
        assert!(
            waits.iter().all(|wait| (shortest..=longest).contains(wait)),
            "{waits:?}"
        );
        assert!(waits.len() > 10, "{waits:?}");
    }

    #[test]
    fn of_many_tasks_none_is_always_behind_the_others() {
        let mut due: Vec<_> = (1..=20)
            .map(|task| DueTask {
                task: TaskId(task),
                rev: 1,
            })
            .collect();
        let first = (0..10_000).map(|_| {
            shuffle(&mut due);
            due[0].task
        });
        assert_eq!(first.collect::<BTreeSet<_>>().len(), 20);
    }
}
