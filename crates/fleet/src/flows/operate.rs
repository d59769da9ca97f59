//! What the flows that stop, start and restart proxies have in common: what each proxy was before, the word to load
//! balancers, the agent's watch, and the status in the end.

use std::time::Duration;

use futures::FutureExt as _;
use obfleet_engine::{ActionError, Attempt, Context, Output};
use obfleet_wire::{
    agent::Operation,
    obproxy::{OperateStatus, ProxyStatus},
};
use tokio::time::{Instant, sleep};

use super::{
    crew::{Crew, proxy_id, proxy_ids},
    keys, shared,
    step::{Step, StepResult},
};
use crate::{
    inventory::{Cluster, InventoryChange},
    plan::operate::Member,
};

// OCP documents no class names for these steps: these are ours.
pub(super) const PREVENT: &str = "obfleet.operate.PreventNewRequests";
pub(super) const RESTORE_WEIGHT: &str = "obfleet.operate.RestoreWeight";
pub(super) const STOP: &str = "obfleet.operate.StopObproxy";
pub(super) const INACTIVE_MODULES: &str = "obfleet.operate.InactiveAgentModules";
pub(super) const ACTIVE_MODULES: &str = "obfleet.operate.ActiveAgentModules";
pub(super) const LOCK_STATUS: &str = "obfleet.operate.UpdateLockStatus";

/// Seconds that OCP gives a stop, and a start, which may have to be taken back.
const STOP_S: u32 = 1800;
const START_S: u32 = 600;
/// A proxy that serves is seen by its agent within a second or two.
const SEEN_WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(200);

/// What each node does.
pub fn steps() -> Vec<Step> {
    vec![
        Step::new(PREVENT, "Prevent obproxy from accepting new request", 300, |c, a| {
            go_offline(c, a).boxed()
        })
        .on_host()
        .undone_by(|c, a| as_before(c, a).boxed()),
        Step::new(RESTORE_WEIGHT, "Restore obproxy weight", 300, |c, a| {
            go_online(c, a).boxed()
        })
        .on_host(),
        Step::new(STOP, "Stop obproxy", STOP_S, |c, a| stop(c, a).boxed())
            .on_host()
            .undone_by(|c, a| run_as_before(c, a).boxed()),
        Step::new(INACTIVE_MODULES, "Inactive agent modules", 3600, |c, a| {
            supervise(c, a, false).boxed()
        })
        .on_host()
        .undone_by(|c, a| supervise_as_before(c, a).boxed()),
        Step::new(ACTIVE_MODULES, "Active agent modules", 1800, |c, a| watch(c, a).boxed())
            .on_host()
            .undone_by(|c, a| supervise_as_before(c, a).boxed()),
        Step::new(LOCK_STATUS, "Update obproxy cluster lock status", 60, |c, a| {
            lock_status(c, a, OperateStatus::Normal).boxed()
        })
        .undone_by(|c, a| lock_status(c, a, OperateStatus::Operating).boxed()),
    ]
}

/// What is known of the cluster and its proxies when the task is submitted. `during` is their status while the task has
/// them, `to` in the end; a task that takes them away has none.
pub fn context<'a>(
    cluster: &Cluster,
    members: impl Iterator<Item = &'a Member> + Clone,
    during: ProxyStatus,
    to: Option<ProxyStatus>,
) -> Context {
    let list = |value: fn(&Member) -> String| members.clone().map(value).collect::<Vec<_>>();
    let context = Context::new()
        .with_list(keys::PROXY_IDS, list(|member| member.proxy_id.to_string()))
        .with_list(keys::HOST_IDS, list(|member| member.host_id.to_string()))
        .with_list(keys::FROM_STATUSES, list(|member| member.status.as_str().to_owned()))
        .with_list(keys::FROM_OFFLINE, list(|member| member.offline.to_string()))
        .with_list(keys::FROM_VERSIONS, list(|member| member.version.to_string()))
        .with(keys::SERVICE_TYPE, "OB_PROXY")
        .with(keys::SERVICE_NAME, &cluster.name)
        .with(keys::CLUSTER_ID, cluster.id.to_string())
        .with(keys::CLUSTER_NAME, &cluster.name)
        .with(keys::DURING_STATUS, during.as_str())
        .with(keys::PROHIBIT_ROLLBACK, "false");
    match to {
        Some(to) => context.with(keys::TO_STATUS, to.as_str()),
        None => context,
    }
}

/// A proxy is marked, or was.
pub(super) fn marked(proxy_id: i64, offline: bool) -> Output<InventoryChange> {
    Output::changes(vec![InventoryChange::SetProxyOffline { proxy_id, offline }])
}

