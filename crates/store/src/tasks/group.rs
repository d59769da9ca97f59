//! Steps of different tasks that wait for the database at the same time become durable together.
//!
//! Every commit waits for the disk, and every message to a database has its price. While one group is written the next one
//! gathers; nobody waits for company. A group is all or nothing: when a step in it is not as it has to be, the group is rolled
//! back and written without that step, which is made in a transaction of its own, to find out what was wrong with it.

use std::time::Duration;

use obfleet_engine::StoreError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::codec::unavailable;
use super::commit::Statements;
use crate::sql::{self, Connection, Dialect, Pool, Query, Transaction};

/// Most steps of one group.
const MOST: usize = 64;

/// Steps that may drop out of a group before all of it is made one by one.
const DROPOUTS: usize = 4;

/// How long a connection to a server is kept for the next group: whatever goes back to the pool is tested there.
const KEPT: Duration = Duration::from_millis(500);

/// What became of a step in its group.
pub(super) enum Verdict {
    /// It is durable.
    Done,
    /// Nothing has happened; make it alone.
    Alone,
    /// Whether it has happened is unknown.
    Unknown(StoreError),
}

/// The way to the one who writes groups, who ends when this and every step on its way are gone.
pub(super) struct Groups {
    steps: mpsc::UnboundedSender<Step>,
}

struct Step {
    queries: Vec<Query<'static>>,
    of_one_row: usize,
    told: oneshot::Sender<Verdict>,
}

impl Step {
    fn tell(self, verdict: Verdict) {
        // Whoever wanted it may have gone.
        let _: Result<_, _> = self.told.send(verdict);
    }

    /// Whether its statements, of which these are the answers, did what they had to.
    fn is_made_by(&self, changed: &[u64]) -> bool {
        changed.len() == self.queries.len() && changed.iter().take(self.of_one_row).all(|&rows| rows == 1)
    }
}

impl Groups {
    pub fn start(writer: Pool) -> Self {
        let (steps, waiting) = mpsc::unbounded_channel();
        tokio::spawn(write_groups(writer, waiting));
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

async fn write_groups(writer: Pool, mut waiting: mpsc::UnboundedReceiver<Step>) {
    let mut kept = None;
    loop {
        let mut group = Vec::new();
        let next = waiting.recv_many(&mut group, MOST);
        let received = match &kept {
            Some(_) => timeout(KEPT, next).await.ok(),
            None => Some(next.await),
        };
        kept = match received {
            Some(0) => return,
            Some(_) => write_group(&writer, kept, group).await,
            None => None,
        };
    }
}

/// Writes a group and tells everybody; the connection, if it may be kept.
async fn write_group(writer: &Pool, kept: Option<Connection>, mut group: Vec<Step>) -> Option<Connection> {
    let mut kept = kept;
    for _ in 0..=DROPOUTS {
        let begun = match kept.take() {
            Some(connection) => Ok(writer.write_on(connection)),
            None => writer.write().await,
        };
        let Ok(mut tx) = begun else { break };
        match drops_out(&mut tx, &group).await {
            Ok(Some(index)) => group.remove(index).tell(Verdict::Alone),
            Ok(None) => return commit(tx, group).await,
            Err(_) => break,
        }
    }
    for step in group {
        step.tell(Verdict::Alone);
    }
    None
}

/// Sends all statements of a group; the first step that they do not make, if any. Fails if the connection does.
async fn drops_out(tx: &mut Transaction, group: &[Step]) -> Result<Option<usize>, sqlx::Error> {
    let mut changed = Vec::new();
    let batches = group.iter().map(|step| step.queries.clone()).collect();
    let sent = tx.execute_batches(batches, &mut changed).await;
    if let Err(error) = sent
        && error.as_database_error().is_none()
    {
        return Err(error);
    }
    let mut changed = &*changed;
    for (index, step) in group.iter().enumerate() {
        let (of_step, rest) = changed.split_at(step.queries.len().min(changed.len()));
        if !step.is_made_by(of_step) {
            return Ok(Some(index));
        }
        changed = rest;
    }
    Ok(None)
}

async fn commit(tx: Transaction, group: Vec<Step>) -> Option<Connection> {
    let dialect = tx.dialect();
    let committed = tx.commit_and_keep().await;
    for step in group {
        step.tell(match &committed {
            Ok(_) => Verdict::Done,
            Err(error) if sql::was_in_the_way(error) => Verdict::Alone,
            Err(error) => Verdict::Unknown(StoreError::Unavailable(error.to_string().into())),
        });
    }
    // The only one that writes a file is for everybody.
    committed.ok().flatten().filter(|_| dialect == Dialect::MySql)
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

        // There is no fourth: the others are done without it.
        let verdicts = joined(&[1, 4, 3]).await;
        assert!(matches!(verdicts[..], [Verdict::Done, Verdict::Alone, Verdict::Done]));
        assert_eq!(values(&database).await, [2, 1, 2]);

        // Too many are missing: nobody is done, wherever it stood.
        let verdicts = joined(&[1, 4, 5, 6, 2, 7, 8, 3]).await;
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Alone)));
        assert_eq!(values(&database).await, [2, 1, 2]);

        // One that goes away does not take the others with it.
        assert!(joined(&[2]).now_or_never().is_none());
        assert!(matches!(joined(&[3]).await[..], [Verdict::Done]));
        assert_eq!(values(&database).await, [2, 2, 3]);
    }
}
