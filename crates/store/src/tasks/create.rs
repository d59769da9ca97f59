//! The creating transaction: ids, locks, first rows and events.

use obfleet_engine::core::{Draft, Env};
use obfleet_engine::state::{Subtask, Task};
use obfleet_engine::store::Created;
use obfleet_engine::{Lock, StoreError, SubtaskId, TaskId, TaskState};
use sqlx::SqliteConnection;

use super::codec::{get, json, unavailable};
use super::commit::insert_events;

pub(super) async fn create(tx: &mut SqliteConnection, draft: Draft, env: &Env) -> Result<Created, StoreError> {
    if let Some(token) = &draft.client_token
        && let Some(existing) = find_by_token(tx, token).await?
    {
        return Ok(Created::Existing(existing));
    }
    for lock in &draft.locks {
        refuse_if_held(tx, lock).await?;
    }
    let task = TaskId(allocate(tx, "task", 1).await?);
    let first = SubtaskId(allocate(tx, "subtask", draft.nodes.len()).await?);
    let (state, events) = draft
        .into_state(task, first, env)
        .map_err(|broken| StoreError::Corrupt(broken.to_string()))?;
    insert_task(tx, &state.task).await?;
    for subtask in &state.subtasks {
        insert_subtask(tx, task, subtask).await?;
    }
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

/// Exclusive locks clash with every other, shared ones with exclusive ones.
async fn refuse_if_held(tx: &mut SqliteConnection, lock: &Lock) -> Result<(), StoreError> {
    let query = sqlx::query(
        "SELECT t.id, t.name FROM resource_lock l JOIN task_instance t ON t.id = l.task_id \
         WHERE l.kind = ? AND l.name = ? AND (l.exclusive = 1 OR ? = 1) ORDER BY t.id LIMIT 1",
    );
    let query = query.bind(&lock.kind).bind(&lock.name).bind(i64::from(lock.exclusive));
    match query.fetch_optional(tx).await.map_err(unavailable)? {
        None => Ok(()),
        Some(row) => {
            let (task, task_name) = (TaskId(get(&row, "id")?), get(&row, "name")?);
            Err(StoreError::Locked {
                lock: lock.clone(),
                task,
                task_name,
            })
        }
    }
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

/// What a subtask has when it is new; the rest is empty.
async fn insert_subtask(tx: &mut SqliteConnection, task: TaskId, row: &Subtask) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO subtask_instance (id, task_id, series_id, spec, state, operation, run_time, epoch, crash_count, \
         undo_tries, ready_from, ctx_delta, checkpoint) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    );
    let query = query
        .bind(row.id.0)
        .bind(task.0)
        .bind(i64::from(row.series_id))
        .bind(json(&row.spec)?);
    let query = query
        .bind(row.status.as_str())
        .bind(row.operation.as_str())
        .bind(i64::from(row.run_time));
    let query = query
        .bind(row.epoch)
        .bind(i64::from(row.crash_count))
        .bind(i64::from(row.undo_tries));
    let query = query.bind(row.ready_from.map(|status| status.as_str()));
    let query = query.bind(json(&row.delta)?).bind(json(&row.checkpoint)?);
    query.execute(tx).await.map_err(unavailable)?;
    Ok(())
}

async fn insert_edges(tx: &mut SqliteConnection, state: &TaskState) -> Result<(), StoreError> {
    for (from, to) in state.graph.edges() {
        let (parent, child) = (state.subtasks[from].id, state.subtasks[to].id);
        let query = sqlx::query("INSERT INTO subtask_dependencies (task_id, parent_id, child_id) VALUES (?, ?, ?)");
        let query = query.bind(state.task.id.0).bind(parent.0).bind(child.0);
        query.execute(&mut *tx).await.map_err(unavailable)?;
    }
    Ok(())
}

async fn insert_locks(tx: &mut SqliteConnection, task: &Task) -> Result<(), StoreError> {
    for lock in &task.locks {
        let query = sqlx::query("INSERT INTO resource_lock (kind, name, task_id, exclusive) VALUES (?, ?, ?, ?)");
        let query = query
            .bind(&lock.kind)
            .bind(&lock.name)
            .bind(task.id.0)
            .bind(i64::from(lock.exclusive));
        query.execute(&mut *tx).await.map_err(unavailable)?;
    }
    Ok(())
}
