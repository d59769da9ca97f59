//! What befell hosts and proxies: *extension*.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Something that befell a host or a proxy on it, as far as no task did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetEvent {
    /// The proxy's cluster.
    pub cluster_id: Option<i64>,
    /// The host.
    pub host_id: i64,
    /// Id of the event.
    pub id: i64,
    /// What befell, and what to do.
    pub message: String,
    /// The proxy, if it is about one.
    pub obproxy_id: Option<i64>,
    /// Of a proxy that ended by itself: how often its agent has started it again.
    pub restarts: Option<i64>,
    /// When it was seen.
    pub time: Timestamp,
    /// `AGENT_OFFLINE`, `AGENT_ONLINE`, `PROXY_AVAILABLE`, `PROXY_CRASHED`, `PROXY_START_FAILED` or `PROXY_UNAVAILABLE`.
    #[serde(rename = "type")]
    pub kind: String,
}
