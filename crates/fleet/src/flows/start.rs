//! *Start obproxy*: proxies that are down, on purpose or not, all at once.

use futures::FutureExt as _;
use obfleet_engine::{ActionError, Attempt, Context, Output, Template, TemplateBuilder, TemplateError, barrier};
use obfleet_wire::{
    agent::{Operation, Outcome},
    obproxy::ProxyStatus,
};

use super::{
    crew::{Crew, proxy_id, unexpected, version},
    keys, operate, shared,
    step::{Step, StepResult},
};
use crate::{inventory::Cluster, plan::operate::Member};

const PREPARE: &str = "obfleet.start.PrepareStart";
const START: &str = "obfleet.start.StartProcess";
const AWAIT: &str = "obfleet.start.WaitAccessible";
const SUPERVISE: &str = "obfleet.start.StartObproxyd";

/// A proxy that was just started and is still not to be logged in to after a minute has failed.
const ACCESSIBLE_WITHIN_MS: u64 = 60_000;

/// The agent operations it needs, looked for before anything is touched.
const NEEDED: [&str; 6] = [
    "startProxy",
    "awaitServing",
    "supervise",
    "setOnline",
    "restoreProxy",
    "stopProxy",
];

/// What each node does.
pub fn steps() -> Vec<Step> {
    vec![
        Step::new(PREPARE, "Prepare start obproxy", 1800, |c, a| prepare(c, a).boxed())
            .undone_by(|c, a| shared::release(c, a).boxed()),
        Step::new(START, "Start obproxy process", 600, |c, a| start(c, a).boxed())
            .on_host()
            .undone_by(|c, a| take_back(c, a).boxed()),
        Step::new(AWAIT, "Wait obproxy accessible", 1800, |c, a| accessible(c, a).boxed()),
        Step::new(SUPERVISE, "Start obproxyd process", 1800, |c, a| {
            operate::supervise(c, a, true).boxed()
        })
        .on_host()
        .undone_by(|c, a| operate::supervise_as_before(c, a).boxed()),
    ]
}

/// The graph for `proxies` proxies.
pub fn template(proxies: u32) -> Result<Template, TemplateError> {
    let mut template = TemplateBuilder::new();
    let mut at = template.node(barrier::START_NODE, None);
    for class in [PREPARE, START, AWAIT] {
        let fan = template.fan_out(&[at], proxies, class);
        at = template.barrier(&fan);
    }
    let chain = [SUPERVISE, operate::RESTORE_WEIGHT, operate::ACTIVE_MODULES];
    let ends: Vec<_> = (0..proxies)
        .map(|index| {
            chain
                .iter()
                .fold(at, |before, class| template.then(&[before], *class, Some(index)))
        })
        .collect();
    at = template.barrier(&ends);
    let fan = template.fan_out(&[at], proxies, shared::UPDATE_STATUS);
    at = template.barrier(&fan);
    template.then(&[at], operate::LOCK_STATUS, None);
    template.build()
}

/// The context the steps read.
pub fn context(cluster: &Cluster, members: &[Member]) -> Context {
    operate::context(
        cluster,
        members.iter(),
        ProxyStatus::Starting,
        Some(ProxyStatus::Running),
    )
}

async fn prepare(crew: &Crew, attempt: &Attempt) -> StepResult {
    crew.check_agent(attempt, &NEEDED).await?;
    Ok(Output::nothing())
}

async fn start(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    crew.perform(attempt, Operation::StartProxy { proxy_id, wait: true })
        .await?;
    Ok(Output::nothing())
}

/// What was stopped is stopped again. What ought to have run ought to still, and the supervisor has it.
async fn take_back(crew: &Crew, attempt: &Attempt) -> StepResult {
    match operate::status_before(attempt)? {
        ProxyStatus::Stopped => operate::run_as_before(crew, attempt).await,
        _ => Ok(Output::nothing()),
    }
}

/// root@proxysys is let in, and what answers is what the inventory has.
async fn accessible(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    let wanted = version(attempt.item(keys::FROM_VERSIONS)?)?;
    let operation = Operation::AwaitServing {
        proxy_id,
        limit_ms: ACCESSIBLE_WITHIN_MS,
    };
    match crew.perform(attempt, operation).await? {
        Outcome::Proxy(facts) if facts.version == wanted => {
            attempt.log(format!("obproxy {proxy_id} runs {}, pid {}", facts.version, facts.pid));
            Ok(Output::nothing())
        }
        Outcome::Proxy(facts) => Err(ActionError::new(format!(
            "obproxy {proxy_id} runs {}, known was {wanted}; somebody replaced its executable: roll back, put {wanted} \
             back and start it again",
            facts.version
        ))),
        other => Err(unexpected(&other)),
    }
}
