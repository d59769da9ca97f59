//! What tasks change.

use obfleet_wire::{
    agent::HostFacts,
    ob::{ClusterType, RootServer},
    obproxy::{LinkStatus, OperateStatus, ProxyStatus},
    version::ProxyVersion,
};

use crate::secrets::Sealed;

use super::{
    Cluster, ClusterSettings, Host, HostStage, ObCluster, ObLink, ParameterChange, Proxy, ProxyConfig, WantedRow,
};

/// A change to the inventory made by a task, committed with the step that made it.
#[derive(Debug, Clone, PartialEq)]
pub enum InventoryChange {
    /// A new cluster.
    InsertCluster(Box<Cluster>),
    /// A cluster appears or disappears.
    SetClusterDeleted {
        /// The cluster.
        cluster_id: i64,
        /// Whether it is gone.
        deleted: bool,
    },
    /// What the rest of a cluster's life depends on.
    SetClusterSettings {
        /// The cluster.
        cluster_id: i64,
        /// All of it.
        settings: Box<ClusterSettings>,
    },
    /// What a cluster gives its proxies, and the version of that set.
    SetWantedParameters {
        /// The cluster.
        cluster_id: i64,
        /// The version of the set from now on.
        parameter_version: i64,
        /// The rows that change.
        rows: Vec<WantedRow>,
    },
    /// Nothing; refused unless the cluster's set still has the version that a plan was made for.
    ExpectParameterVersion {
        /// The cluster.
        cluster_id: i64,
        /// The version.
        parameter_version: i64,
    },
    /// Keeps what the task has changed of parameters, in the place of what it had kept of it before; nothing when it is
    /// undone.
    SetParameterChanges {
        /// The cluster.
        cluster_id: i64,
        /// The changes.
        changes: Vec<ParameterChange>,
    },
    /// The configuration of a proxy, as it was read after a change.
    SetProxyConfig(Box<ProxyConfig>),
    /// The version a cluster's proxies are meant to have.
    SetClusterVersion {
        /// The cluster.
        cluster_id: i64,
        /// The version; `None` when there was none before.
        version: Option<ProxyVersion>,
    },
    /// A new proxy.
    InsertProxy(Proxy),
    /// What a proxy is doing.
    SetProxyStatus {
        /// The proxy.
        proxy_id: i64,
        /// What it is doing.
        status: ProxyStatus,
        /// Whether a task holds it.
        operate_status: OperateStatus,
    },
    /// Whether load balancers are told to keep away from a proxy.
    SetProxyOffline {
        /// The proxy.
        proxy_id: i64,
        /// Whether they are.
        offline: bool,
    },
    /// The version a proxy runs.
    SetProxyVersion {
        /// The proxy.
        proxy_id: i64,
        /// The version.
        version: ProxyVersion,
    },
    /// The parameter set a proxy has.
    SetProxyParameterVersion {
        /// The proxy.
        proxy_id: i64,
        /// Its version.
        parameter_version: i64,
    },
    /// Whether a proxy's metrics are offered to Prometheus.
    SetExporterRegistered {
        /// The proxy.
        proxy_id: i64,
        /// Whether they are.
        registered: bool,
    },
    /// A proxy appears or disappears.
    SetProxyDeleted {
        /// The proxy.
        proxy_id: i64,
        /// Whether it is gone.
        deleted: bool,
    },
    /// The password that a proxy has which is being taken over, until it has its cluster's.
    SetTakeOverPassword {
        /// The proxy.
        proxy_id: i64,
        /// The password; none is kept any more without one.
        password: Option<Sealed>,
    },
    /// A host that is about to get an agent.
    InsertHost(Box<Host>),
    /// What was found out about a host that has no agent yet.
    SetHostFound {
        /// The host.
        host_id: i64,
        /// Its facts; the uid is empty.
        facts: HostFacts,
        /// `SHA256:…` of its SSH server's host key, by which it is known from now on.
        host_key: String,
    },
    /// How far a host is between being added and being gone. One with proxies does not go.
    SetHostStage {
        /// The host.
        host_id: i64,
        /// How far.
        stage: HostStage,
    },
    /// A host is gone; what enrolment tokens there are for it are of no use any more.
    SetHostGone {
        /// The host.
        host_id: i64,
    },
    /// Whether a host carries a service of ours.
    SetHostReserved {
        /// The host.
        host_id: i64,
        /// Whether it does.
        reserved: bool,
    },
    /// A new OceanBase cluster.
    InsertObCluster(Box<ObCluster>),
    /// What proxies are told of an OceanBase cluster.
    SetObCluster {
        /// The OceanBase cluster.
        id: i64,
        /// Its cluster_id parameter.
        ob_cluster_id: Option<i64>,
        /// PRIMARY or STANDBY.
        cluster_type: ClusterType,
        /// Its root servers.
        root_servers: Vec<RootServer>,
    },
    /// An OceanBase cluster that a link brought goes with it, unless another proxy cluster has come to serve it.
    DeleteObCluster {
        /// The OceanBase cluster.
        id: i64,
    },
    /// A new link.
    InsertObLink(ObLink),
    /// How far a link is.
    SetObLink {
        /// The proxy cluster.
        cluster_id: i64,
        /// Name of the OceanBase cluster.
        name: String,
        /// How far it is.
        status: LinkStatus,
        /// Whether the config server tells of it.
        told: bool,
    },
    /// A link is no more.
    DeleteObLink {
        /// The proxy cluster.
        cluster_id: i64,
        /// Name of the OceanBase cluster.
        name: String,
    },
}
