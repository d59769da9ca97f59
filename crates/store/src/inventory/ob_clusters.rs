//! OceanBase clusters and links in SQL.
//!
//! Whoever adds or removes one waits for the others, as those who make clusters do: what was looked up before may have
//! changed since.

use obfleet_engine::TaskId;
use obfleet_fleet::{
    inventory::{InventoryChange, ObCluster, ObLink, SealedAccount},
    secrets::Sealed,
};
use obfleet_wire::{ob::ClusterType, time::Timestamp};
use serde::Serialize;
use sqlx::Error;

use super::{applier::wait_for_others, rows::word};
use crate::{
    sql::{self, Transaction},
    tasks::ApplyError,
};

fn json(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Encode(Box::new(error)))
}

/// Adds an OceanBase cluster unless it could not be told from another.
pub(super) async fn insert(tx: &mut Transaction, known: &ObCluster) -> Result<bool, Error> {
    wait_for_others(tx).await?;
    let named = sql::query("SELECT ob_cluster_id, cluster_type FROM ob_cluster WHERE name = ?").bind(&known.name);
    for other in named.fetch_all(&mut *tx).await? {
        let (id, cluster_type): (i64, String) = (other.get("ob_cluster_id")?, other.get("cluster_type")?);
        let is_apart = known.ob_cluster_id.is_some_and(|known| known != id) && id != 0;
        let second = known.cluster_type == ClusterType::Primary && cluster_type == ClusterType::Primary.as_str();
        if !is_apart || second {
            return Ok(false);
        }
    }
    let query = sql::query(
        "INSERT INTO ob_cluster (id, name, ob_cluster_id, cluster_type, root_servers, proxyro_password, account, \
         creator_id, creator_name, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    );
    let query = query
        .bind(known.id)
        .bind(&known.name)
        .bind(known.ob_cluster_id.unwrap_or_default());
    let query = query
        .bind(word(&known.cluster_type))
        .bind(json(&known.root_servers)?)
        .bind(known.proxyro_password.as_ref().map(|sealed| sealed.text().to_owned()));
    let query = query
        .bind(known.account.as_ref().map(json).transpose()?)
        .bind(known.creator_id)
        .bind(&known.creator_name);
    let query = query.bind(known.created.millis()).bind(known.updated.millis());
    query.execute(tx).await?;
    Ok(true)
}

/// Keeps those secrets that are given.
pub(super) async fn keep_secrets(
    tx: &mut Transaction,
    id: i64,
    proxyro_password: Option<&Sealed>,
    account: Option<&SealedAccount>,
    at: Timestamp,
) -> Result<bool, Error> {
    let touch = sql::query("UPDATE ob_cluster SET updated_at = ? WHERE id = ?");
    if touch.bind(at.millis()).bind(id).execute(&mut *tx).await? == 0 {
        return Ok(false);
    }
    if let Some(password) = proxyro_password {
        let set = sql::query("UPDATE ob_cluster SET proxyro_password = ? WHERE id = ?");
        set.bind(password.text()).bind(id).execute(&mut *tx).await?;
    }
    if let Some(account) = account {
        let set = sql::query("UPDATE ob_cluster SET account = ? WHERE id = ?");
        set.bind(json(account)?).bind(id).execute(tx).await?;
    }
    Ok(true)
}

/// Removes an OceanBase cluster unless a proxy cluster that is there serves it, or another of its name.
pub(super) async fn delete(tx: &mut Transaction, id: i64) -> Result<bool, Error> {
    wait_for_others(tx).await?;
    let links = sql::query(
        "SELECT l.name FROM ob_link l JOIN ob_cluster o ON o.name = l.name JOIN obproxy_cluster c ON c.id = l.cluster_id \
         WHERE o.id = ? AND c.deleted = FALSE",
    );
    if !links.bind(id).fetch_all(&mut *tx).await?.is_empty() {
        return Ok(false);
    }
    let delete = sql::query("DELETE FROM ob_cluster WHERE id = ?").bind(id);
    Ok(delete.execute(tx).await? == 1)
}

/// Applies a change of OceanBase clusters or links, and no other.
pub(super) async fn apply(tx: &mut Transaction, task: TaskId, change: &InventoryChange) -> Result<(), ApplyError> {
    match change {
        InventoryChange::InsertObCluster(known) => insert_new(tx, known).await?,
        InventoryChange::SetObCluster {
            id,
            ob_cluster_id,
            cluster_type,
            root_servers,
        } => {
            let set = sql::query(
                "UPDATE ob_cluster SET ob_cluster_id = ?, cluster_type = ?, root_servers = ?, updated_at = \
                 (SELECT at FROM task_event WHERE task_id = ? ORDER BY seq DESC LIMIT 1) WHERE id = ?",
            );
            let set = set.bind(ob_cluster_id.unwrap_or_default()).bind(word(cluster_type));
            let set = set.bind(json(root_servers)?).bind(task.0).bind(id);
            set.execute(tx).await?;
        }
        InventoryChange::DeleteObCluster { id } => {
            delete(tx, *id).await?;
        }
        InventoryChange::InsertObLink(link) => insert_link(tx, link).await?,
        InventoryChange::SetObLink {
            cluster_id,
            name,
            status,
            told,
        } => {
            let set = sql::query("UPDATE ob_link SET status = ?, told = ? WHERE cluster_id = ? AND name = ?");
            let set = set.bind(word(status)).bind(told).bind(cluster_id).bind(name);
            set.execute(tx).await?;
        }
        InventoryChange::DeleteObLink { cluster_id, name } => {
            let delete = sql::query("DELETE FROM ob_link WHERE cluster_id = ? AND name = ?");
            delete.bind(cluster_id).bind(name).execute(tx).await?;
        }
        _ => {}
    }
    Ok(())
}

async fn insert_new(tx: &mut Transaction, known: &ObCluster) -> Result<(), ApplyError> {
    match insert(tx, known).await? {
        true => Ok(()),
        false => Err(refused(&known.name, "was registered meanwhile")),
    }
}

/// A link that is there already is left as it is: this may be the second try.
async fn insert_link(tx: &mut Transaction, link: &ObLink) -> Result<(), ApplyError> {
    wait_for_others(tx).await?;
    let known = sql::query("SELECT id FROM ob_cluster WHERE id = ?").bind(link.ob_cluster);
    if known.fetch_optional(&mut *tx).await?.is_none() {
        return Err(refused(&link.name, "was deleted meanwhile"));
    }
    let there = sql::query("SELECT name FROM ob_link WHERE cluster_id = ? AND name = ?");
    let there = there.bind(link.cluster_id).bind(&link.name);
    if there.fetch_optional(&mut *tx).await?.is_some() {
        return Ok(());
    }
    let query = sql::query(
        "INSERT INTO ob_link (cluster_id, name, ob_cluster, username, status, told) VALUES (?, ?, ?, ?, ?, ?)",
    );
    let query = query.bind(link.cluster_id).bind(&link.name).bind(link.ob_cluster);
    let query = query.bind(&link.username).bind(word(&link.status)).bind(link.told);
    query.execute(tx).await?;
    Ok(())
}

fn refused(name: &str, what: &str) -> ApplyError {
    ApplyError::Refused(format!("OceanBase cluster {name} {what}"))
}
