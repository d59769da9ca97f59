//! Stopping, starting and restarting proxies, and taking them away: one task for all proxies of a request.

use obfleet_engine::{Context, Submission, TaskView, Template};
use obfleet_wire::obproxy::{DeleteServers, ProxyStatus};

use super::{
    Actor, Error, Fleet,
    holding::{held, locks},
};
use crate::{
    Once, flows,
    plan::{
        Selection, Snapshot,
        operate::{self, Restart},
    },
};

/// A task as planned.
struct Planned {
    name: &'static str,
    template: Template,
    context: Context,
    /// What its proxies are shown to do meanwhile.
    during: ProxyStatus,
}

impl Fleet {
    /// Stops proxies until they are started.
    pub async fn stop_obproxies(
        &self,
        who: &Actor,
        cluster_id: i64,
        selection: Selection<'_>,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let plan = |fleet: &Snapshot| {
            let members = operate::plan_stop(fleet, cluster_id, &selection)?;
            Ok(Planned {
                name: "Stop obproxy",
                template: flows::stop::template(count(&members))?,
                context: flows::stop::context(fleet.cluster(cluster_id)?, &members),
                during: ProxyStatus::Stopping,
            })
        };
        self.operate(who, cluster_id, selection, once, plan).await
    }

    /// Starts proxies that are down.
    pub async fn start_obproxies(
        &self,
        who: &Actor,
        cluster_id: i64,
        selection: Selection<'_>,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let plan = |fleet: &Snapshot| {
            let members = operate::plan_start(fleet, cluster_id, &selection)?;
            Ok(Planned {
                name: "Start obproxy",
                template: flows::start::template(count(&members))?,
                context: flows::start::context(fleet.cluster(cluster_id)?, &members),
                during: ProxyStatus::Starting,
            })
        };
        self.operate(who, cluster_id, selection, once, plan).await
    }

    /// Restarts proxies onto the version they have.
    pub async fn restart_obproxies(
        &self,
        who: &Actor,
        cluster_id: i64,
        selection: Selection<'_>,
        how: Restart,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let plan = |fleet: &Snapshot| {
            let targets = operate::plan_restart(fleet, cluster_id, &selection, how)?;
            Ok(Planned {
                name: "Restart obproxy",
                template: flows::restart::template(&targets, how == Restart::Forced)?,
                context: flows::restart::context(fleet.cluster(cluster_id)?, &targets),
                during: ProxyStatus::Restarting,
            })
        };
        self.operate(who, cluster_id, selection, once, plan).await
    }

    /// Has load balancers keep away from running proxies, or come again.
    pub async fn balance_obproxies(
        &self,
        who: &Actor,
        cluster_id: i64,
        selection: Selection<'_>,
        offline: bool,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let plan = |fleet: &Snapshot| {
            let members = operate::plan_balance(fleet, cluster_id, &selection)?;
            Ok(Planned {
                name: if offline {
                    "Take obproxy offline"
                } else {
                    "Bring obproxy online"
                },
                template: flows::balance::template(count(&members))?,
                context: flows::balance::context(fleet.cluster(cluster_id)?, &members, offline),
                during: ProxyStatus::Running,
            })
        };
        self.operate(who, cluster_id, selection, once, plan).await
    }

    /// Takes proxies away, also such whose hosts are gone for good.
    pub async fn delete_servers(
        &self,
        who: &Actor,
        cluster_id: i64,
        body: DeleteServers,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let selection = Selection::in_body(&body.obproxy_server_ids);
        let hosts_gone = Selection::named("skipHostOperationServerIds", &body.skip_host_operation_server_ids);
        let plan = |fleet: &Snapshot| {
            let removals = operate::plan_removal(fleet, cluster_id, &selection, &hosts_gone)?;
            Ok(Planned {
                name: "Delete obproxy server",
                template: flows::remove::template(&removals)?,
                context: flows::remove::context(fleet.cluster(cluster_id)?, &removals),
                during: ProxyStatus::Deleting,
            })
        };
        self.operate(who, cluster_id, selection, once, plan).await
    }

    async fn operate(
        &self,
        who: &Actor,
        cluster_id: i64,
        selection: Selection<'_>,
        once: Option<&Once>,
        plan: impl FnOnce(&Snapshot) -> Result<Planned, Error> + Send,
    ) -> Result<TaskView, Error> {
        let submit = async {
            let planned = plan(&*self.snapshot().await?)?;
            let ids: Vec<_> = selection.ids().collect();
            let mut submission = Submission::new(planned.name, &who.name, planned.template);
            submission.context = planned.context;
            submission.cluster_id = Some(cluster_id);
            submission.locks = locks(cluster_id, &ids);
            submission.changes = held(&ids, planned.during);
            Once::mark(once, &mut submission);
            Ok(self.engine.submit(submission).await?)
        };
        self.first_time(once, submit).await
    }
}

fn count<T>(of: &[T]) -> u32 {
    u32::try_from(of.len()).unwrap_or(u32::MAX)
}
