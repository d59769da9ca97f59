//! Bringing a schema up to date, on either database, whoever else is at it.
//!
//! SQLite does all of it in one transaction. MySQL commits at every change of the schema, so how far a migration has come is
//! written down statement by statement: whoever finds one half done goes on where it stopped.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::{Connection as _, Executor as _, MySqlConnection, MySqlPool};
use tokio::time::{sleep, timeout};

use crate::sql::{Dialect, Pool, Transaction, composed, is_no_table, is_there_already, query, waited_in_vain};

/// One step of the schema. A released one never changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Migration {
    /// Which part of the schema it belongs to; a part may live in a database of its own.
    pub part: &'static str,
    /// Ascending from 1 in each part.
    pub version: i64,
    /// Statements, each ended by a semicolon at the end of a line.
    pub sql: &'static str,
}

/// Every migration of the state database, oldest first.
pub(crate) const STATE: &[Migration] = &[
    Migration {
        part: "state",
        version: 1,
        sql: include_str!("../migrations/0001_tasks.sql"),
    },
    Migration {
        part: "state",
        version: 2,
        sql: include_str!("../migrations/0002_inventory.sql"),
    },
    Migration {
        part: "state",
        version: 3,
        sql: include_str!("../migrations/0003_users.sql"),
    },
    Migration {
        part: "state",
        version: 4,
        sql: include_str!("../migrations/0004_task_operations.sql"),
    },
    Migration {
        part: "state",
        version: 5,
        sql: include_str!("../migrations/0005_server_leases.sql"),
    },
    Migration {
        part: "state",
        version: 6,
        sql: include_str!("../migrations/0006_authority.sql"),
    },
    Migration {
        part: "state",
        version: 7,
        sql: include_str!("../migrations/0007_task_total.sql"),
    },
    Migration {
        part: "state",
        version: 8,
        sql: include_str!("../migrations/0008_operating.sql"),
    },
    Migration {
        part: "state",
        version: 9,
        sql: include_str!("../migrations/0009_parameters.sql"),
    },
    Migration {
        part: "state",
        version: 10,
        sql: include_str!("../migrations/0010_hosts.sql"),
    },
    Migration {
        part: "state",
        version: 11,
        sql: include_str!("../migrations/0011_ob_clusters.sql"),
    },
    Migration {
        part: "state",
        version: 12,
        sql: include_str!("../migrations/0012_take_over.sql"),
    },
    Migration {
        part: "state",
        version: 14,
        sql: include_str!("../migrations/0014_fleet_events.sql"),
    },
    Migration {
        part: "state",
        version: 20,
        sql: include_str!("../migrations/0020_access_keys.sql"),
    },
    Migration {
        part: "state",
        version: 21,
        sql: include_str!("../migrations/0021_rights.sql"),
    },
    Migration {
        part: "state",
        version: 22,
        sql: include_str!("../migrations/0022_sessions.sql"),
    },
    Migration {
        part: "state",
        version: 23,
        sql: include_str!("../migrations/0023_audit.sql"),
    },
    Migration {
        part: "state",
        version: 24,
        sql: include_str!("../migrations/0024_inventory_news.sql"),
    },
    Migration {
        part: "state",
        version: 26,
        sql: include_str!("../migrations/0026_package_signer.sql"),
    },
];

/// Every migration of the attempts' logs.
pub(crate) const LOGS: &[Migration] = &[Migration {
    part: "logs",
    version: 1,
    sql: include_str!("../migrations/logs/0001_subtask_log.sql"),
}];

/// Every migration of the metrics.
pub(crate) const METRICS: &[Migration] = &[Migration {
    part: "metrics",
    version: 1,
    sql: include_str!("../migrations/metrics/0001_metrics.sql"),
}];

/// All parts, where they are in one database.
pub(crate) const ALL: &[&[Migration]] = &[STATE, LOGS, METRICS];

