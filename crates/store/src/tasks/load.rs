//! Reading whole tasks, and their events.

use std::collections::HashMap;
use std::sync::Arc;

use obfleet_engine::core::Event;
use obfleet_engine::state::{Graph, Subtask, Task};
use obfleet_engine::store::RunningTasks;
use obfleet_engine::{Lock, StoreError, TaskId, TaskState, TaskStatus};

use super::codec::{event, get, subtask, task, unavailable};
use crate::sql::{self, Row, Transaction};

/// Tasks whose parts are read in one statement: well below any limit on bound values.
const TASKS_PER_STATEMENT: usize = 500;

pub(super) async fn one(tx: &mut Transaction, id: TaskId) -> Result<Option<TaskState>, StoreError> {
    let query = sql::query("SELECT * FROM task_instance WHERE id = ?").bind(id.0);
    let row = query.fetch_optional(&mut *tx).await.map_err(unavailable)?;
    Ok(whole(tx, row.as_slice()).await?.pop())
}

/// A task and all its events, as they are at the moment of the transaction.
pub(crate) async fn with_events(
    tx: &mut Transaction,
    id: TaskId,
) -> Result<Option<(TaskState, Vec<Event>)>, StoreError> {
    match one(tx, id).await? {
        Some(state) => Ok(Some((state, events(tx, id, 0, u32::MAX).await?))),
        None => Ok(None),
    }
}

pub(super) async fn running(tx: &mut Transaction) -> Result<RunningTasks, StoreError> {
    let query = sql::query("SELECT * FROM task_instance WHERE state = ? ORDER BY id");
    let rows = query
        .bind(TaskStatus::Running.as_str())
        .fetch_all(&mut *tx)
        .await
        .map_err(unavailable)?;
    readable(tx, &rows).await
}

/// Whole tasks like [`whole`], of which one that cannot be read does not keep the others from being read.
pub(super) async fn readable(tx: &mut Transaction, rows: &[Row]) -> Result<RunningTasks, StoreError> {
    let mut running = RunningTasks::default();
    match whole(tx, rows).await {
        Err(StoreError::Corrupt(_)) => {}
        Err(error) => return Err(error),
        Ok(tasks) => {
            running.tasks = tasks;
            return Ok(running);
        }
    }
    for row in rows {
        match whole(tx, std::slice::from_ref(row)).await {
            Ok(tasks) => running.tasks.extend(tasks),
            Err(StoreError::Corrupt(reason)) => running.unreadable.push((TaskId(get(row, "id")?), reason)),
            Err(error) => return Err(error),
        }
    }
    Ok(running)
}

pub(super) async fn events(
    tx: &mut Transaction,
    task: TaskId,
    after: i64,
    limit: u32,
) -> Result<Vec<Event>, StoreError> {
    let query = sql::query(
        "SELECT seq, at, server, incarnation, payload FROM task_event WHERE task_id = ? AND seq > ? ORDER BY seq LIMIT ?",
    );
    let rows = query
        .bind(task.0)
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(tx)
        .await
        .map_err(unavailable)?;
    rows.iter().map(event).collect()
}

/// Adds subtasks, edges and locks to task rows; keeps their order.
pub(super) async fn whole(tx: &mut Transaction, rows: &[Row]) -> Result<Vec<TaskState>, StoreError> {
    let mut states = Vec::with_capacity(rows.len());
    for rows in rows.chunks(TASKS_PER_STATEMENT) {
        let tasks = rows.iter().map(task).collect::<Result<Vec<_>, _>>()?;
        let mut subtasks = subtasks_of(tx, &tasks).await?;
        let mut edges = edges_of(tx, &tasks).await?;
        let mut locks = locks_of(tx, &tasks).await?;
        for mut task in tasks {
            let id = task.id;
            task.locks = locks.remove(&id).unwrap_or_default();
            task.locks.sort_unstable();
            let subtasks = subtasks.remove(&id).unwrap_or_default();
            states.push(assemble(task, subtasks, &edges.remove(&id).unwrap_or_default())?);
        }
    }
    Ok(states)
}

fn assemble(task: Task, subtasks: Vec<Arc<Subtask>>, edges: &[(i64, i64)]) -> Result<TaskState, StoreError> {
    let damaged = || StoreError::Corrupt(format!("the graph of task {} is damaged", task.id));
    // Ids ascend with the series, so an id's place is its index.
    let index_of = |id: i64| {
        subtasks
            .binary_search_by_key(&id, |subtask| subtask.id.0)
            .map_err(|_| damaged())
    };
    let in_series = subtasks
        .iter()
        .enumerate()
        .all(|(index, subtask)| subtask.series_id as usize == index);
    if subtasks.is_empty() || !in_series {
        return Err(damaged());
    }
    let edges = edges
        .iter()
        .map(|&(parent, child)| Ok((index_of(parent)?, index_of(child)?)));
    let edges = edges.collect::<Result<Vec<_>, StoreError>>()?;
    let graph = Graph::new(subtasks.len(), &edges).ok_or_else(damaged)?;
    Ok(TaskState {
        task,
        subtasks,
        graph: Arc::new(graph),
    })
}

/// `<select> WHERE task_id IN (…) <order>`
async fn rows_of(tx: &mut Transaction, select: &str, tasks: &[Task], order: &str) -> Result<Vec<Row>, StoreError> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let query = sql::composed(format!(
        "{select} WHERE task_id IN ({}) ORDER BY {order}",
        sql::marks(tasks.len())
    ));
    let query = tasks.iter().fold(query, |query, task| query.bind(task.id.0));
    query.fetch_all(tx).await.map_err(unavailable)
}

async fn subtasks_of(tx: &mut Transaction, tasks: &[Task]) -> Result<HashMap<TaskId, Vec<Arc<Subtask>>>, StoreError> {
    let mut found: HashMap<_, Vec<_>> = HashMap::new();
    for row in rows_of(tx, "SELECT * FROM subtask_instance", tasks, "task_id, series_id").await? {
        let (task, subtask) = subtask(&row)?;
        found.entry(task).or_default().push(subtask);
    }
    Ok(found)
}

async fn edges_of(tx: &mut Transaction, tasks: &[Task]) -> Result<HashMap<TaskId, Vec<(i64, i64)>>, StoreError> {
    let mut found: HashMap<_, Vec<_>> = HashMap::new();
    for row in rows_of(
        tx,
        "SELECT * FROM subtask_dependencies",
        tasks,
        "task_id, parent_id, child_id",
    )
    .await?
    {
        let edge = (get(&row, "parent_id")?, get(&row, "child_id")?);
        found.entry(TaskId(get(&row, "task_id")?)).or_default().push(edge);
    }
    Ok(found)
}

async fn locks_of(tx: &mut Transaction, tasks: &[Task]) -> Result<HashMap<TaskId, Vec<Lock>>, StoreError> {
    let mut found: HashMap<_, Vec<_>> = HashMap::new();
    for row in rows_of(tx, "SELECT * FROM resource_lock", tasks, "task_id").await? {
        let exclusive: i64 = get(&row, "exclusive")?;
        let lock = Lock {
            kind: get(&row, "kind")?,
            name: get(&row, "name")?,
            exclusive: exclusive != 0,
        };
        found.entry(TaskId(get(&row, "task_id")?)).or_default().push(lock);
    }
    Ok(found)
}
