//! Adding proxies to a cluster.

use std::collections::BTreeMap;

use obfleet_engine::{Lock, Submission, TaskView};
use obfleet_wire::{
    Code, Refusal,
    obproxy::{AddObproxy, OperateStatus, ProxyStatus},
    version::ProxyVersion,
};

use super::{Actor, Error, Fleet, holding};
use crate::{
    Once, flows,
    inventory::{InventoryChange, Proxy},
    plan::install::{self, NewProxy, Ports},
};

impl Fleet {
    /// Installs one proxy on each host: one task a host. A repetition makes the tasks that the first time did not come to.
    pub async fn add_obproxies(
        &self,
        who: &Actor,
        cluster_id: i64,
        mut body: AddObproxy,
        once: Option<&Once>,
    ) -> Result<Vec<TaskView>, Error> {
        let part = |index| once.map(|once| once.part(index));
        let mut parts = BTreeMap::new();
        let mut tasks = Vec::new();
        for (index, host) in std::mem::take(&mut body.host_ids).into_iter().enumerate() {
            match self.made(part(index).as_ref()).await? {
                Some(made) => tasks.push(made),
                None => {
                    parts.entry(host).or_insert(index);
                    body.host_ids.push(host);
                }
            }
        }
        if body.host_ids.is_empty() && !tasks.is_empty() {
            return Ok(tasks);
        }
        let fleet = self.snapshot().await?;
        let cluster = fleet.cluster(cluster_id)?;
        let ports = Ports {
            sql: body.sql_port,
            exporter: body.exporter_port,
            rpc: body.rpc_port,
        };
        for new in install::plan_install(&fleet, &body.host_ids, ports, &body.version)? {
            let id = self.crew.inventory.next_id().await?;
            let proxy = creating(id, cluster_id, &new);
            let package = fleet.packages.get(&new.package_id);
            let package = package.ok_or_else(|| Refusal::new(Code::Pkg10014, [&body.version]).field("version"))?;
            let mut submission = Submission::new("Install obproxy", &who.name, flows::install::template_for_one()?);
            submission.context = flows::install::context_for_one(cluster, &proxy, package);
            submission.cluster_id = Some(cluster_id);
            submission.host_id = Some(proxy.host_id);
            submission.locks = vec![
                Lock::shared("obproxy_cluster", cluster_id),
                Lock::exclusive("obproxy", id),
                // The ports were looked for in the inventory; nobody else may take them meanwhile.
                Lock::exclusive("host_port", format!("{}:{}", proxy.host_id, proxy.sql_port)),
                holding::package(new.package_id),
                // What it is told when it starts is what it is told when that is looked at.
                Lock::shared("ob_links", cluster_id),
            ];
            let behind = fleet
                .links_of(cluster_id)
                .map(|link| Lock::shared("ob_cluster", link.ob_cluster));
            submission.locks.extend(behind);
            let index = parts.get(&proxy.host_id).copied().unwrap_or_default();
            Once::mark(part(index).as_ref(), &mut submission);
            submission.changes = vec![InventoryChange::InsertProxy(proxy)];
            tasks.push(self.engine.submit(submission).await?);
        }
        Ok(tasks)
    }
}

/// The row of a proxy that is being installed.
pub(super) fn creating(id: i64, cluster_id: i64, new: &NewProxy) -> Proxy {
    let ports = new.ports;
    coming(
        id,
        (cluster_id, new.host_id),
        new.version.clone(),
        ports,
        ProxyStatus::Creating,
    )
}

/// The row of a proxy that a task brings to a cluster, on a host.
pub(super) fn coming(
    id: i64,
    (cluster_id, host_id): (i64, i64),
    version: ProxyVersion,
    ports: Ports,
    status: ProxyStatus,
) -> Proxy {
    Proxy {
        id,
        cluster_id,
        host_id,
        version,
        sql_port: ports.sql,
        exporter_port: ports.exporter,
        rpc_port: ports.rpc,
        status,
        operate_status: OperateStatus::Operating,
        parameter_version: 0,
        exporter_registered: false,
        last_active: None,
        offline: false,
        deleted: false,
    }
}
