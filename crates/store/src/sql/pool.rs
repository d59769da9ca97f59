//! Connections to either database.

use sqlx::pool::PoolConnection;
use sqlx::{MySql, MySqlPool, Sqlite, SqlitePool};

use super::patience::{Patience, given_up};
use super::{Dialect, Transaction};

/// Connections to one database.
#[derive(Clone, Debug)]
pub enum Pool {
    /// To a file.
    Sqlite(SqlitePool),
    /// To a server.
    MySql(MySqlPool),
}

/// A connection of a pool; it goes back when it is dropped.
#[derive(Debug)]
pub enum Connection {
    /// To a file.
    Sqlite(PoolConnection<Sqlite>),
    /// To a server.
    MySql(PoolConnection<MySql>),
}

impl Pool {
    /// What is spoken on it.
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::MySql(_) => Dialect::MySql,
        }
    }

    /// A transaction that writes.
    pub async fn write(&self) -> Result<Transaction, sqlx::Error> {
        let begin = self.dialect().begin_writing();
        Ok(Transaction::new(self.acquire().await?, begin))
    }

    /// The same on a connection that was kept.
    pub fn write_on(&self, connection: Connection) -> Transaction {
        Transaction::new(connection, self.dialect().begin_writing())
    }

    /// A transaction that only reads. On a pool of readers all of it sees one moment.
    pub async fn read(&self) -> Result<Transaction, sqlx::Error> {
        Ok(Transaction::new(self.acquire().await?, "BEGIN"))
    }

    async fn acquire(&self) -> Result<Connection, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(pool) => Connection::Sqlite(pool.acquire().await?),
            Self::MySql(pool) => Connection::MySql(pool.acquire().await?),
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

impl Connection {
    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::MySql(_) => Dialect::MySql,
        }
    }

    /// Sends a statement as it stands.
    pub(super) async fn send(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        use sqlx::Executor as _;
        match self {
            Self::Sqlite(connection) => connection.execute(statement).await.map(drop),
            Self::MySql(connection) => {
                let sent = Patience::Usual.answer(connection.execute(statement)).await;
                sent.map(drop).map_err(|error| given_up(connection, error))
            }
        }
    }

    /// Ends it instead of giving it back.
    pub(super) fn close(mut self) {
        match &mut self {
            Self::Sqlite(connection) => connection.close_on_drop(),
            Self::MySql(connection) => connection.close_on_drop(),
        }
    }
}
