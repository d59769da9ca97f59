//! Fleets for tests of planner and steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use obfleet_wire::{
    agent::HostFacts,
    ob::ClusterType,
    obproxy::{OperateStatus, ProxyStatus, WorkMode},
    time::Timestamp,
};

use crate::{
    bootstrap::{Access, Bootstrap, BootstrapError, Inspection},
    host_agent::LogLine,
    inventory::{
        Added, Cluster, Credential, CredentialRemoved, EnrolToken, EventFilter, Events, FleetEvent, Host, HostProfile,
        HostSighting, HostStage, HostsDeleted, Idc, Installation, Inventory, InventoryError, ObCluster, Package,
        ParameterRecords, PastChange, Proxy, ProxyConfig, Removed, SealedAccount, SeenItems, Site, SiteKind, SiteMap,
        Sites, Vault, WantedValue,
    },
    plan::Snapshot,
    secrets::Sealed,
};

/// Cluster 1 with `size` running proxies of `version`: ids from 10 on, on hosts with ids from 100 on.
pub fn fleet_of(size: i64, version: &str) -> Snapshot {
    let mut fleet = Snapshot::default().with_cluster(1);
    for i in 0..size {
        let at = Timestamp(0);
        let host = Host {
            id: 100 + i,
            facts: HostFacts {
                host_uid: format!("uid{i}"),
                name: format!("host{i}"),
                architecture: "x86_64".into(),
                kernel: "6.1".into(),
                release: "el7".into(),
            },
            address: format!("10.0.0.{i}"),
            agent_port: 62888,
            agent_version: "0.1.0".into(),
            online: true,
            reserved: true,
            profile: HostProfile::default(),
            stage: HostStage::Ready,
            bootstrap: None,
            deleted: false,
            created: at,
            updated: at,
        };
        let proxy = Proxy {
            id: 10 + i,
            cluster_id: 1,
            host_id: host.id,
            version: version.parse().unwrap(),
            sql_port: 2883,
            exporter_port: 2884,
            rpc_port: None,
            status: ProxyStatus::Running,
            operate_status: OperateStatus::Normal,
            parameter_version: 1,
            exporter_registered: true,
            last_active: None,
            offline: false,
            deleted: false,
        };
        fleet.hosts.insert(host.id, host);
        fleet.proxies.insert(proxy.id, proxy);
    }
    fleet
}

/// A registered OceanBase cluster; its root servers with `;` between them.
pub fn ob_cluster(
    id: i64,
    name: &str,
    ob_cluster_id: Option<i64>,
    cluster_type: ClusterType,
    servers: &str,
) -> ObCluster {
    let servers = servers.split(';').filter(|server| !server.is_empty());
    ObCluster {
        id,
        name: name.into(),
        ob_cluster_id,
        cluster_type,
        root_servers: servers.map(|server| server.parse().unwrap()).collect(),
        proxyro_password: None,
        account: None,
        creator_id: 100,
        creator_name: "admin".into(),
        created: Timestamp(0),
        updated: Timestamp(0),
    }
}

/// Adds to a fleet.
pub trait SnapshotExt {
    /// An empty cluster.
    fn with_cluster(self, id: i64) -> Self;
    /// An uploaded package.
    fn with_package(self, id: i64, file_name: &str) -> Self;
}

impl SnapshotExt for Snapshot {
    fn with_cluster(mut self, id: i64) -> Self {
        let cluster = Cluster {
            id,
            name: format!("test{id}"),
            address: None,
            port: None,
            work_mode: WorkMode::RsList,
            settings: crate::inventory::ClusterSettings::default(),
            parameter_version: 1,
            version: None,
            creator_id: 100,
            creator_name: "admin".into(),
            deleted: false,
            created: Timestamp(0),
            updated: Timestamp(0),
        };
        self.clusters.insert(id, cluster);
        self
    }

