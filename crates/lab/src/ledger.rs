//! What the clients have committed, and whether the database has it.
//!
//! Each transaction writes one row with its own key. A transaction whose COMMIT was answered is committed; one whose
//! COMMIT was sent and not answered may be either; of any other there must be no row.

use std::{
    collections::HashSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use obfleet_mysqlwire::{Client, QueryResult};
use tokio::time::{Instant, timeout_at};

use crate::backend::Backend;

/// A database may be busy with its clients; reading the rows of a whole demo takes a while.
const PATIENCE: Duration = Duration::from_secs(60);

/// Names a transaction: its client, and its number among the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) client: u32,
    pub(crate) number: u64,
}

/// The clients' transactions.
#[derive(Debug)]
pub struct Ledger {
    database: String,
    clients: AtomicU32,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// COMMIT was sent.
    committing: HashSet<Entry>,
    /// COMMIT was answered; these are in the other set, too.
    committed: HashSet<Entry>,
}

impl Ledger {
    /// One whose rows go to this database.
    pub(crate) fn new(database: &str) -> Self {
        Self {
            database: database.to_owned(),
            clients: AtomicU32::new(0),
            told: Mutex::default(),
        }
    }

    /// Makes a database of its own in the backend.
    pub async fn create(backend: &Backend) -> anyhow::Result<Self> {
        let ledger = Self::new(&format!("obfleet_demo_{:08x}", rand::random::<u32>()));
        let database = &ledger.database;
        ask(
            backend,
            &[
                &format!("create database {database}"),
                &format!(
                    "create table {database}.entries \
                     (client int, number bigint, steps int not null, primary key (client, number))"
                ),
            ],
        )
        .await
        .context("the clients' table cannot be made in the backend")?;
        Ok(ledger)
    }

    /// Takes the database away.
    pub async fn remove(&self, backend: &Backend) -> anyhow::Result<()> {
        ask(backend, &[&format!("drop database {}", self.database)]).await?;
        Ok(())
    }

    /// What is wrong with the rows of the backend, one complaint a line; the clients may be at work. A backend that
    /// keeps no rows is not asked.
    pub async fn check(&self, backend: &Backend) -> anyhow::Result<Vec<String>> {
        if !backend.keeps_rows {
            return Ok(Vec::new());
        }
        let committed = self.told().committed.clone();
        let answer = ask(
            backend,
            &[&format!("select client, number from {}.entries", self.database)],
        )
        .await
        .context("the clients' table cannot be read")?;
        let rows = (0..answer.rows.len())
            .map(|row| {
                let value = |column| answer.text(row, column).context("a row without its key");
                Ok(Entry {
                    client: value("client")?.parse()?,
                    number: value("number")?.parse()?,
                })
            })
            .collect::<anyhow::Result<HashSet<_>>>()?;
        Ok(complaints(&committed, &rows, &self.told().committing))
    }

    pub(crate) fn new_client(&self) -> u32 {
        self.clients.fetch_add(1, Ordering::Relaxed)
    }

    /// The statement that writes the row.
    pub(crate) fn insert(&self, Entry { client, number }: Entry) -> String {
        format!("insert into {}.entries values ({client}, {number}, 0)", self.database)
    }

    /// The statement that changes it.
    pub(crate) fn update(&self, Entry { client, number }: Entry) -> String {
        format!(
            "update {}.entries set steps = steps + 1 where client = {client} and number = {number}",
            self.database
        )
    }

    /// COMMIT is about to be sent.
    pub(crate) fn committing(&self, entry: Entry) {
        self.told().committing.insert(entry);
    }

    /// COMMIT was answered.
    pub(crate) fn committed(&self, entry: Entry) {
        self.told().committed.insert(entry);
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the statements on one connection of their own. → the last answer
async fn ask(backend: &Backend, statements: &[&str]) -> anyhow::Result<QueryResult> {
    let deadline = Instant::now() + PATIENCE;
    let mut client = Client::connect(backend.address, &backend.user, "", deadline).await?;
    let mut answer = QueryResult::default();
    for statement in statements {
        answer = timeout_at(deadline, client.query(statement))
            .await
            .with_context(|| format!("no answer in time: {statement}"))?
            .with_context(|| format!("failed: {statement}"))?;
    }
    client.close().await;
    Ok(answer)
}

/// `committed` was told before the rows were read, `committing` afterwards.
fn complaints(committed: &HashSet<Entry>, rows: &HashSet<Entry>, committing: &HashSet<Entry>) -> Vec<String> {
    let complaint = |what: &str, entries: Vec<&Entry>| {
        let first = entries.iter().min()?;
        Some(format!(
            "{} transactions {what}, the first is number {} of client {}",
            entries.len(),
            first.number,
            first.client
        ))
    };
    [
        complaint("were committed and have no row", committed.difference(rows).collect()),
        complaint(
            "have a row although nobody committed them",
            rows.difference(committing).collect(),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(numbers: &[u64]) -> HashSet<Entry> {
        numbers
            .iter()
            .map(|number| Entry {
                client: 3,
                number: *number,
            })
            .collect()
    }

    #[test]
    fn every_committed_row_must_be_there_and_no_other() {
        // 3 was sent and not answered: both ways are right.
        for rows in [&[1, 2][..], &[1, 2, 3]] {
            let found = complaints(&entries(&[1, 2]), &entries(rows), &entries(&[1, 2, 3]));
            assert_eq!(found, [""; 0], "{rows:?}");
        }
        let found = complaints(&entries(&[1, 2, 7]), &entries(&[1, 9, 8]), &entries(&[1, 2, 7]));
        assert_eq!(
            found,
            [
                "2 transactions were committed and have no row, the first is number 2 of client 3",
                "2 transactions have a row although nobody committed them, the first is number 8 of client 3",
            ]
        );
    }
}
