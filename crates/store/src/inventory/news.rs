//! What a transaction changes of the inventory, written down with it, so that every server can tell what it has to read again.

use obfleet_fleet::inventory::InventoryChange;
use sqlx::Error;

use crate::sql::{self, Target, Transaction};

/// Changes that are written down. A server that has not read the inventory for longer reads all of it.
pub(super) const KEPT: i64 = 5_000;

/// Something of the inventory that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum News {
    /// A host.
    Host(i64),
    /// A host and whatever proxies are on it: what its agent told.
    Seen(i64),
    /// A proxy, and with it its cluster, which tells when it was last changed.
    Proxy(i64),
    /// A cluster and its links.
    Cluster(i64),
    /// A package.
    Package(i64),
    /// An OceanBase cluster.
    ObCluster(i64),
    /// Regions, IDCs and host types.
    Sites,
}

impl News {
    /// What a change of a task's is, if it is shown anywhere.
    pub(super) fn of(change: &InventoryChange) -> Option<Self> {
        match change {
            InventoryChange::ExpectParameterVersion { .. }
            | InventoryChange::SetParameterChanges { .. }
            | InventoryChange::SetProxyConfig(_)
            | InventoryChange::SetTakeOverPassword { .. } => None,
            InventoryChange::InsertCluster(cluster) => Some(Self::Cluster(cluster.id)),
            InventoryChange::InsertObLink(link) => Some(Self::Cluster(link.cluster_id)),
            InventoryChange::SetClusterDeleted { cluster_id, .. }
            | InventoryChange::SetClusterSettings { cluster_id, .. }
            | InventoryChange::SetClusterVersion { cluster_id, .. }
            | InventoryChange::SetWantedParameters { cluster_id, .. }
            | InventoryChange::SetObLink { cluster_id, .. }
            | InventoryChange::DeleteObLink { cluster_id, .. } => Some(Self::Cluster(*cluster_id)),
            InventoryChange::InsertProxy(proxy) => Some(Self::Proxy(proxy.id)),
            InventoryChange::SetProxyStatus { proxy_id, .. }
            | InventoryChange::SetProxyOffline { proxy_id, .. }
            | InventoryChange::SetProxyVersion { proxy_id, .. }
            | InventoryChange::SetProxyParameterVersion { proxy_id, .. }
            | InventoryChange::SetExporterRegistered { proxy_id, .. }
            | InventoryChange::SetProxyDeleted { proxy_id, .. } => Some(Self::Proxy(*proxy_id)),
            InventoryChange::InsertHost(host) => Some(Self::Host(host.id)),
            InventoryChange::SetHostFound { host_id, .. }
            | InventoryChange::SetHostStage { host_id, .. }
            | InventoryChange::SetHostGone { host_id }
            | InventoryChange::SetHostReserved { host_id, .. } => Some(Self::Host(*host_id)),
            InventoryChange::InsertObCluster(known) => Some(Self::ObCluster(known.id)),
            InventoryChange::SetObCluster { id, .. } | InventoryChange::DeleteObCluster { id } => {
                Some(Self::ObCluster(*id))
            }
        }
    }

    /// As it is written.
    fn columns(self) -> (&'static str, i64) {
        match self {
            Self::Host(id) => ("host", id),
            Self::Seen(id) => ("seen", id),
            Self::Proxy(id) => ("proxy", id),
            Self::Cluster(id) => ("cluster", id),
            Self::Package(id) => ("package", id),
            Self::ObCluster(id) => ("ob_cluster", id),
            Self::Sites => ("sites", 0),
        }
    }

    /// `None` for what only another release knows.
    fn read(kind: &str, thing: i64) -> Option<Self> {
        Some(match kind {
            "host" => Self::Host(thing),
            "seen" => Self::Seen(thing),
            "proxy" => Self::Proxy(thing),
            "cluster" => Self::Cluster(thing),
            "package" => Self::Package(thing),
            "ob_cluster" => Self::ObCluster(thing),
            "sites" => Self::Sites,
            _ => return None,
        })
    }
}

/// Writes down that something changes in this transaction. That is done at its end: there is one count of changes, and
/// whoever has counted keeps the others waiting.
pub(super) fn tell(tx: &mut Transaction, news: News) {
    let told = tx.at_end().len();
    if told == 0 {
        let count = sql::query("UPDATE inventory_revision SET revision = revision + 1");
        tx.at_end().push(count);
    }
    let number = i64::try_from(told).unwrap_or(i64::MAX);
    let (kind, thing) = news.columns();
    let write = sql::query(
        "INSERT INTO inventory_news (revision, number, kind, thing) SELECT revision, ?, ?, ? FROM inventory_revision",
    );
    tx.at_end().push(write.bind(number).bind(kind).bind(thing));
}

/// Forgets the oldest.
pub(super) async fn prune(tx: &mut Transaction) -> Result<(), Error> {
    let revision = revision(&mut *tx).await?;
    let prune = sql::query("DELETE FROM inventory_news WHERE revision <= ?").bind(revision - KEPT);
    prune.execute(tx).await.map(drop)
}

/// How often the inventory has changed.
pub(super) async fn revision(db: impl Into<Target<'_>>) -> Result<i64, Error> {
    let row = sql::query("SELECT revision FROM inventory_revision")
        .fetch_one(db)
        .await?;
    row.get("revision")
}

/// What has changed after that revision, oldest first and `most` of it; `None` if it cannot be told.
pub(super) async fn since(tx: &mut Transaction, revision: i64, most: usize) -> Result<Option<Vec<News>>, Error> {
    let query =
        sql::query("SELECT kind, thing FROM inventory_news WHERE revision > ? ORDER BY revision, number LIMIT ?");
    let limit = i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
    let rows = query.bind(revision).bind(limit).fetch_all(tx).await?;
    if rows.len() > most {
        return Ok(None);
    }
    let read = |row: &sql::Row| Ok::<_, Error>(News::read(&row.get::<String>("kind")?, row.get("thing")?));
    rows.iter().map(read).collect()
}
