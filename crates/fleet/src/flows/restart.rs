//! *Restart obproxy*: each proxy onto the version it has. Hot ones, and cold ones that were not forced, go one after
//! another; forced ones all at once.

use futures::FutureExt as _;
use obfleet_engine::{
    ActionError, Attempt, Context, NodeRef, Output, Template, TemplateBuilder, TemplateError, barrier,
};
use obfleet_wire::{
    agent::{Operation, Outcome, RestartMethod},
    obproxy::ProxyStatus,
};

use super::{
    crew::{Crew, proxy_id, unexpected, version},
    hot_restart, keys, operate, shared,
    step::{Step, StepResult},
};
use crate::{inventory::Cluster, plan::operate::RestartTarget};

const PREPARE: &str = "obfleet.restart.PrepareRestart";
const RESTART: &str = "obfleet.restart.RestartProcess";

/// Seconds that OCP gives the step.
const RESTART_S: u32 = 600;

/// The agent operations it needs, looked for before anything is touched.
const NEEDED: [&str; 10] = [
    "setOnline",
    "preflight",
    "restart",
    "awaitRestart",
    "revertRestart",
    "cycleProxy",
    "restoreProxy",
    "startProxy",
    "stopProxy",
    "supervise",
];

/// What each node does. OCP's *Prepare operate obproxy task* is done when the task is submitted; waiting for the old process
/// of a hot restart is ours.
pub fn steps() -> Vec<Step> {
    vec![
        Step::new(PREPARE, "Prepare restart obproxy", 1800, |c, a| prepare(c, a).boxed())
            .undone_by(|c, a| shared::release(c, a).boxed()),
        Step::new(RESTART, "Restart obproxy process", RESTART_S, |c, a| {
            restart(c, a).boxed()
        })
        .on_host()
        .undone_by(|c, a| take_back(c, a).boxed()),
    ]
}

/// The graph for these targets.
pub fn template(targets: &[RestartTarget], forced: bool) -> Result<Template, TemplateError> {
    let mut template = TemplateBuilder::new();
    let proxies = u32::try_from(targets.len()).unwrap_or(u32::MAX);
    let start = template.node(barrier::START_NODE, None);
    let prepared = template.fan_out(&[start], proxies, PREPARE);
    let mut at = template.barrier(&prepared);
    if forced {
        let all = |template: &mut TemplateBuilder, after: NodeRef, chain: [&str; 2]| {
            let ends: Vec<_> = (0..proxies)
                .map(|index| {
                    let first = template.then(&[after], chain[0], Some(index));
                    template.then(&[first], chain[1], Some(index))
                })
                .collect();
            template.barrier(&ends)
        };
        at = all(&mut template, at, [operate::PREVENT, RESTART]);
        at = all(&mut template, at, [operate::RESTORE_WEIGHT, operate::ACTIVE_MODULES]);
    } else {
        for (index, target) in (0..).zip(targets) {
            let is_hot = target.method == RestartMethod::Hot;
            let chain = [
                Some(operate::PREVENT),
                Some(RESTART),
                is_hot.then_some(hot_restart::WAIT),
                Some(operate::RESTORE_WEIGHT),
                Some(operate::ACTIVE_MODULES),
            ];
            for class in chain.into_iter().flatten() {
                at = template.then(&[at], class, Some(index));
            }
        }
        at = template.barrier(&[at]);
    }
    let fan = template.fan_out(&[at], proxies, shared::UPDATE_STATUS);
    at = template.barrier(&fan);
    template.then(&[at], operate::LOCK_STATUS, None);
    template.build()
}

/// The context the steps read.
pub fn context(cluster: &Cluster, targets: &[RestartTarget]) -> Context {
    let members = targets.iter().map(|target| &target.member);
    let methods = targets.iter().map(|target| hot_restart::method_name(target.method));
    operate::context(cluster, members, ProxyStatus::Restarting, Some(ProxyStatus::Running))
        .with_list(keys::RESTART_METHODS, methods)
}

