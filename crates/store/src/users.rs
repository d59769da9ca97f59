//! Users: who may log in, with which password hash and roles.

use std::collections::{BTreeMap, BTreeSet};

use obfleet_wire::time::Timestamp;

use crate::sql::{self, Pool, Row};

/// Somebody who may log in.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The user's id.
    pub id: i64,
    /// Login name; upper and lower case differ.
    pub name: String,
    /// argon2id in PHC form.
    pub password_hash: String,
    /// What the user may do.
    pub roles: Vec<String>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The users cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the state database failed while it was asked for users")]
pub struct UsersError(#[from] sqlx::Error);

/// The table of users.
#[derive(Debug, Clone)]
pub struct Users {
    writer: Pool,
    readers: Pool,
}

impl Users {
    /// The users in this database; every request reads one, so reading does not wait for writers.
    pub fn new(writer: Pool, readers: Pool) -> Self {
        Self { writer, readers }
    }

    /// The user with this login name.
    pub async fn find(&self, name: &str) -> Result<Option<User>, UsersError> {
        let query = sql::query("SELECT id, name, password_hash, roles FROM users WHERE name = ?").bind(name);
        let row = query.fetch_optional(&self.readers).await?;
        Ok(row.as_ref().map(read).transpose()?)
    }

    /// Ids of the users with these login names.
    pub async fn ids(&self, names: &BTreeSet<&str>) -> Result<BTreeMap<String, i64>, UsersError> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let marks = sql::marks(names.len());
        let query = sql::composed(format!("SELECT id, name FROM users WHERE name IN ({marks})")).once();
        let query = names.iter().fold(query, |query, name| query.bind(*name));
        let rows = query.fetch_all(&self.readers).await?;
        let found = rows.iter().map(|row| Ok((row.get("name")?, row.get("id")?)));
        Ok(found.collect::<Result<_, sqlx::Error>>()?)
    }

    /// Adds a user; false when the id or the name is taken.
    pub async fn insert(&self, user: &User, now: Timestamp) -> Result<bool, UsersError> {
        let query = sql::query(
            "INSERT INTO users (id, name, password_hash, roles, created, changed) \
             VALUES (?, ?, ?, ?, ?, ?)",
        );
        let query = query.bind(user.id).bind(&user.name).bind(&user.password_hash);
        let query = query.bind(user.roles.join(",")).bind(now.millis()).bind(now.millis());
        match query.execute(&self.writer).await {
            Ok(_) => Ok(true),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a user another password; false when there is no such user.
    pub async fn set_password_hash(&self, id: i64, hash: &str, now: Timestamp) -> Result<bool, UsersError> {
        let query = sql::query("UPDATE users SET password_hash = ?, changed = ? WHERE id = ?");
        let query = query.bind(hash).bind(now.millis()).bind(id);
        Ok(query.execute(&self.writer).await? == 1)
    }
}

pub(crate) fn read(row: &Row) -> Result<User, sqlx::Error> {
    let roles: String = row.get("roles")?;
    Ok(User {
        id: row.get("id")?,
        name: row.get("name")?,
        password_hash: row.get("password_hash")?,
        roles: roles
            .split(',')
            .filter(|role| !role.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}
