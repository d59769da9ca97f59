//! Changing passwords: root@proxysys of a cluster's proxies, and proxyro of the OceanBase clusters behind all of them.

use std::collections::BTreeSet;

use obfleet_engine::{Lock, Submission, TaskView};
use obfleet_wire::{Code, Refusal, obproxy::ProxyStatus, reason::Reason, time::Timestamp};

use super::{Actor, Error, Fleet, holding::held, ob_links::proxy_locks};
use crate::{
    Once, flows,
    plan::{install::check_sys_password, ob_links::Concerned, operate},
};

impl Fleet {
    /// Gives all proxies of a cluster another password of root@proxysys: one task, which takes everything back when one
    /// refuses.
    pub async fn change_sys_password(
        &self,
        who: &Actor,
        cluster_id: i64,
        password: &str,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let submit = async {
            let fleet = self.snapshot().await?;
            let cluster = fleet.cluster(cluster_id)?;
            check_sys_password(password)?;
            let members = operate::plan_for_all(&fleet, cluster_id)?;
            let ids: Vec<_> = members.iter().map(|member| member.proxy_id).collect();
            let template = flows::sys_password::template(u32::try_from(ids.len()).unwrap_or(u32::MAX))?;
            let mut submission = Submission::new("Change obproxy sys password", &who.name, template);
            submission.context = flows::sys_password::context(cluster, &members);
            submission.cluster_id = Some(cluster_id);
            submission.undo_on_failure = true;
            // No proxy comes or goes meanwhile.
            submission.locks = vec![Lock::exclusive("obproxy_cluster", cluster_id)];
            submission
                .locks
                .extend(ids.iter().map(|id| Lock::exclusive("obproxy", id)));
            submission.changes = held(&ids, ProxyStatus::Running);
            let sealed = self.crew.sealer.seal(password)?;
            submission.changes.push(flows::sys_password::begun(cluster, sealed));
            Once::mark(once, &mut submission);
            Ok(self.engine.submit(submission).await?)
        };
        self.first_time(once, submit).await
    }

    /// Gives proxyro another password for all registered OceanBase clusters. It is kept at once, and brought by one task to
    /// the proxies that run; clusters with a password of their own keep that.
    pub async fn change_proxyro_password(
        &self,
        who: &Actor,
        password: &str,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let submit = async {
            let fleet = self.snapshot().await?;
            if fleet.ob_clusters.is_empty() {
                return Err(Refusal::about(Code::Com10003, [Reason::NoObClusters.into()]).into());
            }
            let sealed = self.crew.sealer.seal(password)?;
            for id in fleet.ob_clusters.keys() {
                let keep = self
                    .crew
                    .inventory
                    .keep_ob_secrets(*id, Some(&sealed), None, Timestamp::now());
                keep.await?;
            }
            let served: BTreeSet<i64> = fleet.ob_links.iter().map(|link| link.cluster_id).collect();
            let concerned = Concerned::of(&fleet, served.iter().copied());
            let template = flows::ob_links::template_for_password(concerned.count())?;
            let mut submission = Submission::new("Change proxyro password", &who.name, template);
            submission.context = flows::ob_links::context_for_password(&concerned);
            submission.locks = proxy_locks(&concerned).collect();
            submission
                .locks
                .extend(fleet.ob_clusters.keys().map(|id| Lock::shared("ob_cluster", *id)));
            submission.locks.extend(
                served
                    .into_iter()
                    .map(|cluster| Lock::shared("obproxy_cluster", cluster)),
            );
            Once::mark(once, &mut submission);
            Ok(self.engine.submit(submission).await?)
        };
        self.first_time(once, submit).await
    }
}
