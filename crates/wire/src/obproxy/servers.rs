//! Bodies of `…/clusters/{id}/servers/{stop,start,restart,upgrade,delete}`, the generation of routes with the ids in the
//! body.

use serde::{Deserialize, Serialize};

/// Body of `…/servers/stop` and `…/servers/start`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChosenServers {
    /// The proxy servers.
    #[serde(deserialize_with = "crate::id::few")]
    pub obproxy_server_ids: Vec<i64>,
}

/// Body of `…/servers/restart`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestartServers {
    /// The proxy servers.
    #[serde(deserialize_with = "crate::id::few")]
    pub obproxy_server_ids: Vec<i64>,
    /// By OBProxy's hot restart, which refuses no connection; otherwise they are ended and started, all at once.
    pub hot_restart: bool,
}

/// Body of `…/servers/upgrade`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpgradeServers {
    /// The proxy servers.
    #[serde(deserialize_with = "crate::id::few")]
    pub obproxy_server_ids: Vec<i64>,
    /// Package name without operating system and architecture, `obproxy-ce-4.3.1.0-1`.
    pub short_rpm_name: String,
    /// Of packages with this name, one for this system, `el8`; the host's own if there is one, unless told.
    pub package_operating_system: Option<String>,
}

/// Body of `…/servers/delete`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeleteServers {
    /// The proxy servers.
    #[serde(deserialize_with = "crate::id::few")]
    pub obproxy_server_ids: Vec<i64>,
    /// Those among them whose host is gone for good: nothing is asked of it.
    #[serde(default, deserialize_with = "crate::id::few")]
    pub skip_host_operation_server_ids: Vec<i64>,
}
