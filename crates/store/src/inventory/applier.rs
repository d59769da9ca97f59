//! The changes tasks make to the inventory, applied in the engine's transactions.

use async_trait::async_trait;
use obfleet_engine::TaskId;
use obfleet_fleet::inventory::{Cluster, InventoryChange, Proxy};

use super::{
    host,
    news::{self, News},
    ob_clusters, parameters,
    rows::word,
    take_over,
};
use crate::sql::{self, Transaction};
use crate::tasks::{ApplyError, ChangeApplier};

/// Applies [`InventoryChange`]s.
#[derive(Debug, Clone, Copy, Default)]
pub struct InventoryApplier;

#[async_trait]
impl ChangeApplier<InventoryChange> for InventoryApplier {
    async fn apply(&self, tx: &mut Transaction, task: TaskId, change: &InventoryChange) -> Result<(), ApplyError> {
        if let Some(news) = News::of(change) {
            news::tell(tx, news);
        }
        let query = match change {
            InventoryChange::InsertCluster(cluster) => return insert_cluster(tx, cluster).await,
            InventoryChange::InsertProxy(proxy) => {
                insert_proxy(&mut *tx, proxy).await?;
                return touch_cluster(tx, task, change).await;
            }
            InventoryChange::ExpectParameterVersion {
                cluster_id,
                parameter_version,
            } => return parameters::expect_version(tx, *cluster_id, *parameter_version).await,
            InventoryChange::SetWantedParameters {
                cluster_id,
                parameter_version,
                rows,
            } => {
                parameters::set_wanted(&mut *tx, *cluster_id, *parameter_version, rows).await?;
                return touch_cluster(tx, task, change).await;
            }
            InventoryChange::SetParameterChanges { cluster_id, changes } => {
                return parameters::set_changes(tx, task, *cluster_id, changes).await;
            }
            InventoryChange::SetTakeOverPassword { proxy_id, password } => {
                return Ok(take_over::set_password(tx, *proxy_id, password.as_ref()).await?);
            }
            InventoryChange::SetProxyConfig(config) => return parameters::set_config(tx, config).await,
            InventoryChange::SetClusterDeleted { cluster_id, deleted } => {
                sql::query("UPDATE obproxy_cluster SET deleted = ? WHERE id = ?")
                    .bind(deleted)
                    .bind(cluster_id)
            }
            InventoryChange::SetClusterSettings { cluster_id, settings } => {
                let settings =
                    serde_json::to_string(settings).map_err(|error| ApplyError::Refused(error.to_string()))?;
                let query = sql::query("UPDATE obproxy_cluster SET settings = ? WHERE id = ?");
                query.bind(settings).bind(cluster_id)
            }
            InventoryChange::SetClusterVersion { cluster_id, version } => {
                let query = sql::query("UPDATE obproxy_cluster SET version = ? WHERE id = ?");
                query.bind(version.as_ref().map(ToString::to_string)).bind(cluster_id)
            }
            InventoryChange::SetProxyStatus {
                proxy_id,
                status,
                operate_status,
            } => {
                let query = sql::query(PROXY_STATUS).bind(word(status)).bind(word(operate_status));
                query.bind(task.0).bind(proxy_id)
            }
            InventoryChange::SetProxyOffline { proxy_id, offline } => {
                sql::query(PROXY_OFFLINE).bind(offline).bind(task.0).bind(proxy_id)
            }
            InventoryChange::SetProxyVersion { proxy_id, version } => {
                let query = sql::query("UPDATE obproxy_server SET version = ? WHERE id = ?");
                query.bind(version.to_string()).bind(proxy_id)
            }
            InventoryChange::SetProxyParameterVersion {
                proxy_id,
                parameter_version,
            } => {
                let query = sql::query("UPDATE obproxy_server SET parameter_version = ? WHERE id = ?");
                query.bind(parameter_version).bind(proxy_id)
            }
            InventoryChange::SetExporterRegistered { proxy_id, registered } => {
                let query = sql::query("UPDATE obproxy_server SET exporter_registered = ? WHERE id = ?");
                query.bind(registered).bind(proxy_id)
            }
            InventoryChange::SetProxyDeleted { proxy_id, deleted } => {
                sql::query("UPDATE obproxy_server SET deleted = ? WHERE id = ?")
                    .bind(deleted)
                    .bind(proxy_id)
            }
            InventoryChange::InsertHost(host) => return host::insert(tx, host).await,
            InventoryChange::SetHostFound {
                host_id,
                facts,
                host_key,
            } => return host::set_found(tx, task, *host_id, facts, host_key).await,
            InventoryChange::SetHostStage { host_id, stage } => {
                return host::set_stage(tx, task, *host_id, *stage).await;
            }
            InventoryChange::SetHostGone { host_id } => return host::set_gone(tx, task, *host_id).await,
            InventoryChange::SetHostReserved { host_id, reserved } => {
                sql::query("UPDATE host SET reserved = ? WHERE id = ?")
                    .bind(reserved)
                    .bind(host_id)
            }
            InventoryChange::InsertObCluster(_)
            | InventoryChange::SetObCluster { .. }
            | InventoryChange::DeleteObCluster { .. }
            | InventoryChange::InsertObLink(_)
            | InventoryChange::SetObLink { .. }
            | InventoryChange::DeleteObLink { .. } => {
                ob_clusters::apply(tx, task, change).await?;
                return touch_cluster(tx, task, change).await;
            }
        };
        query.execute(&mut *tx).await?;
        touch_cluster(tx, task, change).await
    }
}

