//! *Offline obproxy*: takes proxies away (the eight steps OCP documents), or deletes a whole cluster.

use futures::FutureExt as _;
use obfleet_engine::{Attempt, Context, Output, Template, TemplateBuilder, TemplateError, barrier};
use obfleet_wire::agent::Operation;

use super::{
    crew::{Crew, cluster_id, proxy_id, proxy_ids},
    keys, operate, shared,
    step::{Step, StepResult},
};
use crate::{
    inventory::{Cluster, InventoryChange, Proxy},
    plan::operate::Member,
};

const PREPARE: &str = "com.alipay.ocp.service.task.business.obproxy.PrepareOfflineObproxyTask";
const UNINSTALL: &str = "com.alipay.ocp.service.task.business.obproxy.UninstallObproxyTask";
pub(super) const DELETE_INFO: &str = "com.alipay.ocp.service.task.business.obproxy.DeleteObproxyMetaInfoTask";
pub(super) const OFFLINE_EXPORTER: &str = "com.alipay.ocp.service.task.business.obproxy.OfflineObproxyExporterTask";
pub(super) const UNRESERVE: &str = "com.alipay.ocp.service.task.business.host.UnReserveHostTask";

/// What each node does.
pub fn steps() -> Vec<Step> {
    vec![
        Step::new(PREPARE, "Prepare offline obproxy", 1800, |c, a| prepare(c, a).boxed())
            .undone_by(|c, a| shared::release(c, a).boxed()),
        Step::new(UNINSTALL, "Stop and uninstall obproxy", 1800, |c, a| {
            move_aside(c, a).boxed()
        })
        .on_host()
        .undone_by(|c, a| restore(c, a).boxed()),
        Step::new(DELETE_INFO, "Delete obproxy info", 300, |c, a| {
            set_deleted(c, a, true).boxed()
        })
        .undone_by(|c, a| set_deleted(c, a, false).boxed()),
        Step::new(OFFLINE_EXPORTER, "Offline obproxy exporter", 30, |c, a| {
            register(c, a, false).boxed()
        })
        .undone_by(|c, a| register(c, a, true).boxed()),
        Step::new(UNRESERVE, "Unreserve host", 1800, |c, a| unreserve(c, a).boxed())
            .undone_by(|c, a| reserve(c, a).boxed()),
    ]
}

/// The graph for `proxies` proxies; for none, what is left of deleting an empty cluster.
pub fn template(proxies: u32) -> Result<Template, TemplateError> {
    let mut template = TemplateBuilder::new();
    let start = template.node(barrier::START_NODE, None);
    let mut last = start;
    if proxies > 0 {
        let prepared = template.fan_out(&[start], proxies, PREPARE);
        let all = template.barrier(&prepared);
        let uninstalled = template.fan_out(&[all], proxies, UNINSTALL);
        let deleted = template.then(&uninstalled, DELETE_INFO, None);
        let offline = template.fan_out(&[deleted], proxies, OFFLINE_EXPORTER);
        last = template.then(&offline, UNRESERVE, None);
    }
    template.then(&[last], barrier::FINISH_TASK, None);
    template.build()
}

/// The context the steps read.
pub fn context(cluster: &Cluster, proxies: &[&Proxy], delete_cluster: bool) -> Context {
    let context = Context::new().with(keys::PROHIBIT_ROLLBACK, "false");
    if proxies.is_empty() {
        return context;
    }
    context
        .with_list(keys::PROXY_IDS, proxies.iter().map(|proxy| proxy.id.to_string()))
        .with_list(keys::HOST_IDS, proxies.iter().map(|proxy| proxy.host_id.to_string()))
        .with_list(
            keys::FROM_STATUSES,
            proxies.iter().map(|proxy| Member::of(proxy).status.as_str()),
        )
        .with_list(
            keys::FROM_OFFLINE,
            proxies.iter().map(|proxy| proxy.offline.to_string()),
        )
        .with(keys::SERVICE_TYPE, "OB_PROXY")
        .with(keys::SERVICE_NAME, &cluster.name)
        .with(keys::CLUSTER_ID, cluster.id.to_string())
        .with(keys::NEED_DELETE_CLUSTER, delete_cluster.to_string())
}

/// The agent answers before anything is taken away.
async fn prepare(crew: &Crew, attempt: &Attempt) -> StepResult {
    let host = crew.host(attempt).await?;
    let status = crew.agent_status(attempt, &host).await?;
    attempt.log(format!("host {}: agent {} answers", host.facts.name, status.version));
    Ok(Output::nothing())
}

/// Drains and stops the proxy, if that has not been done; its home is moved aside, so that it can be brought back.
pub(super) async fn move_aside(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    crew.perform(
        attempt,
        Operation::RemoveProxy {
            proxy_id,
            drain: crew.drain,
        },
    )
    .await?;
    Ok(Output::nothing())
}

/// The home is where it was; what runs in it is another step's.
pub(super) async fn move_back(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    crew.perform(attempt, Operation::RestoreProxy { proxy_id, start: false })
        .await?;
    Ok(Output::nothing())
}

/// The proxy is where it was, and does what it did.
async fn restore(crew: &Crew, attempt: &Attempt) -> StepResult {
    operate::run_as_before(crew, attempt).await?;
    if operate::offline_before(attempt) {
        return operate::as_before(crew, attempt).await;
    }
    Ok(Output::nothing())
}

async fn set_deleted(_: &Crew, attempt: &Attempt, deleted: bool) -> StepResult {
    let mut changes: Vec<_> = proxy_ids(attempt)?
        .into_iter()
        .map(|proxy_id| InventoryChange::SetProxyDeleted { proxy_id, deleted })
        .collect();
    if attempt.find_string(keys::NEED_DELETE_CLUSTER) == Some("true") {
        changes.push(InventoryChange::SetClusterDeleted {
            cluster_id: cluster_id(attempt)?,
            deleted,
        });
    }
    Ok(Output::changes(changes))
}

async fn register(_: &Crew, attempt: &Attempt, registered: bool) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    Ok(Output::changes(vec![InventoryChange::SetExporterRegistered {
        proxy_id,
        registered,
    }]))
}

/// Hosts without any proxy left are free for other services.
async fn unreserve(crew: &Crew, attempt: &Attempt) -> StepResult {
    let left = crew.inventory.snapshot().await?;
    let free = hosts(attempt)?
        .into_iter()
        .filter(|host| !left.proxies.values().any(|proxy| proxy.host_id == *host));
    Ok(Output::changes(
        free.map(|host_id| InventoryChange::SetHostReserved {
            host_id,
            reserved: false,
        })
        .collect(),
    ))
}

async fn reserve(_: &Crew, attempt: &Attempt) -> StepResult {
    let reserve = |host_id| InventoryChange::SetHostReserved {
        host_id,
        reserved: true,
    };
    Ok(Output::changes(hosts(attempt)?.into_iter().map(reserve).collect()))
}

fn hosts(attempt: &Attempt) -> Result<Vec<i64>, obfleet_engine::ActionError> {
    Ok(attempt
        .list(keys::HOST_IDS)?
        .iter()
        .filter_map(|id| id.parse().ok())
        .collect())
}
