//! Proxy clusters.

use obfleet_wire::{
    obproxy::{Parameter, WorkMode},
    time::Timestamp,
    version::ProxyVersion,
};
use serde::{Deserialize, Serialize};

use crate::secrets::Sealed;

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
    /// Where its proxies reach the config server, `http://host:port`. It stays what it was when the cluster was made: the
    /// configuration has it in it, and must be the same whichever server tells it.
    #[serde(default)]
    pub config_base: String,
    /// Parameters of a proxy's first start.
    pub startup_parameters: Vec<Parameter>,
    /// Parameters set once it runs.
    pub parameters: Vec<Parameter>,
    /// Password of root@proxysys.
    pub sys_password: Sealed,
    /// While a task changes that password: both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sys_password_change: Option<PasswordChange>,
    /// Password of proxyro on the OceanBase servers.
    pub proxyro_password: Option<Sealed>,
    /// Query sent through a new proxy process before the old one is let go.
    pub probe: Option<SealedProbe>,
}

/// A password on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PasswordChange {
    /// The former one.
    pub from: Sealed,
    /// The new one.
    pub to: Sealed,
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
