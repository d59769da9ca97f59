//! Connections and transactions of either database.

use sqlx::{MySql, MySqlPool, Sqlite, SqlitePool};

use super::Dialect;
use super::dialect::of_commit;

/// Connections to one database.
#[derive(Clone, Debug)]
pub enum Pool {
    /// To a file.
    Sqlite(SqlitePool),
    /// To a server.
    MySql(MySqlPool),
}

/// A transaction; it is rolled back unless it is committed.
#[derive(Debug)]
pub enum Transaction {
    /// Of SQLite.
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    /// Of MySQL.
    MySql(sqlx::Transaction<'static, MySql>),
}

impl Pool {
    /// What is spoken on it.
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::MySql(_) => Dialect::MySql,
        }
    }

    /// Begins a transaction that writes.
    pub async fn write(&self) -> Result<Transaction, sqlx::Error> {
        let begin = self.dialect().begin_writing();
        Ok(match self {
            Self::Sqlite(pool) => Transaction::Sqlite(pool.begin_with(begin).await?),
            Self::MySql(pool) => Transaction::MySql(pool.begin_with(begin).await?),
        })
    }

    /// Begins a transaction that only reads. On a pool of readers all of it sees one moment.
    pub async fn read(&self) -> Result<Transaction, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(pool) => Transaction::Sqlite(pool.begin().await?),
            Self::MySql(pool) => Transaction::MySql(pool.begin().await?),
        })
    }

    /// Closes all connections, after what is under way.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::MySql(pool) => pool.close().await,
        }
    }
}

impl Transaction {
    /// What is spoken in it.
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::MySql(_) => Dialect::MySql,
        }
    }

    /// Makes it durable. When this fails, it may have happened all the same.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await,
            Self::MySql(transaction) => transaction.commit().await.map_err(of_commit),
        }
    }
}
