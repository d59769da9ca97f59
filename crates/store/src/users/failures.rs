//! Logins that failed of late, by the name that was given. Whether it is somebody's makes no difference, so that nothing can
//! be told from what becomes of it.

use std::time::Duration;

use obfleet_wire::time::Timestamp;

use super::{Users, UsersError};
use crate::sql::{self, retried};

/// When a name is locked.
#[derive(Debug, Clone, Copy)]
pub struct LockRule {
    /// After so many failures in a row.
    pub failures: i64,
    /// For so long; failures are forgotten after as long without another one.
    pub time: Duration,
}

impl LockRule {
    fn millis(self) -> i64 {
        i64::try_from(self.time.as_millis()).unwrap_or(i64::MAX)
    }
}

impl Users {
    /// Until when a name is locked, if it is.
    pub async fn locked_until(&self, name: &str, now: Timestamp) -> Result<Option<Timestamp>, UsersError> {
        let query = sql::query("SELECT locked_until FROM login_failure WHERE name = ? AND locked_until > ?");
        let row = query
            .bind(name)
            .bind(now.millis())
            .fetch_optional(&self.readers)
            .await?;
        Ok(row.map(|row| row.get("locked_until").map(Timestamp)).transpose()?)
    }

    /// The names that are locked, each with its end.
    pub async fn locked(&self, now: Timestamp) -> Result<Vec<(String, Timestamp)>, UsersError> {
        let query = sql::query("SELECT name, locked_until FROM login_failure WHERE locked_until > ?");
        let rows = query.bind(now.millis()).fetch_all(&self.readers).await?;
        let locked = rows
            .iter()
            .map(|row| Ok((row.get("name")?, Timestamp(row.get("locked_until")?))));
        Ok(locked.collect::<Result<_, sqlx::Error>>()?)
    }

    /// Counts a failure, on whichever server; the last one that the rule allows locks the name. → failures in a row
    pub async fn login_failed(&self, name: &str, rule: LockRule, now: Timestamp) -> Result<i64, UsersError> {
        let counted = retried(|| async {
            let mut tx = self.writer.write().await?;
            let old = now.millis() - rule.millis();
            // The CASE looks at last_at as it was: MySQL sets columns from left to right.
            let count = sql::query(
                "UPDATE login_failure SET failures = CASE WHEN last_at < ? THEN 1 ELSE failures + 1 END, last_at = ? \
                 WHERE name = ?",
            );
            let count = count.bind(old).bind(now.millis()).bind(name);
            if count.execute(&mut tx).await? == 0 {
                let first =
                    sql::query("INSERT INTO login_failure (name, failures, last_at, locked_until) VALUES (?, 1, ?, 0)");
                first.bind(name).bind(now.millis()).execute(&mut tx).await?;
            }
            let read = sql::query("SELECT failures FROM login_failure WHERE name = ?").bind(name);
            let failures: i64 = read.fetch_one(&mut tx).await?.get("failures")?;
            if failures >= rule.failures {
                let lock = sql::query("UPDATE login_failure SET locked_until = ? WHERE name = ?");
                lock.bind(now.millis() + rule.millis())
                    .bind(name)
                    .execute(&mut tx)
                    .await?;
            }
            tx.commit().await?;
            Ok::<_, sqlx::Error>(failures)
        });
        match counted.await {
            // Another server was the first at the same moment; there is a row to count in now.
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Box::pin(self.login_failed(name, rule, now)).await
            }
            other => Ok(other?),
        }
    }

    /// Forgets a name's failures, and its lock. → whether there was any
    pub async fn forgive(&self, name: &str) -> Result<bool, UsersError> {
        let query = sql::query("DELETE FROM login_failure WHERE name = ?").bind(name);
        Ok(query.execute(&self.writer).await? > 0)
    }

    /// Forgets what is too old to count. → how many names
    pub async fn forget_failures(&self, rule: LockRule, now: Timestamp) -> Result<u64, UsersError> {
        let query = sql::query("DELETE FROM login_failure WHERE last_at < ? AND locked_until < ?");
        let query = query.bind(now.millis() - rule.millis()).bind(now.millis());
        Ok(query.execute(&self.writer).await?)
    }
}