/// Why a schema cannot be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A later release made it.
    #[error("its schema is version {found}, and this release knows none after {known}: start a release that does")]
    Newer {
        /// The version found.
        found: i64,
        /// The latest version known.
        known: i64,
    },
    /// Another server is at it and does not come to an end.
    #[error("another server has been changing its schema for {} seconds: start this one again when that one is up", LOCK_PATIENCE.as_secs())]
    Busy,
    /// A statement failed.
    #[error(
        "statement {number} of {part} migration {version} failed; put right what the reason names, and `obfleet migrate up` \
         goes on there; if all it says is that something exists already, `obfleet migrate repair` does"
    )]
    Statement {
        /// Part of the schema.
        part: &'static str,
        /// The migration.
        version: i64,
        /// Position of the statement in it, from 1.
        number: usize,
        /// What the database says.
        source: sqlx::Error,
    },
    /// The database failed.
    #[error("its schema cannot be read")]
    Database(#[from] sqlx::Error),
}

/// Longest to wait for another server's migrations.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks for the lock's table.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// What keeps servers that start at the same time from migrating at the same time.
const LOCK: &str = "CREATE TABLE IF NOT EXISTS schema_lock (only_row BIGINT NOT NULL PRIMARY KEY)";

/// How far each migration has come.
const PROGRESS: &str = "CREATE TABLE IF NOT EXISTS schema_migration (
    part       VARCHAR(16) NOT NULL,
    version    BIGINT      NOT NULL,
    statements BIGINT      NOT NULL,
    complete   BOOLEAN     NOT NULL,
    PRIMARY KEY (part, version)
)";

/// What a table, column or row is that a migration finds although it is to make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A reason to stop. What was made by a process that had no time to note it is an exception.
    IsAnError,
    /// As good as made.
    WillDo,
}

/// Does what has not been done yet of `parts`, each in order.
pub(crate) async fn migrate(pool: &Pool, parts: &[&[Migration]], found: Found) -> Result<(), MigrationError> {
    if is_done(pool, parts).await? {
        return Ok(());
    }
    let lock = match pool {
        // One transaction does it all.
        Pool::Sqlite(_) => None,
        Pool::MySql(pool) => Some(Lock::take(pool).await?),
    };
    let mut done = Ok(());
    for part in parts {
        if done.is_ok() {
            done = run_all(pool, part, found).await;
        }
    }
    if let Some(lock) = lock {
        lock.give_back().await?;
    }
    done
}

/// Whether all migrations are made and no others: then there is no need of the lock, which an outage of the database may leave
/// taken for a while, nor of a statement that changes the schema.
async fn is_done(pool: &Pool, parts: &[&[Migration]]) -> Result<bool, MigrationError> {
    let made = query("SELECT part, version FROM schema_migration WHERE complete = TRUE");
    let made = match made.fetch_all(pool).await {
        Err(error) if is_no_table(&error) => return Ok(false),
        rows => rows?,
    };
    let made = made
        .iter()
        .map(|row| Ok((row.get::<String>("part")?, row.get("version")?)));
    let made: BTreeSet<_> = made.collect::<Result<_, sqlx::Error>>()?;
    let known = parts.iter().copied().flatten();
    Ok(made
        == known
            .map(|migration| (migration.part.to_owned(), migration.version))
            .collect())
}

/// A lock among all servers of one database: that on the only row of a table, held by a transaction which does nothing else.
/// It ends with its connection, hence with a process that is killed. GET_LOCK will not do: OceanBase lets several in.
struct Lock {
    connection: MySqlConnection,
}

impl Lock {
    async fn take(pool: &MySqlPool) -> Result<Self, MigrationError> {
        // Not one of the pool's: giving up leaves a statement under way.
        let mut connection = MySqlConnection::connect_with(&pool.connect_options()).await?;
        let taken = timeout(LOCK_PATIENCE, take(&mut connection)).await;
        taken.map_err(|_| MigrationError::Busy)??;
        Ok(Self { connection })
    }

    async fn give_back(self) -> Result<(), sqlx::Error> {
        self.connection.close().await
    }
}

