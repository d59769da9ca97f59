//! One step of one task.
//!
//! A transaction of its own looks at the answer to the compare-and-set before it sends the rest; among others (see
//! [`super::group`]) all of a step's statements are sent at once.

use obfleet_engine::core::Event;
use obfleet_engine::state::Subtask;
use obfleet_engine::store::Commit;
use obfleet_engine::{StoreError, TaskId};

use super::codec::{json, unavailable};
use super::lease;
use super::rows::inserts;
use crate::sql::{self, Dialect, Query, Transaction};

/// Writes everything but the domain's changes.
pub(super) async fn write<C>(tx: &mut Transaction, commit: &Commit<'_, C>) -> Result<(), StoreError> {
    let Statements { queries, .. } = statements(tx.dialect(), commit)?;
    let mut queries = queries.into_iter();
    // It may have to wait for others, see `create`: a message of its own.
    if let Some(guard) = queries.next()
        && guard.execute(&mut *tx).await.map_err(unavailable)? != 1
    {
        lease::test(tx, commit.by).await?;
        return Err(StoreError::Stale);
    }
    let rest = queries.collect();
    let changed = tx.execute_all(rest).await.map_err(unavailable)?;
    let missing = changed.iter().zip(&commit.subtasks).find(|(rows, _)| **rows != 1);
    match missing {
        Some((_, row)) => Err(StoreError::Corrupt(format!("there is no subtask {}", row.id))),
        None => Ok(()),
    }
}

/// The statements that do so.
pub(super) struct Statements<'c> {
    /// The compare-and-set and the subtasks' rows: each has to change one row. Then the rest.
    pub queries: Vec<Query<'c>>,
    /// How many of them have to change one row.
    pub of_one_row: usize,
}

pub(super) fn statements<'c, C>(dialect: Dialect, commit: &'c Commit<'_, C>) -> Result<Statements<'c>, StoreError> {
    let mut queries = vec![compare_and_set(dialect, commit)];
    for row in &commit.subtasks {
        queries.push(update_subtask(row)?);
    }
    let of_one_row = queries.len();
    queries.extend(insert_events(commit.task.id, commit.events, commit.nonce)?);
    queries.extend(commit.release_locks.then(|| release_locks(commit.task.id)));
    Ok(Statements { queries, of_one_row })
}

fn release_locks(task: TaskId) -> Query<'static> {
    sql::query("DELETE FROM resource_lock WHERE task_id = ?").bind(task.0)
}

/// The guard of everything else: changes no row unless the author has its lease and the task still has the expected rev.
fn compare_and_set<'c, C>(dialect: Dialect, commit: &'c Commit<'_, C>) -> Query<'c> {
    let task = commit.task;
    let is_leased = lease::is_leased(dialect);
    let query = sql::composed(format!(
        "UPDATE task_instance SET rev = ?, state = ?, operation = ?, outcome = ?, halt = ?, end_time = ? \
         WHERE id = ? AND rev = ? AND {is_leased}"
    ));
    let query = query
        .bind(task.rev)
        .bind(task.status.as_str())
        .bind(task.operation.as_str());
    let query = query
        .bind(task.outcome.map(|outcome| outcome.as_str()))
        .bind(task.halt.map(|halt| halt.as_str()))
        .bind(task.end_time);
    let query = query.bind(task.id.0).bind(commit.expected_rev);
    lease::bind_owner(query, commit.by)
}

fn update_subtask(row: &Subtask) -> Result<Query<'_>, StoreError> {
    let query = sql::query(
        "UPDATE subtask_instance SET state = ?, operation = ?, run_time = ?, epoch = ?, crash_count = ?, undo_tries = ?, \
         owner_server = ?, owner_incarnation = ?, executor = ?, deadline_at = ?, not_before = ?, ready_from = ?, \
         start_time = ?, end_time = ?, ctx_delta = ?, checkpoint = ?, failure = ? WHERE id = ?",
    );
    let query = query
        .bind(row.status.as_str())
        .bind(row.operation.as_str())
        .bind(i64::from(row.run_time));
    let query = query
        .bind(row.epoch)
        .bind(i64::from(row.crash_count))
        .bind(i64::from(row.undo_tries));
    let owner = row.owner.as_ref();
    let query = query
        .bind(owner.map(|owner| &owner.server))
        .bind(owner.map(|owner| &owner.incarnation));
    let query = query.bind(&row.executor).bind(row.deadline_at).bind(row.not_before);
    let query = query
        .bind(row.ready_from.map(|status| status.as_str()))
        .bind(row.start_time)
        .bind(row.end_time);
    let query = query.bind(json(&row.delta)?).bind(json(&row.checkpoint)?);
    Ok(query.bind(row.failure.as_ref().map(json).transpose()?).bind(row.id.0))
}

pub(super) fn insert_events(task: TaskId, events: &[Event], nonce: i64) -> Result<Vec<Query<'_>>, StoreError> {
    let columns = [
        "task_id",
        "seq",
        "at",
        "kind",
        "subtask_id",
        "server",
        "incarnation",
        "nonce",
        "payload",
    ];
    inserts("INSERT INTO task_event", columns, events, |event| {
        Ok([
            task.0.into(),
            event.seq.into(),
            event.at.into(),
            event.change.kind().into(),
            event.change.subtask().map(|subtask| subtask.0).into(),
            (&event.by.server).into(),
            (&event.by.incarnation).into(),
            nonce.into(),
            json(&event.change)?.into(),
        ])
    })
}

/// Whether the event `seq` of a task is there and of the commit with this nonce. Waits for a transaction that is still about
/// to write it.
pub(super) async fn landed(tx: &mut Transaction, task: TaskId, seq: i64, nonce: i64) -> Result<bool, StoreError> {
    let for_update = tx.dialect().for_update();
    let wait = sql::composed(format!("SELECT rev FROM task_instance WHERE id = ?{for_update}"));
    wait.bind(task.0).fetch_optional(&mut *tx).await.map_err(unavailable)?;
    let find = sql::query("SELECT seq FROM task_event WHERE task_id = ? AND seq = ? AND nonce = ?");
    let find = find.bind(task.0).bind(seq).bind(nonce);
    Ok(find.fetch_optional(tx).await.map_err(unavailable)?.is_some())
}
