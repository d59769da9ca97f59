//! Taking proxies away, and clusters with theirs.

use obfleet_engine::{Lock, Submission, TaskView};
use obfleet_wire::obproxy::ProxyStatus;

use super::{
    Actor, Error, Fleet,
    holding::{held, locks},
};
use crate::{
    Once, flows,
    inventory::{Cluster, InventoryChange, Proxy},
    plan::Selection,
};

impl Fleet {
    /// Takes proxies of a cluster away: one task.
    pub async fn delete_obproxies(
        &self,
        who: &Actor,
        cluster_id: i64,
        ids: &[i64],
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let submit = self.submit_delete_obproxies(who, cluster_id, ids, once);
        self.first_time(once, submit).await
    }

    async fn submit_delete_obproxies(
        &self,
        who: &Actor,
        cluster_id: i64,
        ids: &[i64],
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let fleet = self.snapshot().await?;
        let cluster = fleet.cluster(cluster_id)?;
        let proxies = fleet.members(cluster, &Selection::in_path(ids))?;
        let mut submission = self.offline(who, cluster, &proxies, false)?;
        submission.locks = locks(cluster_id, ids);
        Once::mark(once, &mut submission);
        Ok(self.engine.submit(submission).await?)
    }

    /// Deletes a cluster with its proxies: one task.
    pub async fn delete_cluster(&self, who: &Actor, cluster_id: i64, once: Option<&Once>) -> Result<TaskView, Error> {
        self.first_time(once, self.submit_delete_cluster(who, cluster_id, once))
            .await
    }

    async fn submit_delete_cluster(
        &self,
        who: &Actor,
        cluster_id: i64,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let fleet = self.snapshot().await?;
        let cluster = fleet.cluster(cluster_id)?;
        let proxies: Vec<_> = fleet.proxies_of(cluster_id).collect();
        let mut submission = self.offline(who, cluster, &proxies, true)?;
        submission.locks = vec![Lock::exclusive("obproxy_cluster", cluster_id)];
        submission
            .locks
            .extend(proxies.iter().map(|proxy| Lock::exclusive("obproxy", proxy.id)));
        if proxies.is_empty() {
            submission.changes.push(InventoryChange::SetClusterDeleted {
                cluster_id,
                deleted: true,
            });
        }
        Once::mark(once, &mut submission);
        Ok(self.engine.submit(submission).await?)
    }

    fn offline(
        &self,
        who: &Actor,
        cluster: &Cluster,
        proxies: &[&Proxy],
        delete_cluster: bool,
    ) -> Result<Submission<InventoryChange>, Error> {
        let template = flows::offline::template(u32::try_from(proxies.len()).unwrap_or(u32::MAX))?;
        let mut submission = Submission::new("Offline obproxy", &who.name, template);
        submission.context = flows::offline::context(cluster, proxies, delete_cluster);
        submission.cluster_id = Some(cluster.id);
        let ids: Vec<_> = proxies.iter().map(|proxy| proxy.id).collect();
        submission.changes = held(&ids, ProxyStatus::Deleting);
        Ok(submission)
    }
}
