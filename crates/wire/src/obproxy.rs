//! Proxy clusters and their servers: bodies and answers of `/api/v2/obproxy/…`.

use serde::{Deserialize, Serialize};

use crate::{time::Timestamp, version::ProxyVersion};

/// How the proxies of a cluster learn their OceanBase servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkMode {
    /// From a config server.
    ConfigUrl,
    /// From a fixed list of root servers.
    RsList,
}

/// Body of `POST /api/v2/obproxy/clusters`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateObproxyCluster {
    /// Cluster name: a letter first, then letters, digits and `_`.
    pub name: String,
    /// Address clients use, a load balancer's as a rule.
    pub address: Option<String>,
    /// Port clients use, 2883 by default.
    pub port: Option<u16>,
    /// CONFIG_URL by default, as in OCP.
    pub work_mode: Option<WorkMode>,
    /// The first proxies; `hostIds` may be empty.
    pub obproxy_install_param: Option<ObproxyInstallParam>,
    /// The OceanBase clusters behind; RS_LIST takes exactly one.
    #[serde(default)]
    pub ob_links: Vec<ObLinkParam>,
    /// Parameters given to a proxy's first start.
    #[serde(default)]
    pub startup_parameters: Vec<Parameter>,
    /// Parameters set once the proxy runs.
    #[serde(default)]
    pub parameters: Vec<Parameter>,
    /// Password of root@proxysys; generated when absent.
    pub password: Option<String>,
    /// Password of proxyro on the OceanBase servers.
    pub proxyro_password: Option<String>,
    /// OCP's idempotency key, as the header `Idempotency-Key`.
    #[serde(skip_serializing)]
    pub client_token: Option<String>,
    /// *Extension*: a query every upgrade sends through the new proxy before the old one is let go.
    pub probe: Option<Probe>,
}

/// *Extension*: an account and a query that prove a proxy reaches its OceanBase cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Probe {
    /// User as a client gives it, `probe@tenant#cluster`; never proxyro.
    pub user: String,
    /// Its password.
    #[serde(default)]
    pub password: String,
    /// The query, `SELECT 1 FROM DUAL`.
    pub sql: String,
}

/// The first proxies of a new cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObproxyInstallParam {
    /// Hosts to install on, one proxy each.
    pub host_ids: Vec<i64>,
    /// SQL port.
    pub sql_port: Option<u16>,
    /// Metrics port; OCP's table spells it `exportPort`.
    #[serde(alias = "exportPort")]
    pub exporter_port: Option<u16>,
    /// OBKV port.
    pub rpc_port: Option<u16>,
    /// Whole package file name, `obproxy-ce-4.2.1.0-11.el7.x86_64.rpm`.
    pub version: Option<String>,
    /// Accepted for OCP's clients; the host agent decides where its proxies live.
    pub install_path: Option<String>,
    /// Accepted for OCP's clients, as `install_path`.
    pub run_path: Option<String>,
    /// Accepted for OCP's clients, as `install_path`.
    pub run_user: Option<String>,
}

/// An OceanBase cluster a proxy cluster serves.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObLinkParam {
    /// Name of the OceanBase cluster.
    pub cluster_name: String,
    /// OCP's id of it, unused here.
    pub cluster_id: Option<i64>,
    /// Its cluster_id parameter.
    pub ob_cluster_id: Option<i64>,
    /// `proxyro`.
    #[serde(default = "proxyro")]
    pub username: String,
    /// *Extension*: its root servers, `ip:sqlport`.
    #[serde(default)]
    pub root_servers: Vec<String>,
}

fn proxyro() -> String {
    "proxyro".to_owned()
}

/// A parameter and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Item name.
    pub name: String,
    /// Value as OBProxy takes it.
    pub value: String,
}

/// Body of `POST …/obproxies/batchAdd`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddObproxy {
    /// Hosts to install on, one proxy and one task each.
    pub host_ids: Vec<i64>,
    /// SQL port.
    pub sql_port: u16,
    /// Metrics port; OCP's tables also spell it `exportPort`.
    #[serde(alias = "exportPort")]
    pub exporter_port: u16,
    /// OBKV port.
    pub rpc_port: Option<u16>,
    /// Whole package file name.
    pub version: String,
}

/// Body of `POST …/obproxies/{obproxyIds}/upgrade`, absent for clients of OCP up to 4.0.0.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpgradeObproxy {
    /// Package name without operating system and architecture, `obproxy-ce-4.3.1.0-1`.
    pub short_rpm_name: Option<String>,
}

