//! Parameters: which there are, what proxies have, and changing it.

use std::collections::BTreeMap;

use obfleet_engine::{Lock, Submission, TaskView, Template};
use obfleet_wire::{
    obproxy::ProxyStatus,
    parameter::{
        DriftSelection, ObproxyClusterParameter, ParameterChangeRecord, ParameterDrift, ParameterInfo, UpdateParameters,
    },
};

use super::{
    Actor, Error, Fleet,
    holding::{held, locks},
};
use crate::{
    Once, flows,
    inventory::{Cluster, InventoryChange},
    plan::parameters::{ParameterFacts, drift, edit, edit::Target, refresh},
    view,
};

/// Name of a task that changes what proxies have.
const UPDATE: &str = "Update obproxy parameters";
const REFRESH: &str = "Refresh obproxy parameters";
const REPAIR: &str = "Repair obproxy parameters";
const ACCEPT: &str = "Accept obproxy parameters";

impl Fleet {
    /// The parameters proxies of a version have, with or without its build, or of the newest that was seen; only one of them
    /// when it is named.
    pub async fn parameter_info(&self, name: Option<&str>, version: Option<&str>) -> Result<Vec<ParameterInfo>, Error> {
        let records = &self.crew.parameters;
        let without_build = |version: &str| version.split('-').next().unwrap_or_default().to_owned();
        let version = match version.map(without_build) {
            Some(version) => Some(version),
            None => view::parameters::newest(records.seen_versions().await?),
        };
        let seen = match &version {
            Some(version) => records.seen_items(version).await?,
            None => None,
        };
        let seen = version.as_deref().zip(seen.as_ref());
        let mut infos = view::parameters::infos(seen);
        infos.retain(|info| name.is_none_or(|name| name.eq_ignore_ascii_case(&info.name)));
        Ok(infos)
    }

    /// The parameters of a cluster's proxies.
    pub async fn cluster_parameters(&self, cluster_id: i64) -> Result<Vec<ObproxyClusterParameter>, Error> {
        let fleet = self.snapshot().await?;
        let cluster = fleet.cluster(cluster_id)?;
        let facts = self.parameter_facts(cluster).await?;
        Ok(view::parameters::cluster(&fleet, &facts, cluster))
    }

    /// What drifts in a cluster.
    pub async fn parameter_drift(&self, cluster_id: i64) -> Result<Vec<ParameterDrift>, Error> {
        let fleet = self.snapshot().await?;
        let cluster = fleet.cluster(cluster_id)?;
        let facts = self.parameter_facts(cluster).await?;
        Ok(view::parameters::drift(&fleet, &facts, cluster))
    }

    /// A page, from 1, of what was changed in a cluster, the newest first. → with how many there are
    pub async fn parameter_history(
        &self,
        cluster_id: i64,
        name: Option<&str>,
        page: u64,
        size: u64,
    ) -> Result<(Vec<ParameterChangeRecord>, u64), Error> {
        let fleet = self.snapshot().await?;
        fleet.cluster(cluster_id)?;
        let past = self.crew.parameters.past_changes(cluster_id, name, page, size);
        let (changes, total) = past.await?;
        let records = changes
            .into_iter()
            .map(|change| view::parameters::past_change(&fleet, change));
        Ok((records.collect(), total))
    }

    /// Gives all proxies of a cluster, or some, other values: one task, which takes everything back when a proxy refuses.
    pub async fn update_parameters(
        &self,
        who: &Actor,
        cluster_id: i64,
        body: UpdateParameters,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let submit = async {
            let fleet = self.snapshot().await?;
            let cluster = fleet.cluster(cluster_id)?;
            let facts = self.parameter_facts(cluster).await?;
            let servers = body.obproxy_server_ids.as_deref();
            let plan = edit::plan_edit(&fleet, &facts, cluster_id, &body.parameters, servers, &who.name)?;
            let template = flows::parameters::template_for_edit(count(&plan.targets))?;
            let mut submission = of_cluster(UPDATE, who, cluster, template, &plan.targets);
            submission.context = flows::parameters::context_for_edit(cluster, &plan);
            submission.undo_on_failure = true;
            alone(&mut submission, cluster, plan.set.from);
            Once::mark(once, &mut submission);
            Ok(self.engine.submit(submission).await?)
        };
        self.first_time(once, submit).await
    }

