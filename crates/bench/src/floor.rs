//! The floor under a hop: a bare transaction of the same size.
//!
//! One hop of the engine changes the task's row by a compare-and-set, the row of the step that ended and the row of the
//! step that begins, and adds three events. The same statements, already prepared, on tables of the same shape, with
//! nothing around them, take what the disk and the database take: whatever a hop takes beyond that is ours.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqlStr};

use crate::sample::Sample;

const TABLES: [&str; 3] = [
    "CREATE TABLE bare_task (id BIGINT NOT NULL PRIMARY KEY, rev BIGINT NOT NULL, context TEXT NOT NULL, \
     state VARCHAR(16) NOT NULL)",
    "CREATE TABLE bare_subtask (id BIGINT NOT NULL PRIMARY KEY, spec TEXT NOT NULL, state VARCHAR(16) NOT NULL, \
     epoch BIGINT NOT NULL, owner VARCHAR(64), ctx_delta TEXT NOT NULL)",
    "CREATE TABLE bare_event (task_id BIGINT NOT NULL, seq BIGINT NOT NULL, at BIGINT NOT NULL, \
     kind VARCHAR(32) NOT NULL, subtask_id BIGINT, server VARCHAR(64) NOT NULL, incarnation VARCHAR(64) NOT NULL, \
     payload TEXT NOT NULL, PRIMARY KEY (task_id, seq))",
];

const FIRST_TASK: &str = "INSERT INTO bare_task (id, rev, context, state) VALUES (1, 0, ?, 'RUNNING')";
const FIRST_SUBTASK: &str =
    "INSERT INTO bare_subtask (id, spec, state, epoch, owner, ctx_delta) VALUES (?, ?, 'READY', 0, NULL, '{}')";
const CAS: &str = "UPDATE bare_task SET rev = rev + 3, state = ? WHERE id = 1 AND rev = ?";
const SUBTASK: &str = "UPDATE bare_subtask SET state = ?, epoch = ?, owner = ?, ctx_delta = ? WHERE id = ?";
const EVENTS: &str = "INSERT INTO bare_event (task_id, seq, at, kind, subtask_id, server, incarnation, payload) VALUES \
     (1, ?, ?, 'SUB_SUCCEEDED', ?, ?, ?, ?), (1, ?, ?, 'SUB_READY', ?, ?, ?, ?), (1, ?, ?, 'SUB_CLAIMED', ?, ?, ?, ?)";

/// Rows of steps that take turns.
const SUBTASKS: i64 = 8;
/// A frozen step has about as much text.
const SPEC_BYTES: usize = 300;
const SERVER: &str = "127.0.0.1";
const INCARNATION: &str = "0123456789abcdef0123456789abcdef";
const PAYLOAD: &str = r#"{"kind":"SUB_CLAIMED","subtask":12345,"epoch":1,"owner":{"server":"127.0.0.1","incarnation":"0123456789abcdef0123456789abcdef"},"deadlineAt":1700000000000}"#;

/// One connection that does bare transactions.
pub struct Bare {
    connection: SqliteConnection,
    rev: i64,
}

impl Bare {
    /// On a file of its own, with the settings of the state database: write-ahead log, every commit flushed.
    pub async fn sqlite(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let mut connection = options
            .connect()
            .await
            .with_context(|| format!("{} cannot be opened", path.display()))?;
        for table in TABLES {
            sqlx::query(SqlStr::from_static(table)).execute(&mut connection).await?;
        }
        let spec = "x".repeat(SPEC_BYTES);
        sqlx::query(FIRST_TASK).bind(&spec).execute(&mut connection).await?;
        for id in 0..SUBTASKS {
            sqlx::query(FIRST_SUBTASK)
                .bind(id)
                .bind(&spec)
                .execute(&mut connection)
                .await?;
        }
        Ok(Self { connection, rev: 0 })
    }

    /// How long `count` transactions take, one after the other.
    pub async fn sample(&mut self, count: usize) -> Result<Sample> {
        let mut sample = Sample::default();
        for _ in 0..count {
            let begun = Instant::now();
            self.one().await?;
            sample.push(begun.elapsed());
        }
        Ok(sample)
    }

    async fn one(&mut self) -> Result<()> {
        let mut tx = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        let changed = sqlx::query(CAS)
            .bind("RUNNING")
            .bind(self.rev)
            .execute(&mut *tx)
            .await?;
        ensure!(
            changed.rows_affected() == 1,
            "somebody else has written into the bare tables"
        );
        let (ended, begun) = (self.rev % SUBTASKS, (self.rev + 3) % SUBTASKS);
        for (id, state, owner) in [(ended, "SUCCESSFUL", None), (begun, "RUNNING", Some(INCARNATION))] {
            let update = sqlx::query(SUBTASK)
                .bind(state)
                .bind(self.rev)
                .bind(owner)
                .bind("{}")
                .bind(id);
            update.execute(&mut *tx).await?;
        }
        let mut events = sqlx::query(EVENTS);
        for (seq, subtask) in [(1, ended), (2, begun), (3, begun)] {
            events = events
                .bind(self.rev + seq)
                .bind(1_700_000_000_000 + self.rev)
                .bind(subtask);
            events = events.bind(SERVER).bind(INCARNATION).bind(PAYLOAD);
        }
        events.execute(&mut *tx).await?;
        tx.commit().await?;
        self.rev += 3;
        Ok(())
    }

    /// Closes the file.
    pub async fn close(self) -> Result<()> {
        Ok(self.connection.close().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_bare_transaction_moves_the_task_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut bare = Bare::sqlite(&dir.path().join("bare.db")).await.unwrap();
        bare.sample(SUBTASKS as usize + 1).await.unwrap();
        let (events,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM bare_event")
            .fetch_one(&mut bare.connection)
            .await
            .unwrap();
        assert_eq!((bare.rev, events), (27, 27));
        bare.close().await.unwrap();
    }
}
