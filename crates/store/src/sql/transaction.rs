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
use super::patience::{Patience, given_up};
use super::pool::Connection;
use super::{Dialect, Query, composed};

/// Longest text of one message to a server, unless a statement alone is longer: far below what any of them takes.
const MESSAGE_BYTES: usize = 1 << 20;

/// Most statements that SQLite keeps prepared as one text: more do not come in the same order again.
const KEPT_STATEMENTS: usize = 16;

/// A transaction; it is rolled back unless it is committed.
#[derive(Debug)]
pub struct Transaction {
    /// `None` once it is over.
    connection: Option<Connection>,
    /// What begins it, until that is sent.
    begin: Option<&'static str>,
    /// What is run right before it is committed.
    at_end: Vec<Query<'static>>,
}

impl Transaction {
    pub(super) fn new(connection: Connection, begin: &'static str) -> Self {
        Self {
            connection: Some(connection),
            begin: Some(begin),
            at_end: Vec::new(),
        }
    }

    /// What is run right before it is committed: what holds up others is there, so that they do not wait for the rest.
    pub(crate) fn at_end(&mut self) -> &mut Vec<Query<'static>> {
        &mut self.at_end
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
        let mut changed = Vec::with_capacity(queries.len());
        self.execute_batches(vec![queries], &mut changed).await?;
        Ok(changed)
    }

    /// The same of several batches; `changed` also tells of those before one that failed. SQLite gets each batch in a message:
    /// it keeps their texts prepared, and those of one batch recur.
    pub(crate) async fn execute_batches(
        &mut self,
        batches: Vec<Vec<Query<'_>>>,
        changed: &mut Vec<u64>,
    ) -> Result<(), sqlx::Error> {
        let connection = self.connection.as_mut().ok_or(sqlx::Error::WorkerCrashed)?;
        let begin = self.begin.take().map(super::query);
        // Nobody asks what BEGIN changed.
        let mut unasked = usize::from(begin.is_some());
        let mut note = |rows| match unasked {
            0 => changed.push(rows),
            _ => unasked -= 1,
        };
        match connection {
            Connection::Sqlite(it) => {
                let mut begin = begin;
                for batch in batches {
                    let queries = begin.take().into_iter().chain(batch).collect();
                    let mut answers = it.fetch_many(joined(queries).sqlite());
                    while let Some(answer) = answers.try_next().await? {
                        if let Some(done) = answer.left() {
                            note(done.rows_affected());
                        }
                    }
                }
            }
            Connection::MySql(it) => {
                for message in messages(begin.into_iter().chain(batches.into_iter().flatten())) {
                    let mut answers = it.fetch_many(AssertSqlSafe(message));
                    let all = Patience::Usual.answer(async {
                        while let Some(answer) = answers.try_next().await? {
                            if let Some(done) = answer.left() {
                                note(done.rows_affected());
                            }
                        }
                        Ok(())
                    });
                    let all = all.await;
                    drop(answers);
                    all.map_err(|error| given_up(it, error))?;
                }
            }
        }
        Ok(())
    }

    /// Makes it durable. When this fails, it may have happened all the same.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        self.commit_and_keep().await.map(drop)
    }

    /// The same; the connection, for the next one.
    pub async fn commit_and_keep(mut self) -> Result<Option<Connection>, sqlx::Error> {
        let at_end = std::mem::take(&mut self.at_end);
        if !at_end.is_empty() {
            self.execute_all(at_end).await?;
        }
        if self.begin.is_none()
            && let Some(connection) = &mut self.connection
        {
            connection.send("COMMIT").await.map_err(of_commit)?;
        }
        Ok(self.connection.take())
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
    let kept = queries.len() <= KEPT_STATEMENTS && queries.iter().all(|query| query.kept);
    let joined = composed(texts.join("; "));
    let values = queries.into_iter().flat_map(|query| query.values);
    let joined = values.fold(joined, Query::bind);
    if kept { joined } else { joined.once() }
}