    /// Gives proxies all of their cluster's set: one task.
    pub async fn refresh_parameters(
        &self,
        who: &Actor,
        cluster_id: i64,
        ids: &[i64],
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let submit = async {
            let fleet = self.snapshot().await?;
            let cluster = fleet.cluster(cluster_id)?;
            let facts = self.parameter_facts(cluster).await?;
            let plan = refresh::plan_refresh(&fleet, &facts, cluster_id, ids)?;
            let targets: Vec<_> = plan.targets.iter().map(|(target, ..)| *target).collect();
            let template = flows::parameters::template_for_refresh(count(&targets))?;
            let mut submission = of_cluster(REFRESH, who, cluster, template, &targets);
            submission.context = flows::parameters::context_for_refresh(cluster, &plan);
            expect(&mut submission, cluster, plan.to);
            Once::mark(once, &mut submission);
            Ok(self.engine.submit(submission).await?)
        };
        self.first_time(once, submit).await
    }

    /// Gives proxies back the values they should have: one task.
    pub async fn repair_drift(
        &self,
        who: &Actor,
        cluster_id: i64,
        selection: DriftSelection,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let submit = async {
            let fleet = self.snapshot().await?;
            let cluster = fleet.cluster(cluster_id)?;
            let facts = self.parameter_facts(cluster).await?;
            let plan = drift::plan_repair(&fleet, &facts, cluster_id, &selection)?;
            let targets: Vec<_> = plan.targets.iter().map(|(target, _)| *target).collect();
            let template = flows::parameters::template_for_repair(count(&targets))?;
            let mut submission = of_cluster(REPAIR, who, cluster, template, &targets);
            submission.context = flows::parameters::context_for_repair(cluster, &plan);
            expect(&mut submission, cluster, cluster.parameter_version);
            Once::mark(once, &mut submission);
            Ok(self.engine.submit(submission).await?)
        };
        self.first_time(once, submit).await
    }

    /// Has what proxies have by somebody's SQL be what they should have: one task, which touches no proxy.
    pub async fn accept_drift(
        &self,
        who: &Actor,
        cluster_id: i64,
        selection: DriftSelection,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let submit = async {
            let fleet = self.snapshot().await?;
            let cluster = fleet.cluster(cluster_id)?;
            let facts = self.parameter_facts(cluster).await?;
            let plan = drift::plan_accept(&fleet, &facts, cluster_id, &selection, &who.name)?;
            let template = flows::parameters::template_for_accept()?;
            let mut submission = of_cluster(ACCEPT, who, cluster, template, &[]);
            submission.context = flows::parameters::context_for_accept(cluster, &plan);
            alone(&mut submission, cluster, plan.from);
            Once::mark(once, &mut submission);
            Ok(self.engine.submit(submission).await?)
        };
        self.first_time(once, submit).await
    }

    async fn parameter_facts(&self, cluster: &Cluster) -> Result<ParameterFacts, Error> {
        let records = &self.crew.parameters;
        let wanted = records.wanted(cluster.id).await?;
        let configs = records.configs(cluster.id).await?;
        let mut seen = BTreeMap::new();
        for config in configs.values() {
            let version = &config.version.version;
            if !seen.contains_key(version)
                && let Some(items) = records.seen_items(version).await?
            {
                seen.insert(version.clone(), items);
            }
        }
        Ok(ParameterFacts { wanted, configs, seen })
    }
}

fn count(targets: &[Target]) -> u32 {
    u32::try_from(targets.len()).unwrap_or(u32::MAX)
}

/// A task on some proxies of a cluster, which are its alone.
fn of_cluster(
    name: &str,
    who: &Actor,
    cluster: &Cluster,
    template: Template,
    targets: &[Target],
) -> Submission<InventoryChange> {
    let ids: Vec<_> = targets.iter().map(|target| target.proxy_id).collect();
    let mut submission = Submission::new(name, &who.name, template);
    submission.cluster_id = Some(cluster.id);
    submission.locks = locks(cluster.id, &ids);
    submission.changes = held(&ids, ProxyStatus::Refreshing);
    submission
}

/// It changes the cluster's set, so nothing else may go by that meanwhile, such as an installation.
fn alone(submission: &mut Submission<InventoryChange>, cluster: &Cluster, version: i64) {
    submission.locks.push(Lock::exclusive("obproxy_cluster", cluster.id));
    expect(submission, cluster, version);
}

/// What it is planned on was read before its locks are taken.
fn expect(submission: &mut Submission<InventoryChange>, cluster: &Cluster, parameter_version: i64) {
    submission.changes.insert(
        0,
        InventoryChange::ExpectParameterVersion {
            cluster_id: cluster.id,
            parameter_version,
        },
    );
}
