//! Custom roles: names for sets of rights, beside those that are OCP's.

use obfleet_wire::time::Timestamp;

use super::{Users, UsersError, words};
use crate::sql::{self, Row, retried};

/// A custom role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomRole {
    /// Its name.
    pub name: String,
    /// For people.
    pub description: String,
    /// What it lets its users do.
    pub rights: Vec<String>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was changed.
    pub changed: Timestamp,
}

/// What became of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleDeleted {
    /// It is gone.
    Gone,
    /// There was none.
    Missing,
    /// Somebody has it: a user's name would be a long list, so the number of them.
    InUse(i64),
}

impl Users {
    /// All custom roles, by name.
    pub async fn custom_roles(&self) -> Result<Vec<CustomRole>, UsersError> {
        let query = sql::query("SELECT name, description, rights, created, changed FROM custom_role ORDER BY name");
        let rows = query.fetch_all(&self.readers).await?;
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }

    /// Adds a custom role; false when the name is taken. Nobody has it yet: what is left of one of that name before goes.
    pub async fn insert_role(&self, role: &CustomRole) -> Result<bool, UsersError> {
        let inserted = retried(|| async {
            let mut tx = self.writer.write().await?;
            let query = sql::query(
                "INSERT INTO custom_role (name, description, rights, created, changed) VALUES (?, ?, ?, ?, ?)",
            );
            let query = query
                .bind(&role.name)
                .bind(&role.description)
                .bind(role.rights.join(","));
            let query = query.bind(role.created.millis()).bind(role.changed.millis());
            query.execute(&mut tx).await?;
            let left = sql::query("DELETE FROM user_role WHERE role = ?").bind(&role.name);
            left.execute(&mut tx).await?;
            tx.commit().await
        });
        match inserted.await {
            Ok(()) => Ok(true),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a custom role another description or other rights, which all who have it have from then on; false when there
    /// is none.
    pub async fn update_role(&self, role: &CustomRole) -> Result<bool, UsersError> {
        let query = sql::query("UPDATE custom_role SET description = ?, rights = ?, changed = ? WHERE name = ?");
        let query = query.bind(&role.description).bind(role.rights.join(","));
        let query = query.bind(role.changed.millis()).bind(&role.name);
        Ok(query.execute(&self.writer).await? == 1)
    }

    /// Deletes a custom role that nobody has.
    pub async fn delete_role(&self, name: &str) -> Result<RoleDeleted, UsersError> {
        let deleted = retried(|| async {
            let mut tx = self.writer.write().await?;
            let role = sql::query("DELETE FROM custom_role WHERE name = ?").bind(name);
            if role.execute(&mut tx).await? == 0 {
                return Ok(RoleDeleted::Missing);
            }
            let users = sql::query("SELECT COUNT(DISTINCT user_id) AS users FROM user_role WHERE role = ?").bind(name);
            let users: i64 = users.fetch_one(&mut tx).await?.get("users")?;
            if users > 0 {
                return Ok(RoleDeleted::InUse(users));
            }
            tx.commit().await?;
            Ok::<_, sqlx::Error>(RoleDeleted::Gone)
        });
        Ok(deleted.await?)
    }
}

fn read(row: &Row) -> Result<CustomRole, sqlx::Error> {
    let rights: String = row.get("rights")?;
    Ok(CustomRole {
        name: row.get("name")?,
        description: row.get("description")?,
        rights: words(&rights),
        created: Timestamp(row.get("created")?),
        changed: Timestamp(row.get("changed")?),
    })
}
