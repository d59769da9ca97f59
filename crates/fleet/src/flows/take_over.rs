//! *Take over obproxy*: a proxy that somebody else installed becomes one of a cluster's, where it lies and without a restart;
//! one task a proxy. Rolled back, it is as it was: with its password, its parameters and its watchdog.

use std::sync::Arc;

use futures::FutureExt as _;
use obfleet_engine::{ActionError, Attempt, Context, Output, Template, TemplateBuilder, TemplateError, barrier};
use obfleet_wire::agent::{ExamineRequest, Operation, Outcome};

use super::{
    crew::{Crew, proxy_id, unexpected},
    install, keys, parameters, shared,
    step::{Step, StepResult},
};
use crate::{
    inventory::{Cluster, InventoryChange, Proxy},
    plan::take_over::{self as plan, Wish},
};

// OCP documents no class names for these steps: these are ours.
const PREPARE: &str = "obfleet.takeover.PrepareTakeOver";
const CHECK: &str = "obfleet.takeover.CheckTakeOver";
const ADOPT: &str = "obfleet.takeover.AdoptObproxy";
const RETIRE: &str = "obfleet.takeover.RetireWatchdog";
const PASSWORD: &str = "obfleet.takeover.SetProxysysPassword";
const PARAMETERS: &str = "obfleet.takeover.SyncParameters";

/// The chain after *Prepare take over obproxy*, in order.
const CHAIN: [&str; 8] = [
    install::PREPARE_CREATE,
    CHECK,
    ADOPT,
    RETIRE,
    PASSWORD,
    PARAMETERS,
    install::REGISTER_EXPORTER,
    shared::UPDATE_STATUS,
];

/// The agent operations it needs, looked for before anything is touched.
const NEEDED: [&str; 7] = [
    "adoptProxy",
    "releaseProxy",
    "retireWatchdogs",
    "reviveWatchdogs",
    "setSysPassword",
    "restoreSysPassword",
    "setParameters",
];

/// What each node does.
pub fn steps() -> Vec<Step> {
    vec![
        Step::new(PREPARE, "Prepare take over obproxy", 300, |c, a| prepare(c, a).boxed())
            .undone_by(|c, a| forget(c, a).boxed()),
        Step::new(CHECK, "Check obproxy to take over", 300, |c, a| check(c, a).boxed()),
        Step::new(ADOPT, "Take over obproxy process", 600, |c, a| adopt(c, a).boxed())
            .on_host()
            .undone_by(|c, a| release(c, a).boxed()),
        Step::new(RETIRE, "Retire obproxy watchdog", 300, |c, a| retire(c, a).boxed())
            .on_host()
            .undone_by(|c, a| revive(c, a).boxed()),
        Step::new(PASSWORD, "Set proxysys password", 300, |c, a| {
            set_password(c, a).boxed()
        })
        .on_host()
        .undone_by(|c, a| set_password_back(c, a).boxed()),
        Step::new(PARAMETERS, "Sync obproxy parameters", 300, |c, a| sync(c, a).boxed())
            .on_host()
            .undone_by(|c, a| parameters::put_back(c, a).boxed()),
    ]
}

/// The graph.
pub fn template() -> Result<Template, TemplateError> {
    let mut template = TemplateBuilder::new();
    let mut at = template.node(PREPARE, None);
    for class in CHAIN {
        at = template.then(&[at], class, None);
    }
    template.then(&[at], barrier::FINISH_TASK, None);
    template.build()
}

/// The context the steps read.
pub fn context(cluster: &Cluster, proxy: &Proxy) -> Context {
    Context::new()
        .with(keys::CLUSTER_ID, cluster.id.to_string())
        .with(keys::CLUSTER_NAME, &cluster.name)
        .with(keys::SERVICE_NAME, &cluster.name)
        .with(keys::SERVICE_TYPE, "OB_PROXY")
        .with(keys::PARAMETER_VERSION, cluster.parameter_version.to_string())
        .with(keys::PROXY_ID, proxy.id.to_string())
        .with(keys::HOST_ID, proxy.host_id.to_string())
        .with(keys::PROHIBIT_ROLLBACK, "false")
}

async fn prepare(crew: &Crew, attempt: &Attempt) -> StepResult {
    crew.cluster_still_there(attempt).await?;
    crew.check_agent(attempt, &NEEDED).await?;
    Ok(Output::nothing())
}

/// Nothing is known of the proxy any more.
async fn forget(_: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    Ok(Output::changes(vec![
        InventoryChange::SetProxyDeleted {
            proxy_id,
            deleted: true,
        },
        no_password(proxy_id),
    ]))
}

/// No password of the proxy is kept any more.
pub fn no_password(proxy_id: i64) -> InventoryChange {
    InventoryChange::SetTakeOverPassword {
        proxy_id,
        password: None,
    }
}

/// What root@proxysys of the proxy may have: the password it was said to have, the cluster's, none.
async fn passwords(crew: &Crew, cluster: &Cluster, proxy_id: i64) -> Result<Vec<String>, ActionError> {
    let known = crew.inventory.take_over_password(proxy_id).await?;
    let mut passwords = Vec::new();
    for sealed in known.iter().chain([&cluster.settings.sys_password]) {
        passwords.push(crew.sealer.open(sealed)?);
    }
    if known.is_none() {
        passwords.push(String::new());
    }
    Ok(passwords)
}

