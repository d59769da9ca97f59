//! Opening the state database.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use obfleet_fleet::inventory::InventoryChange;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{SqlSafeStr as _, SqlStr};

use crate::inventory::{self, InventoryApplier, SqlInventory};
use crate::tasks::{ChangeApplier, TaskStore};
use crate::users::Users;

/// How long a connection waits for another process to let go of the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that only read.
const READERS: u32 = 4;

/// Every migration of the state database, oldest first. A released one never changes.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "tasks", include_str!("../migrations/0001_tasks.sql")),
    (2, "inventory", include_str!("../migrations/0002_inventory.sql")),
    (3, "users", include_str!("../migrations/0003_users.sql")),
];

/// Every migration of the log file.
const LOG_MIGRATIONS: &[(i64, &str, &str)] = &[(
    1,
    "subtask_log",
    include_str!("../migrations/logs/0001_subtask_log.sql"),
)];

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The file cannot be opened or is no database.
    #[error("the database file {} cannot be opened", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: sqlx::Error,
    },
    /// Its schema cannot be brought up to date; it may be a later release's.
    #[error("the schema of {} cannot be brought up to date", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// What the migrator says.
        source: MigrateError,
    },
}

/// The open state database: one connection that writes, some that read, and the attempts' logs in a file of their own.
#[derive(Clone, Debug)]
pub struct Database {
    writer: SqlitePool,
    readers: SqlitePool,
    logs: SqlitePool,
}

impl Database {
    /// Opens the database at `path`, creating it if it is not there, and brings its schema up to date. Logs go to
    /// `<stem>-logs.<extension>` beside it.
    pub async fn open(path: &Path) -> Result<Self, DatabaseError> {
        // Commits survive a power cut; logs may lose their last moments.
        let writer = connect(path, options(path).synchronous(SqliteSynchronous::Full), 1).await?;
        migrate(path, &writer, MIGRATIONS).await?;
        inventory::found(&writer, path).await?;
        let readers = connect(path, options(path).read_only(true), READERS).await?;
        let log_path = beside(path, "-logs");
        let logs = connect(&log_path, options(&log_path).synchronous(SqliteSynchronous::Normal), 1).await?;
        migrate(&log_path, &logs, LOG_MIGRATIONS).await?;
        Ok(Self { writer, readers, logs })
    }

    /// The one connection that writes; transactions on it never wait for each other inside SQLite.
    pub fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// Connections that only read, each transaction a snapshot.
    pub fn readers(&self) -> &SqlitePool {
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

    /// The fleet's inventory.
    pub fn inventory(&self) -> SqlInventory {
        SqlInventory::new(self.writer.clone(), self.readers.clone())
    }

    /// The table of users.
    pub fn users(&self) -> Users {
        Users::new(self.writer.clone(), self.readers.clone())
    }

    /// Closes all connections, after what is under way.
    pub async fn close(&self) {
        self.readers.close().await;
        self.logs.close().await;
        self.writer.close().await;
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(BUSY_TIMEOUT)
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

async fn connect(path: &Path, options: SqliteConnectOptions, most: u32) -> Result<SqlitePool, DatabaseError> {
    let pool = SqlitePoolOptions::new().max_connections(most).min_connections(1);
    // A connection to a file does not break while nobody uses it, and a test costs as much as a query.
    let pool = pool.test_before_acquire(false);
    // An idle connection keeps its prepared statements; SQLite's do not go stale.
    let pool = pool.idle_timeout(None).max_lifetime(None).connect_with(options).await;
    pool.map_err(|source| DatabaseError::Open {
        path: path.to_owned(),
        source,
    })
}

async fn migrate(
    path: &Path,
    pool: &SqlitePool,
    migrations: &'static [(i64, &'static str, &'static str)],
) -> Result<(), DatabaseError> {
    let migrations = migrations.iter().map(|&(version, description, sql)| {
        let sql: SqlStr = sql.into_sql_str();
        Migration::new(version, Cow::Borrowed(description), MigrationType::Simple, sql, false)
    });
    let migrator = Migrator::with_migrations(migrations.collect());
    migrator.run(pool).await.map_err(|source| DatabaseError::Migrate {
        path: path.to_owned(),
        source,
    })
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
