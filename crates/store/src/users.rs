//! Users: who may log in, with which password hash and roles.

pub mod failures;
pub mod roles;

use std::collections::{BTreeMap, BTreeSet};

use obfleet_wire::time::Timestamp;

use crate::sql::{self, Pool, Query, Row, Transaction, retried};

/// Somebody who may log in.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The user's id.
    pub id: i64,
    /// Login name; upper and lower case differ.
    pub name: String,
    /// argon2id in PHC form.
    pub password_hash: String,
    /// What the user may do, by role.
    pub roles: Vec<UserRole>,
    /// Whether the user is let in.
    pub enabled: bool,
    /// Whether the password is one that somebody else chose, and is to be changed before anything else.
    pub must_change: bool,
    /// For people.
    pub description: String,
    /// When the user was made; kept by the table.
    pub created: Timestamp,
    /// When the user was changed; kept by the table.
    pub changed: Timestamp,
}

/// A role of a user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRole {
    /// Its name.
    pub name: String,
    /// The proxy clusters it is for; `None` is all, and what is of no cluster.
    pub clusters: Option<BTreeSet<i64>>,
    /// The rights of a custom role, as it is defined now; of another role nothing.
    pub rights: Vec<String>,
}

impl UserRole {
    /// A role for everything.
    pub fn everywhere(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            clusters: None,
            rights: Vec::new(),
        }
    }
}

impl User {
    /// A user who is let in, made now.
    pub fn new(id: i64, name: &str, password_hash: String, roles: Vec<UserRole>) -> Self {
        Self {
            id,
            name: name.to_owned(),
            password_hash,
            roles,
            enabled: true,
            must_change: false,
            description: String::new(),
            created: Timestamp(0),
            changed: Timestamp(0),
        }
    }
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What is changed of a user; `None` stays.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    /// Whether the user is let in.
    pub enabled: Option<bool>,
    /// For people.
    pub description: Option<String>,
    /// All roles, in the place of those there are.
    pub roles: Option<Vec<UserRole>>,
}

