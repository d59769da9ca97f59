//! *Delete obproxy server*: takes proxies away, in the steps of OCP's newer routes; [`super::offline`] has those of the
//! older ones.
//!
//! Of a proxy whose host is gone for good nothing is asked on it: its branch has no steps there.

use futures::FutureExt as _;
use obfleet_engine::{Attempt, Context, NodeRef, Output, Template, TemplateBuilder, TemplateError, barrier};
use obfleet_wire::obproxy::ProxyStatus;

use super::{
    crew::Crew,
    keys, offline, operate, shared,
    step::{Step, StepResult},
};
use crate::{inventory::Cluster, plan::operate::Removal};

const PREPARE: &str = "obfleet.remove.PrepareDelete";
const LEAVE_POOL: &str = "obfleet.remove.LeaveLoadBalancing";
const CLEAN: &str = "obfleet.remove.CleanFiles";

/// The agent operations it needs, looked for before anything is touched.
const NEEDED: [&str; 6] = [
    "setOnline",
    "supervise",
    "stopProxy",
    "removeProxy",
    "restoreProxy",
    "startProxy",
];

/// What each node does.
pub fn steps() -> Vec<Step> {
    vec![
        Step::new(PREPARE, "Prepare delete obproxy", 1800, |c, a| prepare(c, a).boxed())
            .undone_by(|c, a| shared::release(c, a).boxed()),
        Step::new(
            LEAVE_POOL,
            "remove obproxy from load balance resource pool",
            1800,
            |c, a| operate::go_offline(c, a).boxed(),
        )
        .on_host()
        .undone_by(|c, a| operate::as_before(c, a).boxed()),
        Step::new(CLEAN, "Clean obproxy files", 1800, |c, a| {
            offline::move_aside(c, a).boxed()
        })
        .on_host()
        .undone_by(|c, a| offline::move_back(c, a).boxed()),
    ]
}

/// The graph for these removals.
pub fn template(removals: &[Removal]) -> Result<Template, TemplateError> {
    let mut template = TemplateBuilder::new();
    let proxies = u32::try_from(removals.len()).unwrap_or(u32::MAX);
    let on_hosts: Vec<u32> = (0..)
        .zip(removals)
        .filter(|(_, removal)| !removal.host_gone)
        .map(|(index, _)| index)
        .collect();
    let start = template.node(barrier::START_NODE, None);
    let prepared = template.fan_out(&[start], proxies, PREPARE);
    let mut at = template.barrier(&prepared);
    if !on_hosts.is_empty() {
        let fan = |template: &mut TemplateBuilder, at: NodeRef, class: &str| {
            let ends: Vec<_> = on_hosts
                .iter()
                .map(|index| template.then(&[at], class, Some(*index)))
                .collect();
            template.barrier(&ends)
        };
        at = fan(&mut template, at, LEAVE_POOL);
        at = fan(&mut template, at, operate::INACTIVE_MODULES);
        for index in &on_hosts {
            at = template.then(&[at], operate::STOP, Some(*index));
        }
        at = template.barrier(&[at]);
        at = fan(&mut template, at, CLEAN);
    }
    at = template.then(&[at], offline::DELETE_INFO, None);
    let fan = template.fan_out(&[at], proxies, offline::OFFLINE_EXPORTER);
    at = template.barrier(&fan);
    for class in [offline::UNRESERVE, barrier::FINISH_TASK] {
        at = template.then(&[at], class, None);
    }
    template.build()
}

/// The context the steps read.
pub fn context(cluster: &Cluster, removals: &[Removal]) -> Context {
    let gone = removals.iter().filter(|removal| removal.host_gone);
    let context = operate::context(
        cluster,
        removals.iter().map(|removal| &removal.member),
        ProxyStatus::Deleting,
        None,
    )
    .with(keys::NEED_DELETE_CLUSTER, "false");
    match gone.clone().next() {
        Some(_) => context.with_list(
            keys::SKIPPED_IDS,
            gone.map(|removal| removal.member.proxy_id.to_string()),
        ),
        None => context,
    }
}

/// The agent answers before anything is taken away; what stays on a host that is said to be gone is told.
async fn prepare(crew: &Crew, attempt: &Attempt) -> StepResult {
    let skipped = attempt.list(keys::SKIPPED_IDS).unwrap_or_default();
    if !skipped
        .iter()
        .any(|id| Ok(id.as_str()) == attempt.item(keys::PROXY_IDS))
    {
        crew.check_agent(attempt, &NEEDED).await?;
        return Ok(Output::nothing());
    }
    let host = crew.host(attempt).await?;
    attempt.log(format!("host {}: nothing is asked of it", host.facts.name));
    if host.online {
        attempt.log(format!(
            "warning: the agent of host {} was seen just now: what it has of the proxy stays there, and goes on running",
            host.facts.name
        ));
    }
    Ok(Output::nothing())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::{Selection, operate::plan_removal},
        testing,
    };

    fn classes(gone: &[i64]) -> Vec<(String, Option<u32>)> {
        let fleet = testing::fleet_of(2, "4.2.1.0-11");
        let gone = Selection::named("skipHostOperationServerIds", gone);
        let removals = plan_removal(&fleet, 1, &Selection::in_body(&[10, 11]), &gone).unwrap();
        let template = template(&removals).unwrap();
        let nodes = template.nodes().iter();
        nodes.map(|node| (node.class_name.clone(), node.parallel_idx)).collect()
    }

    #[test]
    fn nothing_is_asked_of_hosts_that_are_gone() {
        let on_host = [LEAVE_POOL, operate::INACTIVE_MODULES, operate::STOP, CLEAN];
        for (gone, left) in [(vec![], vec![0, 1]), (vec![10], vec![1]), (vec![11, 10], vec![])] {
            let classes = classes(&gone);
            for class in on_host {
                let of_class = classes.iter().filter(|(name, _)| name == class);
                let indexes: Vec<_> = of_class.filter_map(|(_, index)| *index).collect();
                assert_eq!(indexes, left, "{class} without {gone:?}");
            }
            let all = |class: &str| classes.iter().filter(|(name, _)| name == class).count();
            assert_eq!((all(PREPARE), all(offline::OFFLINE_EXPORTER)), (2, 2));
        }
    }
}
