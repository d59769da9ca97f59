//! What the config server tells proxies: which OceanBase clusters there are, and the root servers of each.
//!
//! Proxies take a configuration whose version is another than theirs, so the version is a digest of the rest: what is
//! unchanged keeps it, whichever server tells it.

use obfleet_wire::{
    config_server::{
        DatabaseInfo, IdcRegionInfo, ObProxyConfig, OneOrAll, RootServerInfo, RootServiceInfo, RootServiceUrl,
    },
    obproxy::WorkMode,
};
use ring::digest::{SHA256, digest};

use super::{Snapshot, ob::META_CLUSTER};
use crate::inventory::{Cluster, ObCluster, ObLink};

/// Characters of a version at most.
const VERSION_LENGTH: usize = 32;
/// What every call has; config servers have looked at it once.
const WHO: &str = "User_ID=alibaba&UID=admin";

/// Where proxies of a cluster ask for its configuration.
pub fn config_url(cluster: &Cluster, base: &str) -> String {
    let base = Some(cluster.settings.config_base.as_str())
        .filter(|kept| !kept.is_empty())
        .unwrap_or(base);
    format!(
        "{base}/services?Action=GetObProxyConfig&{WHO}&ObproxyClusterName={}",
        cluster.name
    )
}

/// The OceanBase clusters the proxies of a cluster are told of: those of its links that are to be told, and whose root
/// servers are known. By name.
pub fn told(backends: &Snapshot, cluster_id: i64) -> Vec<(&ObLink, &ObCluster)> {
    let links = backends.links_of(cluster_id).filter(|link| link.told);
    let usable = links.filter_map(|link| {
        let behind = backends.ob_clusters.get(&link.ob_cluster)?;
        (!behind.root_servers.is_empty()).then_some((link, behind))
    });
    let mut usable: Vec<_> = usable.collect();
    usable.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    usable
}

/// The configuration of a cluster's proxies. Its list is empty while nothing can be told, which proxies refuse: they keep
/// what they had.
pub fn config(backends: &Snapshot, cluster: &Cluster) -> ObProxyConfig {
    let base = &cluster.settings.config_base;
    let root_service_url = |name: &str| format!("{base}/services?Action=ObRootServiceInfo&{WHO}&ObRegion={name}");
    let told = told(backends, cluster.id);
    let urls = told.iter().map(|(link, _)| RootServiceUrl {
        ob_region: link.name.clone(),
        ob_root_service_info_url: root_service_url(&link.name),
    });
    let mut config = ObProxyConfig {
        ob_proxy_bin_url: format!("{base}/services?Action=GetObProxy"),
        // There is no metadb. Proxies insist on words here, and are started so that they do not look for one.
        ob_proxy_database_info: DatabaseInfo {
            data_base: "none".to_owned(),
            meta_data_base: format!("{}&ObproxyClusterName={}", root_service_url(META_CLUSTER), cluster.name),
            password: "none".to_owned(),
            user: "none".to_owned(),
        },
        ob_root_service_info_url_list: urls.collect(),
        version: String::new(),
    };
    let content = serde_json::to_vec(&config).unwrap_or_default();
    config.version = hex::encode(digest(&SHA256, &content));
    config.version.truncate(VERSION_LENGTH);
    config
}

/// Which root servers are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Name of the OceanBase cluster.
    pub name: &'a str,
    /// Its cluster_id parameter.
    pub id: Option<i64>,
    /// Whether an answer with all clusters of the name is understood.
    pub all: bool,
}

/// The root servers of an OceanBase cluster that some CONFIG_URL cluster serves.
pub fn root_service_info(backends: &Snapshot, asked: Asked<'_>) -> Option<OneOrAll<RootServiceInfo>> {
    let mut named = served(backends, asked.name);
    if let Some(id) = asked.id {
        named.retain(|known| known.ob_cluster_id.is_none_or(|known| known == id));
    }
    // In an array each needs an id.
    let all = asked.all && asked.id.is_none() && named.iter().all(|known| known.ob_cluster_id.is_some());
    if all && !named.is_empty() {
        return Some(OneOrAll::All(named.into_iter().map(info).collect()));
    }
    named.first().map(|known| OneOrAll::One(info(known)))
}

/// The root servers that stand in for those of the metadb of a proxy cluster: the first it is told of.
pub fn meta_root_service_info(backends: &Snapshot, cluster_name: &str) -> Option<RootServiceInfo> {
    let cluster = cluster_named(backends, cluster_name)?;
    told(backends, cluster.id).first().map(|(_, known)| info(known))
}

/// The IDCs of an OceanBase cluster, none: they are not known here.
pub fn idc_region_info(backends: &Snapshot, asked: Asked<'_>) -> Option<IdcRegionInfo> {
    let named = served(backends, asked.name);
    let known = named
        .iter()
        .find(|known| asked.id.is_none() || known.ob_cluster_id.is_none() || known.ob_cluster_id == asked.id)?;
    Some(IdcRegionInfo {
        idc_list: Vec::new(),
        ob_region: known.name.clone(),
        ob_region_id: asked.id.or(known.ob_cluster_id).unwrap_or_default(),
    })
}

/// The CONFIG_URL cluster of this name.
pub fn cluster_named<'a>(backends: &'a Snapshot, name: &str) -> Option<&'a Cluster> {
    let mut asked = backends
        .clusters
        .values()
        .filter(|cluster| cluster.work_mode == WorkMode::ConfigUrl);
    asked.find(|cluster| cluster.name == name)
}

/// The OceanBase clusters of a name with root servers, if a CONFIG_URL cluster is linked to that name: nobody else's are
/// told.
fn served<'a>(backends: &'a Snapshot, name: &str) -> Vec<&'a ObCluster> {
    let asks = |cluster_id| {
        let cluster = backends.clusters.get(&cluster_id);
        cluster.is_some_and(|cluster| cluster.work_mode == WorkMode::ConfigUrl)
    };
    let is_linked = backends
        .ob_links
        .iter()
        .any(|link| link.name == name && asks(link.cluster_id));
    let mut named = if is_linked {
        backends.ob_clusters_named(name)
    } else {
        Vec::new()
    };
    named.retain(|known| !known.root_servers.is_empty());
    named
}

/// Who leads changes all the time and proxies find out by themselves; the first has the title.
fn info(known: &ObCluster) -> RootServiceInfo {
    let servers = known
        .root_servers
        .iter()
        .enumerate()
        .map(|(index, server)| RootServerInfo {
            address: server.rpc_address().to_string(),
            role: if index == 0 { "LEADER" } else { "FOLLOWER" }.to_owned(),
            sql_port: server.sql_port,
        });
    let id = known.ob_cluster_id.unwrap_or_default();
    RootServiceInfo {
        ob_cluster: known.name.clone(),
        ob_cluster_id: id,
        ob_region: known.name.clone(),
        ob_region_id: id,
        readonly_rs_list: Vec::new(),
        rs_list: servers.collect(),
        cluster_type: known.cluster_type.as_str().to_owned(),
    }
}

#[cfg(test)]
mod tests;
