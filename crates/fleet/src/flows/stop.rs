//! *Stop obproxy*: proxies are drained and stopped one after another, and stay so until they are started.

use futures::FutureExt as _;
use obfleet_engine::{Attempt, Context, Output, Template, TemplateBuilder, TemplateError, barrier};
use obfleet_wire::obproxy::ProxyStatus;

use super::{
    crew::Crew,
    operate, shared,
    step::{Step, StepResult},
};
use crate::{inventory::Cluster, plan::operate::Member};

const PREPARE: &str = "obfleet.stop.PrepareStop";

/// The agent operations it needs, looked for before anything is touched.
const NEEDED: [&str; 5] = ["setOnline", "stopProxy", "supervise", "restoreProxy", "startProxy"];

/// What each node does.
pub fn steps() -> Vec<Step> {
    vec![
        Step::new(PREPARE, "Prepare stop obproxy", 1800, |c, a| prepare(c, a).boxed())
            .undone_by(|c, a| shared::release(c, a).boxed()),
    ]
}

/// The graph for `proxies` proxies.
pub fn template(proxies: u32) -> Result<Template, TemplateError> {
    let mut template = TemplateBuilder::new();
    let start = template.node(barrier::START_NODE, None);
    let prepared = template.fan_out(&[start], proxies, PREPARE);
    let mut at = template.barrier(&prepared);
    for index in 0..proxies {
        for class in [operate::PREVENT, operate::STOP] {
            at = template.then(&[at], class, Some(index));
        }
    }
    at = template.barrier(&[at]);
    for class in [operate::INACTIVE_MODULES, shared::UPDATE_STATUS] {
        let fan = template.fan_out(&[at], proxies, class);
        at = template.barrier(&fan);
    }
    template.then(&[at], operate::LOCK_STATUS, None);
    template.build()
}

/// The context the steps read.
pub fn context(cluster: &Cluster, members: &[Member]) -> Context {
    operate::context(
        cluster,
        members.iter(),
        ProxyStatus::Stopping,
        Some(ProxyStatus::Stopped),
    )
}

async fn prepare(crew: &Crew, attempt: &Attempt) -> StepResult {
    crew.check_agent(attempt, &NEEDED).await?;
    Ok(Output::nothing())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_taken_out_of_service_one_after_another() {
        let template = template(2).unwrap();
        let nodes = template.nodes();
        let at = |class: &str, index| {
            nodes
                .iter()
                .position(|node| node.class_name == class && node.parallel_idx == Some(index))
                .unwrap()
        };
        let edge = |from, to| template.graph().upstreams(to) == [from];
        assert!(edge(at(operate::PREVENT, 0), at(operate::STOP, 0)));
        assert!(edge(at(operate::STOP, 0), at(operate::PREVENT, 1)));
    }
}
