//! Steps of different tasks that wait for the database at the same time become durable together.
//!
//! Every commit waits for the disk, and every message to a database has its price. While one group is written the next one
//! gathers; nobody waits for company. A group is all or nothing: when anything in it is not as it has to be, it is rolled
//! back, and each of its steps is made in a transaction of its own, which finds out what was wrong with it.

use std::sync::Arc;

use obfleet_engine::StoreError;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::codec::unavailable;
use super::commit::Statements;
use crate::sql::{self, Dialect, Pool, Query, Transaction};

/// Most steps of one group: a failure costs them all a second try.
const MOST: usize = 64;

/// Groups that a server is sent at a time: it reads the statements of one while another waits for its disk.
const GROUPS_AT_A_TIME: usize = 2;

/// What became of a step in its group.
pub(super) enum Verdict {
    /// It is durable.
    Done,
    /// Nothing has happened; make it alone.
    Alone,
    /// Whether it has happened is unknown.
    Unknown(StoreError),
}

/// The way to those who write groups, who end when this and every step on its way are gone.
pub(super) struct Groups {
    steps: mpsc::UnboundedSender<Step>,
}

struct Step {
    queries: Vec<Query<'static>>,
    of_one_row: usize,
    told: oneshot::Sender<Verdict>,
}

impl Groups {
    pub fn start(writer: Pool) -> Self {
        let (steps, waiting) = mpsc::unbounded_channel();
        let waiting = Arc::new(Mutex::new(waiting));
        let at_a_time = match writer.dialect() {
            Dialect::Sqlite => 1,
            Dialect::MySql => GROUPS_AT_A_TIME,
        };
        for _ in 0..at_a_time {
            tokio::spawn(write_groups(writer.clone(), Arc::clone(&waiting)));
        }
        Self { steps }
    }

    /// Makes a step together with others.
    pub async fn join(&self, statements: Statements<'_>) -> Verdict {
        let (told, verdict) = oneshot::channel();
        let step = Step {
            queries: statements.queries.into_iter().map(Query::into_owned).collect(),
            of_one_row: statements.of_one_row,
            told,
        };
        if self.steps.send(step).is_err() {
            return Verdict::Alone;
        }
        // The writer of groups tells everybody, unless the runtime is going down.
        let gone = |_| Verdict::Unknown(unavailable(sqlx::Error::WorkerCrashed));
        verdict.await.unwrap_or_else(gone)
    }
}

async fn write_groups(writer: Pool, waiting: Arc<Mutex<mpsc::UnboundedReceiver<Step>>>) {
    loop {
        let mut group = Vec::new();
        if waiting.lock().await.recv_many(&mut group, MOST).await == 0 {
            return;
        }
        let (steps, told): (Vec<_>, Vec<_>) = group
            .into_iter()
            .map(|step| ((step.queries, step.of_one_row), step.told))
            .unzip();
        let committed = match write(&writer, steps).await {
            Some(tx) => Some(tx.commit().await),
            None => None,
        };
        for told in told {
            let verdict = match &committed {
                None => Verdict::Alone,
                Some(Err(error)) if sql::was_in_the_way(error) => Verdict::Alone,
                Some(Ok(())) => Verdict::Done,
                Some(Err(error)) => Verdict::Unknown(StoreError::Unavailable(error.to_string().into())),
            };
            // Whoever wanted it may have gone.
            let _: Result<_, _> = told.send(verdict);
        }
    }
}

/// All steps in one transaction, or `None` if one of them could not be made.
async fn write(writer: &Pool, steps: Vec<(Vec<Query<'static>>, usize)>) -> Option<Transaction> {
    let mut tx = writer.write().await.ok()?;
    let of_one_row: Vec<_> = steps.iter().map(|(queries, count)| (queries.len(), *count)).collect();
    let steps = steps.into_iter().map(|(queries, _)| queries).collect();
    let mut changed = &*tx.execute_batches(steps).await.ok()?;
    for (queries, of_one_row) in of_one_row {
        let (step, rest) = changed.split_at_checked(queries)?;
        if step.iter().take(of_one_row).any(|&rows| rows != 1) {
            return None;
        }
        changed = rest;
    }
    Some(tx)
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, future::join_all};

    use super::*;
    use crate::Database;

    /// Adds one to the counters with these ids, and says how many of those there must be.
    fn steps<'q>(ids: &[i64]) -> Vec<Statements<'q>> {
        let step = |id: &i64| Statements {
            queries: vec![
                sql::query("UPDATE counter SET value = value + 1 WHERE id = ?").bind(*id),
                sql::query("DELETE FROM counter WHERE id = ? AND value < 0").bind(*id),
            ],
            of_one_row: 1,
        };
        ids.iter().map(step).collect()
    }

    async fn values(database: &Database) -> Vec<i64> {
        let rows = sql::query("SELECT value FROM counter ORDER BY id").fetch_all(database.writer());
        rows.await
            .unwrap()
            .iter()
            .map(|row| row.get("value").unwrap())
            .collect()
    }

    #[tokio::test]
    async fn a_group_is_all_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("state.db")).await.unwrap();
        for text in [
            "CREATE TABLE counter (id BIGINT NOT NULL PRIMARY KEY, value BIGINT NOT NULL)",
            "INSERT INTO counter (id, value) VALUES (1, 0), (2, 0), (3, 0)",
        ] {
            sql::query(text).execute(database.writer()).await.unwrap();
        }
        let groups = Groups::start(database.writer().clone());
        // The writer of groups runs in this thread: it sees nothing before all have joined.
        let joined = async |ids: &[i64]| join_all(steps(ids).into_iter().map(|step| groups.join(step))).await;

        let verdicts = joined(&[1, 2, 3]).await;
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Done)));
        assert_eq!(values(&database).await, [1, 1, 1]);

        // There is no fourth: nobody is done, wherever it stood.
        let verdicts = joined(&[1, 4, 3]).await;
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Alone)));
        assert_eq!(values(&database).await, [1, 1, 1]);

        // One that goes away does not take the others with it.
        assert!(joined(&[2]).now_or_never().is_none());
        assert!(matches!(joined(&[3]).await[..], [Verdict::Done]));
        assert_eq!(values(&database).await, [1, 2, 2]);
    }
}
