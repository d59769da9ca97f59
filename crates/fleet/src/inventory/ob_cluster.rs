//! OceanBase clusters, and which proxy clusters serve them.

use obfleet_wire::{
    ob::{ClusterType, RootServer},
    obproxy::LinkStatus,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::secrets::Sealed;

/// A registered OceanBase cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct ObCluster {
    /// Its id.
    pub id: i64,
    /// Its name, which others may have too.
    pub name: String,
    /// Its cluster_id parameter; all of one name have one, unless there is only one.
    pub ob_cluster_id: Option<i64>,
    /// What it is among those of its name.
    pub cluster_type: ClusterType,
    /// Its root servers; none of one that only a link has named.
    pub root_servers: Vec<RootServer>,
    /// Password of proxyro there.
    pub proxyro_password: Option<Sealed>,
    /// The account a probe logs in with.
    pub account: Option<SealedAccount>,
    /// Who registered it.
    pub creator_id: i64,
    /// Login name of who registered it.
    pub creator_name: String,
    /// When it was registered.
    pub created: Timestamp,
    /// When its row last changed.
    pub updated: Timestamp,
}

/// An account whose password is sealed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SealedAccount {
    /// User as a client gives it.
    pub user: String,
    /// Its password.
    pub password: Sealed,
}

/// A proxy cluster serves an OceanBase cluster. A proxy cluster has one link of a name at most; it keeps its links when it
/// is deleted, since the deletion may be rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObLink {
    /// The proxy cluster.
    pub cluster_id: i64,
    /// Name of the OceanBase cluster.
    pub name: String,
    /// The OceanBase cluster.
    pub ob_cluster: i64,
    /// Account the proxies use there.
    pub username: String,
    /// How far it is; never [`LinkStatus::Unavailable`], which is what becomes of one without root servers.
    pub status: LinkStatus,
    /// Whether the config server tells of it.
    pub told: bool,
}