/// With the time of the task's last event: what was seen before that is out of date.
const PROXY_STATUS: &str = "UPDATE obproxy_server SET status = ?, operate_status = ?, status_at = \
                            (SELECT at FROM task_event WHERE task_id = ? ORDER BY seq DESC LIMIT 1) WHERE id = ?";
const PROXY_OFFLINE: &str = "UPDATE obproxy_server SET offline = ?, status_at = \
                             (SELECT at FROM task_event WHERE task_id = ? ORDER BY seq DESC LIMIT 1) WHERE id = ?";

/// Sets the time of a cluster to that of a task's last event.
const CLUSTER: &str = "UPDATE obproxy_cluster SET updated_at = \
                       (SELECT at FROM task_event WHERE task_id = ? ORDER BY seq DESC LIMIT 1) WHERE id = ?";
/// The same, for the cluster of a proxy.
const CLUSTER_OF_PROXY: &str = "UPDATE obproxy_cluster SET updated_at = \
                                (SELECT at FROM task_event WHERE task_id = ? ORDER BY seq DESC LIMIT 1) \
                                WHERE id = (SELECT cluster_id FROM obproxy_server WHERE id = ?)";

/// A cluster has changed when one of its proxies has. The time is that of the task's last event: the one this change is
/// committed with.
async fn touch_cluster(tx: &mut Transaction, task: TaskId, change: &InventoryChange) -> Result<(), ApplyError> {
    let (set, id) = match change {
        // Says when it was made by itself; hosts and OceanBase clusters are no part of a cluster; nothing that is shown of it
        // has changed.
        InventoryChange::InsertCluster(_)
        | InventoryChange::InsertHost(_)
        | InventoryChange::SetHostFound { .. }
        | InventoryChange::SetHostStage { .. }
        | InventoryChange::SetHostGone { .. }
        | InventoryChange::SetHostReserved { .. }
        | InventoryChange::ExpectParameterVersion { .. }
        | InventoryChange::SetParameterChanges { .. }
        | InventoryChange::SetProxyConfig(_)
        | InventoryChange::SetTakeOverPassword { .. }
        | InventoryChange::InsertObCluster(_)
        | InventoryChange::SetObCluster { .. }
        | InventoryChange::DeleteObCluster { .. } => return Ok(()),
        InventoryChange::InsertObLink(link) => (CLUSTER, link.cluster_id),
        InventoryChange::SetObLink { cluster_id, .. } | InventoryChange::DeleteObLink { cluster_id, .. } => {
            (CLUSTER, *cluster_id)
        }
        InventoryChange::InsertProxy(proxy) => (CLUSTER, proxy.cluster_id),
        InventoryChange::SetClusterDeleted { cluster_id, .. }
        | InventoryChange::SetWantedParameters { cluster_id, .. }
        | InventoryChange::SetClusterSettings { cluster_id, .. }
        | InventoryChange::SetClusterVersion { cluster_id, .. } => (CLUSTER, *cluster_id),
        InventoryChange::SetProxyStatus { proxy_id, .. }
        | InventoryChange::SetProxyOffline { proxy_id, .. }
        | InventoryChange::SetProxyVersion { proxy_id, .. }
        | InventoryChange::SetProxyParameterVersion { proxy_id, .. }
        | InventoryChange::SetExporterRegistered { proxy_id, .. }
        | InventoryChange::SetProxyDeleted { proxy_id, .. } => (CLUSTER_OF_PROXY, *proxy_id),
    };
    sql::query(set).bind(task.0).bind(id).execute(tx).await?;
    Ok(())
}

