//! What befell hosts and proxies, as far as no task did it.

use std::collections::BTreeSet;

use async_trait::async_trait;
use obfleet_wire::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::InventoryError;

/// What befell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
pub enum Incident {
    /// The agent answers again, or for the first time.
    AgentOnline,
    /// The agent does not answer.
    AgentOffline,
    /// A proxy serves again.
    ProxyAvailable,
    /// A proxy does not serve.
    ProxyUnavailable,
    /// A proxy's process ended by itself, and its agent started it again.
    ProxyCrashed {
        /// How often that happened to it.
        restarts: i64,
    },
    /// The agent cannot start a proxy that ended, and goes on trying.
    ProxyStartFailed {
        /// What the agent says.
        reason: String,
    },
}

impl Incident {
    /// The words of their kinds.
    pub const KINDS: &'static [&'static str] = &[
        "AGENT_OFFLINE",
        "AGENT_ONLINE",
        "PROXY_AVAILABLE",
        "PROXY_CRASHED",
        "PROXY_START_FAILED",
        "PROXY_UNAVAILABLE",
    ];

    /// The word of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AgentOnline => "AGENT_ONLINE",
            Self::AgentOffline => "AGENT_OFFLINE",
            Self::ProxyAvailable => "PROXY_AVAILABLE",
            Self::ProxyUnavailable => "PROXY_UNAVAILABLE",
            Self::ProxyCrashed { .. } => "PROXY_CRASHED",
            Self::ProxyStartFailed { .. } => "PROXY_START_FAILED",
        }
    }
}

/// Something that befell a host or a proxy on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetEvent {
    /// Random, and exact in every JSON reader.
    pub id: i64,
    /// When it was seen.
    pub at: Timestamp,
    /// What.
    pub incident: Incident,
    /// The host.
    pub host_id: i64,
    /// The proxy, if it is about one.
    pub proxy_id: Option<i64>,
    /// The proxy's cluster.
    pub cluster_id: Option<i64>,
}

/// Which events are wanted: those to which all that is given applies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of this cluster's proxies.
    pub cluster_id: Option<i64>,
    /// Of this proxy.
    pub proxy_id: Option<i64>,
    /// Of this host and the proxies on it.
    pub host_id: Option<i64>,
    /// Of these clusters' proxies, unless it is everything.
    pub within: Option<BTreeSet<i64>>,
    /// Of these kinds, if any are given.
    pub kinds: Vec<String>,
}

/// Keeps events. They are written with what they tell of, in one transaction: see
/// [`record_sightings`](super::Inventory::record_sightings).
#[async_trait]
pub trait Events: Send + Sync {
    /// A page of events, the newest first, and how many there are.
    async fn events(
        &self,
        filter: &EventFilter,
        skip: u64,
        most: u64,
    ) -> Result<(Vec<FleetEvent>, u64), InventoryError>;
    /// Deletes what is older than `before`, and all but the newest `most`.
    async fn prune_events(&self, before: Timestamp, most: u64) -> Result<u64, InventoryError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_written_as_they_are_named() {
        let all = [
            Incident::AgentOnline,
            Incident::AgentOffline,
            Incident::ProxyAvailable,
            Incident::ProxyUnavailable,
            Incident::ProxyCrashed { restarts: 3 },
            Incident::ProxyStartFailed { reason: "no".into() },
        ];
        for incident in &all {
            let json = serde_json::to_value(incident).unwrap();
            assert_eq!(json["kind"], incident.kind());
            assert!(Incident::KINDS.contains(&incident.kind()));
        }
        assert_eq!(all.len(), Incident::KINDS.len());
    }
}
