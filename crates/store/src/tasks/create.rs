//! The creating transaction: ids, locks, first rows and events.

use std::sync::Arc;

use obfleet_engine::core::{Draft, Env};
use obfleet_engine::state::{Subtask, Task};
use obfleet_engine::store::Created;
use obfleet_engine::{Lock, StoreError, SubtaskId, TaskId, TaskState};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::codec::{get, json, unavailable};
use super::commit::insert_events;
use super::rows::insert_rows;

/// Locks looked for in one statement: well below any limit on bound values and on the depth of an expression.
const LOCKS_PER_STATEMENT: usize = 100;

pub(super) async fn create(tx: &mut SqliteConnection, draft: Draft, env: &Env) -> Result<Created, StoreError> {
    if let Some(token) = &draft.client_token
        && let Some(existing) = find_by_token(tx, token).await?
    {
        return Ok(Created::Existing(existing));
    }
    refuse_if_held(tx, &draft.locks).await?;
    let task = TaskId(allocate(tx, "task", 1).await?);
    let first = SubtaskId(allocate(tx, "subtask", draft.nodes.len()).await?);
    let (state, events) = draft
        .into_state(task, first, env)
        .map_err(|broken| StoreError::Corrupt(broken.to_string()))?;
    insert_task(tx, &state.task).await?;
    insert_subtasks(tx, task, &state.subtasks).await?;
    insert_edges(tx, &state).await?;
    insert_locks(tx, &state.task).await?;
    insert_events(tx, task, &events).await?;
    Ok(Created::New(Box::new(state), events))
}

async fn find_by_token(tx: &mut SqliteConnection, token: &str) -> Result<Option<TaskId>, StoreError> {
    let query = sqlx::query("SELECT id FROM task_instance WHERE client_token = ?").bind(token);
    let row = query.fetch_optional(tx).await.map_err(unavailable)?;
    row.map(|row| Ok(TaskId(get(&row, "id")?))).transpose()
}

/// Exclusive locks clash with every other, shared ones with exclusive ones. Of several clashes the oldest task's is told.
async fn refuse_if_held(tx: &mut SqliteConnection, locks: &[Lock]) -> Result<(), StoreError> {
    for locks in locks.chunks(LOCKS_PER_STATEMENT) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT l.kind AS lock_kind, l.name AS lock_name, t.id, t.name FROM resource_lock l \
             JOIN task_instance t ON t.id = l.task_id WHERE ",
        );
        let mut clashes = query.separated(" OR ");
        for lock in locks {
            clashes.push("(l.kind = ").push_bind_unseparated(&*lock.kind);
            clashes
                .push_unseparated(" AND l.name = ")
                .push_bind_unseparated(&*lock.name);
            // Taken exclusively, any other lock is in the way.
            clashes.push_unseparated(if lock.exclusive { ")" } else { " AND l.exclusive = 1)" });
        }
        query.push(" ORDER BY t.id, l.kind, l.name LIMIT 1");
        let Some(row) = query.build().fetch_optional(&mut *tx).await.map_err(unavailable)? else {
            continue;
        };
        let (kind, name): (&str, &str) = (get(&row, "lock_kind")?, get(&row, "lock_name")?);
        let lock = locks.iter().find(|lock| lock.kind == kind && lock.name == name);
        return Err(StoreError::Locked {
            lock: lock
                .cloned()
                .ok_or_else(|| StoreError::Corrupt(format!("nobody asked for lock {kind} {name}")))?,
            task: TaskId(get(&row, "id")?),
            task_name: get(&row, "name")?,
        });
    }
    Ok(())
}

/// The first of `count` new ids. The row's lock makes others wait for this transaction, so ids ascend in commit order.
async fn allocate(tx: &mut SqliteConnection, name: &str, count: usize) -> Result<i64, StoreError> {
    let count = i64::try_from(count).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let take = sqlx::query("UPDATE id_sequence SET next_id = next_id + ? WHERE name = ?")
        .bind(count)
        .bind(name);
    if take.execute(&mut *tx).await.map_err(unavailable)?.rows_affected() != 1 {
        return Err(StoreError::Corrupt(format!("there is no id sequence {name:?}")));
    }
    let read = sqlx::query("SELECT next_id FROM id_sequence WHERE name = ?").bind(name);
    let next: i64 = get(&read.fetch_one(tx).await.map_err(unavailable)?, "next_id")?;
    Ok(next - count)
}

async fn insert_task(tx: &mut SqliteConnection, task: &Task) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO task_instance (id, rev, name, type, creator, executor, cluster_id, host_id, client_token, context, \
         state, operation, outcome, create_time, end_time) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    );
    let query = query
        .bind(task.id.0)
        .bind(task.rev)
        .bind(&task.name)
        .bind(task.task_type.as_str());
    let query = query
        .bind(&task.creator)
        .bind(&task.executor)
        .bind(task.cluster_id)
        .bind(task.host_id);
    let query = query
        .bind(&task.client_token)
        .bind(json(&task.context)?)
        .bind(task.status.as_str());
    let query = query
        .bind(task.operation.as_str())
        .bind(task.outcome.map(|outcome| outcome.as_str()));
    let query = query.bind(task.create_time).bind(task.end_time);
    query.execute(tx).await.map_err(unavailable)?;
    Ok(())
}

/// What subtasks have when they are new; the rest is empty.
async fn insert_subtasks(tx: &mut SqliteConnection, task: TaskId, rows: &[Arc<Subtask>]) -> Result<(), StoreError> {
    const INTO: &str = "INSERT INTO subtask_instance (id, task_id, series_id, spec, state, operation, run_time, epoch, \
                        crash_count, undo_tries, ready_from, ctx_delta, checkpoint) ";
    insert_rows(tx, INTO, rows, |values, row| {
        values
            .push_bind(row.id.0)
            .push_bind(task.0)
            .push_bind(i64::from(row.series_id))
            .push_bind(json(&row.spec)?)
            .push_bind(row.status.as_str())
            .push_bind(row.operation.as_str())
            .push_bind(i64::from(row.run_time))
            .push_bind(row.epoch)
            .push_bind(i64::from(row.crash_count))
            .push_bind(i64::from(row.undo_tries))
            .push_bind(row.ready_from.map(|status| status.as_str()))
            .push_bind(json(&row.delta)?)
            .push_bind(json(&row.checkpoint)?);
        Ok(())
    })
    .await
}

async fn insert_edges(tx: &mut SqliteConnection, state: &TaskState) -> Result<(), StoreError> {
    const INTO: &str = "INSERT INTO subtask_dependencies (task_id, parent_id, child_id) ";
    let edges: Vec<_> = state.graph.edges().collect();
    insert_rows(tx, INTO, &edges, |values, &(from, to)| {
        let (parent, child) = (state.subtasks[from].id, state.subtasks[to].id);
        values.push_bind(state.task.id.0).push_bind(parent.0).push_bind(child.0);
        Ok(())
    })
    .await
}

async fn insert_locks(tx: &mut SqliteConnection, task: &Task) -> Result<(), StoreError> {
    const INTO: &str = "INSERT INTO resource_lock (kind, name, task_id, exclusive) ";
    insert_rows(tx, INTO, &task.locks, |values, lock| {
        values
            .push_bind(lock.kind.clone())
            .push_bind(lock.name.clone())
            .push_bind(task.id.0)
            .push_bind(i64::from(lock.exclusive));
        Ok(())
    })
    .await
}