/// Only one transaction at a time gets past this.
pub(super) async fn wait_for_others(tx: &mut Transaction) -> Result<(), sqlx::Error> {
    let for_update = tx.dialect().for_update();
    let wait = sql::composed(format!("SELECT id FROM installation{for_update}"));
    wait.fetch_optional(tx).await.map(drop)
}

/// The name was looked up before the transaction; somebody may have taken it since, or be about to: whoever makes a cluster
/// waits for the others.
async fn insert_cluster(tx: &mut Transaction, cluster: &Cluster) -> Result<(), ApplyError> {
    wait_for_others(tx).await?;
    let taken = sql::query("SELECT id FROM obproxy_cluster WHERE name = ? AND deleted = FALSE").bind(&cluster.name);
    if taken.fetch_optional(&mut *tx).await?.is_some() {
        return Err(ApplyError::Refused(format!(
            "an obproxy cluster named {} exists",
            cluster.name
        )));
    }
    let settings = serde_json::to_string(&cluster.settings).map_err(|error| ApplyError::Refused(error.to_string()))?;
    let query = sql::query(
        "INSERT INTO obproxy_cluster (id, name, address, port, work_mode, settings, parameter_version, version, \
         creator_id, creator_name, deleted, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    );
    let query = query
        .bind(cluster.id)
        .bind(&cluster.name)
        .bind(&cluster.address)
        .bind(cluster.port);
    let query = query
        .bind(word(&cluster.work_mode))
        .bind(settings)
        .bind(cluster.parameter_version);
    let query = query
        .bind(cluster.version.as_ref().map(ToString::to_string))
        .bind(cluster.creator_id);
    let query = query
        .bind(&cluster.creator_name)
        .bind(cluster.deleted)
        .bind(cluster.created.millis());
    query.bind(cluster.updated.millis()).execute(tx).await?;
    Ok(())
}

pub(super) async fn insert_proxy(tx: &mut Transaction, proxy: &Proxy) -> Result<(), ApplyError> {
    if host::is_going(tx, proxy.host_id).await? {
        return Err(ApplyError::Refused(format!("host {} was deleted", proxy.host_id)));
    }
    let query = sql::query(
        "INSERT INTO obproxy_server (id, cluster_id, host_id, version, sql_port, exporter_port, rpc_port, status, \
         operate_status, parameter_version, exporter_registered, last_active_at, offline, deleted) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    );
    let query = query
        .bind(proxy.id)
        .bind(proxy.cluster_id)
        .bind(proxy.host_id)
        .bind(proxy.version.to_string());
    let query = query
        .bind(proxy.sql_port)
        .bind(proxy.exporter_port)
        .bind(proxy.rpc_port);
    let query = query
        .bind(word(&proxy.status))
        .bind(word(&proxy.operate_status))
        .bind(proxy.parameter_version);
    let query = query
        .bind(proxy.exporter_registered)
        .bind(proxy.last_active.map(|at| at.millis()))
        .bind(proxy.offline);
    query.bind(proxy.deleted).execute(tx).await?;
    Ok(())
}
