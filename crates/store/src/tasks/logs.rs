//! Attempts' logs.

use obfleet_engine::store::LogChunk;
use obfleet_engine::{StoreError, SubtaskId};

use super::codec::{get, unavailable};
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
