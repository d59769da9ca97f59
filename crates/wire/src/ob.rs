//! OceanBase clusters: bodies and answers of `/api/v2/ob/clusters…`. All of it is *extension*: OCP knows the clusters from
//! managing them, and publishes no routes to tell it of others.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{obproxy::LinkStatus, time::Timestamp};

/// RPC port of an OceanBase server that is given without one.
pub const DEFAULT_RPC_PORT: u16 = 2882;

/// What an OceanBase cluster is among those of its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClusterType {
    /// Clients write here.
    #[default]
    Primary,
    /// A copy.
    Standby,
}

impl ClusterType {
    /// The word of its JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "PRIMARY",
            Self::Standby => "STANDBY",
        }
    }
}

/// A server of an OceanBase cluster that proxies learn the others from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RootServer {
    /// Its address: proxies take no names.
    #[serde(alias = "address")]
    pub ip: IpAddr,
    /// RPC port, 2882 when it is not given.
    #[serde(default = "default_rpc_port")]
    pub rpc_port: u16,
    /// SQL port.
    pub sql_port: u16,
}

fn default_rpc_port() -> u16 {
    DEFAULT_RPC_PORT
}

impl RootServer {
    /// Where it is logged in to.
    pub fn sql_address(self) -> SocketAddr {
        SocketAddr::new(self.ip, self.sql_port)
    }

    /// What [`FromStr`] reads: `ip:sqlport`, or `ip:rpcport:sqlport` where the RPC port is not the usual one.
    pub fn short(self) -> String {
        match self.rpc_port {
            DEFAULT_RPC_PORT => self.to_string(),
            _ => self.long(),
        }
    }

    /// `ip:rpcport:sqlport`.
    pub fn long(self) -> String {
        format!("{}:{}", self.rpc_address(), self.sql_port)
    }

    /// Where other servers reach it, and what the config server calls its address.
    pub fn rpc_address(self) -> SocketAddr {
        SocketAddr::new(self.ip, self.rpc_port)
    }
}

impl fmt::Display for RootServer {
    /// `ip:sqlport`, as proxies take it in `-r`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sql_address().fmt(f)
    }
}

/// The text is neither `ip:sqlport` nor `ip:rpcport:sqlport`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no root server, which is ip:sqlport or ip:rpcport:sqlport")]
pub struct RootServerError(pub String);

impl FromStr for RootServer {
    type Err = RootServerError;

    /// Reads `ip:sqlport`, or `ip:rpcport:sqlport` as OceanBase's own parameter has it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (rest, sql_port) = text.rsplit_once(':')?;
            let (ip, rpc_port) = match address(rest) {
                Some(ip) => (ip, DEFAULT_RPC_PORT),
                None => {
                    let (rest, rpc_port) = rest.rsplit_once(':')?;
                    (address(rest)?, rpc_port.parse().ok()?)
                }
            };
            let server = Self {
                ip,
                rpc_port,
                sql_port: sql_port.parse().ok()?,
            };
            (server.sql_port > 0 && server.rpc_port > 0).then_some(server)
        };
        read().ok_or_else(|| RootServerError(text.to_owned()))
    }
}

/// An IPv6 address stands in brackets where a port follows.
fn address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse().ok().map(IpAddr::V6),
        None => text.parse().ok().map(IpAddr::V4),
    }
}

/// An account on the OceanBase servers.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// User as a client gives it, `root@sys`.
    pub user: String,
    /// Its password.
    #[serde(default)]
    pub password: String,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Body of `POST /api/v2/ob/clusters`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegisterObCluster {
    /// The name clients put behind `#`.
    pub name: String,
    /// Its cluster_id parameter; clusters of one name are told apart by it.
    pub ob_cluster_id: Option<i64>,
    /// PRIMARY by default.
    #[serde(rename = "type", default)]
    pub cluster_type: ClusterType,
    /// Its root servers.
    pub root_servers: Vec<RootServer>,
    /// Password of proxyro there, which proxies use. Never shown again.
    pub proxyro_password: Option<String>,
    /// The account a probe logs in with. Its password is never shown again.
    pub account: Option<Account>,
}

/// Body of `PATCH /api/v2/ob/clusters/{id}`: what is absent stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateObCluster {
    /// Its cluster_id parameter.
    pub ob_cluster_id: Option<i64>,
    /// PRIMARY or STANDBY.
    #[serde(rename = "type")]
    pub cluster_type: Option<ClusterType>,
    /// Its root servers, all of them.
    pub root_servers: Option<Vec<RootServer>>,
    /// Password of proxyro there.
    pub proxyro_password: Option<String>,
    /// The account a probe logs in with.
    pub account: Option<Account>,
}

