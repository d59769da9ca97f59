//! The changes tasks make to the inventory, applied in the engine's transactions.

use std::collections::BTreeSet;

use async_trait::async_trait;
use obfleet_engine::TaskId;
use obfleet_fleet::inventory::{Cluster, InventoryChange, Proxy};

use super::{
    host,
    ids::{IDS, among, bind_all},
    news::{self, News},
    ob_clusters, parameters,
    rows::word,
    take_over,
};
use crate::sql::{self, Batch, Transaction};
use crate::tasks::{ApplyError, ChangeApplier};

/// Applies [`InventoryChange`]s.
#[derive(Debug, Clone, Copy, Default)]
pub struct InventoryApplier;

#[async_trait]
impl ChangeApplier<InventoryChange> for InventoryApplier {
    async fn apply(&self, tx: &mut Transaction, task: TaskId, changes: &[InventoryChange]) -> Result<(), ApplyError> {
        for news in changes.iter().filter_map(News::of) {
            news::tell(tx, news);
        }
        let mut batch = Batch::new(tx);
        // A task may hold hundreds of proxies, and begins with the same for all of them.
        for alike in changes.chunk_by(is_same_status).flat_map(|alike| alike.chunks(IDS)) {
            apply_alike(&mut batch, task, alike).await?;
        }
        touch_clusters(&mut batch, task, changes).await?;
        batch.run().await?;
        Ok(())
    }
}

/// Whether both give a proxy the same status.
fn is_same_status(one: &InventoryChange, other: &InventoryChange) -> bool {
    let status = |change: &InventoryChange| match change {
        InventoryChange::SetProxyStatus {
            status, operate_status, ..
        } => Some((*status, *operate_status)),
        _ => None,
    };
    status(one).is_some_and(|one| status(other) == Some(one))
}

