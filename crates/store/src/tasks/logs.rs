//! Attempts' logs.

use obfleet_engine::store::LogChunk;
use obfleet_engine::{StoreError, SubtaskId};

use super::codec::{get, log_chunk, unavailable};
use super::rows::inserts;
use crate::sql::{self, Pool, Transaction};

pub(super) async fn append(tx: &mut Transaction, chunks: &[LogChunk]) -> Result<(), StoreError> {
    let columns = [
        "subtask_id",
        "epoch",
        "seq",
        "task_id",
        "operation",
        "run_time",
        "at",
        "content",
    ];
    // A state database put back from a backup gives epochs out again: then the newer text stays.
    let inserts = inserts("REPLACE INTO subtask_log", columns, chunks, |chunk| {
        Ok([
            chunk.subtask.0.into(),
            chunk.epoch.into(),
            chunk.seq.into(),
            chunk.task.0.into(),
            chunk.operation.as_str().into(),
            chunk.run_time.into(),
            chunk.at.into(),
            (&chunk.text).into(),
        ])
    })?;
    tx.execute_all(inserts).await.map_err(unavailable)?;
    Ok(())
}

pub(super) async fn read(pool: &Pool, subtask: SubtaskId) -> Result<String, StoreError> {
    let query = sql::query("SELECT content FROM subtask_log WHERE subtask_id = ? ORDER BY epoch, seq");
    let rows = query.bind(subtask.0).fetch_all(pool).await.map_err(unavailable)?;
    let texts = rows
        .iter()
        .map(|row| get::<&str>(row, "content"))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(texts.join("\n"))
}

pub(super) async fn chunks(
    pool: &Pool,
    subtask: SubtaskId,
    after: Option<(i64, i64)>,
    limit: u32,
) -> Result<Vec<LogChunk>, StoreError> {
    let (epoch, seq) = after.unwrap_or((i64::MIN, i64::MIN));
    let query = sql::query(
        "SELECT * FROM subtask_log WHERE subtask_id = ? AND (epoch > ? OR (epoch = ? AND seq > ?)) \
         ORDER BY epoch, seq LIMIT ?",
    )
    .once();
    let query = query.bind(subtask.0).bind(epoch).bind(epoch).bind(seq);
    let rows = query
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await
        .map_err(unavailable)?;
    rows.iter().map(log_chunk).collect()
}

/// Deletes the logs of tasks that are gone.
pub(super) async fn delete(tx: &mut Transaction, subtasks: &[SubtaskId]) -> Result<(), StoreError> {
    for subtask in subtasks {
        let query = sql::query("DELETE FROM subtask_log WHERE subtask_id = ?")
            .once()
            .bind(subtask.0);
        query.execute(&mut *tx).await.map_err(unavailable)?;
    }
    Ok(())
}
