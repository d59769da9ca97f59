//! Access keys: by which programs sign their requests, and the signatures that were used.

use obfleet_fleet::secrets::Sealed;
use obfleet_wire::time::Timestamp;

use crate::sql::{self, Pool, Row, Transaction};
use crate::users::{self, User};

/// An access key of a user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Names it; sent with each request.
    pub access_key: String,
    /// Whose it is.
    pub user_id: i64,
    /// What requests are signed with, sealed.
    pub secret: Sealed,
    /// Whether it lets in.
    pub enabled: bool,
    /// For people.
    pub description: String,
    /// When it was made.
    pub created: Timestamp,
}

/// The access keys cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the state database failed while it was asked for access keys")]
pub struct AccessKeysError(#[from] sqlx::Error);

/// The tables of access keys and of used signatures.
#[derive(Debug, Clone)]
pub struct AccessKeys {
    writer: Pool,
    readers: Pool,
}

impl AccessKeys {
    pub(crate) fn new(writer: Pool, readers: Pool) -> Self {
        Self { writer, readers }
    }

    /// The key of this name and the user it belongs to.
    pub async fn find(&self, access_key: &str) -> Result<Option<(AccessKey, User)>, AccessKeysError> {
        let (columns, roles) = (users::COLUMNS, users::ROLES);
        let query = sql::composed(format!(
            "SELECT k.access_key, k.user_id, k.secret, k.enabled AS key_enabled, k.description AS key_description, \
             k.created AS key_created, {columns} \
             FROM access_keys k JOIN users u ON u.id = k.user_id {roles} WHERE k.access_key = ?"
        ));
        let rows = query.bind(access_key).fetch_all(&self.readers).await?;
        let user = users::read_all(&rows)?.pop();
        Ok(rows.first().map(read).transpose()?.zip(user))
    }

    /// A user's keys, the oldest first.
    pub async fn of(&self, user_id: i64) -> Result<Vec<AccessKey>, AccessKeysError> {
        let query = sql::query(
            "SELECT access_key, user_id, secret, enabled AS key_enabled, description AS key_description, \
             created AS key_created FROM access_keys WHERE user_id = ? ORDER BY created, access_key",
        );
        let rows = query.bind(user_id).fetch_all(&self.readers).await?;
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }

    /// Adds a key, unless its user has `most` already. → whether it was added
    pub async fn insert(&self, key: &AccessKey, most: usize) -> Result<bool, AccessKeysError> {
        let mut tx = self.writer.write().await?;
        // Of several additions to one user at the same time each has to see those before it.
        lock_user(&mut tx, key.user_id).await?;
        let count = sql::query("SELECT COUNT(*) AS count FROM access_keys WHERE user_id = ?").bind(key.user_id);
        let count: i64 = count.fetch_one(&mut tx).await?.get("count")?;
        if usize::try_from(count).is_ok_and(|count| count >= most) {
            return Ok(false);
        }
        let insert = sql::query(
            "INSERT INTO access_keys (access_key, user_id, secret, enabled, description, created) \
             VALUES (?, ?, ?, ?, ?, ?)",
        );
        let insert = insert.bind(&key.access_key).bind(key.user_id).bind(key.secret.text());
        let insert = insert
            .bind(key.enabled)
            .bind(&key.description)
            .bind(key.created.millis());
        insert.execute(&mut tx).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Lets a user's key in, or no longer. → false when the user has no such key
    pub async fn set_enabled(&self, user_id: i64, access_key: &str, enabled: bool) -> Result<bool, AccessKeysError> {
        let query = sql::query("UPDATE access_keys SET enabled = ? WHERE access_key = ? AND user_id = ?");
        let query = query.bind(enabled).bind(access_key).bind(user_id);
        Ok(query.execute(&self.writer).await? == 1)
    }

    /// Deletes a user's key. → false when the user has no such key
    pub async fn delete(&self, user_id: i64, access_key: &str) -> Result<bool, AccessKeysError> {
        let query = sql::query("DELETE FROM access_keys WHERE access_key = ? AND user_id = ?");
        let query = query.bind(access_key).bind(user_id);
        Ok(query.execute(&self.writer).await? == 1)
    }

    /// Notes that a signature was used. → false when it was used before, on whichever server
    pub async fn use_signature(&self, id: &str, expires: Timestamp) -> Result<bool, AccessKeysError> {
        let query = sql::query("INSERT INTO used_signatures (id, expires) VALUES (?, ?)");
        match query.bind(id).bind(expires.millis()).execute(&self.writer).await {
            Ok(_) => Ok(true),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets the signatures that are too old to be let in. → how many
    pub async fn forget_signatures(&self, now: Timestamp) -> Result<u64, AccessKeysError> {
        let query = sql::query("DELETE FROM used_signatures WHERE expires < ?");
        Ok(query.bind(now.millis()).execute(&self.writer).await?)
    }
}

/// Makes others that do the same wait until this is over.
async fn lock_user(tx: &mut Transaction, id: i64) -> Result<(), sqlx::Error> {
    let lock = sql::query("UPDATE users SET changed = changed WHERE id = ?").bind(id);
    lock.execute(tx).await.map(drop)
}

fn read(row: &Row) -> Result<AccessKey, sqlx::Error> {
    Ok(AccessKey {
        access_key: row.get("access_key")?,
        user_id: row.get("user_id")?,
        secret: Sealed::from_text(row.get("secret")?),
        enabled: row.get("key_enabled")?,
        description: row.get("key_description")?,
        created: Timestamp(row.get("key_created")?),
    })
}
