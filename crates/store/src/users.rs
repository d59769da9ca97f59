//! Users: who may log in, with which password hash and roles.

use std::collections::{BTreeMap, BTreeSet};

use obfleet_wire::time::Timestamp;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqlitePool, sqlite::SqliteRow};

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
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Users {
    /// The users in this database; every request reads one, so reading does not wait for writers.
    pub fn new(writer: SqlitePool, readers: SqlitePool) -> Self {
        Self { writer, readers }
    }

    /// The user with this login name.
    pub async fn find(&self, name: &str) -> Result<Option<User>, UsersError> {
        let query = sqlx::query("SELECT id, name, password_hash, roles FROM users WHERE name = ?").bind(name);
        let row = query.fetch_optional(&self.readers).await?;
        Ok(row.as_ref().map(read).transpose()?)
    }

    /// Ids of the users with these login names.
    pub async fn ids(&self, names: &BTreeSet<&str>) -> Result<BTreeMap<String, i64>, UsersError> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut query = QueryBuilder::<Sqlite>::new("SELECT id, name FROM users WHERE name IN (");
        let mut marks = query.separated(", ");
        for name in names {
            marks.push_bind(*name);
        }
        query.push(")");
        let rows = query.build().persistent(false).fetch_all(&self.readers).await?;
        let found = rows.iter().map(|row| Ok((row.try_get("name")?, row.try_get("id")?)));
        Ok(found.collect::<Result<_, sqlx::Error>>()?)
    }

    /// Adds a user; false when the id or the name is taken.
    pub async fn insert(&self, user: &User, now: Timestamp) -> Result<bool, UsersError> {
        let query = sqlx::query(
            "INSERT INTO users (id, name, password_hash, roles, created, changed) \
             VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        );
        let query = query.bind(user.id).bind(&user.name).bind(&user.password_hash);
        let query = query.bind(user.roles.join(",")).bind(now.millis()).bind(now.millis());
        Ok(query.execute(&self.writer).await?.rows_affected() == 1)
    }

    /// Gives a user another password; false when there is no such user.
    pub async fn set_password_hash(&self, id: i64, hash: &str, now: Timestamp) -> Result<bool, UsersError> {
        let query = sqlx::query("UPDATE users SET password_hash = ?, changed = ? WHERE id = ?");
        let query = query.bind(hash).bind(now.millis()).bind(id);
        Ok(query.execute(&self.writer).await?.rows_affected() == 1)
    }
}

fn read(row: &SqliteRow) -> Result<User, sqlx::Error> {
    let roles: String = row.try_get("roles")?;
    Ok(User {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        password_hash: row.try_get("password_hash")?,
        roles: roles
            .split(',')
            .filter(|role| !role.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn users() -> Users {
        let pool = sqlx::sqlite::SqlitePoolOptions::new()
            .max_connections(1)
            .connect("sqlite::memory:")
            .await
            .unwrap();
        sqlx::raw_sql(include_str!("../migrations/0003_users.sql"))
            .execute(&pool)
            .await
            .unwrap();
        Users::new(pool.clone(), pool)
    }

    #[tokio::test]
    async fn keeps_users_apart_by_name() {
        let users = users().await;
        let admin = User {
            id: 100,
            name: "admin".into(),
            password_hash: "h1".into(),
            roles: vec!["ADMIN".into()],
        };
        assert!(users.insert(&admin, Timestamp(1)).await.unwrap());
        assert!(!users.insert(&admin, Timestamp(2)).await.unwrap());
        assert!(
            !users
                .insert(
                    &User {
                        id: 101,
                        ..admin.clone()
                    },
                    Timestamp(2)
                )
                .await
                .unwrap()
        );
        assert_eq!(users.find("admin").await.unwrap(), Some(admin.clone()));
        assert_eq!(users.find("Admin").await.unwrap(), None);
        let ids = users.ids(&BTreeSet::from(["admin", "Admin", "x"])).await.unwrap();
        assert_eq!(ids, BTreeMap::from([("admin".to_owned(), 100)]));
        assert_eq!(users.ids(&BTreeSet::new()).await.unwrap(), BTreeMap::new());

        assert!(users.set_password_hash(100, "h2", Timestamp(3)).await.unwrap());
        assert!(!users.set_password_hash(7, "h2", Timestamp(3)).await.unwrap());
        assert_eq!(users.find("admin").await.unwrap().unwrap().password_hash, "h2");
        assert!(!format!("{admin:?}").contains("h1"));
    }
}
