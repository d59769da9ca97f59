//! *Delete host*: takes the agent away that was put on a host over SSH, and then the host.

use futures::FutureExt as _;
use obfleet_engine::{ActionError, Attempt, Context, Output, Template, TemplateBuilder, TemplateError};

use super::{
    add_host::{forget, install, set_stage, uninstall},
    crew::Crew,
    keys,
    step::{Step, StepResult},
};
use crate::inventory::{Host, HostStage};

const PREPARE: &str = "obfleet.host.PrepareDelete";
const UNINSTALL: &str = "obfleet.host.UninstallAgent";
const DELETE_INFO: &str = "obfleet.host.DeleteInfo";

/// What each node does.
pub fn steps() -> Vec<Step> {
    vec![
        Step::new(PREPARE, "Prepare delete host", 1800, |c, a| prepare(c, a).boxed())
            .undone_by(|c, a| set_stage(c, a, HostStage::Ready).boxed()),
        Step::new(UNINSTALL, "Uninstall ocp agent", 1800, |c, a| uninstall(c, a).boxed())
            .undone_by(|c, a| install(c, a).boxed()),
        // The last one: it is never undone once it is done.
        Step::new(DELETE_INFO, "Delete host info", 300, |c, a| forget(c, a).boxed()),
    ]
}

/// The graph: one step after another.
pub fn template() -> Result<Template, TemplateError> {
    let mut template = TemplateBuilder::new();
    let mut at = template.node(PREPARE, None);
    for class in [UNINSTALL, DELETE_INFO] {
        at = template.then(&[at], class, None);
    }
    template.build()
}

/// The context the steps read.
pub fn context(host: &Host) -> Context {
    Context::new()
        .with(keys::HOST_ID, host.id.to_string())
        .with(keys::PROHIBIT_ROLLBACK, "false")
}

/// No proxy is on it: none came while the host was about to be deleted.
async fn prepare(crew: &Crew, attempt: &Attempt) -> StepResult {
    let host = crew.host(attempt).await?;
    let fleet = crew.inventory.snapshot().await?;
    match fleet.proxies.values().find(|proxy| proxy.host_id == host.id) {
        Some(proxy) => Err(ActionError::new(format!(
            "obproxy {} is on host {}: roll back, and delete it first",
            proxy.id, host.facts.name
        ))),
        None => Ok(Output::nothing()),
    }
}