/// The users cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the state database failed while it was asked for users")]
pub struct UsersError(#[from] sqlx::Error);

/// The table of users.
#[derive(Debug, Clone)]
pub struct Users {
    pub(crate) writer: Pool,
    pub(crate) readers: Pool,
}

/// What [`read_all`] reads, of `users u` with [`ROLES`] joined: one row for each role and cluster.
pub(crate) const COLUMNS: &str = "u.id, u.name, u.password_hash, u.enabled, u.must_change, u.description, u.created, \
     u.changed, r.role, r.cluster_id, d.rights";
/// The roles of `users u`.
pub(crate) const ROLES: &str = "LEFT JOIN user_role r ON r.user_id = u.id LEFT JOIN custom_role d ON d.name = r.role";

impl Users {
    /// The users in this database; every request reads one, so reading does not wait for writers.
    pub fn new(writer: Pool, readers: Pool) -> Self {
        Self { writer, readers }
    }

    /// The user with this login name.
    pub async fn find(&self, name: &str) -> Result<Option<User>, UsersError> {
        let query = sql::composed(format!("SELECT {COLUMNS} FROM users u {ROLES} WHERE u.name = ?"));
        self.one(query.bind(name)).await
    }

    /// The user with this id.
    pub async fn get(&self, id: i64) -> Result<Option<User>, UsersError> {
        let query = sql::composed(format!("SELECT {COLUMNS} FROM users u {ROLES} WHERE u.id = ?"));
        self.one(query.bind(id)).await
    }

    async fn one(&self, query: Query<'_>) -> Result<Option<User>, UsersError> {
        let rows = query.fetch_all(&self.readers).await?;
        Ok(read_all(&rows)?.pop())
    }

    /// All users, by id.
    pub async fn all(&self) -> Result<Vec<User>, UsersError> {
        let query = sql::composed(format!("SELECT {COLUMNS} FROM users u {ROLES} ORDER BY u.id"));
        let rows = query.fetch_all(&self.readers).await?;
        Ok(read_all(&rows)?)
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

    /// An id nobody has had.
    pub async fn take_id(&self) -> Result<i64, UsersError> {
        let taken = retried(|| async {
            let mut tx = self.writer.write().await?;
            let take = sql::query("UPDATE id_sequence SET next_id = next_id + 1 WHERE name = 'user'");
            take.execute(&mut tx).await?;
            let read = sql::query("SELECT next_id FROM id_sequence WHERE name = 'user'");
            let next: i64 = read.fetch_one(&mut tx).await?.get("next_id")?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(next - 1)
        });
        Ok(taken.await?)
    }

    /// Adds a user with the time of now; false when the id or the name is taken.
    pub async fn insert(&self, user: &User, now: Timestamp) -> Result<bool, UsersError> {
        let inserted = retried(|| async {
            let mut tx = self.writer.write().await?;
            let query = sql::query(
                "INSERT INTO users (id, name, password_hash, roles, enabled, must_change, description, created, changed) \
                 VALUES (?, ?, ?, '', ?, ?, ?, ?, ?)",
            );
            let query = query.bind(user.id).bind(&user.name).bind(&user.password_hash);
            let query = query.bind(user.enabled).bind(user.must_change).bind(&user.description);
            query.bind(now.millis()).bind(now.millis()).execute(&mut tx).await?;
            give_roles(&mut tx, user.id, &user.roles).await?;
            tx.commit().await
        });
        match inserted.await {
            Ok(()) => Ok(true),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes a user; false when there is no such user.
    pub async fn update(&self, id: i64, change: &UserChange, now: Timestamp) -> Result<bool, UsersError> {
        let updated = retried(|| async {
            let mut tx = self.writer.write().await?;
            let touch = sql::query("UPDATE users SET changed = ? WHERE id = ?");
            if touch.bind(now.millis()).bind(id).execute(&mut tx).await? == 0 {
                return Ok(false);
            }
            if let Some(enabled) = change.enabled {
                let set = sql::query("UPDATE users SET enabled = ? WHERE id = ?").bind(enabled);
                set.bind(id).execute(&mut tx).await?;
                if !enabled {
                    end_sessions(&mut tx, id, None).await?;
                }
            }
            if let Some(description) = &change.description {
                let set = sql::query("UPDATE users SET description = ? WHERE id = ?").bind(description);
                set.bind(id).execute(&mut tx).await?;
            }
            if let Some(roles) = &change.roles {
                let take = sql::query("DELETE FROM user_role WHERE user_id = ?");
                take.bind(id).execute(&mut tx).await?;
                give_roles(&mut tx, id, roles).await?;
            }
            tx.commit().await?;
            Ok::<_, sqlx::Error>(true)
        });
        Ok(updated.await?)
    }

    /// Gives a user another password; false when there is no such user.
    pub async fn set_password_hash(&self, id: i64, hash: &str, now: Timestamp) -> Result<bool, UsersError> {
        self.set_password(id, hash, false, None, now).await
    }

    /// The same; `must_change` when somebody else chose it. The user's sessions end, but the one to keep.
    pub async fn set_password(
        &self,
        id: i64,
        hash: &str,
        must_change: bool,
        keep: Option<&str>,
        now: Timestamp,
    ) -> Result<bool, UsersError> {
        let set = retried(|| async {
            let mut tx = self.writer.write().await?;
            let query = sql::query("UPDATE users SET password_hash = ?, must_change = ?, changed = ? WHERE id = ?");
            let query = query.bind(hash).bind(must_change).bind(now.millis()).bind(id);
            if query.execute(&mut tx).await? == 0 {
                return Ok(false);
            }
            end_sessions(&mut tx, id, keep).await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(true)
        });
        Ok(set.await?)
    }

    /// Deletes a user with all that is the user's: roles, access keys, sessions, credentials for hosts. → false when there is no such user
    pub async fn delete(&self, id: i64) -> Result<bool, UsersError> {
        let deleted = retried(|| async {
            let mut tx = self.writer.write().await?;
            // First, as whoever adds something to a user waits for the user's row.
            let user = sql::query("DELETE FROM users WHERE id = ?").bind(id);
            if user.execute(&mut tx).await? == 0 {
                return Ok(false);
            }
            for theirs in [
                "DELETE FROM user_role WHERE user_id = ?",
                "DELETE FROM access_keys WHERE user_id = ?",
                "DELETE FROM browser_session WHERE user_id = ?",
                "DELETE FROM credential WHERE user_id = ?",
            ] {
                sql::query(theirs).bind(id).execute(&mut tx).await?;
            }
            tx.commit().await?;
            Ok::<_, sqlx::Error>(true)
        });
        Ok(deleted.await?)
    }
}

async fn give_roles(tx: &mut Transaction, user_id: i64, roles: &[UserRole]) -> Result<(), sqlx::Error> {
    for role in roles {
        // 0 stands for all.
        let all = BTreeSet::from([0]);
        for cluster in role.clusters.as_ref().unwrap_or(&all) {
            let give = sql::query("INSERT INTO user_role (user_id, role, cluster_id) VALUES (?, ?, ?)");
            give.bind(user_id)
                .bind(&role.name)
                .bind(*cluster)
                .execute(&mut *tx)
                .await?;
        }
    }
    Ok(())
}

async fn end_sessions(tx: &mut Transaction, user_id: i64, keep: Option<&str>) -> Result<(), sqlx::Error> {
    let end = sql::query("DELETE FROM browser_session WHERE user_id = ? AND id <> ?");
    let end = end.bind(user_id).bind(keep.unwrap_or_default());
    end.execute(tx).await.map(drop)
}

/// The users of rows with [`COLUMNS`], those of one user together.
pub(crate) fn read_all(rows: &[Row]) -> Result<Vec<User>, sqlx::Error> {
    let mut users: Vec<User> = Vec::new();
    for row in rows {
        let id = row.get("id")?;
        if users.last().is_none_or(|user| user.id != id) {
            users.push(User {
                id,
                name: row.get("name")?,
                password_hash: row.get("password_hash")?,
                roles: Vec::new(),
                enabled: row.get("enabled")?,
                must_change: row.get("must_change")?,
                description: row.get("description")?,
                created: Timestamp(row.get("created")?),
                changed: Timestamp(row.get("changed")?),
            });
        }
        let (Some(user), Some(role)) = (users.last_mut(), row.get::<Option<String>>("role")?) else {
            continue;
        };
        let cluster: i64 = row.get("cluster_id")?;
        let rights: Option<String> = row.get("rights")?;
        add_role(&mut user.roles, role, cluster, &rights.unwrap_or_default());
    }
    for user in &mut users {
        user.roles.sort_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(users)
}

/// Adds one cluster to what is known of a user's roles. All and some are all.
fn add_role(roles: &mut Vec<UserRole>, name: String, cluster: i64, rights: &str) {
    let known = roles.iter_mut().find(|role| role.name == name);
    match known {
        Some(role) if cluster == 0 => role.clusters = None,
        Some(role) => role.clusters.iter_mut().for_each(|clusters| {
            clusters.insert(cluster);
        }),
        None => roles.push(UserRole {
            name,
            clusters: (cluster != 0).then(|| BTreeSet::from([cluster])),
            rights: words(rights),
        }),
    }
}

/// What has commas between.
pub(crate) fn words(text: &str) -> Vec<String> {
    text.split(',')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}
