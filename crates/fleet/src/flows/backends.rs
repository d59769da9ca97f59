//! What the links of a proxy cluster mean to its proxies: where they start from, the passwords they log in with, and the
//! configuration they are to hold.

use obfleet_engine::{ActionError, Attempt};
use obfleet_wire::{
    agent::{ConfigFacts, Operation, Outcome, ProxySpec},
    obproxy::WorkMode,
};

use super::crew::Crew;
use crate::{
    inventory::{Cluster, ObCluster, Proxy},
    plan::{Snapshot, config_server, parameters},
    secrets::SealError,
};

/// Where a proxy keeps passwords of proxyro: it tries one after the other.
pub const PASSWORDS: [&str; 2] = ["observer_sys_password", "observer_sys_password1"];

/// How often proxies ask the config server, unless the cluster's own parameters say so: those that cannot be told learn of a
/// change by then. It is the least a proxy takes.
const REFRESH_INTERVAL: (&str, &str) = ("config_server_refresh_interval", "10s");

impl Crew {
    /// The proxy as its host must run it.
    pub async fn spec(&self, fleet: &Snapshot, cluster: &Cluster, proxy: &Proxy) -> Result<ProxySpec, ActionError> {
        let settings = &cluster.settings;
        let wanted = self.parameters.wanted(cluster.id).await?;
        let mut parameters = parameters::startup(cluster, &wanted);
        parameters.retain(|(name, _)| name != "rootservice_list");
        let mut behind = None;
        match cluster.work_mode {
            WorkMode::ConfigUrl => {
                let url = config_server::config_url(cluster, &settings.config_base);
                parameters.push(("obproxy_config_server_url".to_owned(), url));
                // There is no metadb.
                parameters.push(("enable_metadb_used".to_owned(), "false".to_owned()));
                let (interval, value) = REFRESH_INTERVAL;
                if !parameters.iter().any(|(name, _)| name == interval) {
                    parameters.push((interval.to_owned(), value.to_owned()));
                }
            }
            WorkMode::RsList => behind = Some(only_link(fleet, cluster)?),
        }
        Ok(ProxySpec {
            proxy_id: proxy.id,
            cluster_name: cluster.name.clone(),
            sql_port: proxy.sql_port,
            exporter_port: proxy.exporter_port,
            rpc_port: proxy.rpc_port,
            ob_cluster: behind.map(|behind| behind.name.clone()),
            root_servers: behind.map(root_servers).unwrap_or_default(),
            parameters,
            sys_password: self.sealer.open(&settings.sys_password)?,
        })
    }

    /// The passwords of proxyro that proxies of a cluster need, each once: the cluster's own, or those of the OceanBase
    /// clusters behind it. None where the cluster's parameters set them.
    pub fn proxyro_passwords<'a>(
        &self,
        cluster: &Cluster,
        behind: impl Iterator<Item = &'a ObCluster>,
    ) -> Result<Vec<String>, SealError> {
        if sets_passwords(cluster) {
            return Ok(Vec::new());
        }
        if let Some(own) = &cluster.settings.proxyro_password {
            return Ok(vec![self.sealer.open(own)?]);
        }
        let mut distinct = Vec::new();
        for sealed in behind.filter_map(|known| known.proxyro_password.as_ref()) {
            let password = self.sealer.open(sealed)?;
            if !distinct.contains(&password) {
                distinct.push(password);
            }
        }
        Ok(distinct)
    }

    /// Those for the OceanBase clusters that are told, as parameters of a proxy: all of them, an empty one for none.
    pub fn password_parameters(
        &self,
        fleet: &Snapshot,
        cluster: &Cluster,
    ) -> Result<Vec<(String, String)>, ActionError> {
        if sets_passwords(cluster) {
            return Ok(Vec::new());
        }
        let links = fleet.links_of(cluster.id).filter(|link| link.told);
        let behind = links.filter_map(|link| fleet.ob_clusters.get(&link.ob_cluster));
        let mut passwords = self.proxyro_passwords(cluster, behind)?.into_iter();
        Ok(PASSWORDS
            .map(|name| (name.to_owned(), passwords.next().unwrap_or_default()))
            .into())
    }

    /// Has the proxy of the step, one of a CONFIG_URL cluster, take the configuration it is told of now, and makes sure it
    /// has. A cluster that has nothing to tell is left alone: proxies take no empty configuration.
    pub async fn refresh_config(
        &self,
        attempt: &Attempt,
        proxy_id: i64,
        cluster: &Cluster,
        root_servers: bool,
    ) -> Result<(), ActionError> {
        let fleet = self.inventory.snapshot().await?;
        let config = config_server::config(&fleet, cluster);
        let clusters: Vec<_> = config
            .ob_root_service_info_url_list
            .into_iter()
            .map(|url| url.ob_region)
            .collect();
        if clusters.is_empty() {
            attempt.log("there is no OceanBase cluster to tell of");
            return Ok(());
        }
        let operation = Operation::RefreshConfig {
            proxy_id,
            version: config.version,
            clusters,
            root_servers,
        };
        let facts = config_facts(self.perform(attempt, operation).await?)?;
        attempt.log(format!(
            "obproxy {proxy_id} has configuration {} and serves {}",
            facts.version.unwrap_or_default(),
            facts.clusters.join(", ")
        ));
        Ok(())
    }

    /// What the proxy has from the config server.
    pub async fn inspect_config(&self, attempt: &Attempt, proxy_id: i64) -> Result<ConfigFacts, ActionError> {
        config_facts(self.perform(attempt, Operation::InspectConfig { proxy_id }).await?)
    }
}

fn config_facts(outcome: Outcome) -> Result<ConfigFacts, ActionError> {
    match outcome {
        Outcome::Config(facts) => Ok(facts),
        other => Err(ActionError::new(format!(
            "the agent answered with an unexpected outcome ({other:?}); is it of another version?"
        ))),
    }
}

/// The OceanBase cluster of an RS_LIST cluster.
pub fn only_link<'a>(fleet: &'a Snapshot, cluster: &Cluster) -> Result<&'a ObCluster, ActionError> {
    let mut links = fleet.links_of(cluster.id);
    let behind = links.next().and_then(|link| fleet.ob_clusters.get(&link.ob_cluster));
    behind.ok_or_else(|| {
        ActionError::new(format!(
            "obproxy cluster {} has lost its OceanBase cluster; roll back, and make the cluster anew",
            cluster.name
        ))
    })
}

/// As `-r` and `rootservice_list` take them.
pub fn root_servers(behind: &ObCluster) -> Vec<String> {
    behind.root_servers.iter().map(ToString::to_string).collect()
}

fn sets_passwords(cluster: &Cluster) -> bool {
    let settings = &cluster.settings;
    let mut parameters = settings.startup_parameters.iter().chain(&settings.parameters);
    parameters.any(|parameter| PASSWORDS.contains(&parameter.name.as_str()))
}