/// The agent answers; and where a process is to take over from another, the proxy runs what is known, and nothing is in the
/// way.
async fn prepare(crew: &Crew, attempt: &Attempt) -> StepResult {
    crew.check_agent(attempt, &NEEDED).await?;
    if hot_restart::method(attempt)? == RestartMethod::Cold {
        return Ok(Output::nothing());
    }
    let (proxy_id, known) = (proxy_id(attempt)?, version(attempt.item(keys::FROM_VERSIONS)?)?);
    let operation = Operation::Preflight {
        proxy_id,
        version: known.clone(),
        method: RestartMethod::Hot,
    };
    match crew.perform(attempt, operation).await? {
        Outcome::Preflight(report) if report.running.version == known => {
            for warning in &report.warnings {
                attempt.log(format!("warning: {warning}"));
            }
            attempt.log(format!("ready to restart; {} client sessions", report.sessions));
            Ok(Output::nothing())
        }
        Outcome::Preflight(report) => Err(ActionError::new(format!(
            "obproxy {proxy_id} runs {}, known was {known}; roll back and start the restart again",
            report.running.version
        ))),
        other => Err(unexpected(&other)),
    }
}

async fn restart(crew: &Crew, attempt: &Attempt) -> StepResult {
    if hot_restart::method(attempt)? == RestartMethod::Hot {
        let version = version(attempt.item(keys::FROM_VERSIONS)?)?;
        return hot_restart::begin(crew, attempt, version, RestartMethod::Hot).await;
    }
    let proxy_id = proxy_id(attempt)?;
    let drain = crew.drain_within(RESTART_S);
    match crew.perform(attempt, Operation::CycleProxy { proxy_id, drain }).await? {
        Outcome::Proxy(facts) => {
            attempt.log(format!("obproxy {proxy_id} runs {}, pid {}", facts.version, facts.pid));
            Ok(Output::nothing())
        }
        other => Err(unexpected(&other)),
    }
}

/// A process that was replaced does not come back, but the proxy does what it did before.
async fn take_back(crew: &Crew, attempt: &Attempt) -> StepResult {
    match hot_restart::method(attempt)? {
        RestartMethod::Hot => hot_restart::go_back(crew, attempt, crew.drain_within(RESTART_S)).await,
        RestartMethod::Cold => operate::run_as_before(crew, attempt).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::{
            Selection, Snapshot,
            operate::{Restart, plan_restart},
        },
        testing,
    };

    fn fleet() -> Snapshot {
        let mut fleet = testing::fleet_of(3, "4.2.1.0-11");
        fleet.proxies.get_mut(&11).unwrap().status = ProxyStatus::Unavailable;
        fleet
    }

    /// The classes of a graph along its one chain, with their branches; of what lies beside each other, those of the first.
    fn chain(template: &Template) -> Vec<(&str, Option<u32>)> {
        let nodes = template.nodes().iter();
        nodes
            .map(|node| (node.class_name.as_str(), node.parallel_idx))
            .filter(|(class, _)| barrier::spec(class).is_none())
            .collect()
    }

    #[test]
    fn one_proxy_is_done_with_before_the_next_is_begun() {
        let targets = plan_restart(&fleet(), 1, &Selection::in_path(&[10, 11]), Restart::Recommended).unwrap();
        let template = template(&targets, false).unwrap();
        let expected = [
            (PREPARE, Some(0)),
            (PREPARE, Some(1)),
            (operate::PREVENT, Some(0)),
            (RESTART, Some(0)),
            (hot_restart::WAIT, Some(0)),
            (operate::RESTORE_WEIGHT, Some(0)),
            (operate::ACTIVE_MODULES, Some(0)),
            // Down already: nobody has to be waited for.
            (operate::PREVENT, Some(1)),
            (RESTART, Some(1)),
            (operate::RESTORE_WEIGHT, Some(1)),
            (operate::ACTIVE_MODULES, Some(1)),
            (shared::UPDATE_STATUS, Some(0)),
            (shared::UPDATE_STATUS, Some(1)),
            (operate::LOCK_STATUS, None),
        ];
        assert_eq!(chain(&template), expected);
        let nodes = template.nodes();
        let second = nodes
            .iter()
            .position(|node| node.class_name == operate::PREVENT && node.parallel_idx == Some(1));
        let before = template.graph().upstreams(second.unwrap());
        assert_eq!(nodes[before[0]].class_name, operate::ACTIVE_MODULES);
    }

    #[test]
    fn forced_ones_lie_beside_each_other() {
        let targets = plan_restart(&fleet(), 1, &Selection::in_body(&[10, 12]), Restart::Forced).unwrap();
        let template = template(&targets, true).unwrap();
        let nodes = template.nodes();
        for (index, node) in nodes.iter().enumerate() {
            assert_ne!(node.class_name, hot_restart::WAIT);
            if node.class_name == operate::PREVENT {
                let before = template.graph().upstreams(index);
                assert_eq!(nodes[before[0]].class_name, barrier::WAIT_NODE);
            }
        }
    }
}