/// A proxy cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObproxyCluster {
    /// Address clients use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Where its proxies would ask for their configuration.
    pub config_url: String,
    /// When it was made.
    pub create_time: Timestamp,
    /// Who made it.
    pub creator_id: i64,
    /// Login name of who made it.
    pub creator_name: String,
    /// The cluster's id.
    pub id: i64,
    /// The cluster's name.
    pub name: String,
    /// OceanBase clusters it serves.
    pub ob_links: Vec<ObLink>,
    /// Its servers.
    pub obproxies: Vec<ObproxyServer>,
    /// Version of the parameter set.
    pub parameter_version: i64,
    /// Port clients use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// RUNNING, OPERATING or UNAVAILABLE; read by the Terraform provider.
    pub status: String,
    /// Servers per IDC.
    pub topo: Vec<IdcCount>,
    /// When it last changed.
    pub update_time: Timestamp,
    /// Servers per version.
    pub versions: Vec<VersionCount>,
    /// CONFIG_URL or RS_LIST.
    pub work_mode: WorkMode,
}

/// An OceanBase cluster served by a proxy cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObLink {
    /// OCP's id of the OceanBase cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<i64>,
    /// Its name.
    pub cluster_name: String,
    /// Its cluster_id parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ob_cluster_id: Option<i64>,
    /// *Extension*: its root servers.
    pub root_servers: Vec<String>,
    /// Account the proxies use.
    pub username: String,
}

/// Servers per IDC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdcCount {
    /// Servers in it.
    pub count: u64,
    /// The IDC's name.
    pub idc_name: String,
}

/// Servers per version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionCount {
    /// Servers with it.
    pub count: u64,
    /// Version and build.
    pub version: String,
}

/// What a proxy server is doing. The words are OCP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ProxyStatus {
    /// Being installed.
    Creating,
    /// Being taken over from whoever installed it.
    #[serde(rename = "TAKINGOVER")]
    TakingOver,
    /// Serving.
    Running,
    /// Being started.
    Starting,
    /// Being stopped.
    Stopping,
    /// Stopped on purpose: it stays so until it is started.
    Stopped,
    /// Being restarted.
    Restarting,
    /// Being upgraded.
    Upgrading,
    /// Being given the cluster's parameters.
    Refreshing,
    /// Being taken away.
    Deleting,
    /// Being given back to whoever will run it.
    #[serde(rename = "MOVINGOUT")]
    MovingOut,
    /// Not serving.
    Unavailable,
}

impl ProxyStatus {
    /// The word of its JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::TakingOver => "TAKINGOVER",
            Self::Running => "RUNNING",
            Self::Starting => "STARTING",
            Self::Stopping => "STOPPING",
            Self::Stopped => "STOPPED",
            Self::Restarting => "RESTARTING",
            Self::Upgrading => "UPGRADING",
            Self::Refreshing => "REFRESHING",
            Self::Deleting => "DELETING",
            Self::MovingOut => "MOVINGOUT",
            Self::Unavailable => "UNAVAILABLE",
        }
    }
}

/// Whether a task works on a proxy server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OperateStatus {
    /// No task.
    Normal,
    /// A task holds it.
    Operating,
}

/// One proxy server of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObproxyServer {
    /// `x86_64` or `aarch64`.
    pub architecture: String,
    /// The cluster it belongs to.
    pub cluster_id: i64,
    /// Metrics port.
    pub exporter_port: u16,
    /// The host it runs on.
    pub host_id: i64,
    /// The server's id.
    pub id: i64,
    /// IDC of the host.
    pub idc_name: String,
    /// Address of the host.
    pub ip: String,
    /// When it was last seen serving.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_active_time: Option<Timestamp>,
    /// NORMAL or OPERATING.
    pub operate_status: OperateStatus,
    /// Version of the parameter set it has.
    pub parameter_version: i64,
    /// OBKV port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc_port: Option<u16>,
    /// SQL port.
    pub sql_port: u16,
    /// What it is doing.
    pub status: ProxyStatus,
    /// Version and build.
    pub version: ProxyVersion,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_told_in_the_words_of_their_json() {
        use ProxyStatus as S;
        for status in [
            S::Creating,
            S::TakingOver,
            S::Running,
            S::Starting,
            S::Stopping,
            S::Stopped,
            S::Restarting,
            S::Upgrading,
            S::Refreshing,
            S::Deleting,
            S::MovingOut,
            S::Unavailable,
        ] {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
    }
}
