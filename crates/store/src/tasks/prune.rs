//! Deleting the history of tasks that are over for good. It is rare: its statements are not kept prepared, of which a
//! connection has only so many.

use obfleet_engine::{Outcome, StoreError, SubtaskId, TaskStatus};

use super::codec::{get, unavailable};
use crate::sql::{self, Transaction};

/// What a task has in tables of its own, and the task itself last.
const DELETES: &[&str] = &[
    "DELETE FROM subtask_dependencies WHERE task_id = ?",
    "DELETE FROM subtask_instance WHERE task_id = ?",
    "DELETE FROM task_event WHERE task_id = ?",
    "DELETE FROM task_instance WHERE id = ?",
];

/// What was deleted, and which logs are to go after it.
pub(super) struct Pruned {
    pub tasks: u32,
    pub subtasks: Vec<SubtaskId>,
}

pub(super) async fn prune(tx: &mut Transaction, before_ms: i64, limit: u32) -> Result<Pruned, StoreError> {
    // Who prunes at the same time waits here, so that nothing is counted twice.
    count(tx, 0).await?;
    let query = sql::query(
        "SELECT id FROM task_instance WHERE end_time < ? AND (state = ? OR outcome = ? OR outcome = ?) \
         ORDER BY end_time, id LIMIT ?",
    )
    .once();
    let query = query.bind(before_ms).bind(TaskStatus::Successful.as_str());
    let query = query
        .bind(Outcome::Abandoned.as_str())
        .bind(Outcome::RolledBack.as_str());
    let query = query.bind(i64::from(limit));
    let tasks = query.fetch_all(&mut *tx).await.map_err(unavailable)?;
    let mut pruned = Pruned {
        tasks: 0,
        subtasks: Vec::new(),
    };
    for task in &tasks {
        let task: i64 = get(task, "id")?;
        let query = sql::query("SELECT id FROM subtask_instance WHERE task_id = ?")
            .once()
            .bind(task);
        for row in query.fetch_all(&mut *tx).await.map_err(unavailable)? {
            pruned.subtasks.push(SubtaskId(get(&row, "id")?));
        }
        for delete in DELETES {
            let query = sql::query(*delete).once().bind(task);
            query.execute(&mut *tx).await.map_err(unavailable)?;
        }
        pruned.tasks += 1;
    }
    count(tx, pruned.tasks).await?;
    Ok(pruned)
}

/// Counts tasks as deleted.
async fn count(tx: &mut Transaction, tasks: u32) -> Result<(), StoreError> {
    let query = sql::query("UPDATE id_sequence SET next_id = next_id + ? WHERE name = 'pruned_task'").once();
    query.bind(tasks).execute(tx).await.map(drop).map_err(unavailable)
}
