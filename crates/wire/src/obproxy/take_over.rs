//! Taking over proxies that somebody else installed: bodies of `…/clusters/{id}/takeOver` and of its check, and what the
//! check answers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::agent::FoundProxy;

/// Body of `…/takeOver` and `…/takeOver/precheck`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TakeOverObproxy {
    /// One entry a proxy.
    #[serde(deserialize_with = "crate::id::few")]
    pub hosts: Vec<TakeOverHost>,
    /// Metrics port the proxies have; told by the proxies themselves when absent.
    pub exporter_port: Option<u16>,
    /// OBKV port the proxies have; told by the proxies themselves when absent.
    pub rpc_port: Option<u16>,
}

/// A proxy to take over.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TakeOverHost {
    /// The host it runs on.
    pub host_id: i64,
    /// The SQL port it serves on.
    pub sql_port: u16,
    /// Its password of root@proxysys. Without it the cluster's and the empty one are tried.
    pub proxysys_passwd: Option<String>,
}

impl fmt::Debug for TakeOverHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TakeOverHost")
            .field("host_id", &self.host_id)
            .field("sql_port", &self.sql_port)
            .finish_non_exhaustive()
    }
}

/// *Extension*: body of `…/obproxies/{obproxyIds}/moveOut`; none is the same as an empty one.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MoveOutObproxy {
    /// The password root@proxysys of the proxies is to have; they keep that of the cluster without it.
    pub proxysys_passwd: Option<String>,
}

impl fmt::Debug for MoveOutObproxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MoveOutObproxy").finish_non_exhaustive()
    }
}

/// *Extension*: what a take over would find and do on one host.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckedHost {
    /// The host.
    pub host_id: i64,
    /// What stands in the way; nothing, if it can be taken over.
    pub obstacles: Vec<Named>,
    /// What differs from what the cluster gives its proxies, and will be changed.
    pub parameters: Vec<ParameterDifference>,
    /// The proxy, if one was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<FoundProxy>,
    /// The port it was looked for on.
    pub sql_port: u16,
    /// What is to be known beforehand.
    pub warnings: Vec<Named>,
}

/// An obstacle or a warning.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Named {
    /// What it is, the reason, and the next step, in the language of the request.
    pub message: String,
    /// Its name, the same in every language.
    pub name: String,
}

/// A parameter that a take over changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterDifference {
    /// The value it will have.
    pub cluster_value: String,
    /// Its name.
    pub name: String,
    /// Whether the new value acts from the proxy's next restart only; the take over makes none.
    pub need_restart: bool,
    /// The value it has.
    pub proxy_value: String,
}
