//! A domain with one kind of change, a note; and the databases it is kept in.

use std::net::SocketAddr;

use async_trait::async_trait;
use obfleet_engine::TaskId;
use obfleet_store::sql::{self, Transaction};
use obfleet_store::{ApplyError, ChangeApplier, Database, DatabaseError, Location, TaskStore};
use obfleet_testdb::shared;

/// Writes notes into a table of its own, once each: a second note of the same task and text is refused.
pub struct Notes;

#[async_trait]
impl ChangeApplier<String> for Notes {
    async fn apply(&self, tx: &mut Transaction, task: TaskId, notes: &[String]) -> Result<(), ApplyError> {
        for note in notes {
            let insert = sql::query("INSERT INTO notes (task_id, note) VALUES (?, ?)");
            match insert.bind(task.0).bind(note).execute(&mut *tx).await {
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                    return Err(ApplyError::Refused(format!("{note:?} is noted already")));
                }
                other => other.map(drop)?,
            }
        }
        Ok(())
    }
}

async fn with_notes(database: Database) -> (Database, TaskStore<String>) {
    make_notes(&database).await;
    let store = database.task_store(Notes);
    (database, store)
}

async fn make_notes(database: &Database) {
    sql::query("CREATE TABLE IF NOT EXISTS notes (task_id BIGINT, note VARCHAR(128), PRIMARY KEY (task_id, note))")
        .execute(database.writer())
        .await
        .unwrap();
}

pub async fn notes(database: &Database) -> Vec<String> {
    let rows = sql::query("SELECT note FROM notes ORDER BY note")
        .fetch_all(database.readers())
        .await
        .unwrap();
    rows.iter().map(|row| row.get("note").unwrap()).collect()
}

pub async fn notes_of(database: &Database, task: TaskId) -> Vec<String> {
    let select = sql::query("SELECT note FROM notes WHERE task_id = ?").bind(task.0);
    let rows = select.fetch_all(database.readers()).await.unwrap();
    let mut notes: Vec<_> = rows.iter().map(|row| row.get("note").unwrap()).collect();
    notes.sort_unstable();
    notes
}

/// Lets a transaction wait for its next statement for longer than ours ever do.
pub async fn think_long(tx: &mut Transaction) {
    for patience in [
        "SET SESSION idle_transaction_timeout = 0",
        "SET SESSION ob_trx_idle_timeout = 120000000",
    ] {
        // Each database knows one of the two.
        let _: Result<u64, _> = sql::query(patience).execute(&mut *tx).await;
    }
}

/// What a URL or a file's path names.
pub fn location_of(address: &str) -> Location {
    match address.parse() {
        Ok(server) => Location::Server(server),
        Err(_) => Location::File(address.into()),
    }
}

/// Where state may be kept.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Sqlite,
    MariaDb,
    OceanBase,
}

/// An empty place for state, which may be opened any number of times.
pub struct Place {
    url: Option<String>,
    directory: tempfile::TempDir,
}

impl Place {
    pub async fn new(kind: Kind) -> Self {
        let url = match kind {
            Kind::Sqlite => None,
            Kind::MariaDb => Some(shared::mariadb().await.unwrap()),
            Kind::OceanBase => Some(shared::seekdb().await.unwrap()),
        };
        Self {
            url,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// An empty schema on a server of the test's own.
    pub fn at(url: String) -> Self {
        Self {
            url: Some(url),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub async fn open(&self) -> (Database, TaskStore<String>) {
        with_notes(self.try_open().await.unwrap()).await
    }

    /// Opens what was opened before, without a change of its schema: an outage leaves OceanBase unable to make any, now and
    /// then.
    pub async fn reopen(&self) -> (Database, TaskStore<String>) {
        let database = self.try_open().await.unwrap();
        let store = database.task_store(Notes);
        (database, store)
    }

    pub async fn try_open(&self) -> Result<Database, DatabaseError> {
        Database::at(&self.location()).await
    }

    /// The URL of a database on a server.
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// A server's address.
    pub fn server(&self) -> SocketAddr {
        let url = self.url.as_deref().unwrap();
        let (_, rest) = url.split_once('@').unwrap();
        rest.split('/').next().unwrap().parse().unwrap()
    }

    /// The same place on a server, reached through something at another address.
    pub async fn open_through(&self, address: SocketAddr) -> (Database, TaskStore<String>) {
        let url = self.url.as_deref().unwrap();
        let url = url.replace(&self.server().to_string(), &address.to_string());
        with_notes(Database::connect(&url.parse().unwrap()).await.unwrap()).await
    }

    /// For a child process, which makes a [`location_of`] it.
    pub fn address(&self) -> String {
        match self.location() {
            Location::File(path) => path.display().to_string(),
            Location::Server(_) => self.url().unwrap().to_owned(),
        }
    }

    pub fn location(&self) -> Location {
        match &self.url {
            None => Location::File(self.directory.path().join("state.db")),
            Some(url) => Location::Server(url.parse().unwrap()),
        }
    }
}

/// A test for each kind of database, of one body that takes the kind.
#[macro_export]
macro_rules! on_every_database {
    ($body:ident) => {
        mod $body {
            use $crate::support::Kind;

            #[tokio::test]
            async fn sqlite() {
                super::$body(Kind::Sqlite).await;
            }

            #[tokio::test]
            async fn mariadb() {
                super::$body(Kind::MariaDb).await;
            }

            #[tokio::test]
            async fn oceanbase() {
                super::$body(Kind::OceanBase).await;
            }
        }
    };
}

/// The same for those that are servers.
#[macro_export]
macro_rules! on_every_server {
    ($body:ident) => {
        mod $body {
            use $crate::support::Kind;

            #[tokio::test]
            async fn mariadb() {
                super::$body(Kind::MariaDb).await;
            }

            #[tokio::test]
            async fn oceanbase() {
                super::$body(Kind::OceanBase).await;
            }
        }
    };
}