    fn with_package(mut self, id: i64, file_name: &str) -> Self {
        let package = Package {
            id,
            name: file_name.parse().unwrap(),
            is_proxy: true,
            size: 1,
            sha1: String::new(),
            sha256: format!("{id:064}"),
            signed_by: None,
            created: Timestamp(id),
        };
        self.packages.insert(id, package);
        self
    }
}

/// No machine can be reached.
pub struct NoMachines;

#[async_trait]
impl Bootstrap for NoMachines {
    async fn inspect(&self, _: &Access) -> Result<Inspection, BootstrapError> {
        Err(BootstrapError::Failed("there are no machines".into()))
    }
    async fn install(&self, _: &Access, _: LogLine<'_>) -> Result<(), BootstrapError> {
        Err(BootstrapError::Failed("there are no machines".into()))
    }
    async fn remove(&self, _: &Access, _: i64, _: LogLine<'_>) -> Result<(), BootstrapError> {
        Err(BootstrapError::Failed("there are no machines".into()))
    }
    async fn complaints(&self, _: &Access) -> Result<String, BootstrapError> {
        Err(BootstrapError::Failed("there are no machines".into()))
    }
}

/// An inventory that does not change.
#[async_trait]
impl Sites for Snapshot {
    async fn sites(&self) -> Result<SiteMap, InventoryError> {
        Ok(self.sites.clone())
    }
    async fn insert_site(&self, _: SiteKind, _: &Site) -> Result<Added, InventoryError> {
        Err(unchanging())
    }
    async fn insert_idc(&self, _: &Idc) -> Result<Added, InventoryError> {
        Err(unchanging())
    }
    async fn delete_site(&self, _: SiteKind, _: i64) -> Result<Removed, InventoryError> {
        Err(unchanging())
    }
}

#[async_trait]
impl Vault for Snapshot {
    async fn credentials(&self, _: i64) -> Result<Vec<Credential>, InventoryError> {
        Ok(Vec::new())
    }
    async fn credential(&self, _: i64, _: i64) -> Result<Option<Credential>, InventoryError> {
        Ok(None)
    }
    async fn insert_credential(&self, _: &Credential) -> Result<Option<i64>, InventoryError> {
        Err(unchanging())
    }
    async fn delete_credential(&self, _: i64, _: i64) -> Result<CredentialRemoved, InventoryError> {
        Err(unchanging())
    }
    async fn ssh_host_key(&self, _: &str, _: u16) -> Result<Option<String>, InventoryError> {
        Ok(None)
    }
}

#[async_trait]
impl Events for Snapshot {
    async fn events(&self, _: &EventFilter, _: u64, _: u64) -> Result<(Vec<FleetEvent>, u64), InventoryError> {
        Ok((Vec::new(), 0))
    }
    async fn prune_events(&self, _: Timestamp, _: u64) -> Result<u64, InventoryError> {
        Err(unchanging())
    }
}

#[async_trait]
impl Inventory for Snapshot {
    async fn installation(&self) -> Result<Installation, InventoryError> {
        Ok(Installation {
            id: "inst".into(),
            era: 1,
        })
    }
    async fn snapshot(&self) -> Result<Arc<Snapshot>, InventoryError> {
        Ok(Arc::new(self.clone()))
    }
    async fn host(&self, id: i64) -> Result<Option<Host>, InventoryError> {
        Ok(self.hosts.get(&id).cloned())
    }
    async fn cluster(&self, id: i64) -> Result<Option<Cluster>, InventoryError> {
        Ok(self.clusters.get(&id).cloned())
    }
    async fn proxy(&self, id: i64) -> Result<Option<Proxy>, InventoryError> {
        Ok(self.proxies.get(&id).cloned())
    }

    async fn take_over_password(&self, _: i64) -> Result<Option<Sealed>, InventoryError> {
        Ok(None)
    }

