//! The planner: from the inventory and a request to what will be done. It does no I/O and never waits; what it decided,
//! the flows carry out without choices of their own.

pub mod bootstrap;
pub mod config_server;
pub mod install;
pub mod ob;
pub mod ob_links;
pub mod operate;
pub mod parameters;
mod proxies;
mod table;
pub mod take_over;
pub mod upgrade;

use obfleet_wire::{Code, Refusal, ob::ClusterType, reason::Thing};

pub use proxies::Proxies;
pub use table::Table;

use crate::inventory::{Cluster, Host, ObCluster, ObLink, Package, Proxy, SiteMap};

/// The inventory as it stood when the plan was made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Hosts by id, without deleted ones.
    pub hosts: Table<Host>,
    /// Clusters by id, without deleted ones.
    pub clusters: Table<Cluster>,
    /// Proxies by id, without deleted ones.
    pub proxies: Proxies,
    /// Packages by id.
    pub packages: Table<Package>,
    /// Regions, IDCs and host types.
    pub sites: SiteMap,
    /// OceanBase clusters by id.
    pub ob_clusters: Table<ObCluster>,
    /// Links by proxy cluster and name, without those of deleted clusters.
    pub ob_links: Vec<ObLink>,
}

/// Proxies a request names, each counted once.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    /// The request's field they stand in.
    pub field: &'static str,
    ids: &'a [i64],
}

impl<'a> Selection<'a> {
    /// As the older routes have them, in the path.
    pub fn in_path(ids: &'a [i64]) -> Self {
        Self::named("obproxyIds", ids)
    }

    /// As the newer routes have them, in the body.
    pub fn in_body(ids: &'a [i64]) -> Self {
        Self::named("obproxyServerIds", ids)
    }

    /// In a field of this name.
    pub fn named(field: &'static str, ids: &'a [i64]) -> Self {
        Self { field, ids }
    }

    /// The ids, each once, in the order asked for.
    pub fn ids(&self) -> impl Iterator<Item = i64> {
        let first = |(at, id): &(usize, &i64)| !self.ids[..*at].contains(id);
        self.ids.iter().enumerate().filter(first).map(|(_, id)| *id)
    }
}

impl Snapshot {
    /// The cluster, or ODP21001.
    pub fn cluster(&self, id: i64) -> Result<&Cluster, Refusal> {
        self.clusters
            .get(&id)
            .ok_or_else(|| Refusal::new(Code::Odp21001, [id]).field("id"))
    }

    /// The host, or CMP07005.
    pub fn host(&self, id: i64) -> Result<&Host, Refusal> {
        self.hosts
            .get(&id)
            .ok_or_else(|| Refusal::new(Code::Cmp07005, [id]).field("hostIds"))
    }

    /// The chosen proxies, in the order asked for. A missing one is ODP21002, one of another cluster ODP21015.
    pub fn members(&self, cluster: &Cluster, selection: &Selection<'_>) -> Result<Vec<&Proxy>, Refusal> {
        let find = |id| {
            let proxy = self
                .proxies
                .get(&id)
                .ok_or_else(|| Refusal::new(Code::Odp21002, [id]).field(selection.field))?;
            if proxy.cluster_id != cluster.id {
                return Err(Refusal::new(Code::Odp21015, [id, cluster.id]).field(selection.field));
            }
            Ok(proxy)
        };
        selection.ids().map(find).collect()
    }

    /// The proxies of a cluster.
    pub fn proxies_of(&self, cluster_id: i64) -> impl Iterator<Item = &Proxy> {
        self.proxies.of_cluster(cluster_id)
    }

    /// The OceanBase cluster, or COM10002.
    pub fn ob_cluster(&self, id: i64) -> Result<&ObCluster, Refusal> {
        self.ob_clusters
            .get(&id)
            .ok_or_else(|| {
                Refusal::about(
                    Code::Com10002,
                    [Thing::ObClusterKind.into(), format!("id {id}").as_str().into()],
                )
            })
            .map_err(|missing| missing.field("id"))
    }

    /// The OceanBase clusters of a name, the PRIMARY first.
    pub fn ob_clusters_named(&self, name: &str) -> Vec<&ObCluster> {
        let mut named: Vec<_> = self.ob_clusters.values().filter(|known| known.name == name).collect();
        named.sort_by_key(|known| (known.cluster_type != ClusterType::Primary, known.id));
        named
    }

    /// The links of a proxy cluster, by name.
    pub fn links_of(&self, cluster_id: i64) -> impl Iterator<Item = &ObLink> {
        self.ob_links.iter().filter(move |link| link.cluster_id == cluster_id)
    }
}
