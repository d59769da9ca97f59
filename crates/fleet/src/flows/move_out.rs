//! *Move out obproxy*: proxies are given back. They go on as they run, what looked after them before they were taken over
//! does so again, and the fleet forgets them.

use futures::FutureExt as _;
use obfleet_engine::{Attempt, Context, Output, Template, TemplateBuilder, TemplateError, barrier};
use obfleet_wire::{agent::Operation, obproxy::ProxyStatus};

use super::{
    crew::{Crew, proxy_id, proxy_ids},
    keys, offline, operate, shared,
    step::{Step, StepResult},
    take_over::no_password,
};
use crate::{inventory::Cluster, plan::operate::Member};

const PREPARE: &str = "obfleet.moveout.PrepareMoveOut";
const PASSWORD: &str = "obfleet.moveout.SetProxysysPassword";
const HAND_OVER: &str = "obfleet.moveout.HandOver";
const FORGET: &str = "obfleet.moveout.ForgetObproxy";

/// The agent operations it needs, looked for before anything is touched.
const NEEDED: [&str; 6] = [
    "releaseProxy",
    "restoreProxy",
    "retireWatchdogs",
    "reviveWatchdogs",
    "setSysPassword",
    "startProxy",
];

/// What each node does.
pub fn steps() -> Vec<Step> {
    vec![
        Step::new(PREPARE, "Prepare move out obproxy", 300, |c, a| prepare(c, a).boxed())
            .undone_by(|c, a| stay(c, a).boxed()),
        Step::new(PASSWORD, "Set proxysys password", 300, |c, a| {
            set_password(c, a).boxed()
        })
        .on_host()
        .undone_by(|c, a| set_password_back(c, a).boxed()),
        Step::new(HAND_OVER, "Hand over to former watchdog", 300, |c, a| {
            hand_over(c, a).boxed()
        })
        .on_host()
        .undone_by(|c, a| take_back(c, a).boxed()),
        Step::new(FORGET, "Give up obproxy process", 300, |c, a| release(c, a).boxed())
            .on_host()
            .undone_by(|c, a| have_again(c, a).boxed()),
    ]
}

/// The graph for `proxies` proxies.
pub fn template(proxies: u32) -> Result<Template, TemplateError> {
    let mut template = TemplateBuilder::new();
    let start = template.node(barrier::START_NODE, None);
    let prepared = template.fan_out(&[start], proxies, PREPARE);
    let all = template.barrier(&prepared);
    let mut ends = Vec::new();
    for index in 0..proxies {
        let mut at = all;
        for class in [PASSWORD, HAND_OVER, FORGET] {
            at = template.then(&[at], class, Some(index));
        }
        ends.push(at);
    }
    let deleted = template.then(&ends, offline::DELETE_INFO, None);
    let fan = template.fan_out(&[deleted], proxies, offline::OFFLINE_EXPORTER);
    let mut at = template.barrier(&fan);
    for class in [offline::UNRESERVE, barrier::FINISH_TASK] {
        at = template.then(&[at], class, None);
    }
    template.build()
}

/// The context the steps read.
pub fn context(cluster: &Cluster, members: &[Member]) -> Context {
    operate::context(cluster, members.iter(), ProxyStatus::MovingOut, None).with(keys::NEED_DELETE_CLUSTER, "false")
}

async fn prepare(crew: &Crew, attempt: &Attempt) -> StepResult {
    crew.check_agent(attempt, &NEEDED).await?;
    Ok(Output::nothing())
}

/// The proxies are the fleet's as before.
async fn stay(crew: &Crew, attempt: &Attempt) -> StepResult {
    let mut output = shared::release(crew, attempt).await?;
    output.changes.extend(proxy_ids(attempt)?.into_iter().map(no_password));
    Ok(output)
}

/// The proxy has the password that was asked for, or keeps the cluster's.
async fn set_password(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    let Some(sealed) = crew.inventory.take_over_password(proxy_id).await? else {
        attempt.log("root@proxysys keeps the password of the cluster");
        return Ok(Output::nothing());
    };
    let password = crew.sealer.open(&sealed)?;
    crew.perform(attempt, Operation::SetSysPassword { proxy_id, password })
        .await?;
    Ok(Output::nothing())
}

async fn set_password_back(crew: &Crew, attempt: &Attempt) -> StepResult {
    let (proxy_id, cluster) = (proxy_id(attempt)?, crew.cluster(attempt).await?);
    let password = crew.sealer.open(&cluster.settings.sys_password)?;
    crew.perform(attempt, Operation::SetSysPassword { proxy_id, password })
        .await?;
    Ok(Output::nothing())
}

/// The agent does not start the proxy again any more; who did so before it came does.
async fn hand_over(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    crew.perform(attempt, Operation::ReviveWatchdogs { proxy_id }).await?;
    Ok(Output::nothing())
}

/// The agent alone starts it again. It has it first, should that not have been done: an operator may have skipped that step.
async fn take_back(crew: &Crew, attempt: &Attempt) -> StepResult {
    have_again(crew, attempt).await?;
    let proxy_id = proxy_id(attempt)?;
    crew.perform(attempt, Operation::RetireWatchdogs { proxy_id }).await?;
    Ok(Output::nothing())
}

/// The agent has the proxy no more.
async fn release(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    let for_good = false;
    crew.perform(attempt, Operation::ReleaseProxy { proxy_id, for_good })
        .await?;
    Ok(Output::changes(vec![no_password(proxy_id)]))
}

/// The agent has it as before; it is another step's to supervise it.
async fn have_again(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    crew.perform(attempt, Operation::RestoreProxy { proxy_id, start: false })
        .await?;
    crew.perform(attempt, Operation::StartProxy { proxy_id, wait: false })
        .await?;
    Ok(Output::nothing())
}
