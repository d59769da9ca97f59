//! Hosts that come over SSH, and hosts that go.

use obfleet_engine::TaskId;
use obfleet_fleet::{
    bootstrap::{BootstrapSettings, SSH_PORT},
    inventory::{Host, HostStage, HostsDeleted},
};
use obfleet_wire::{agent::HostFacts, time::Timestamp};
use sqlx::Error;

use super::news::{self, News};
use super::rows::{self, word};
use super::site;
use crate::sql::{self, Pool, Query, Transaction};
use crate::tasks::ApplyError;

/// What takes the place of the uid of a host that has no agent. No agent's uid has a colon.
fn no_uid(host_id: i64) -> String {
    format!("none:{host_id}")
}

fn json(value: &impl serde::Serialize) -> Result<String, ApplyError> {
    serde_json::to_string(value).map_err(|error| ApplyError::Refused(error.to_string()))
}

/// Address and place were looked at before the transaction; somebody may have changed them since.
pub(super) async fn insert(tx: &mut Transaction, host: &Host) -> Result<(), ApplyError> {
    let profile = &host.profile;
    let place = site::still_there(tx, profile.place).await?;
    if place != profile.place {
        return Err(ApplyError::Refused("the IDC or host type is gone".to_owned()));
    }
    let known = sql::query("SELECT ssh_port, agent_port FROM host WHERE address = ? AND deleted = FALSE");
    for row in known.bind(&host.address).fetch_all(&mut *tx).await? {
        let (ssh, agent): (Option<i64>, i64) = (row.get("ssh_port")?, row.get("agent_port")?);
        let port = |port: Option<i64>| port.unwrap_or(i64::from(SSH_PORT));
        if port(ssh) == port(profile.ssh_port.map(i64::from)) || agent == i64::from(host.agent_port) {
            let address = &host.address;
            return Err(ApplyError::Refused(format!("a host with address {address} exists")));
        }
    }
    let query = sql::query(
        "INSERT INTO host (id, host_uid, facts, address, agent_port, agent_version, online, reserved, alias, description, \
         idc_id, type_id, kind, publish_ports, serial_number, ssh_port, stage, bootstrap, deleted, created_at, updated_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    );
    let query = query.bind(host.id).bind(no_uid(host.id)).bind(json(&host.facts)?);
    let query = query
        .bind(&host.address)
        .bind(host.agent_port)
        .bind(&host.agent_version);
    let query = query.bind(host.online).bind(host.reserved);
    let query = query.bind(&profile.alias).bind(&profile.description);
    let query = query.bind(place.idc_id).bind(place.type_id).bind(word(&profile.kind));
    let query = query
        .bind(&profile.publish_ports)
        .bind(&profile.serial_number)
        .bind(profile.ssh_port);
    let query = query
        .bind(word(&host.stage))
        .bind(host.bootstrap.as_ref().map(json).transpose()?)
        .bind(host.deleted);
    let query = query.bind(host.created.millis()).bind(host.updated.millis());
    query.execute(tx).await?;
    Ok(())
}

/// What was found out about a host; an agent that has enrolled meanwhile knows better.
pub(super) async fn set_found(
    tx: &mut Transaction,
    task: TaskId,
    host_id: i64,
    facts: &HostFacts,
    host_key: &str,
) -> Result<(), ApplyError> {
    let for_update = tx.dialect().for_update();
    let query = sql::composed(format!("SELECT * FROM host WHERE id = ?{for_update}")).bind(host_id);
    let Some(row) = query.fetch_optional(&mut *tx).await? else {
        return Ok(());
    };
    let host = rows::host(&row)?;
    if !host.has_agent() {
        let query = sql::query("UPDATE host SET facts = ? WHERE id = ?");
        query.bind(json(facts)?).bind(host_id).execute(&mut *tx).await?;
    }
    if let Some(settings) = host.bootstrap {
        let settings = BootstrapSettings {
            host_key: Some(host_key.to_owned()),
            ..settings
        };
        let query = sql::query("UPDATE host SET bootstrap = ? WHERE id = ?");
        query.bind(json(&settings)?).bind(host_id).execute(&mut *tx).await?;
    }
    keep_key(tx, &host.address, host.profile.ssh_port.unwrap_or(SSH_PORT), host_key).await?;
    touch(tx, task, host_id).await
}

/// Sets the time of a host to that of a task's last event.
async fn touch(tx: &mut Transaction, task: TaskId, host_id: i64) -> Result<(), ApplyError> {
    let query = sql::query(
        "UPDATE host SET updated_at = (SELECT at FROM task_event WHERE task_id = ? ORDER BY seq DESC LIMIT 1) \
         WHERE id = ?",
    );
    let query = query.bind(task.0).bind(host_id);
    Ok(query.execute(tx).await.map(drop)?)
}

async fn keep_key(tx: &mut Transaction, address: &str, port: u16, fingerprint: &str) -> Result<(), Error> {
    let query = sql::query("UPDATE ssh_host_key SET fingerprint = ? WHERE address = ? AND port = ?");
    let query = query.bind(fingerprint).bind(address).bind(port);
    query.execute(&mut *tx).await?;
    // A row that has the value already counts as changed on one database and not on another.
    let there = sql::query("SELECT fingerprint FROM ssh_host_key WHERE address = ? AND port = ?");
    if there.bind(address).bind(port).fetch_optional(&mut *tx).await?.is_some() {
        return Ok(());
    }
    let query = sql::query("INSERT INTO ssh_host_key (address, port, fingerprint) VALUES (?, ?, ?)");
    query
        .bind(address)
        .bind(port)
        .bind(fingerprint)
        .execute(tx)
        .await
        .map(drop)
}

/// The key an SSH server is known by.
pub(super) async fn key(readers: &Pool, address: &str, port: u16) -> Result<Option<String>, Error> {
    let query = sql::query("SELECT fingerprint FROM ssh_host_key WHERE address = ? AND port = ?");
    let row = query.bind(address).bind(port).fetch_optional(readers).await?;
    row.map(|row| row.get("fingerprint")).transpose()
}

pub(super) async fn set_stage(
    tx: &mut Transaction,
    task: TaskId,
    host_id: i64,
    stage: HostStage,
) -> Result<(), ApplyError> {
    // The row is locked first, here and by whoever puts a proxy on the host: one of the two sees the other.
    let for_update = tx.dialect().for_update();
    let lock = sql::composed(format!("SELECT id FROM host WHERE id = ?{for_update}")).bind(host_id);
    lock.fetch_optional(&mut *tx).await?;
    if stage == HostStage::Deleting {
        let proxy = sql::query("SELECT id FROM obproxy_server WHERE host_id = ? AND deleted = FALSE LIMIT 1");
        if proxy.bind(host_id).fetch_optional(&mut *tx).await?.is_some() {
            return Err(ApplyError::Refused(format!("there are proxies on host {host_id}")));
        }
    }
    let query = sql::query("UPDATE host SET stage = ? WHERE id = ?");
    query.bind(word(&stage)).bind(host_id).execute(&mut *tx).await?;
    touch(tx, task, host_id).await
}

/// Nobody enrols as a host that is gone.
pub(super) async fn set_gone(tx: &mut Transaction, task: TaskId, host_id: i64) -> Result<(), ApplyError> {
    let tokens = sql::query("DELETE FROM enrol_token WHERE host_id = ?").bind(host_id);
    tokens.execute(&mut *tx).await?;
    let query = sql::query("UPDATE host SET deleted = TRUE, online = FALSE WHERE id = ?");
    query.bind(host_id).execute(&mut *tx).await?;
    touch(tx, task, host_id).await
}

/// Whether the host was deleted; it stays as it is until the transaction ends.
pub(super) async fn is_deleted(tx: &mut Transaction, id: i64) -> Result<bool, Error> {
    let for_update = tx.dialect().for_update();
    let query = sql::composed(format!("SELECT deleted FROM host WHERE id = ?{for_update}"));
    let row = query.bind(id).fetch_optional(tx).await?;
    row.map_or(Ok(false), |row| row.get("deleted"))
}

/// Whether the host was deleted or is about to be; it stays as it is until the transaction ends.
pub(super) async fn is_going(tx: &mut Transaction, id: i64) -> Result<bool, Error> {
    let for_update = tx.dialect().for_update();
    let query = sql::composed(format!("SELECT deleted, stage FROM host WHERE id = ?{for_update}"));
    let Some(row) = query.bind(id).fetch_optional(tx).await? else {
        return Ok(false);
    };
    Ok(row.get("deleted")? || rows::enumerated::<HostStage>(&row, "stage")? == HostStage::Deleting)
}

/// Deletes all of them, unless one is not there or carries a proxy.
pub(super) async fn delete(tx: &mut Transaction, ids: &[i64], at: Timestamp) -> Result<HostsDeleted, Error> {
    if ids.is_empty() {
        return Ok(HostsDeleted::Gone);
    }
    let marks = sql::marks(ids.len());
    let bound = |text: String| ids.iter().fold(sql::composed(text).once(), Query::bind);
    // Whoever puts a proxy on one of them waits.
    let for_update = tx.dialect().for_update();
    let there = bound(format!(
        "SELECT id FROM host WHERE id IN ({marks}) AND deleted = FALSE ORDER BY id{for_update}"
    ));
    let there = there.fetch_all(&mut *tx).await?;
    let there: Vec<i64> = there.iter().map(|row| row.get("id")).collect::<Result<_, _>>()?;
    if let Some(missing) = ids.iter().find(|id| !there.contains(id)) {
        return Ok(HostsDeleted::Missing(*missing));
    }
    let held = ids.iter().fold(
        sql::composed(format!(
            "SELECT l.name AS host, t.id AS task, t.name AS task_name FROM resource_lock l \
             JOIN task_instance t ON t.id = l.task_id WHERE l.kind = 'host' AND l.name IN ({marks}) ORDER BY l.name"
        ))
        .once(),
        |query, id| query.bind(id.to_string()),
    );
    if let Some(row) = held.fetch_optional(&mut *tx).await? {
        let host: String = row.get("host")?;
        return Ok(HostsDeleted::HeldBy {
            host: host.parse().unwrap_or_default(),
            task: row.get("task")?,
            name: row.get("task_name")?,
        });
    }
    let carried = bound(format!(
        "SELECT id, host_id FROM obproxy_server WHERE host_id IN ({marks}) AND deleted = FALSE ORDER BY id"
    ));
    let carried = carried.fetch_all(&mut *tx).await?;
    let carried: Vec<(i64, i64)> = carried
        .iter()
        .map(|row| Ok((row.get("host_id")?, row.get("id")?)))
        .collect::<Result<_, Error>>()?;
    if let Some((host, _)) = carried.first() {
        let proxies = carried.iter().filter(|(on, _)| on == host).map(|(_, proxy)| *proxy);
        return Ok(HostsDeleted::Carries(*host, proxies.collect()));
    }
    let delete = sql::composed(format!(
        "UPDATE host SET deleted = TRUE, online = FALSE, updated_at = ? WHERE id IN ({marks})"
    ));
    let delete = ids.iter().fold(delete.once().bind(at.millis()), Query::bind);
    delete.execute(&mut *tx).await?;
    for id in ids {
        news::tell(tx, News::Host(*id));
    }
    Ok(HostsDeleted::Gone)
}
