//! Proxy clusters and their servers: bodies and answers of `/api/v2/obproxy/…`.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::{ob::ClusterType, time::Timestamp, version::ProxyVersion};

mod servers;
mod take_over;

pub use servers::{ChosenServers, DeleteServers, RestartServers, UpgradeServers};
pub use take_over::{CheckedHost, MoveOutObproxy, Named, ParameterDifference, TakeOverHost, TakeOverObproxy};

/// How the proxies of a cluster learn their OceanBase servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkMode {
    /// From a config server.
    ConfigUrl,
    /// From a fixed list of root servers.
    RsList,
}

/// Body of `POST /api/v2/obproxy/password`, as older OCP versions have it.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SetPassword {
    /// `proxyro`.
    pub username: String,
    /// Its password in clear text.
    pub password: String,
}

/// Body of `POST /api/v2/obproxy/clusters/{id}/sysPassword` (*extension*).
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SysPassword {
    /// Password of root@proxysys in clear text: 8 to 32 characters of three kinds.
    pub password: String,
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
    #[serde(deserialize_with = "crate::id::few")]
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

/// An OceanBase cluster a proxy cluster is to serve.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObLinkParam {
    /// Name of the OceanBase cluster; may be left out where `clusterId` says which one it is.
    #[serde(default)]
    pub cluster_name: String,
    /// Its id here. OCP's clients send OCP's, so the name counts where both are given.
    pub cluster_id: Option<i64>,
    /// Its cluster_id parameter.
    pub ob_cluster_id: Option<i64>,
    /// `proxyro`.
    #[serde(default = "proxyro")]
    pub username: String,
    /// *Extension*: its root servers, `ip:sqlport` or `ip:rpcport:sqlport`; registers a cluster that is not known yet.
    #[serde(default)]
    pub root_servers: Vec<String>,
}

/// Body of `POST …/obLinks/batchAdd`. OCP's releases differ here; all their forms are taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AddObLinks(#[serde(deserialize_with = "links_in_any_form")] pub Vec<ObLinkParam>);

/// `[link, …]` as up to OCP 4.2, `{"obLinks": [link, …]}` as its newer table says, or a single link as its example has it.
fn links_in_any_form<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<ObLinkParam>, D::Error> {
    use serde::de::{self, MapAccess, SeqAccess, Visitor, value};

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Wrapped {
        ob_links: Vec<ObLinkParam>,
    }

    struct AnyForm;

    impl<'de> Visitor<'de> for AnyForm {
        type Value = Vec<ObLinkParam>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a sequence of obLinks, or an object with them")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(value::SeqAccessDeserializer::new(seq))
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = serde_json::Map::new();
            while let Some((name, value)) = map.next_entry::<String, serde_json::Value>()? {
                if members.insert(name.clone(), value).is_some() {
                    return Err(de::Error::custom(format_args!("duplicate field `{name}`")));
                }
            }
            let is_wrapped = members.contains_key("obLinks");
            let object = serde_json::Value::Object(members);
            if is_wrapped {
                let wrapped: Wrapped = serde_json::from_value(object).map_err(de::Error::custom)?;
                return Ok(wrapped.ob_links);
            }
            Ok(vec![serde_json::from_value(object).map_err(de::Error::custom)?])
        }
    }

    deserializer.deserialize_any(AnyForm)
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
    #[serde(deserialize_with = "crate::id::few")]
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

/// Body of `PATCH /api/v2/obproxy/clusters/{id}`: what clients of the cluster connect to. What is absent stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchObproxyCluster {
    /// Address, a load balancer's as a rule: 1 to 255 characters.
    pub address: Option<String>,
    /// Port.
    pub port: Option<NonZeroU16>,
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
    /// The OceanBase cluster's id here.
    pub cluster_id: i64,
    /// Its name.
    pub cluster_name: String,
    /// PRIMARY or STANDBY.
    pub cluster_type: ClusterType,
    /// Its cluster_id parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ob_cluster_id: Option<i64>,
    /// *Extension*: its root servers, as a request for a link has them.
    pub root_servers: Vec<String>,
    /// How far it is.
    pub status: LinkStatus,
    /// Account the proxies use.
    pub username: String,
}

/// How far a link is. The words are OCP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LinkStatus {
    /// The proxies are being told.
    Creating,
    /// Every proxy that runs has it.
    Running,
    /// The proxies are being told that it is no more.
    Deleting,
    /// No root servers are known: proxies are not told of it.
    Unavailable,
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

/// *Extension*: whether load balancers may send a proxy server new connections. It refuses none either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LoadBalanceStatus {
    /// They may.
    Online,
    /// They are told to keep away, until they are told otherwise or another process serves.
    Offline,
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
    /// *Extension*: what load balancers are told that ask it.
    pub load_balance_status: LoadBalanceStatus,
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

    #[test]
    fn links_are_taken_in_every_form_ocp_documents() {
        let read = |text: &str| {
            let links = serde_json::from_str::<AddObLinks>(text);
            links.map(|links| links.0.into_iter().map(|link| link.cluster_name).collect::<Vec<_>>())
        };
        let one = r#"{"clusterName": "ob1", "obClusterId": 1, "username": "proxyro"}"#;
        for form in [one.to_owned(), format!("[{one}]"), format!(r#"{{"obLinks": [{one}]}}"#)] {
            assert_eq!(read(&form).unwrap(), ["ob1"], "{form}");
        }
        assert_eq!(read(&format!("[{one}, {one}]")).unwrap().len(), 2);
        assert!(read("[]").unwrap().is_empty());
        for (wrong, why) in [
            (r#"{"clusterName": "ob1", "obclusterid": 1}"#, "obclusterid"),
            (r#"{"obLinks": [], "more": 1}"#, "more"),
            (r#"{"clusterName": "a", "clusterName": "b"}"#, "duplicate"),
            (r#"[{"clusterName": 1}]"#, "string"),
            ("1", "obLinks"),
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
