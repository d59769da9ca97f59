//! Upgrading proxies of a cluster.

use std::collections::BTreeSet;

use obfleet_engine::{Submission, TaskView};
use obfleet_wire::obproxy::ProxyStatus;

use super::{
    Actor, Error, Fleet,
    holding::{held, locks, package},
};
use crate::{
    Once, flows,
    plan::{
        Selection,
        upgrade::{self, Wanted},
    },
};

impl Fleet {
    /// Upgrades proxies of a cluster: one task.
    pub async fn upgrade_obproxies(
        &self,
        who: &Actor,
        cluster_id: i64,
        selection: Selection<'_>,
        wanted: Wanted<'_>,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        self.first_time(once, self.submit_upgrade(who, cluster_id, selection, wanted, once))
            .await
    }

    async fn submit_upgrade(
        &self,
        who: &Actor,
        cluster_id: i64,
        selection: Selection<'_>,
        wanted: Wanted<'_>,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let fleet = self.snapshot().await?;
        let plan = upgrade::plan_upgrade(&fleet, cluster_id, &selection, wanted)?;
        let cluster = fleet.cluster(cluster_id)?;
        let template = flows::upgrade::template(u32::try_from(plan.targets.len()).unwrap_or(u32::MAX))?;
        let mut submission = Submission::new("Upgrade obproxy", &who.name, template);
        submission.context = flows::upgrade::context(cluster, &plan);
        submission.cluster_id = Some(cluster_id);
        let ids: Vec<_> = selection.ids().collect();
        submission.locks = locks(cluster_id, &ids);
        let packages: BTreeSet<i64> = plan.targets.iter().map(|target| target.package_id).collect();
        submission.locks.extend(packages.into_iter().map(package));
        submission.changes = held(&ids, ProxyStatus::Upgrading);
        Once::mark(once, &mut submission);
        Ok(self.engine.submit(submission).await?)
    }
}
