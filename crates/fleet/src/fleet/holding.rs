//! What a task holds while it works on proxies, and what becomes of it when nobody will end the task.

use obfleet_engine::{Lock, TaskId, TaskView};
use obfleet_wire::obproxy::{OperateStatus, ProxyStatus};

use super::{Actor, Error, Fleet, ob_links::settled};
use crate::{flows, inventory::InventoryChange};

impl Fleet {
    /// Gives a FAILED task up as it stands. What it held is free again; the observer tells what state that is in.
    pub async fn abandon_task(&self, who: &Actor, task: TaskId, reason: &str) -> Result<TaskView, Error> {
        let held = self.engine.task(task).await?.locks;
        let proxies = held.iter().filter(|lock| lock.kind == "obproxy" && lock.exclusive);
        let freed = proxies.filter_map(|lock| lock.name.parse().ok()).flat_map(|proxy_id| {
            let freed = InventoryChange::SetProxyStatus {
                proxy_id,
                status: ProxyStatus::Unavailable,
                operate_status: OperateStatus::Normal,
            };
            [freed, flows::take_over::no_password(proxy_id)]
        });
        let mut freed: Vec<_> = freed.collect();
        let links = held.iter().filter(|lock| lock.kind == "ob_links" && lock.exclusive);
        let clusters: Vec<i64> = links.filter_map(|lock| lock.name.parse().ok()).collect();
        if !clusters.is_empty() {
            let fleet = self.snapshot().await?;
            freed.extend(clusters.into_iter().flat_map(|cluster| settled(&fleet, cluster)));
        }
        Ok(self.engine.abandon(task, &who.name, reason, &freed).await?)
    }
}

/// The cluster stays as it is, and the proxies are this task's alone.
pub(super) fn locks(cluster_id: i64, ids: &[i64]) -> Vec<Lock> {
    let mut locks = vec![Lock::shared("obproxy_cluster", cluster_id)];
    locks.extend(ids.iter().map(|id| Lock::exclusive("obproxy", id)));
    locks
}

/// The package is not deleted while a task is about to install it. Any number of tasks may be.
pub(super) fn package(package_id: i64) -> Lock {
    Lock::shared("software_package", package_id)
}

/// The proxies are shown as being worked on.
pub(super) fn held(ids: &[i64], status: ProxyStatus) -> Vec<InventoryChange> {
    let held = |proxy_id: &i64| InventoryChange::SetProxyStatus {
        proxy_id: *proxy_id,
        status,
        operate_status: OperateStatus::Operating,
    };
    ids.iter().map(held).collect()
}
