//! One step of one task.

use obfleet_engine::core::Event;
use obfleet_engine::state::Subtask;
use obfleet_engine::store::Commit;
use obfleet_engine::{Owner, StoreError, TaskId};
use sqlx::SqliteConnection;

use super::codec::{json, unavailable};
use super::rows::insert_rows;

/// Writes everything but the domain's changes.
pub(super) async fn write<C>(tx: &mut SqliteConnection, commit: &Commit<'_, C>) -> Result<(), StoreError> {
    compare_and_set(tx, commit).await?;
    for row in &commit.subtasks {
        update_subtask(tx, row).await?;
    }
    insert_events(tx, commit.task.id, commit.events).await?;
    if commit.release_locks {
        let query = sqlx::query("DELETE FROM resource_lock WHERE task_id = ?").bind(commit.task.id.0);
        query.execute(tx).await.map_err(unavailable)?;
    }
    Ok(())
}

/// The guard of everything else: no row is touched unless the task still has the expected rev.
async fn compare_and_set<C>(tx: &mut SqliteConnection, commit: &Commit<'_, C>) -> Result<(), StoreError> {
    let task = commit.task;
    let query = sqlx::query(
        "UPDATE task_instance SET rev = ?, state = ?, operation = ?, outcome = ?, end_time = ? WHERE id = ? AND rev = ?",
    );
    let query = query
        .bind(task.rev)
        .bind(task.status.as_str())
        .bind(task.operation.as_str());
    let query = query
        .bind(task.outcome.map(|outcome| outcome.as_str()))
        .bind(task.end_time);
    let query = query.bind(task.id.0).bind(commit.expected_rev);
    match query.execute(tx).await.map_err(unavailable)?.rows_affected() {
        1 => Ok(()),
        _ => Err(StoreError::Stale),
    }
}

async fn update_subtask(tx: &mut SqliteConnection, row: &Subtask) -> Result<(), StoreError> {
    let query = sqlx::query(
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
    let query = query.bind(row.failure.as_ref().map(json).transpose()?).bind(row.id.0);
    match query.execute(tx).await.map_err(unavailable)?.rows_affected() {
        1 => Ok(()),
        _ => Err(StoreError::Corrupt(format!("there is no subtask {}", row.id))),
    }
}

pub(super) async fn insert_events(tx: &mut SqliteConnection, task: TaskId, events: &[Event]) -> Result<(), StoreError> {
    const INTO: &str = "INSERT INTO task_event (task_id, seq, at, kind, subtask_id, server, incarnation, payload) ";
    insert_rows(tx, INTO, events, |values, event| {
        values
            .push_bind(task.0)
            .push_bind(event.seq)
            .push_bind(event.at)
            .push_bind(event.change.kind())
            .push_bind(event.change.subtask().map(|subtask| subtask.0))
            .push_bind(event.by.server.clone())
            .push_bind(event.by.incarnation.clone())
            .push_bind(json(&event.change)?);
        Ok(())
    })
    .await
}

/// One row per server: the process that runs under its name now.
pub(super) async fn register_server(tx: &mut SqliteConnection, owner: &Owner, now_ms: i64) -> Result<(), StoreError> {
    let query = sqlx::query("UPDATE engine_server SET incarnation = ?, started_at = ? WHERE server = ?");
    let query = query.bind(&owner.incarnation).bind(now_ms).bind(&owner.server);
    if query.execute(&mut *tx).await.map_err(unavailable)?.rows_affected() == 0 {
        let query = sqlx::query("INSERT INTO engine_server (server, incarnation, started_at) VALUES (?, ?, ?)");
        let query = query.bind(&owner.server).bind(&owner.incarnation).bind(now_ms);
        query.execute(tx).await.map_err(unavailable)?;
    }
    Ok(())
}
