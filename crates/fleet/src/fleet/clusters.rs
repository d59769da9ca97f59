//! Clusters: what is known of them, and a new one with its first proxies.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
};

use obfleet_engine::{Lock, Submission, TaskView};
use obfleet_wire::{
    Refusal,
    obproxy::{CreateObproxyCluster, LinkStatus, ObproxyCluster, PatchObproxyCluster, WorkMode},
    reason::Reason,
    time::Timestamp,
};

use super::{Actor, Error, Fleet, Started, holding, install::creating, sites::check_text};
use crate::{
    Once, flows,
    inventory::{Cluster, ClusterSettings, InventoryChange, SealedProbe},
    plan::{
        Snapshot,
        install::{self, NewProxy, Ports},
        ob::{self, NewLink, Unknown},
        parameters,
    },
    secrets::{self, SealError},
    view,
};

/// Longest address of a cluster, in characters.
const ADDRESS: usize = 255;
const DEFAULT_SQL_PORT: u16 = 2883;
const DEFAULT_EXPORTER_PORT: u16 = 2884;

impl Fleet {
    /// One cluster.
    pub async fn cluster(&self, id: i64) -> Result<ObproxyCluster, Error> {
        let fleet = self.snapshot().await?;
        Ok(self.show_cluster(&fleet, fleet.cluster(id)?))
    }

    /// A cluster of a snapshot as clients see it.
    pub fn show_cluster(&self, fleet: &Snapshot, cluster: &Cluster) -> ObproxyCluster {
        view::cluster(fleet, cluster, &self.base_url)
    }

    /// Changes what clients of a cluster connect to. Its proxies are not asked, so tasks that work on them are no obstacle.
    pub async fn patch_cluster(&self, id: i64, body: PatchObproxyCluster) -> Result<ObproxyCluster, Error> {
        self.snapshot().await?.cluster(id)?;
        if let Some(address) = &body.address {
            check_text("address", address, 1, ADDRESS)?;
        }
        if body.address.is_some() || body.port.is_some() {
            let (address, port) = (body.address.as_deref(), body.port.map(NonZeroU16::get));
            let inventory = &self.crew.inventory;
            inventory
                .set_cluster_endpoint(id, address, port, Timestamp::now())
                .await?;
        }
        self.cluster(id).await
    }

    /// Id of the cluster of this name.
    pub async fn cluster_named(&self, name: &str) -> Result<Option<i64>, Error> {
        let fleet = self.snapshot().await?;
        Ok(fleet
            .clusters
            .values()
            .find(|cluster| cluster.name == name)
            .map(|cluster| cluster.id))
    }

    /// Names of these clusters, by id, deleted or not.
    pub async fn cluster_names(&self, ids: &BTreeSet<i64>) -> Result<BTreeMap<i64, String>, Error> {
        Ok(self.crew.inventory.cluster_names(ids).await?)
    }

    /// Makes a cluster, and its first proxies if hosts are given.
    pub async fn create_cluster(
        &self,
        who: &Actor,
        body: CreateObproxyCluster,
        once: Option<&Once>,
    ) -> Result<Started, Error> {
        let task = self.first_time(once, self.submit_cluster(who, body, once)).await?;
        Ok(Started {
            cluster_id: task.cluster_id.unwrap_or_default(),
            task,
        })
    }

