//! Opening the state database.
//!
//! A file of SQLite's is one server's own, and the attempts' logs and the metrics lie in two more files beside it, which may
//! lose their last moments in a power cut but never cost a step a write to disk. A database on a MySQL server may be shared by any number of
//! obfleet servers. There they are tables like the others: every server must find them, one connection string is
//! enough to configure, back up and restore, and the server writes commits that come together to disk together anyway.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use obfleet_fleet::inventory::InventoryChange;
use sqlx::mysql::{MySqlConnection, MySqlPool, MySqlPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, Executor as _};
use tokio::time::timeout;

use crate::access_keys::AccessKeys;
use crate::audit::Audit;
use crate::authority::Authorities;
use crate::inventory::{self, InventoryApplier, SqlInventory};
use crate::location::{Address, Location};
use crate::metrics::Metrics;
use crate::migrations::{self, Found, Migration, MigrationError, migrate};
use crate::servers::Servers;
use crate::sessions::Sessions;
use crate::sql::{Pool, Trouble, trouble};
use crate::tasks::{ChangeApplier, TaskStore};
use crate::users::Users;

/// How long a connection waits for another process to let go of the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections to a file that only read.
const FILE_READERS: u32 = 4;

/// Pages of a file's log, 4 KiB each, after which a commit folds them into the file. SQLite's own 1,000 would make about one
/// commit in a hundred wait for that; each folds more now, but of a page that changed often only the last state.
const FOLDED_PAGES: &str = "4000";

/// Connections to a server that write, and as many again that read.
const SERVER_CONNECTIONS: u32 = 16;

/// Statements a connection to a server keeps prepared. OceanBase allows a session 50 cursors, and each is one.
const PREPARED_STATEMENTS: usize = 40;

/// How long to wait for a connection to a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that was idle for longer is tried before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// Longest that a statement waits for a lock: seconds in MySQL, microseconds in OceanBase. A transaction that waits for
/// longer is repeated, so that one which forgot to end does not hold up a server for a minute.
const LOCK_WAITS: &[&str] = &[
    "SET SESSION innodb_lock_wait_timeout = 3",
    "SET SESSION ob_trx_lock_timeout = 3000000",
];

/// For transactions that write. They compare and set: what they read need not stand still, and only the rows they change
/// are locked.
const READ_COMMITTED: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

/// For transactions that read: each sees one moment.
const REPEATABLE_READ: &str = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ";

/// How long a transaction may wait for its next statement, as MariaDB and OceanBase put it: a server that is stopped in the
/// middle of one must not keep its locks from those who take over. Others do not know such a limit.
const IDLE_TRANSACTION_LIMITS: &[&str] = &[
    "SET SESSION idle_transaction_timeout = 3",
    "SET SESSION ob_trx_idle_timeout = 3000000",
];

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It cannot be reached, or is no database.
    #[error("the database {place} cannot be opened; {}", advice(source))]
    Open {
        /// File, or server and database.
        place: String,
        /// What the driver says.
        source: sqlx::Error,
    },
    /// A server that takes connections does not let us in, one way or the other.
    #[error(
        "the database {place} does not answer within {} s; look after the server, or give --database another one",
        CONNECT_TIMEOUT.as_secs()
    )]
    Silent {
        /// Server and database.
        place: String,
    },
    /// Its schema cannot be brought up to date.
    #[error("the database {place} cannot be brought up to date")]
    Migrate {
        /// File, or server and database.
        place: String,
        /// Why.
        source: MigrationError,
    },
}

/// The open state database.
#[derive(Clone, Debug)]
pub struct Database {
    /// Transactions that write: one at a time on a file, so that they never wait for each other inside SQLite.
    writer: Pool,
    /// Transactions that read; all of one sees one moment.
    readers: Pool,
    logs: Pool,
    metrics: Pool,
    inventory: SqlInventory,
}

impl Database {
    /// Opens the database at this location and brings its schema up to date.
    pub async fn at(location: &Location) -> Result<Self, DatabaseError> {
        match location {
            Location::File(path) => Self::open(path).await,
            Location::Server(address) => Self::connect(address).await,
        }
    }