/// Has load balancers keep away, or come; one that cannot be asked is left as it is, for it is stopped all the same.
async fn mark(crew: &Crew, attempt: &Attempt, offline: bool) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    let operation = Operation::SetOnline {
        proxy_id,
        online: !offline,
        best_effort: true,
    };
    crew.perform(attempt, operation).await?;
    Ok(marked(proxy_id, offline))
}

/// Load balancers that ask keep away from now on.
pub(super) async fn go_offline(crew: &Crew, attempt: &Attempt) -> StepResult {
    mark(crew, attempt, true).await
}

async fn go_online(crew: &Crew, attempt: &Attempt) -> StepResult {
    mark(crew, attempt, false).await
}

/// What load balancers were told before the task.
pub(super) async fn as_before(crew: &Crew, attempt: &Attempt) -> StepResult {
    mark(crew, attempt, offline_before(attempt)).await
}

/// Whether load balancers were told to keep away from the branch's proxy before the task.
pub(super) fn offline_before(attempt: &Attempt) -> bool {
    attempt.item(keys::FROM_OFFLINE).is_ok_and(|before| before == "true")
}

/// What the branch's proxy was doing before the task. A task that an earlier release began does not tell; it served.
pub(super) fn status_before(attempt: &Attempt) -> Result<ProxyStatus, ActionError> {
    attempt
        .item(keys::FROM_STATUSES)
        .map_or(Ok(ProxyStatus::Running), shared::status)
}

async fn stop(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    let drain = crew.drain_within(STOP_S);
    crew.perform(attempt, Operation::StopProxy { proxy_id, drain }).await?;
    Ok(marked(proxy_id, false))
}

/// One that served serves again, one that was stopped is, and one that had failed is tried to be brought up as before.
///
/// Its home is brought back first, should that not have been done: an operator may have skipped that step.
pub(super) async fn run_as_before(crew: &Crew, attempt: &Attempt) -> StepResult {
    let (proxy_id, before) = (proxy_id(attempt)?, status_before(attempt)?);
    let start = before == ProxyStatus::Running;
    crew.perform(attempt, Operation::RestoreProxy { proxy_id, start })
        .await?;
    match before {
        ProxyStatus::Running => {}
        ProxyStatus::Stopped => {
            let drain = crew.drain_within(START_S);
            crew.perform(attempt, Operation::StopProxy { proxy_id, drain }).await?;
        }
        // It ought to run, and may not be able to.
        _ => {
            crew.perform(attempt, Operation::StartProxy { proxy_id, wait: false })
                .await?;
        }
    }
    Ok(Output::nothing())
}

/// Turns the agent's supervision on or off.
pub(super) async fn supervise(crew: &Crew, attempt: &Attempt, on: bool) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    crew.perform(attempt, Operation::Supervise { proxy_id, on }).await?;
    Ok(Output::nothing())
}

/// Only what was stopped on purpose was not supervised.
pub(super) async fn supervise_as_before(crew: &Crew, attempt: &Attempt) -> StepResult {
    let on = status_before(attempt)? != ProxyStatus::Stopped;
    supervise(crew, attempt, on).await
}

/// The agent supervises the proxy and sees it serve: from here on what it tells of the proxy is true.
async fn watch(crew: &Crew, attempt: &Attempt) -> StepResult {
    supervise(crew, attempt, true).await?;
    let (proxy_id, host) = (proxy_id(attempt)?, crew.host(attempt).await?);
    let end = Instant::now() + SEEN_WITHIN;
    loop {
        let reason = match crew.agents.status(&host).await {
            Ok(status) => {
                let mut seen = status.proxies.iter().filter(|proxy| proxy.proxy_id == proxy_id);
                if seen.any(|proxy| proxy.serving == Some(true)) {
                    return Ok(Output::nothing());
                }
                "it is not seen to serve".to_owned()
            }
            Err(error) => error.to_string(),
        };
        if Instant::now() >= end {
            return Err(ActionError::new(format!(
                "obproxy {proxy_id} on host {}: {reason} within {} s; look at the log of its agent, then retry",
                host.facts.name,
                SEEN_WITHIN.as_secs()
            )));
        }
        tokio::select! {
            () = sleep(LOOK) => {}
            () = attempt.cancelled().cancelled() => return Err(ActionError::new("the attempt was stopped")),
        }
    }
}

/// The proxies are free, or held again.
async fn lock_status(_: &Crew, attempt: &Attempt, operate_status: OperateStatus) -> StepResult {
    let status = shared::status(attempt.string(keys::TO_STATUS)?)?;
    let free = |proxy_id| InventoryChange::SetProxyStatus {
        proxy_id,
        status,
        operate_status,
    };
    Ok(Output::changes(proxy_ids(attempt)?.into_iter().map(free).collect()))
}