/// Applies one change, or several that give proxies the same status.
async fn apply_alike<'c>(
    batch: &mut Batch<'_, 'c>,
    task: TaskId,
    alike: &'c [InventoryChange],
) -> Result<(), ApplyError> {
    let Some(change) = alike.first() else { return Ok(()) };
    let query = match change {
        InventoryChange::InsertCluster(cluster) => return insert_cluster(batch.run().await?, cluster).await,
        InventoryChange::InsertProxy(proxy) => return insert_proxy(batch.run().await?, proxy).await,
        InventoryChange::ExpectParameterVersion {
            cluster_id,
            parameter_version,
        } => return parameters::expect_version(batch.run().await?, *cluster_id, *parameter_version).await,
        InventoryChange::SetWantedParameters {
            cluster_id,
            parameter_version,
            rows,
        } => return parameters::set_wanted(batch.run().await?, *cluster_id, *parameter_version, rows).await,
        InventoryChange::SetParameterChanges { cluster_id, changes } => {
            return parameters::set_changes(batch.run().await?, task, *cluster_id, changes).await;
        }
        InventoryChange::SetTakeOverPassword { proxy_id, password } => {
            return Ok(take_over::set_password(batch.run().await?, *proxy_id, password.as_ref()).await?);
        }
        InventoryChange::SetProxyConfig(config) => return parameters::set_config(batch.run().await?, config).await,
        InventoryChange::SetClusterDeleted { cluster_id, deleted } => {
            sql::query("UPDATE obproxy_cluster SET deleted = ? WHERE id = ?")
                .bind(deleted)
                .bind(cluster_id)
        }
        InventoryChange::SetClusterSettings { cluster_id, settings } => {
            let settings = serde_json::to_string(settings).map_err(|error| ApplyError::Refused(error.to_string()))?;
            let query = sql::query("UPDATE obproxy_cluster SET settings = ? WHERE id = ?");
            query.bind(settings).bind(cluster_id)
        }
        InventoryChange::SetClusterVersion { cluster_id, version } => {
            let query = sql::query("UPDATE obproxy_cluster SET version = ? WHERE id = ?");
            query.bind(version.as_ref().map(ToString::to_string)).bind(cluster_id)
        }
        InventoryChange::SetProxyStatus {
            status, operate_status, ..
        } => {
            let query = among(PROXY_STATUS, alike.len());
            let query = query.bind(word(status)).bind(word(operate_status)).bind(task.0);
            let ids = alike.iter().filter_map(|change| match change {
                InventoryChange::SetProxyStatus { proxy_id, .. } => Some(*proxy_id),
                _ => None,
            });
            bind_all(query, &Vec::from_iter(ids))
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
        InventoryChange::InsertHost(host) => return host::insert(batch.run().await?, host).await,
        InventoryChange::SetHostFound {
            host_id,
            facts,
            host_key,
        } => return host::set_found(batch.run().await?, task, *host_id, facts, host_key).await,
        InventoryChange::SetHostStage { host_id, stage } => {
            return host::set_stage(batch.run().await?, task, *host_id, *stage).await;
        }
        InventoryChange::SetHostGone { host_id } => return host::set_gone(batch.run().await?, task, *host_id).await,
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
        | InventoryChange::DeleteObLink { .. } => return ob_clusters::apply(batch.run().await?, task, change).await,
    };
    batch.add(query);
    Ok(())
}

/// With the time of the task's last event: what was seen before that is out of date.
const PROXY_STATUS: &str = "UPDATE obproxy_server SET status = ?, operate_status = ?, status_at = \
                            (SELECT at FROM task_event WHERE task_id = ? ORDER BY seq DESC LIMIT 1) WHERE id";
const PROXY_OFFLINE: &str = "UPDATE obproxy_server SET offline = ?, status_at = \
                             (SELECT at FROM task_event WHERE task_id = ? ORDER BY seq DESC LIMIT 1) WHERE id = ?";

/// Sets the time of clusters to that of a task's last event.
const CLUSTERS: &str = "UPDATE obproxy_cluster SET updated_at = \
                        (SELECT at FROM task_event WHERE task_id = ? ORDER BY seq DESC LIMIT 1) WHERE id";
/// The same, for the cluster of a proxy.
const CLUSTER_OF_PROXY: &str = "UPDATE obproxy_cluster SET updated_at = \
                                (SELECT at FROM task_event WHERE task_id = ? ORDER BY seq DESC LIMIT 1) \
                                WHERE id = (SELECT cluster_id FROM obproxy_server WHERE id = ?)";

/// A cluster has changed when one of its proxies has. The time is that of the task's last event: the one these changes are
/// committed with.
async fn touch_clusters(
    batch: &mut Batch<'_, '_>,
    task: TaskId,
    changes: &[InventoryChange],
) -> Result<(), ApplyError> {
    let (mut clusters, mut proxies) = (BTreeSet::new(), BTreeSet::new());
    for change in changes {
        match Touched::by(change) {
            Some(Touched::Cluster(id)) => clusters.insert(id),
            Some(Touched::ClusterOf(proxy)) => proxies.insert(proxy),
            None => false,
        };
    }
    let proxies = Vec::from_iter(proxies);
    match proxies[..] {
        // As nearly always; nothing has to be looked up.
        [proxy] => batch.add(sql::query(CLUSTER_OF_PROXY).bind(task.0).bind(proxy)),
        _ => {
            for ids in proxies.chunks(IDS) {
                let find = among("SELECT DISTINCT cluster_id FROM obproxy_server WHERE id", ids.len());
                for row in bind_all(find, ids).fetch_all(batch.run().await?).await? {
                    clusters.insert(row.get("cluster_id")?);
                }
            }
        }
    }
    for ids in Vec::from_iter(clusters).chunks(IDS) {
        batch.add(bind_all(among(CLUSTERS, ids.len()).bind(task.0), ids));
    }
    Ok(())
}

/// What has changed when something of it has.
enum Touched {
    Cluster(i64),
    /// The cluster of this proxy.
    ClusterOf(i64),
}

impl Touched {
    fn by(change: &InventoryChange) -> Option<Self> {
        Some(match change {
            // Says when it was made by itself; hosts and OceanBase clusters are no part of a cluster; nothing that is shown
            // of it has changed.
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
            | InventoryChange::DeleteObCluster { .. } => return None,
            InventoryChange::InsertObLink(link) => Self::Cluster(link.cluster_id),
            InventoryChange::SetObLink { cluster_id, .. } | InventoryChange::DeleteObLink { cluster_id, .. } => {
                Self::Cluster(*cluster_id)
            }
            InventoryChange::InsertProxy(proxy) => Self::Cluster(proxy.cluster_id),
            InventoryChange::SetClusterDeleted { cluster_id, .. }
            | InventoryChange::SetWantedParameters { cluster_id, .. }
            | InventoryChange::SetClusterSettings { cluster_id, .. }
            | InventoryChange::SetClusterVersion { cluster_id, .. } => Self::Cluster(*cluster_id),
            InventoryChange::SetProxyStatus { proxy_id, .. }
            | InventoryChange::SetProxyOffline { proxy_id, .. }
            | InventoryChange::SetProxyVersion { proxy_id, .. }
            | InventoryChange::SetProxyParameterVersion { proxy_id, .. }
            | InventoryChange::SetExporterRegistered { proxy_id, .. }
            | InventoryChange::SetProxyDeleted { proxy_id, .. } => Self::ClusterOf(*proxy_id),
        })
    }
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