/// Looks once more at what was looked at before there was a task.
async fn check(crew: &Crew, attempt: &Attempt) -> StepResult {
    let (cluster, proxy) = (crew.cluster(attempt).await?, crew.proxy(attempt).await?);
    let host = crew.host(attempt).await?;
    let request = ExamineRequest {
        sql_port: proxy.sql_port,
        passwords: passwords(crew, &cluster, proxy.id).await?,
    };
    let examination = crew.examination(attempt, &host, &request).await?;
    let mut fleet = Arc::unwrap_or_clone(crew.inventory.snapshot().await?);
    // It stands there since the task was submitted.
    fleet.proxies.remove(&proxy.id);
    let rows = crew.parameters.wanted(cluster.id).await?;
    let wish = Wish {
        host_id: host.id,
        sql_port: proxy.sql_port,
        exporter_port: Some(proxy.exporter_port),
        rpc_port: proxy.rpc_port,
    };
    let judged = plan::judge(&fleet, &cluster, &rows, wish, &examination);
    for caution in &judged.cautions {
        attempt.log(format!("warning: {}", json(caution)));
    }
    for one in &judged.differences {
        let when = if one.need_restart {
            "at its next restart"
        } else {
            "at once"
        };
        attempt.log(format!(
            "{} will go from '{}' to '{}' {when}",
            one.name, one.proxy_value, one.cluster_value
        ));
    }
    if judged.obstacles.is_empty() {
        attempt.log(format!("host {}: nothing is in the way", host.facts.name));
        return Ok(Output::nothing());
    }
    let obstacles: Vec<_> = judged.obstacles.iter().map(json).collect();
    Err(ActionError::new(format!(
        "the proxy on port {} of host {} cannot be taken over: {}; the check of the take over says what to do about each, \
         then retry",
        proxy.sql_port,
        host.facts.name,
        obstacles.join(", ")
    )))
}

/// Names and facts alone, so it never fails.
fn json(of: &impl serde::Serialize) -> String {
    serde_json::to_string(of).unwrap_or_default()
}

/// The agent has the proxy, which goes on as it is.
async fn adopt(crew: &Crew, attempt: &Attempt) -> StepResult {
    let (cluster, proxy) = (crew.cluster(attempt).await?, crew.proxy(attempt).await?);
    let backends = crew.inventory.snapshot().await?;
    let operation = Operation::AdoptProxy {
        spec: crew.spec(&backends, &cluster, &proxy).await?,
        passwords: passwords(crew, &cluster, proxy.id).await?,
    };
    match crew.perform(attempt, operation).await? {
        Outcome::Proxy(facts) => {
            attempt.log(format!("obproxy {} is {}, pid {}", proxy.id, facts.version, facts.pid));
            Ok(Output::changes(vec![InventoryChange::SetProxyVersion {
                proxy_id: proxy.id,
                version: facts.version,
            }]))
        }
        other => Err(unexpected(&other)),
    }
}

async fn release(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    let for_good = true;
    crew.perform(attempt, Operation::ReleaseProxy { proxy_id, for_good })
        .await?;
    Ok(Output::nothing())
}

/// The agent alone starts the proxy again when it dies.
async fn retire(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    crew.perform(attempt, Operation::RetireWatchdogs { proxy_id }).await?;
    Ok(Output::nothing())
}

async fn revive(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    crew.perform(attempt, Operation::ReviveWatchdogs { proxy_id }).await?;
    Ok(Output::nothing())
}

/// The proxy has the cluster's password; the agent alone remembers the one before, for the way back.
async fn set_password(crew: &Crew, attempt: &Attempt) -> StepResult {
    let (proxy_id, cluster) = (proxy_id(attempt)?, crew.cluster(attempt).await?);
    let password = crew.sealer.open(&cluster.settings.sys_password)?;
    crew.perform(attempt, Operation::SetSysPassword { proxy_id, password })
        .await?;
    Ok(Output::changes(vec![no_password(proxy_id)]))
}

async fn set_password_back(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    crew.perform(attempt, Operation::RestoreSysPassword { proxy_id })
        .await?;
    Ok(Output::nothing())
}

/// The proxy has what the cluster gives its proxies; what needs a restart waits for the next one.
async fn sync(crew: &Crew, attempt: &Attempt) -> StepResult {
    let cluster = crew.cluster(attempt).await?;
    let proxy_id = proxy_id(attempt)?;
    let backends = crew.inventory.snapshot().await?;
    let rows = crew.parameters.wanted(cluster.id).await?;
    let values = plan::values(&backends, &cluster, &rows);
    let has = crew.configuration(attempt).await?;
    let differences = plan::differences(&has, &values);
    let differing = |(name, _): &(String, String)| differences.iter().any(|one| one.name == *name);
    let differing = values.iter().filter(|value| differing(value)).cloned().collect();
    let (_, now) = parameters::change(crew, attempt, differing).await?;
    let parameter_version = cluster.parameter_version;
    Ok(Output::changes(vec![
        InventoryChange::SetProxyParameterVersion {
            proxy_id,
            parameter_version,
        },
        // An attempt that comes later finds fewer that differ.
        crew.noted(proxy_id, &values, &now).await?,
    ]))
}