/// A registered OceanBase cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObCluster {
    /// User of the account a probe logs in with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_user: Option<String>,
    /// When it was registered.
    pub create_time: Timestamp,
    /// Who registered it.
    pub creator_id: i64,
    /// Login name of who registered it.
    pub creator_name: String,
    /// Whether proxyro's password is known.
    pub has_proxyro_password: bool,
    /// Its id here.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its cluster_id parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ob_cluster_id: Option<i64>,
    /// The proxy clusters that serve it.
    pub obproxy_clusters: Vec<ServedBy>,
    /// Names of RS_LIST proxy clusters whose proxies use the new root servers only once they are restarted; told by the change
    /// alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart_needed: Vec<String>,
    /// Its root servers; while a task changes them, as they were.
    pub root_servers: Vec<RootServer>,
    /// The task that brings a change to the proxies, if it concerns any; told by the change alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<i64>,
    /// PRIMARY or STANDBY.
    #[serde(rename = "type")]
    pub cluster_type: ClusterType,
    /// When it last changed.
    pub update_time: Timestamp,
}

/// A proxy cluster that serves an OceanBase cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServedBy {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The state of the link.
    pub status: LinkStatus,
}

/// Body of `POST /api/v2/ob/clusters/{id}/probe`; may be left out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProbeObCluster {
    /// Logs in with this account instead of the one that is kept.
    pub account: Option<Account>,
    /// Takes the root servers over that the cluster names itself.
    #[serde(default)]
    pub refresh_root_servers: bool,
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObClusterProbe {
    /// What the cluster says of itself, if an account was let in and the server knows of clusters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ObClusterFacts>,
    /// Whether the root servers were found to differ and are taken over.
    pub refreshed: bool,
    /// Each registered root server.
    pub servers: Vec<ProbedServer>,
    /// The task that brings them to the proxies, if it concerns any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<i64>,
}

/// A root server, as a probe found it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbedServer {
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its address.
    pub ip: IpAddr,
    /// Milliseconds until it had let the account in, or greeted where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// Whether an account was let in.
    pub logged_in: bool,
    /// Whether it greets.
    pub reachable: bool,
    /// SQL port.
    pub sql_port: u16,
    /// The version it tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What an OceanBase cluster says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObClusterFacts {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its cluster_id parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ob_cluster_id: Option<i64>,
    /// Its root servers.
    pub root_servers: Vec<RootServer>,
    /// All of its servers.
    pub servers: Vec<ObServer>,
}

/// A server of an OceanBase cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObServer {
    /// Its address.
    pub ip: IpAddr,
    /// RPC port.
    pub rpc_port: u16,
    /// SQL port.
    pub sql_port: u16,
    /// The cluster's word for its state, `ACTIVE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Whether the root service is at work on it.
    pub with_root_server: bool,
    /// Its zone.
    pub zone: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_servers_are_read_in_either_form() {
        let read = |text: &str| {
            text.parse::<RootServer>()
                .map(|server| (server.to_string(), server.rpc_port))
        };
        assert_eq!(read("10.0.0.1:2881"), Ok(("10.0.0.1:2881".into(), 2882)));
        assert_eq!(read("10.0.0.1:3882:3881"), Ok(("10.0.0.1:3881".into(), 3882)));
        assert_eq!(read("[::1]:2881"), Ok(("[::1]:2881".into(), 2882)));
        assert_eq!(read("[::1]:3882:3881"), Ok(("[::1]:3881".into(), 3882)));
        for text in ["10.0.0.1:2881", "10.0.0.1:3882:3881", "[::1]:3882:3881"] {
            let server: RootServer = text.parse().unwrap();
            assert_eq!(server.short(), text);
            assert_eq!(server.long().parse(), Ok(server));
        }
        for wrong in [
            "",
            "10.0.0.1",
            ":2881",
            "db.example:2881",
            "10.0.0.1:0",
            "10.0.0.1:x:1",
            "::1:2881",
            "10.0.0.1:1:2:3",
        ] {
            assert_eq!(read(wrong), Err(RootServerError(wrong.to_owned())));
        }
    }

    #[test]
    fn the_documented_and_the_short_member_name_the_same_address() {
        let short: RootServer = serde_json::from_str(r#"{"ip": "10.0.0.1", "sqlPort": 2881}"#).unwrap();
        let long = r#"{"address": "10.0.0.1", "sqlPort": 2881, "rpcPort": 2882}"#;
        assert_eq!(serde_json::from_str::<RootServer>(long).unwrap(), short);
        assert_eq!(short.rpc_address().to_string(), "10.0.0.1:2882");
    }

    #[test]
    fn passwords_are_not_shown() {
        let account = Account {
            user: "root@sys".into(),
            password: "hush".into(),
        };
        assert!(!format!("{account:?}").contains("hush"));
    }
}