    async fn set_cluster_endpoint(
        &self,
        _: i64,
        _: Option<&str>,
        _: Option<u16>,
        _: Timestamp,
    ) -> Result<(), InventoryError> {
        Err(unchanging())
    }
    async fn next_id(&self) -> Result<i64, InventoryError> {
        Err(unchanging())
    }
    async fn insert_package(&self, _: &Package) -> Result<bool, InventoryError> {
        Err(unchanging())
    }
    async fn set_package_signer(&self, _: i64, _: &str) -> Result<bool, InventoryError> {
        Err(unchanging())
    }
    async fn delete_package(&self, _: i64) -> Result<bool, InventoryError> {
        Err(unchanging())
    }
    async fn insert_ob_cluster(&self, _: &ObCluster) -> Result<bool, InventoryError> {
        Err(unchanging())
    }
    async fn keep_ob_secrets(
        &self,
        _: i64,
        _: Option<&Sealed>,
        _: Option<&SealedAccount>,
        _: Timestamp,
    ) -> Result<bool, InventoryError> {
        Err(unchanging())
    }
    async fn delete_ob_cluster(&self, _: i64) -> Result<bool, InventoryError> {
        Err(unchanging())
    }
    async fn insert_token(&self, _: &EnrolToken) -> Result<(), InventoryError> {
        Err(unchanging())
    }
    async fn token(&self, _: &str) -> Result<Option<EnrolToken>, InventoryError> {
        Err(unchanging())
    }
    async fn enrol(&self, _: &str, _: &Host) -> Result<Option<i64>, InventoryError> {
        Err(unchanging())
    }
    async fn edit_host(&self, _: i64, _: &HostProfile) -> Result<bool, InventoryError> {
        Err(unchanging())
    }
    async fn delete_hosts(&self, _: &[i64]) -> Result<HostsDeleted, InventoryError> {
        Err(unchanging())
    }
    async fn record_sightings(&self, _: &[HostSighting]) -> Result<(), InventoryError> {
        Err(unchanging())
    }
    async fn key_fingerprint(&self) -> Result<Option<String>, InventoryError> {
        Ok(None)
    }
    async fn keep_key_fingerprint(&self, _: &str) -> Result<(), InventoryError> {
        Err(unchanging())
    }
    async fn cluster_names(&self, ids: &BTreeSet<i64>) -> Result<BTreeMap<i64, String>, InventoryError> {
        let known = self.clusters.values().filter(|cluster| ids.contains(&cluster.id));
        Ok(known.map(|cluster| (cluster.id, cluster.name.clone())).collect())
    }
}

/// Nothing is known of its parameters.
#[async_trait]
impl ParameterRecords for Snapshot {
    async fn wanted(&self, _: i64) -> Result<Vec<WantedValue>, InventoryError> {
        Ok(Vec::new())
    }
    async fn configs(&self, _: i64) -> Result<BTreeMap<i64, ProxyConfig>, InventoryError> {
        Ok(BTreeMap::new())
    }
    async fn config(&self, _: i64) -> Result<Option<ProxyConfig>, InventoryError> {
        Ok(None)
    }
    async fn record_config(&self, _: &ProxyConfig, _: Option<&str>) -> Result<bool, InventoryError> {
        Err(unchanging())
    }
    async fn seen_versions(&self) -> Result<BTreeSet<String>, InventoryError> {
        Ok(BTreeSet::new())
    }
    async fn seen_items(&self, _: &str) -> Result<Option<SeenItems>, InventoryError> {
        Ok(None)
    }
    async fn keep_seen_items(&self, _: &str, _: &SeenItems) -> Result<(), InventoryError> {
        Err(unchanging())
    }
    async fn past_changes(
        &self,
        _: i64,
        _: Option<&str>,
        _: u64,
        _: u64,
    ) -> Result<(Vec<PastChange>, u64), InventoryError> {
        Ok((Vec::new(), 0))
    }
}

fn unchanging() -> InventoryError {
    InventoryError("this inventory does not change".into())
}