    async fn submit_cluster(
        &self,
        who: &Actor,
        body: CreateObproxyCluster,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let fleet = self.snapshot().await?;
        install::check_cluster_name(&fleet, &body.name)?;
        parameters::check::check_new_cluster(&body.startup_parameters, &body.parameters)?;
        let (host_ids, new_proxies) = first_proxies(&fleet, &body)?;
        let links = first_links(&fleet, &body, !host_ids.is_empty())?;
        let cluster = self.new_cluster(who, &body).await?;
        self.check_passwords(&fleet, &cluster, &links)?;
        let linking = self.linking(who, cluster.id, &links, LinkStatus::Running).await?;

        let mut with_ids = Vec::new();
        for new in new_proxies {
            with_ids.push((self.crew.inventory.next_id().await?, new));
        }
        let template = flows::install::template_for_cluster(u32::try_from(with_ids.len()).unwrap_or(u32::MAX))?;
        let mut submission = Submission::new("Install obproxy", &who.name, template);
        submission.context = flows::install::context_for_cluster(&cluster, &with_ids, &linking.registered);
        submission.cluster_id = Some(cluster.id);
        submission.locks = vec![
            Lock::exclusive("obproxy_cluster_name", &cluster.name),
            Lock::exclusive("obproxy_cluster", cluster.id),
        ];
        submission.locks.extend(linking.locks);
        let proxies: Vec<_> = with_ids
            .iter()
            .map(|(id, new)| InventoryChange::InsertProxy(creating(*id, cluster.id, new)))
            .collect();
        submission.changes = vec![InventoryChange::InsertCluster(Box::new(cluster))];
        submission.changes.extend(linking.changes);
        submission.changes.extend(proxies);
        submission
            .locks
            .extend(with_ids.iter().map(|(id, _)| Lock::exclusive("obproxy", id)));
        let packages: BTreeSet<i64> = with_ids.iter().map(|(_, new)| new.package_id).collect();
        submission.locks.extend(packages.into_iter().map(holding::package));
        Once::mark(once, &mut submission);
        Ok(self.engine.submit(submission).await?)
    }

    async fn new_cluster(&self, who: &Actor, body: &CreateObproxyCluster) -> Result<Cluster, Error> {
        let work_mode = work_mode(body);
        let password = match &body.password {
            Some(password) => {
                install::check_sys_password(password)?;
                password.clone()
            }
            None => secrets::generate_password()?,
        };
        let seal = |secret: &str| self.crew.sealer.seal(secret);
        let probe = body.probe.as_ref().map(|probe| {
            Ok::<_, SealError>(SealedProbe {
                user: probe.user.clone(),
                password: seal(&probe.password)?,
                sql: probe.sql.clone(),
            })
        });
        let now = Timestamp::now();
        Ok(Cluster {
            id: self.crew.inventory.next_id().await?,
            name: body.name.clone(),
            address: body.address.clone(),
            port: Some(body.port.unwrap_or(DEFAULT_SQL_PORT)),
            work_mode,
            settings: ClusterSettings {
                config_base: self.base_url.to_string(),
                startup_parameters: body.startup_parameters.clone(),
                parameters: body.parameters.clone(),
                sys_password: seal(&password)?,
                sys_password_change: None,
                proxyro_password: body.proxyro_password.as_deref().map(seal).transpose()?,
                probe: probe.transpose()?,
            },
            parameter_version: 1,
            version: None,
            creator_id: who.id,
            creator_name: who.name.clone(),
            deleted: false,
            created: now,
            updated: now,
        })
    }
}

/// The first proxies a new cluster asks for.
fn first_proxies(fleet: &Snapshot, body: &CreateObproxyCluster) -> Result<(Vec<i64>, Vec<NewProxy>), Refusal> {
    let Some(param) = body
        .obproxy_install_param
        .as_ref()
        .filter(|param| !param.host_ids.is_empty())
    else {
        return Ok((Vec::new(), Vec::new()));
    };
    let ports = Ports {
        sql: param.sql_port.unwrap_or(DEFAULT_SQL_PORT),
        exporter: param.exporter_port.unwrap_or(DEFAULT_EXPORTER_PORT),
        rpc: param.rpc_port,
    };
    let version = param.version.as_deref();
    let version = version.ok_or_else(|| Refusal::invalid("version", Reason::VersionNeeded))?;
    Ok((
        param.host_ids.clone(),
        install::plan_install(fleet, &param.host_ids, ports, version)?,
    ))
}

/// OCP makes no RS_LIST cluster unless it is told to.
fn work_mode(body: &CreateObproxyCluster) -> WorkMode {
    body.work_mode.unwrap_or(WorkMode::ConfigUrl)
}

/// The first links of a new cluster. One without proxies may name OceanBase clusters that are not known yet.
fn first_links(fleet: &Snapshot, body: &CreateObproxyCluster, has_proxies: bool) -> Result<Vec<NewLink>, Refusal> {
    let mode = work_mode(body);
    ob::check_parameters(mode, &body.startup_parameters, &body.parameters)?;
    let unknown = match has_proxies {
        true => Unknown::Refused,
        false => Unknown::Kept,
    };
    ob::plan_first_links(fleet, mode, &body.ob_links, &body.startup_parameters, unknown)
}