/// Texts of all, with their values in them: as few as hold them.
fn messages<'q>(queries: impl IntoIterator<Item = Query<'q>>) -> Vec<String> {
    let mut messages: Vec<String> = Vec::new();
    for query in queries {
        let text = with_literals(query.text.as_str(), &query.values);
        let message = messages.last_mut();
        match message.filter(|message| message.len() + text.len() <= MESSAGE_BYTES) {
            Some(message) => {
                message.push_str("; ");
                message.push_str(&text);
            }
            None => messages.push(text),
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures::FutureExt as _;
    use obfleet_testdb::shared;

    use super::*;
    use crate::Database;
    use crate::sql::query;

    /// One of each kind, with a table of texts.
    async fn databases(dir: &Path) -> Vec<Database> {
        let servers = [shared::mariadb().await.unwrap(), shared::seekdb().await.unwrap()];
        let mut databases = vec![Database::open(&dir.join("state.db")).await.unwrap()];
        for server in servers {
            databases.push(Database::connect(&server.parse().unwrap()).await.unwrap());
        }
        for database in &databases {
            let options = database.writer().dialect().table_options();
            let create =
                format!("CREATE TABLE sample (id BIGINT NOT NULL PRIMARY KEY, content TEXT NOT NULL){options}");
            composed(create).execute(database.writer()).await.unwrap();
        }
        databases
    }

    fn inserts<'q>(texts: &[&'q str]) -> Vec<Query<'q>> {
        let insert = |(id, text): (i64, &&'q str)| {
            let insert = query("INSERT INTO sample (id, content) VALUES (?, ?)");
            insert.bind(id).bind(*text)
        };
        (0..).zip(texts).map(insert).collect()
    }

    async fn texts(database: &Database) -> Vec<String> {
        let all = query("SELECT content FROM sample ORDER BY id");
        let all = all.fetch_all(database.writer()).await.unwrap();
        all.iter().map(|row| row.get("content").unwrap()).collect()
    }

    #[tokio::test]
    async fn texts_come_out_as_they_went_in_whatever_they_hold() {
        let dir = tempfile::tempdir().unwrap();
        let nasty = [
            "",
            "'",
            "\\",
            "\\'; DELETE FROM sample; -- ",
            "'; DELETE FROM sample; -- ",
            "? \0 \n \u{1a} \" ` % _",
            r#"{"text":"\"quoted\" 'and' \\ more"}"#,
            "汉字 😀 é",
        ];
        for database in databases(dir.path()).await {
            let mut tx = database.writer().write().await.unwrap();
            assert_eq!(tx.execute_all(inserts(&nasty)).await.unwrap(), [1; 8]);
            let change = query("UPDATE sample SET content = ? WHERE id >= ?")
                .bind("same")
                .bind(6_i64);
            let none = query("DELETE FROM sample WHERE content = ?").bind("not there");
            assert_eq!(tx.execute_all(vec![change, none]).await.unwrap(), [2, 0]);
            tx.commit().await.unwrap();
            let mut expected = nasty;
            expected[6..].fill("same");
            assert_eq!(texts(&database).await, expected);
        }
    }

    #[tokio::test]
    async fn what_is_not_committed_is_gone_however_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        for database in databases(dir.path()).await {
            let mut tx = database.writer().write().await.unwrap();
            tx.execute_all(inserts(&["dropped"])).await.unwrap();
            drop(tx);

            let mut tx = database.writer().write().await.unwrap();
            // Dropped after it was sent; a file may have answered by then.
            drop(tx.execute_all(inserts(&["cancelled", "under way"])).now_or_never());
            drop(tx);

            let mut tx = database.writer().write().await.unwrap();
            let mut failing = inserts(&["failed"]);
            failing.extend(inserts(&["the same id"]));
            tx.execute_all(failing).await.unwrap_err();
            drop(tx);

            // Whoever gets the same connection begins and ends a transaction of its own.
            for round in 10..13_i64 {
                let mut tx = database.writer().write().await.unwrap();
                let keep = query("INSERT INTO sample (id, content) VALUES (?, ?)");
                keep.bind(round).bind("kept").execute(&mut tx).await.unwrap();
                tx.commit().await.unwrap();
            }
            assert_eq!(texts(&database).await, ["kept"; 3]);
        }
    }
}
