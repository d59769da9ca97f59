//! The creating transaction: ids, locks, first rows and events.

use std::sync::Arc;

use obfleet_engine::core::{Draft, Env};
use obfleet_engine::state::{Subtask, Task};
use obfleet_engine::store::Created;
use obfleet_engine::{Lock, StoreError, SubtaskId, TaskId, TaskState};

use super::codec::{get, json, unavailable};
use super::commit::insert_events;
use super::lease;
use super::rows::insert_rows;
use crate::sql::{self, Transaction};

/// Locks looked for in one statement: well below any limit on bound values and on the depth of an expression.
const LOCKS_PER_STATEMENT: usize = 100;

/// Ids come first: taking them makes creating transactions wait for each other, so that each sees the locks and tokens of
/// those before it.
pub(super) async fn create(tx: &mut Transaction, draft: Draft, env: &Env, nonce: i64) -> Result<Created, StoreError> {
    let task = TaskId(allocate(tx, "task", 1).await?);
    // Now that nothing is left to wait for.
    lease::test(tx, &env.owner).await?;
    if let Some(token) = &draft.client_token
        && let Some(existing) = find_by_token(tx, token).await?
    {
        return Ok(Created::Existing(existing));
    }
    refuse_if_held(tx, &draft.locks).await?;
    let first = SubtaskId(allocate(tx, "subtask", draft.nodes.len()).await?);
    let (state, events) = draft
        .into_state(task, first, env)
        .map_err(|broken| StoreError::Corrupt(broken.to_string()))?;
    insert_task(tx, &state.task).await?;
    insert_subtasks(tx, task, &state.subtasks).await?;
    insert_edges(tx, &state).await?;
    insert_locks(tx, &state.task).await?;
    insert_events(tx, task, &events, nonce).await?;
    Ok(Created::New(Box::new(state), events))
}

pub(super) async fn find_by_token(tx: &mut Transaction, token: &str) -> Result<Option<TaskId>, StoreError> {
    let query = sql::query("SELECT id FROM task_instance WHERE client_token = ?").bind(token);
    let row = query.fetch_optional(tx).await.map_err(unavailable)?;
    row.map(|row| Ok(TaskId(get(&row, "id")?))).transpose()
}

/// Exclusive locks clash with every other, shared ones with exclusive ones. Of several clashes the oldest task's is told.
async fn refuse_if_held(tx: &mut Transaction, locks: &[Lock]) -> Result<(), StoreError> {
    for locks in locks.chunks(LOCKS_PER_STATEMENT) {
        let clashes = locks.iter().map(|lock| match lock.exclusive {
            // Any other lock is in the way.
            true => "(l.kind = ? AND l.name = ?)",
            false => "(l.kind = ? AND l.name = ? AND l.exclusive = 1)",
        });
        let clashes = clashes.collect::<Vec<_>>().join(" OR ");
        let query = sql::composed(format!(
            "SELECT l.kind AS lock_kind, l.name AS lock_name, t.id, t.name FROM resource_lock l \
             JOIN task_instance t ON t.id = l.task_id WHERE {clashes} ORDER BY t.id, l.kind, l.name LIMIT 1"
        ));
        let query = locks
            .iter()
            .fold(query, |query, lock| query.bind(&lock.kind).bind(&lock.name));
        let Some(row) = query.fetch_optional(&mut *tx).await.map_err(unavailable)? else {
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
async fn allocate(tx: &mut Transaction, name: &str, count: usize) -> Result<i64, StoreError> {
    let count = i64::try_from(count).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let take = sql::query("UPDATE id_sequence SET next_id = next_id + ? WHERE name = ?")
        .bind(count)
        .bind(name);
    if take.execute(&mut *tx).await.map_err(unavailable)? != 1 {
        return Err(StoreError::Corrupt(format!("there is no id sequence {name:?}")));
    }
    let read = sql::query("SELECT next_id FROM id_sequence WHERE name = ?").bind(name);
    let next: i64 = get(&read.fetch_one(tx).await.map_err(unavailable)?, "next_id")?;
    Ok(next - count)
}

async fn insert_task(tx: &mut Transaction, task: &Task) -> Result<(), StoreError> {
    let query = sql::query(
        "INSERT INTO task_instance (id, rev, name, type, creator, executor, cluster_id, host_id, client_token, \
         request_digest, context, state, operation, outcome, halt, create_time, end_time) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
        .bind(&task.request_digest)
        .bind(json(&task.context)?)
        .bind(task.status.as_str());
    let query = query
        .bind(task.operation.as_str())
        .bind(task.outcome.map(|outcome| outcome.as_str()))
        .bind(task.halt.map(|halt| halt.as_str()));
    let query = query.bind(task.create_time).bind(task.end_time);
    query.execute(tx).await.map_err(unavailable)?;
    Ok(())
}

/// What subtasks have when they are new; the rest is empty.
async fn insert_subtasks(tx: &mut Transaction, task: TaskId, rows: &[Arc<Subtask>]) -> Result<(), StoreError> {
    let columns = [
        "id",
        "task_id",
        "series_id",
        "spec",
        "state",
        "operation",
        "run_time",
        "epoch",
        "crash_count",
        "undo_tries",
        "ready_from",
        "ctx_delta",
        "checkpoint",
    ];
    insert_rows(tx, "subtask_instance", columns, rows, |row| {
        Ok([
            row.id.0.into(),
            task.0.into(),
            row.series_id.into(),
            json(&row.spec)?.into(),
            row.status.as_str().into(),
            row.operation.as_str().into(),
            row.run_time.into(),
            row.epoch.into(),
            row.crash_count.into(),
            row.undo_tries.into(),
            row.ready_from.map(|status| status.as_str()).into(),
            json(&row.delta)?.into(),
            json(&row.checkpoint)?.into(),
        ])
    })
    .await
}

async fn insert_edges(tx: &mut Transaction, state: &TaskState) -> Result<(), StoreError> {
    let columns = ["task_id", "parent_id", "child_id"];
    let edges: Vec<_> = state.graph.edges().collect();
    insert_rows(tx, "subtask_dependencies", columns, &edges, |&(from, to)| {
        let (parent, child) = (state.subtasks[from].id, state.subtasks[to].id);
        Ok([state.task.id.0.into(), parent.0.into(), child.0.into()])
    })
    .await
}

async fn insert_locks(tx: &mut Transaction, task: &Task) -> Result<(), StoreError> {
    let columns = ["kind", "name", "task_id", "exclusive"];
    insert_rows(tx, "resource_lock", columns, &task.locks, |lock| {
        Ok([
            (&lock.kind).into(),
            (&lock.name).into(),
            task.id.0.into(),
            i64::from(lock.exclusive).into(),
        ])
    })
    .await
}
