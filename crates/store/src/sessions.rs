//! Browsers that are logged in. What a browser has is not here, only its digest.

use std::time::Duration;

use obfleet_wire::time::Timestamp;

use crate::{
    sql::{self, Pool, retried},
    users::{self, User},
};

/// How long a session lives.
#[derive(Debug, Clone, Copy)]
pub struct SessionRule {
    /// Without a request.
    pub idle: Duration,
    /// Whatever comes.
    pub longest: Duration,
    /// Sessions of a user; beyond it the oldest end.
    pub most: u32,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// SHA-256 of what the browser has, in hexadecimal.
    pub id: String,
    /// Whose it is.
    pub user_id: i64,
    /// When it began.
    pub created: Timestamp,
    /// When it was last seen; not to the second.
    pub seen: Timestamp,
}

/// The sessions cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the state database failed while it was asked for sessions")]
pub struct SessionsError(#[from] sqlx::Error);

/// The table of sessions.
#[derive(Debug, Clone)]
pub struct Sessions {
    writer: Pool,
    readers: Pool,
}

impl SessionRule {
    /// Sessions that began, and those that were seen, before these times are over.
    fn limits(self, now: Timestamp) -> (i64, i64) {
        let before = |time: Duration| now.millis() - i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        (before(self.longest), before(self.idle))
    }
}

impl Sessions {
    pub(crate) fn new(writer: Pool, readers: Pool) -> Self {
        Self { writer, readers }
    }

    /// The session of this digest and its user, unless it is over.
    pub async fn find(
        &self,
        id: &str,
        rule: SessionRule,
        now: Timestamp,
    ) -> Result<Option<(Session, User)>, SessionsError> {
        let (columns, roles) = (users::COLUMNS, users::ROLES);
        let query = sql::composed(format!(
            "SELECT s.created AS session_created, s.seen, {columns} \
             FROM browser_session s JOIN users u ON u.id = s.user_id {roles} \
             WHERE s.id = ? AND s.created > ? AND s.seen > ?"
        ));
        let (created, seen) = rule.limits(now);
        let rows = query.bind(id).bind(created).bind(seen).fetch_all(&self.readers).await?;
        let (Some(row), Some(user)) = (rows.first(), users::read_all(&rows)?.pop()) else {
            return Ok(None);
        };
        let session = Session {
            id: id.to_owned(),
            user_id: user.id,
            created: Timestamp(row.get("session_created")?),
            seen: Timestamp(row.get("seen")?),
        };
        Ok(Some((session, user)))
    }

    /// Begins a session of a user's, if the user is there; the oldest end when there are too many.
    pub async fn begin(&self, session: &Session, rule: SessionRule) -> Result<bool, SessionsError> {
        let begun = retried(|| async {
            let mut tx = self.writer.write().await?;
            // Whoever deletes the user or gives another password waits, or was before.
            let lock = sql::query("UPDATE users SET changed = changed WHERE id = ?").bind(session.user_id);
            if lock.execute(&mut tx).await? == 0 {
                return Ok(false);
            }
            let others = sql::query("SELECT id FROM browser_session WHERE user_id = ? ORDER BY created DESC, id");
            let others = others.bind(session.user_id).fetch_all(&mut tx).await?;
            let most = usize::try_from(rule.most).unwrap_or(usize::MAX);
            for other in others.iter().skip(most.saturating_sub(1)) {
                let end = sql::query("DELETE FROM browser_session WHERE id = ?").bind(other.get::<String>("id")?);
                end.execute(&mut tx).await?;
            }
            let insert = sql::query("INSERT INTO browser_session (id, user_id, created, seen) VALUES (?, ?, ?, ?)");
            let insert = insert.bind(&session.id).bind(session.user_id);
            insert
                .bind(session.created.millis())
                .bind(session.seen.millis())
                .execute(&mut tx)
                .await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(true)
        });
        Ok(begun.await?)
    }

    /// Notes that a session was seen.
    pub async fn seen(&self, id: &str, now: Timestamp) -> Result<(), SessionsError> {
        let query = sql::query("UPDATE browser_session SET seen = ? WHERE id = ?");
        query.bind(now.millis()).bind(id).execute(&self.writer).await?;
        Ok(())
    }

    /// Ends a session. → whether there was one
    pub async fn end(&self, id: &str) -> Result<bool, SessionsError> {
        let query = sql::query("DELETE FROM browser_session WHERE id = ?").bind(id);
        Ok(query.execute(&self.writer).await? > 0)
    }

    /// Forgets sessions that are over. → how many
    pub async fn forget(&self, rule: SessionRule, now: Timestamp) -> Result<u64, SessionsError> {
        let (created, seen) = rule.limits(now);
        let query = sql::query("DELETE FROM browser_session WHERE created <= ? OR seen <= ?");
        Ok(query.bind(created).bind(seen).execute(&self.writer).await?)
    }
}
