//! What is known of the fleet: hosts, clusters, proxies, packages; the [`Inventory`] that keeps it, and the
//! [`InventoryChange`]s tasks make to it.
//!
//! A task never writes here by itself: its changes travel in the action's result and are committed by the engine in one
//! transaction with the step's end. The direct writes of [`Inventory`] are for what no task owns: enrolment, uploads and
//! what the observer sees.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use obfleet_wire::{
    agent::HostFacts,
    obproxy::{ObLink, OperateStatus, Parameter, ProxyStatus, WorkMode},
    time::Timestamp,
    version::{PackageName, ProxyVersion},
};
use serde::{Deserialize, Serialize};

use crate::{plan::Snapshot, secrets::Sealed};

/// A host and its agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Id of the host, and of its agent.
    pub id: i64,
    /// What the agent told of it.
    pub facts: HostFacts,
    /// Where the server reaches the agent.
    pub address: String,
    /// Port of the agent's API.
    pub agent_port: u16,
    /// Version of the agent.
    pub agent_version: String,
    /// Whether the agent answered when last asked.
    pub online: bool,
    /// Whether a service of ours is, or is about to be, on it.
    pub reserved: bool,
    /// When it enrolled.
    pub created: Timestamp,
    /// When its row last changed.
    pub updated: Timestamp,
}

/// A proxy cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Address clients use.
    pub address: Option<String>,
    /// Port clients use.
    pub port: Option<u16>,
    /// How its proxies learn their OceanBase servers.
    pub work_mode: WorkMode,
    /// What the rest of its life depends on, kept as one document.
    pub settings: ClusterSettings,
    /// Version of its parameter set.
    pub parameter_version: i64,
    /// Version its proxies are meant to have, once one was installed.
    pub version: Option<ProxyVersion>,
    /// Who made it.
    pub creator_id: i64,
    /// Login name of who made it.
    pub creator_name: String,
    /// Whether it is gone.
    pub deleted: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When its row last changed.
    pub updated: Timestamp,
}

/// The parts of a cluster that only its proxies' installation reads. Secrets are sealed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterSettings {
    /// OceanBase clusters behind.
    pub ob_links: Vec<ObLink>,
    /// Root servers, `ip:sqlport`, in RS_LIST mode.
    pub root_servers: Vec<String>,
    /// Name of the OceanBase cluster in RS_LIST mode.
    pub ob_cluster: Option<String>,
    /// Parameters of a proxy's first start.
    pub startup_parameters: Vec<Parameter>,
    /// Parameters set once it runs.
    pub parameters: Vec<Parameter>,
    /// Password of root@proxysys.
    pub sys_password: Sealed,
    /// Password of proxyro on the OceanBase servers.
    pub proxyro_password: Option<Sealed>,
    /// Query sent through a new proxy process before the old one is let go.
    pub probe: Option<SealedProbe>,
}

/// A probe whose password is sealed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SealedProbe {
    /// User as a client gives it.
    pub user: String,
    /// Its password.
    pub password: Sealed,
    /// The query.
    pub sql: String,
}

/// One proxy.
#[derive(Debug, Clone, PartialEq)]
pub struct Proxy {
    /// Its id.
    pub id: i64,
    /// The cluster it belongs to.
    pub cluster_id: i64,
    /// The host it runs on.
    pub host_id: i64,
    /// Version and build it was last known to run.
    pub version: ProxyVersion,
    /// SQL port.
    pub sql_port: u16,
    /// Metrics port.
    pub exporter_port: u16,
    /// OBKV port.
    pub rpc_port: Option<u16>,
    /// What it is doing.
    pub status: ProxyStatus,
    /// Whether a task holds it.
    pub operate_status: OperateStatus,
    /// Version of the parameter set it has.
    pub parameter_version: i64,
    /// Whether its metrics are offered to Prometheus.
    pub exporter_registered: bool,
    /// When it was last seen serving.
    pub last_active: Option<Timestamp>,
    /// Whether it is gone.
    pub deleted: bool,
}

