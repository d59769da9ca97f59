//! Credentials in SQL.

use obfleet_fleet::inventory::{Credential, CredentialRemoved};
use obfleet_fleet::secrets::Sealed;
use obfleet_wire::time::Timestamp;
use sqlx::Error;

use super::rows::{enumerated, word};
use super::{site::one_at_a_time, take_id};
use crate::sql::{self, Pool, Row, Transaction};

pub(super) async fn of_user(readers: &Pool, user_id: i64) -> Result<Vec<Credential>, Error> {
    let query = sql::query("SELECT * FROM credential WHERE user_id = ? ORDER BY id").bind(user_id);
    query.fetch_all(readers).await?.iter().map(read).collect()
}

pub(super) async fn one(readers: &Pool, user_id: i64, id: i64) -> Result<Option<Credential>, Error> {
    let query = sql::query("SELECT * FROM credential WHERE id = ? AND user_id = ?");
    let query = query.bind(id).bind(user_id);
    query.fetch_optional(readers).await?.as_ref().map(read).transpose()
}

fn read(row: &Row) -> Result<Credential, Error> {
    let passphrase: Option<String> = row.get("key_passphrase")?;
    Ok(Credential {
        id: row.get("id")?,
        user_id: row.get("user_id")?,
        name: row.get("name")?,
        description: row.get("description")?,
        login: enumerated(row, "login")?,
        username: row.get("username")?,
        secret: Sealed::from_text(row.get("secret")?),
        key_passphrase: passphrase.map(Sealed::from_text),
        created: Timestamp(row.get("created_at")?),
        updated: Timestamp(row.get("updated_at")?),
    })
}

pub(super) async fn insert(tx: &mut Transaction, credential: &Credential) -> Result<Option<i64>, Error> {
    one_at_a_time(tx).await?;
    let taken = sql::query("SELECT id FROM credential WHERE user_id = ? AND name = ?");
    let taken = taken.bind(credential.user_id).bind(&credential.name);
    if taken.fetch_optional(&mut *tx).await?.is_some() {
        return Ok(None);
    }
    let id = take_id(tx).await?;
    let query = sql::query(
        "INSERT INTO credential (id, user_id, name, description, login, username, secret, key_passphrase, created_at, \
         updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    );
    let query = query
        .bind(id)
        .bind(credential.user_id)
        .bind(&credential.name)
        .bind(&credential.description);
    let query = query
        .bind(word(&credential.login))
        .bind(&credential.username)
        .bind(credential.secret.text());
    let query = query
        .bind(credential.key_passphrase.as_ref().map(Sealed::text))
        .bind(credential.created.millis())
        .bind(credential.updated.millis());
    query.execute(tx).await?;
    Ok(Some(id))
}

pub(super) async fn delete(tx: &mut Transaction, user_id: i64, id: i64) -> Result<CredentialRemoved, Error> {
    // The row first, so that no other user is told what is done with it.
    let for_update = tx.dialect().for_update();
    let there = sql::composed(format!(
        "SELECT id FROM credential WHERE id = ? AND user_id = ?{for_update}"
    ));
    let there = there.bind(id).bind(user_id).fetch_optional(&mut *tx).await?;
    if there.is_none() {
        return Ok(CredentialRemoved::Missing);
    }
    let held = sql::query(
        "SELECT t.id AS task, t.name AS task_name FROM resource_lock l JOIN task_instance t ON t.id = l.task_id \
         WHERE l.kind = 'credential' AND l.name = ? ORDER BY t.id LIMIT 1",
    );
    if let Some(row) = held.bind(id.to_string()).fetch_optional(&mut *tx).await? {
        return Ok(CredentialRemoved::HeldBy {
            task: row.get("task")?,
            name: row.get("task_name")?,
        });
    }
    let delete = sql::query("DELETE FROM credential WHERE id = ?");
    delete.bind(id).execute(tx).await?;
    Ok(CredentialRemoved::Gone)
}
