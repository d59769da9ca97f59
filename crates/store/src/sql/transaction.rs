//! Transactions of either database.
//!
//! Every message to a database takes longer than what most statements do: SQLite runs in a thread of its own that has to be
//! woken, and then wakes the one that waits; a server is on the other side of a network. So a transaction begins only with
//! its first statements, in one message with them where that is possible, and those that belong together are sent together.

use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Executor as _};
use tokio::runtime::Handle;

use super::dialect::of_commit;
use super::literal::with_literals;
use super::pool::Connection;
use super::{Dialect, Query, composed};

/// Longest text of one message to a server, unless a statement alone is longer: far below what any of them takes.
const MESSAGE_BYTES: usize = 1 << 20;

/// A transaction; it is rolled back unless it is committed.
#[derive(Debug)]
pub struct Transaction {
    /// `None` once it is over.
    connection: Option<Connection>,
    /// What begins it, until that is sent.
    begin: Option<&'static str>,
}

impl Transaction {
    pub(super) fn new(connection: Connection, begin: &'static str) -> Self {
        Self {
            connection: Some(connection),
            begin: Some(begin),
        }
    }

    /// What is spoken in it.
    pub fn dialect(&self) -> Dialect {
        self.connection.as_ref().map_or(Dialect::Sqlite, Connection::dialect)
    }

    /// Where to send a query, and what to send there: with what begins the transaction if it has not begun.
    pub(super) async fn send<'q>(&mut self, query: Query<'q>) -> Result<(&mut Connection, Query<'q>), sqlx::Error> {
        let connection = self.connection.as_mut().ok_or(sqlx::Error::WorkerCrashed)?;
        let query = match (self.begin.take(), &mut *connection) {
            (None, _) => query,
            (Some(begin), Connection::Sqlite(_)) => joined(vec![super::query(begin), query]),
            // Its statements are prepared, and that goes one by one.
            (Some(begin), Connection::MySql(_)) => {
                connection.send(begin).await?;
                query
            }
        };
        Ok((connection, query))
    }

    /// Runs all of them; how many rows each changed. None is run after one that failed.
    pub(crate) async fn execute_all(&mut self, queries: Vec<Query<'_>>) -> Result<Vec<u64>, sqlx::Error> {
        let connection = self.connection.as_mut().ok_or(sqlx::Error::WorkerCrashed)?;
        let begin = self.begin.take().map(super::query);
        let first = usize::from(begin.is_some());
        let queries: Vec<_> = begin.into_iter().chain(queries).collect();
        let mut changed = Vec::with_capacity(queries.len());
        match connection {
            Connection::Sqlite(it) => {
                let mut answers = it.fetch_many(joined(queries).sqlite());
                while let Some(answer) = answers.try_next().await? {
                    changed.extend(answer.left().map(|done| done.rows_affected()));
                }
            }
            Connection::MySql(it) => {
                for message in messages(&queries) {
                    let mut answers = it.fetch_many(AssertSqlSafe(message));
                    while let Some(answer) = answers.try_next().await? {
                        changed.extend(answer.left().map(|done| done.rows_affected()));
                    }
                }
            }
        }
        Ok(changed.split_off(first.min(changed.len())))
    }

    /// Makes it durable. When this fails, it may have happened all the same.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        if self.begin.is_some() {
            return Ok(());
        }
        if let Some(connection) = &mut self.connection {
            connection.send("COMMIT").await.map_err(of_commit)?;
        }
        self.connection = None;
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take().filter(|_| self.begin.is_none()) else {
            return;
        };
        let rollback = async move {
            // Without an answer nobody knows what the next one would find on it.
            if connection.send("ROLLBACK").await.is_err() {
                connection.close();
            }
        };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(rollback)),
            // The connection goes with the future: the pool closes what it cannot look after.
            Err(_) => drop(rollback),
        }
    }
}

/// One text of all, with the values of all.
fn joined(queries: Vec<Query<'_>>) -> Query<'_> {
    let texts: Vec<_> = queries.iter().map(|query| query.text.as_str()).collect();
    let kept = queries.iter().all(|query| query.kept);
    let joined = composed(texts.join("; "));
    let values = queries.into_iter().flat_map(|query| query.values);
    let joined = values.fold(joined, Query::bind);
    if kept { joined } else { joined.once() }
}

/// Texts of all, with their values in them: as few as hold them.
fn messages(queries: &[Query<'_>]) -> Vec<String> {
    let mut messages: Vec<String> = Vec::new();
    for query in queries {
        let text = with_literals(query.text.as_str(), &query.values);
        match messages
            .last_mut()
            .filter(|last| last.len() + text.len() <= MESSAGE_BYTES)
        {
            Some(last) => {
                last.push_str("; ");
                last.push_str(&text);
            }
            None => messages.push(text),
        }
    }
    messages
}
