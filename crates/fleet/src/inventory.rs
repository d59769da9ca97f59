//! What is known of the fleet: hosts and where they are, clusters, proxies, packages, OceanBase clusters; the
//! [`Inventory`] that keeps it, and the [`InventoryChange`]s tasks make to it.
//!
//! A task never writes here by itself: its changes travel in the action's result and are committed by the engine in one
//! transaction with the step's end. The direct writes of [`Inventory`] are for what no task owns: enrolment, uploads,
//! OceanBase clusters nobody serves, secrets, and what the observer sees.

mod change;
mod cluster;
mod credential;
mod event;
mod host;
mod ob_cluster;
mod package;
mod parameters;
mod proxy;
mod site;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use obfleet_wire::time::Timestamp;

pub use change::InventoryChange;
pub use cluster::{Cluster, ClusterSettings, PasswordChange, SealedProbe};
pub use credential::{Credential, CredentialRemoved, Vault};
pub use event::{EventFilter, Events, FleetEvent, Incident};
pub use host::{EnrolToken, Host, HostProfile, HostSighting, HostStage, HostsDeleted, ProxySighting, Restarts};
pub use ob_cluster::{ObCluster, ObLink, SealedAccount};
pub use package::Package;
pub use parameters::{
    ConfigValues, ParameterChange, ParameterRecords, PastChange, ProxyConfig, SeenItem, SeenItems, WantedRow,
    WantedValue, seen_items,
};
pub use proxy::Proxy;
pub use site::{Added, DEFAULT_SITE, HostPlace, Idc, Removed, Site, SiteKind, SiteMap, Sites};

use crate::{plan::Snapshot, secrets::Sealed};

/// Random id of the database, and the era a restore raises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Random id, letters and digits.
    pub id: String,
    /// From 1.
    pub era: u64,
}

/// The inventory cannot be read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the state database failed: {0}")]
pub struct InventoryError(pub String);

/// Keeps the inventory. Deleted hosts, clusters and proxies are never listed, but still found by id.
#[async_trait]
pub trait Inventory: Sites + Vault + Events {
    /// Id and era of the database.
    async fn installation(&self) -> Result<Installation, InventoryError>;
    /// Fingerprint of the key that seals the database's secrets; `None` until one was kept.
    async fn key_fingerprint(&self) -> Result<Option<String>, InventoryError>;
    /// Keeps the fingerprint of the key that will seal the secrets of a database that has none.
    async fn keep_key_fingerprint(&self, fingerprint: &str) -> Result<(), InventoryError>;
    /// The next free id for a cluster, proxy or package; ids given out are never given again.
    async fn next_id(&self) -> Result<i64, InventoryError>;

    /// Everything there is, as of one moment that is not before this was asked.
    async fn snapshot(&self) -> Result<Arc<Snapshot>, InventoryError>;
    /// One host.
    async fn host(&self, id: i64) -> Result<Option<Host>, InventoryError>;
    /// One cluster, deleted or not.
    async fn cluster(&self, id: i64) -> Result<Option<Cluster>, InventoryError>;
    /// Names of these clusters, by id, deleted or not.
    async fn cluster_names(&self, ids: &BTreeSet<i64>) -> Result<BTreeMap<i64, String>, InventoryError>;
    /// Sets what clients of a cluster connect to, and when that was; `None` leaves it as it is.
    async fn set_cluster_endpoint(
        &self,
        cluster_id: i64,
        address: Option<&str>,
        port: Option<u16>,
        at: Timestamp,
    ) -> Result<(), InventoryError>;
    /// One proxy, deleted or not.
    async fn proxy(&self, id: i64) -> Result<Option<Proxy>, InventoryError>;

    /// The password of a proxy that is being taken over.
    async fn take_over_password(&self, proxy_id: i64) -> Result<Option<Sealed>, InventoryError>;

    /// Adds a package; false when one with the same file name is there.
    async fn insert_package(&self, package: &Package) -> Result<bool, InventoryError>;
    /// Writes down who signed a package; false when there is none, or when it says so already.
    async fn set_package_signer(&self, id: i64, signed_by: &str) -> Result<bool, InventoryError>;
    /// Removes a package; false when there is none.
    async fn delete_package(&self, id: i64) -> Result<bool, InventoryError>;
    /// Adds an OceanBase cluster; false when one is there that it cannot be told from, or two would be PRIMARY of a name.
    async fn insert_ob_cluster(&self, cluster: &ObCluster) -> Result<bool, InventoryError>;
    /// Keeps those secrets of an OceanBase cluster that are given; false when there is no such cluster.
    async fn keep_ob_secrets(
        &self,
        id: i64,
        proxyro_password: Option<&Sealed>,
        account: Option<&SealedAccount>,
        at: Timestamp,
    ) -> Result<bool, InventoryError>;
    /// Removes an OceanBase cluster; false when there is none, or a proxy cluster serves it or another of its name.
    async fn delete_ob_cluster(&self, id: i64) -> Result<bool, InventoryError>;
    /// Adds an enrolment token.
    async fn insert_token(&self, token: &EnrolToken) -> Result<(), InventoryError>;
    /// A token that has not been used yet.
    async fn token(&self, id: &str) -> Result<Option<EnrolToken>, InventoryError>;
    /// Uses up the token and adds the host where the token says, or brings the host with the same uid up to date, in one
    /// transaction; `None` when the token has been used meanwhile. → the host's id
    async fn enrol(&self, token_id: &str, host: &Host) -> Result<Option<i64>, InventoryError>;
    /// Changes what people say of a host that is there; false when there is none.
    async fn edit_host(&self, id: i64, profile: &HostProfile) -> Result<bool, InventoryError>;
    /// Deletes hosts without proxies: all of them or none.
    async fn delete_hosts(&self, ids: &[i64]) -> Result<HostsDeleted, InventoryError>;
    /// Writes down what the observer saw and the events that follow from it, in one transaction: each once, whichever servers
    /// see it. Proxies held by a task keep their status.
    async fn record_sightings(&self, sightings: &[HostSighting]) -> Result<(), InventoryError>;
}