async fn take(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    match connection.execute(LOCK).await {
        Err(error) if !is_there_already(&error) => return Err(error),
        _ => {}
    }
    loop {
        match connection
            .execute("INSERT INTO schema_lock (only_row) VALUES (1)")
            .await
        {
            // On OceanBase one that another has just made may be missing for a moment.
            Err(error) if is_no_table(&error) => sleep(LOCK_RETRY).await,
            // Somebody holds the row, and looking whether it is there takes its lock.
            Err(error) if waited_in_vain(&error) => {}
            Err(error) if !is_there_already(&error) => return Err(error),
            _ => break,
        }
    }
    connection.execute("BEGIN").await?;
    loop {
        match connection.execute("SELECT only_row FROM schema_lock FOR UPDATE").await {
            // Statements end long before our patience does.
            Err(error) if waited_in_vain(&error) => {}
            other => return other.map(drop),
        }
    }
}

async fn run_all(pool: &Pool, migrations: &[Migration], found: Found) -> Result<(), MigrationError> {
    let mut tx = pool.write().await?;
    let options = tx.dialect().table_options();
    composed(format!("{PROGRESS}{options}")).execute(&mut tx).await?;
    if let Some(latest) = migrations.last() {
        let newest = query("SELECT MAX(version) AS newest FROM schema_migration WHERE part = ?").bind(latest.part);
        let newest: Option<i64> = newest.fetch_one(&mut tx).await?.get("newest")?;
        let (newest, known) = (newest.unwrap_or(0), latest.version);
        if newest > known {
            return Err(MigrationError::Newer { found: newest, known });
        }
    }
    for migration in migrations {
        run(&mut tx, migration, found).await?;
    }
    Ok(tx.commit().await?)
}

async fn run(tx: &mut Transaction, migration: &Migration, found: Found) -> Result<(), MigrationError> {
    let Migration { part, version, sql } = *migration;
    let row = query("SELECT statements, complete FROM schema_migration WHERE part = ? AND version = ?");
    let row = row.bind(part).bind(version).fetch_optional(&mut *tx).await?;
    let resumed = row.is_some();
    let begun = match row {
        Some(row) if row.get("complete")? => return Ok(()),
        Some(row) => row.get::<i64>("statements")?.unsigned_abs(),
        None => {
            let begin =
                query("INSERT INTO schema_migration (part, version, statements, complete) VALUES (?, ?, 0, FALSE)");
            begin.bind(part).bind(version).execute(&mut *tx).await?;
            0
        }
    };
    let begun = usize::try_from(begun).unwrap_or(usize::MAX);
    let statements = statements(sql);
    for (index, statement) in statements.iter().enumerate().skip(begun) {
        let options = match tx.dialect() {
            Dialect::MySql if statement.starts_with("CREATE TABLE") => tx.dialect().table_options(),
            _ => "",
        };
        let change = composed(format!("{statement}{options}")).however_long();
        let done = change.execute(&mut *tx).await;
        let number = index + 1;
        match done {
            Ok(_) => {}
            Err(error) if found == Found::WillDo && is_there_already(&error) => {}
            // It was run before, and the process that ran it ended before it could say so.
            Err(error) if resumed && index == begun && is_there_already(&error) => {}
            Err(source) => {
                return Err(MigrationError::Statement {
                    part,
                    version,
                    number,
                    source,
                });
            }
        }
        let note = query("UPDATE schema_migration SET statements = ? WHERE part = ? AND version = ?");
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        note.bind(number).bind(part).bind(version).execute(&mut *tx).await?;
    }
    let end = query("UPDATE schema_migration SET complete = TRUE WHERE part = ? AND version = ?");
    end.bind(part).bind(version).execute(&mut *tx).await?;
    Ok(())
}

/// The statements of a migration, without comments.
pub(crate) fn statements(sql: &str) -> Vec<String> {
    let lines = sql.lines().filter(|line| !line.trim_start().starts_with("--"));
    let text = lines.collect::<Vec<_>>().join("\n");
    let statements = text.split(";\n").map(|part| part.trim().trim_end_matches(';'));
    statements.filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_a_semicolon_that_ends_a_line() {
        let sql = "-- one; two\nCREATE TABLE a (\n  b TEXT\n);\n\nINSERT INTO a VALUES (';x');\n";
        assert_eq!(
            statements(sql),
            ["CREATE TABLE a (\n  b TEXT\n)", "INSERT INTO a VALUES (';x')"]
        );
    }
}
