//! The floor under a hop: a bare transaction of the same size.
//!
//! One hop of the engine changes the task's row by a compare-and-set, the row of the step that ended and the row of the
//! step that begins, and adds three events. The same statements, already prepared, on tables of the same shape, with
//! nothing around them, take what the disk and the database take: whatever a hop takes beyond that is ours.

use std::time::Instant;

use anyhow::{Result, ensure};
use obfleet_store::Database;
use obfleet_store::sql::{self, Connection};

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

/// Does bare transactions.
pub struct Bare {
    database: Database,
    /// The one that all use: nobody tests it or hands it over between them.
    connection: Option<Connection>,
    rev: i64,
}

impl Bare {
    /// Puts its tables into a database of its own, which has the settings of the state database.
    pub async fn new(database: Database) -> Result<Self> {
        for table in TABLES {
            sql::query(table).execute(database.writer()).await?;
        }
        let spec = "x".repeat(SPEC_BYTES);
        sql::query(FIRST_TASK).bind(&spec).execute(database.writer()).await?;
        for id in 0..SUBTASKS {
            let insert = sql::query(FIRST_SUBTASK).bind(id).bind(&spec);
            insert.execute(database.writer()).await?;
        }
        Ok(Self {
            database,
            connection: None,
            rev: 0,
        })
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
        let writer = self.database.writer();
        let mut tx = match self.connection.take() {
            Some(connection) => writer.write_on(connection),
            None => writer.write().await?,
        };
        let changed = sql::query(CAS).bind("RUNNING").bind(self.rev).execute(&mut tx).await?;
        ensure!(changed == 1, "somebody else has written into the bare tables");
        let (ended, begun) = (self.rev % SUBTASKS, (self.rev + 3) % SUBTASKS);
        for (id, state, owner) in [(ended, "SUCCESSFUL", None), (begun, "RUNNING", Some(INCARNATION))] {
            let update = sql::query(SUBTASK).bind(state).bind(self.rev).bind(owner);
            update.bind("{}").bind(id).execute(&mut tx).await?;
        }
        let mut events = sql::query(EVENTS);
        for (seq, subtask) in [(1, ended), (2, begun), (3, begun)] {
            events = events
                .bind(self.rev + seq)
                .bind(1_700_000_000_000 + self.rev)
                .bind(subtask);
            events = events.bind(SERVER).bind(INCARNATION).bind(PAYLOAD);
        }
        events.execute(&mut tx).await?;
        self.connection = tx.commit_and_keep().await?;
        self.rev += 3;
        Ok(())
    }

    /// Closes the database.
    pub async fn close(self) {
        drop(self.connection);
        self.database.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_bare_transaction_moves_the_task_on() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("bare.db")).await.unwrap();
        let mut bare = Bare::new(database.clone()).await.unwrap();
        bare.sample(SUBTASKS as usize + 1).await.unwrap();
        let count = sql::query("SELECT COUNT(*) AS events FROM bare_event").fetch_one(database.readers());
        let events: i64 = count.await.unwrap().get("events").unwrap();
        assert_eq!((bare.rev, events), (27, 27));
        bare.close().await;
    }
}
