//! The creating transaction: ids, locks, first rows and events.

use std::sync::Arc;

use obfleet_engine::core::{Draft, Env};
use obfleet_engine::state::{Subtask, Task};
use obfleet_engine::store::Created;
use obfleet_engine::{Lock, Owner, StoreError, SubtaskId, TaskId, TaskState};

use super::codec::{get, json, unavailable};
use super::commit::insert_events;
use super::lease;
use super::rows::inserts;
use crate::sql::{self, Query, Transaction};

/// Locks looked for in one statement: well below any limit on bound values and on the depth of an expression.
const LOCKS_PER_STATEMENT: usize = 100;

/// Ids come first: taking them makes creating transactions wait for each other, so that each sees the locks and tokens of
/// those before it.
pub(super) async fn create(tx: &mut Transaction, draft: Draft, env: &Env, nonce: i64) -> Result<Created, StoreError> {
    let (task, first_subtask) = allocate(tx, draft.nodes.len(), &env.owner).await?;
    if let Some(token) = &draft.client_token
        && let Some(existing) = find_by_token(tx, token).await?
    {
        return Ok(Created::Existing(existing));
    }
    refuse_if_held(tx, &draft.locks).await?;
    let (state, events) = draft
        .into_state(task, first_subtask, env)
        .map_err(|broken| StoreError::Corrupt(broken.to_string()))?;
    let mut inserts = vec![insert_task(&state.task)?];
    inserts.extend(insert_subtasks(task, &state.subtasks)?);
    let edges: Vec<_> = state.graph.edges().collect();
    inserts.extend(insert_edges(&state, &edges)?);
    inserts.extend(insert_locks(&state.task)?);
    inserts.extend(insert_events(task, &events, nonce)?);
    tx.execute_all(inserts).await.map_err(unavailable)?;
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

/// Ids for a task and its subtasks, the first of these. The rows' locks make others wait for this transaction, so ids ascend
/// in commit order. With nothing left to wait for, the owner still has to have its lease.
async fn allocate(tx: &mut Transaction, subtasks: usize, owner: &Owner) -> Result<(TaskId, SubtaskId), StoreError> {
    let subtasks = i64::try_from(subtasks).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    // One that may wait is a message of its own: on OceanBase those that waited within longer ones held up even the
    // transaction that they waited for.
    let take = sql::query(
        "UPDATE id_sequence SET next_id = next_id + CASE name WHEN 'task' THEN 1 ELSE ? END WHERE name IN ('task', 'subtask')",
    );
    if take.bind(subtasks).execute(&mut *tx).await.map_err(unavailable)? != 2 {
        return Err(StoreError::Corrupt("an id sequence is missing".to_owned()));
    }
    let is_leased = lease::is_leased(tx.dialect());
    let read = sql::composed(format!(
        "SELECT t.next_id AS task, s.next_id AS subtask, CASE WHEN {is_leased} THEN 1 ELSE 0 END AS leased \
         FROM id_sequence t, id_sequence s WHERE t.name = 'task' AND s.name = 'subtask'"
    ));
    let read = lease::bind_owner(read, owner)
        .fetch_one(tx)
        .await
        .map_err(unavailable)?;
    if get::<i64>(&read, "leased")? == 0 {
        return Err(StoreError::LeaseLost);
    }
    let (next_task, next_subtask): (i64, i64) = (get(&read, "task")?, get(&read, "subtask")?);
    Ok((TaskId(next_task - 1), SubtaskId(next_subtask - subtasks)))
}

fn insert_task(task: &Task) -> Result<Query<'_>, StoreError> {
    let query = sql::query(
        "INSERT INTO task_instance (id, rev, name, type, creator, executor, cluster_id, host_id, client_token, \
         request_digest, context, state, operation, outcome, halt, undo_on_failure, create_time, end_time) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
        .bind(task.halt.map(|halt| halt.as_str()))
        .bind(task.undo_on_failure);
    Ok(query.bind(task.create_time).bind(task.end_time))
}

/// What subtasks have when they are new; the rest is empty.
fn insert_subtasks(task: TaskId, rows: &[Arc<Subtask>]) -> Result<Vec<Query<'_>>, StoreError> {
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
    inserts("INSERT INTO subtask_instance", columns, rows, |row| {
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
}

fn insert_edges<'e>(state: &TaskState, edges: &'e [(usize, usize)]) -> Result<Vec<Query<'e>>, StoreError> {
    let columns = ["task_id", "parent_id", "child_id"];
    inserts("INSERT INTO subtask_dependencies", columns, edges, |&(from, to)| {
        let (parent, child) = (state.subtasks[from].id, state.subtasks[to].id);
        Ok([state.task.id.0.into(), parent.0.into(), child.0.into()])
    })
}

fn insert_locks(task: &Task) -> Result<Vec<Query<'_>>, StoreError> {
    let columns = ["kind", "name", "task_id", "exclusive"];
    inserts("INSERT INTO resource_lock", columns, &task.locks, |lock| {
        Ok([
            (&lock.kind).into(),
            (&lock.name).into(),
            task.id.0.into(),
            i64::from(lock.exclusive).into(),
        ])
    })
}