/// An uploaded package.
#[derive(Debug, Clone, PartialEq)]
pub struct Package {
    /// Its id.
    pub id: i64,
    /// Its name, from the header.
    pub name: PackageName,
    /// Whether it holds an OBProxy.
    pub is_proxy: bool,
    /// Bytes.
    pub size: u64,
    /// SHA-1 of the file, hexadecimal.
    pub sha1: String,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// When it was uploaded.
    pub created: Timestamp,
}

impl Package {
    /// Name of its file in the package store: by content, so that no upload can replace another's file.
    pub fn stored_name(&self) -> String {
        format!("{}.rpm", self.sha256)
    }
}

/// A one-time enrolment token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolToken {
    /// Public part.
    pub id: String,
    /// SHA-256 of the secret part: the key of the enrolment's proof.
    pub key: Vec<u8>,
    /// When it stops working.
    pub expires: Timestamp,
}

/// Random id of the database, and the era a restore raises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Random id, letters and digits.
    pub id: String,
    /// From 1.
    pub era: u64,
}

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
    /// Whether a host carries a service of ours.
    SetHostReserved {
        /// The host.
        host_id: i64,
        /// Whether it does.
        reserved: bool,
    },
}

/// What the observer saw of the proxies of one host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostSighting {
    /// The host.
    pub host_id: i64,
    /// Whether its agent answered.
    pub online: bool,
    /// Version of the agent, when it answered.
    pub agent_version: Option<String>,
    /// Its proxies, and whether each serves; without those the agent has not looked at yet.
    pub serving: BTreeMap<i64, bool>,
    /// When.
    pub at: Timestamp,
}

/// The inventory cannot be read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the state database failed: {0}")]
pub struct InventoryError(pub String);

/// Keeps the inventory. Deleted clusters and proxies are never listed, but still found by id.
#[async_trait]
pub trait Inventory: Send + Sync {
    /// Id and era of the database.
    async fn installation(&self) -> Result<Installation, InventoryError>;
    /// Fingerprint of the key that seals the database's secrets; `None` until one was kept.
    async fn key_fingerprint(&self) -> Result<Option<String>, InventoryError>;
    /// Keeps the fingerprint of the key that will seal the secrets of a database that has none.
    async fn keep_key_fingerprint(&self, fingerprint: &str) -> Result<(), InventoryError>;
    /// The next free id for a cluster, proxy or package; ids given out are never given again.
    async fn next_id(&self) -> Result<i64, InventoryError>;

    /// Everything there is, as of one moment.
    async fn snapshot(&self) -> Result<Snapshot, InventoryError>;
    /// All hosts, by id.
    async fn hosts(&self) -> Result<Vec<Host>, InventoryError>;
    /// All proxies, by id.
    async fn proxies(&self) -> Result<Vec<Proxy>, InventoryError>;
    /// All packages, by id.
    async fn packages(&self) -> Result<Vec<Package>, InventoryError>;
    /// One host.
    async fn host(&self, id: i64) -> Result<Option<Host>, InventoryError>;
    /// One cluster, deleted or not.
    async fn cluster(&self, id: i64) -> Result<Option<Cluster>, InventoryError>;
    /// Names of these clusters, by id, deleted or not.
    async fn cluster_names(&self, ids: &BTreeSet<i64>) -> Result<BTreeMap<i64, String>, InventoryError>;
    /// One proxy, deleted or not.
    async fn proxy(&self, id: i64) -> Result<Option<Proxy>, InventoryError>;

    /// Adds a package; false when one with the same file name is there.
    async fn insert_package(&self, package: &Package) -> Result<bool, InventoryError>;
    /// Removes a package; false when there is none.
    async fn delete_package(&self, id: i64) -> Result<bool, InventoryError>;
    /// Adds an enrolment token.
    async fn insert_token(&self, token: &EnrolToken) -> Result<(), InventoryError>;
    /// A token that has not been used yet.
    async fn token(&self, id: &str) -> Result<Option<EnrolToken>, InventoryError>;
    /// Uses up the token and adds the host, or brings the host with the same uid up to date, in one transaction; `None`
    /// when the token has been used meanwhile. → the host's id
    async fn enrol(&self, token_id: &str, host: &Host) -> Result<Option<i64>, InventoryError>;
    /// Writes down what the observer saw, in one transaction; proxies held by a task keep their status.
    async fn record_sightings(&self, sightings: &[HostSighting]) -> Result<(), InventoryError>;
}
