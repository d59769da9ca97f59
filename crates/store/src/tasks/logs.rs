//! Attempts' logs.

use obfleet_engine::store::LogChunk;
use obfleet_engine::{StoreError, SubtaskId};

use super::codec::{get, log_chunk, unavailable};
use crate::sql::{self, Pool, Transaction};

pub(super) async fn append(tx: &mut Transaction, chunks: &[LogChunk]) -> Result<(), StoreError> {
    for chunk in chunks {
        // A state database put back from a backup gives epochs out again: then the newer text stays.
        let query = sql::query(
            "REPLACE INTO subtask_log (subtask_id, epoch, seq, task_id, operation, run_time, at, content) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        );
        let query = query
            .bind(chunk.subtask.0)
            .bind(chunk.epoch)
            .bind(chunk.seq)
            .bind(chunk.task.0);
        let query = query.bind(chunk.operation.as_str()).bind(i64::from(chunk.run_time));
        query
            .bind(chunk.at)
            .bind(&chunk.text)
            .execute(&mut *tx)
            .await
            .map_err(unavailable)?;
    }
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
