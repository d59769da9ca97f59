//! Where the proxies' metrics are.

use std::collections::BTreeMap;

use obfleet_wire::obproxy::ProxyStatus;
use serde::{Deserialize, Serialize};

use super::{Error, Fleet};
use crate::inventory::Proxy;

/// One entry of Prometheus' HTTP service discovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExporterTarget {
    /// The proxy's cluster; not shown but as a label.
    #[serde(skip, default)]
    pub cluster_id: i64,
    /// `address:port`, one of them.
    pub targets: Vec<String>,
    /// What the series are labelled with.
    pub labels: BTreeMap<String, String>,
}

impl Fleet {
    /// The proxies whose metrics are offered to Prometheus.
    pub async fn exporter_targets(&self) -> Result<Vec<ExporterTarget>, Error> {
        let fleet = self.snapshot().await?;
        let target = |proxy: &Proxy| {
            let host = fleet.hosts.get(&proxy.host_id)?;
            let cluster = fleet.clusters.get(&proxy.cluster_id)?;
            let labels = [
                ("obproxy_cluster", cluster.name.clone()),
                ("obproxy_cluster_id", cluster.id.to_string()),
                ("obproxy_id", proxy.id.to_string()),
                ("host", host.facts.name.clone()),
            ];
            Some(ExporterTarget {
                cluster_id: cluster.id,
                targets: vec![format!("{}:{}", host.address, proxy.exporter_port)],
                labels: labels
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect(),
            })
        };
        Ok(fleet
            .proxies
            .values()
            // One that was stopped has none, and is no reason for an alarm.
            .filter(|proxy| proxy.exporter_registered && proxy.status != ProxyStatus::Stopped)
            .filter_map(target)
            .collect())
    }
}
