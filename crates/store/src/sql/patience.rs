//! How long a database server may take to answer.
//!
//! A server that is stopped, or that a network has lost, does not say so: nothing comes any more, and a connection that waits
//! for it would wait until its operating system gives it up, hours later.

use std::io;
use std::time::Duration;

use sqlx::MySql;
use sqlx::pool::PoolConnection;
use tokio::time::timeout;

/// No statement of ours takes as long while a server works, not even one that waits for a lock.
const USUAL: Duration = Duration::from_secs(30);

/// How long a statement is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// As long as any statement but a change of the schema may take.
    Usual,
    /// As long as it takes.
    Endless,
}

impl Patience {
    /// What `answer` comes to in time. What a statement did that was not answered nobody knows.
    pub(super) async fn answer<T>(
        self,
        answer: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        if self == Self::Endless {
            return answer.await;
        }
        timeout(USUAL, answer).await.unwrap_or_else(|_| {
            let silent = format!("the database server has not answered for {} s", USUAL.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, silent).into())
        })
    }
}

/// Sees to it that a connection which failed is not used again: its answer may still come.
pub(super) fn given_up(connection: &mut PoolConnection<MySql>, error: sqlx::Error) -> sqlx::Error {
    if matches!(error, sqlx::Error::Io(_)) {
        connection.close_on_drop();
    }
    error
}