    /// Opens the database in the file `path`, creating it if it is not there, and brings its schema up to date. Logs go to
    /// `<stem>-logs.<extension>` beside it, metrics to `<stem>-metrics.<extension>`.
    pub async fn open(path: &Path) -> Result<Self, DatabaseError> {
        // Commits survive a power cut; logs may lose their last moments.
        let writer = file(path, options(path).synchronous(SqliteSynchronous::Full), 1).await?;
        prepare(&path.display().to_string(), &writer, &[migrations::STATE]).await?;
        found(&path.display().to_string(), &writer).await?;
        let readers = file(path, options(path).read_only(true), FILE_READERS).await?;
        let logs = lesser(path, "-logs", migrations::LOGS).await?;
        let metrics = lesser(path, "-metrics", migrations::METRICS).await?;
        Ok(Self {
            inventory: SqlInventory::new(writer.clone(), readers.clone()),
            writer,
            readers,
            logs,
            metrics,
        })
    }

    /// Opens the database at this address, which must exist, and brings its schema up to date. Any number of servers may do
    /// so, also at the same time.
    pub async fn connect(address: &Address) -> Result<Self, DatabaseError> {
        let place = address.to_string();
        let writer = server(address, READ_COMMITTED).await?;
        prepare(&place, &writer, migrations::ALL).await?;
        found(&place, &writer).await?;
        let readers = server(address, REPEATABLE_READ).await?;
        let (logs, metrics) = (writer.clone(), writer.clone());
        Ok(Self {
            inventory: SqlInventory::new(writer.clone(), readers.clone()),
            writer,
            readers,
            logs,
            metrics,
        })
    }

    /// Whether other servers may use it at the same time.
    pub fn is_shared(&self) -> bool {
        matches!(self.writer, Pool::MySql(_))
    }

    /// Where to write.
    pub fn writer(&self) -> &Pool {
        &self.writer
    }

    /// Where to read; each transaction is a snapshot.
    pub fn readers(&self) -> &Pool {
        &self.readers
    }

    /// The engine's store; `applier` writes the domain's changes in the engine's transactions.
    pub fn task_store<C, A: ChangeApplier<C>>(&self, applier: A) -> TaskStore<C> {
        TaskStore::new(
            self.writer.clone(),
            self.readers.clone(),
            self.logs.clone(),
            Arc::new(applier),
        )
    }

    /// The engine's store for the fleet's tasks.
    pub fn tasks(&self) -> TaskStore<InventoryChange> {
        self.task_store(InventoryApplier)
    }

    /// The fleet's inventory: all of them are one, and know together what they have read.
    pub fn inventory(&self) -> SqlInventory {
        self.inventory.clone()
    }

    /// The short history of what is measured of proxies.
    pub fn metrics(&self) -> Metrics {
        Metrics::new(self.metrics.clone())
    }

    /// What was changed, and by whom.
    pub fn audit(&self) -> Audit {
        Audit::new(self.writer.clone(), self.readers.clone())
    }

    /// Where the enrolment authority is kept.
    pub fn authorities(&self) -> Authorities {
        Authorities::new(self.writer.clone(), self.readers.clone())
    }

    /// The servers that share it.
    pub fn servers(&self) -> Servers {
        Servers::new(self.readers.clone())
    }

    /// The keys by which programs sign their requests.
    pub fn access_keys(&self) -> AccessKeys {
        AccessKeys::new(self.writer.clone(), self.readers.clone())
    }

    /// The table of browsers' sessions.
    pub fn sessions(&self) -> Sessions {
        Sessions::new(self.writer.clone(), self.readers.clone())
    }

    /// The table of users.
    pub fn users(&self) -> Users {
        Users::new(self.writer.clone(), self.readers.clone())
    }

    /// Closes all connections, after what is under way.
    pub async fn close(&self) {
        self.readers.close().await;
        self.logs.close().await;
        self.metrics.close().await;
        self.writer.close().await;
    }
}

/// What to do about a database that cannot be opened.
fn advice(error: &sqlx::Error) -> &'static str {
    match trouble(error) {
        Trouble::Away => "start the server, or correct host and port in --database",
        Trouble::NoEntry => "correct user and password, or give the user rights on the database",
        Trouble::NoDatabase => "make it by CREATE DATABASE, or correct its name in --database",
        Trouble::Other => "put right what the reason names, or start with a backup",
    }
}

/// A database whose schema somebody looks after, without a server: one for each file.
pub(crate) struct Part {
    pub place: String,
    pub pool: Pool,
    pub migrations: Vec<&'static [Migration]>,
}

