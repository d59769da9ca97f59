//! *Take obproxy offline* and *Bring obproxy online*: load balancers that ask are told to keep away from running proxies, or
//! to come. Nobody is refused either way.
//!
//! In OCP the two calls set a weight and start no task. Here they do: hosts are changed, and whatever changes a host can be
//! repeated, is fenced and has a way back.

use futures::FutureExt as _;
use obfleet_engine::{Attempt, Context, Output, Template, TemplateBuilder, TemplateError, barrier};
use obfleet_wire::{agent::Operation, obproxy::ProxyStatus};

use super::{
    crew::{Crew, proxy_id},
    keys, operate, shared,
    step::{Step, StepResult},
};
use crate::{inventory::Cluster, plan::operate::Member};

const PREPARE: &str = "obfleet.balance.Prepare";
const SET_ONLINE: &str = "obfleet.balance.SetOnline";

/// What each node does.
pub fn steps() -> Vec<Step> {
    vec![
        Step::new(PREPARE, "Prepare load balancing", 300, |c, a| prepare(c, a).boxed())
            .undone_by(|c, a| shared::release(c, a).boxed()),
        Step::new(SET_ONLINE, "Update obproxy weight", 300, |c, a| {
            set_online(c, a).boxed()
        })
        .on_host()
        .undone_by(|c, a| operate::as_before(c, a).boxed()),
    ]
}

/// The graph for `proxies` proxies.
pub fn template(proxies: u32) -> Result<Template, TemplateError> {
    let mut template = TemplateBuilder::new();
    let start = template.node(barrier::START_NODE, None);
    let prepared = template.fan_out(&[start], proxies, PREPARE);
    let at = template.barrier(&prepared);
    let told = template.fan_out(&[at], proxies, SET_ONLINE);
    let at = template.barrier(&told);
    template.then(&[at], operate::LOCK_STATUS, None);
    template.build()
}

/// The context the steps read.
pub fn context(cluster: &Cluster, members: &[Member], offline: bool) -> Context {
    let running = ProxyStatus::Running;
    operate::context(cluster, members.iter(), running, Some(running)).with(keys::TO_OFFLINE, offline.to_string())
}

async fn prepare(crew: &Crew, attempt: &Attempt) -> StepResult {
    crew.check_agent(attempt, &["setOnline"]).await?;
    Ok(Output::nothing())
}

async fn set_online(crew: &Crew, attempt: &Attempt) -> StepResult {
    let (proxy_id, offline) = (proxy_id(attempt)?, attempt.string(keys::TO_OFFLINE)? == "true");
    let operation = Operation::SetOnline {
        proxy_id,
        online: !offline,
        best_effort: false,
    };
    crew.perform(attempt, operation).await?;
    Ok(operate::marked(proxy_id, offline))
}