/// The databases at a location; what is not there is made only if `make`.
pub(crate) async fn parts(location: &Location, make: bool) -> Result<Vec<Part>, DatabaseError> {
    match location {
        Location::File(path) => {
            let mut parts = Vec::new();
            for (path, migrations) in [
                (path.clone(), migrations::STATE),
                (beside(path, "-logs"), migrations::LOGS),
                (beside(path, "-metrics"), migrations::METRICS),
            ] {
                parts.push(Part {
                    pool: file(&path, options(&path).create_if_missing(make), 1).await?,
                    place: path.display().to_string(),
                    migrations: vec![migrations],
                });
            }
            Ok(parts)
        }
        Location::Server(address) => Ok(vec![Part {
            pool: server(address, READ_COMMITTED).await?,
            place: address.to_string(),
            migrations: migrations::ALL.to_vec(),
        }]),
    }
}

/// Connections that only read, to a database whose schema is up to date already.
pub(crate) async fn to_read(location: &Location) -> Result<Pool, DatabaseError> {
    match location {
        Location::File(path) => file(path, options(path).create_if_missing(false).read_only(true), 1).await,
        Location::Server(address) => server(address, REPEATABLE_READ).await,
    }
}

/// A file beside the database that may lose its last moments.
async fn lesser(database: &Path, suffix: &str, migrations: &'static [Migration]) -> Result<Pool, DatabaseError> {
    let path = beside(database, suffix);
    let pool = file(&path, options(&path).synchronous(SqliteSynchronous::Normal), 1).await?;
    prepare(&path.display().to_string(), &pool, &[migrations]).await?;
    Ok(pool)
}

async fn prepare(place: &str, pool: &Pool, parts: &[&[Migration]]) -> Result<(), DatabaseError> {
    let done = migrate(pool, parts, Found::IsAnError).await;
    done.map_err(|source| DatabaseError::Migrate {
        place: place.to_owned(),
        source,
    })
}

async fn found(place: &str, pool: &Pool) -> Result<(), DatabaseError> {
    inventory::found(pool).await.map_err(|source| DatabaseError::Open {
        place: place.to_owned(),
        source,
    })
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("wal_autocheckpoint", FOLDED_PAGES)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(suffix);
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

async fn file(path: &Path, options: SqliteConnectOptions, most: u32) -> Result<Pool, DatabaseError> {
    let pool = SqlitePoolOptions::new().max_connections(most).min_connections(1);
    // A connection to a file does not break while nobody uses it, and a test costs as much as a query.
    let pool = pool.test_before_acquire(false);
    // An idle connection keeps its prepared statements; SQLite's do not go stale.
    let pool = pool.idle_timeout(None).max_lifetime(None).test_before_acquire(false);
    let pool: Result<SqlitePool, _> = pool.connect_with(options).await;
    pool.map(Pool::Sqlite).map_err(|source| DatabaseError::Open {
        place: path.display().to_string(),
        source,
    })
}

async fn server(address: &Address, session: &'static str) -> Result<Pool, DatabaseError> {
    let open = |source| DatabaseError::Open {
        place: address.to_string(),
        source,
    };
    // A pool would try again and again, and in the end not know why.
    let first = timeout(CONNECT_TIMEOUT, MySqlConnection::connect_with(address.options())).await;
    let silent = |_| DatabaseError::Silent {
        place: address.to_string(),
    };
    first.map_err(silent)?.map_err(open)?.close().await.map_err(open)?;
    let pool = MySqlPoolOptions::new()
        .max_connections(SERVER_CONNECTIONS)
        .min_connections(1);
    let pool = pool.acquire_timeout(CONNECT_TIMEOUT).test_before_acquire(false);
    let pool = pool
        .after_connect(move |connection, _| {
            Box::pin(async move {
                connection.execute(session).await?;
                for limit in IDLE_TRANSACTION_LIMITS.iter().chain(LOCK_WAITS) {
                    if let Err(error) = connection.execute(*limit).await {
                        tracing::debug!(%error, limit, "this database does not know the limit");
                    }
                }
                Ok(())
            })
        })
        .before_acquire(|connection, about| {
            Box::pin(async move {
                if about.idle_for > TRUSTED_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        });
    let options = address.options().clone().statement_cache_capacity(PREPARED_STATEMENTS);
    let pool: Result<MySqlPool, _> = pool.connect_with(options).await;
    pool.map(Pool::MySql).map_err(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_lie_beside_the_database() {
        assert_eq!(
            beside(Path::new("/var/lib/state.db"), "-logs"),
            Path::new("/var/lib/state-logs.db")
        );
        assert_eq!(beside(Path::new("state"), "-logs"), Path::new("state-logs"));
    }
}
