//! *Prepare host*: puts an agent on a machine over SSH and takes the host up, one task a host.
//!
//! *Uninstall legacy obagent* of OCP's is left out: that program has no part here. What *Uninstall legacy ocp agent* removes is an agent of
//! ours whose host was deleted while it could not be asked.

use std::{collections::BTreeSet, time::Duration};

use futures::FutureExt as _;
use obfleet_engine::{ActionError, Attempt, Context, Output, Template, TemplateBuilder, TemplateError};
use tokio::time::{Instant, sleep};

use super::{
    crew::{Crew, host_id},
    keys,
    step::{Step, StepResult},
};
use crate::{
    inventory::{Host, HostStage, InventoryChange},
    plan::bootstrap,
};

const PRE_CHECK: &str = "obfleet.host.PreCheck";
const UNINSTALL_LEGACY: &str = "obfleet.host.UninstallLegacyAgent";
const INSTALL: &str = "obfleet.host.InstallAgent";
const UPDATE_STATUS: &str = "obfleet.host.UpdateStatus";

/// How long an agent that was started may take to enrol and to answer.
const AGENT_PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks for it.
const AGENT_PAUSE: Duration = Duration::from_millis(200);

/// What each node does.
pub fn steps() -> Vec<Step> {
    vec![
        Step::new(PRE_CHECK, "Pre check for create host", 1800, |c, a| {
            pre_check(c, a).boxed()
        })
        .undone_by(|c, a| forget(c, a).boxed()),
        Step::new(UNINSTALL_LEGACY, "Uninstall legacy ocp agent", 600, |c, a| {
            uninstall_legacy(c, a).boxed()
        }),
        Step::new(INSTALL, "Install ocp agent", 5400, |c, a| install(c, a).boxed())
            .undone_by(|c, a| uninstall(c, a).boxed()),
        Step::new(UPDATE_STATUS, "Update host status", 1800, |c, a| {
            set_stage(c, a, HostStage::Ready).boxed()
        })
        .undone_by(|c, a| set_stage(c, a, HostStage::New).boxed()),
    ]
}

/// The graph: one step after another.
pub fn template() -> Result<Template, TemplateError> {
    let mut template = TemplateBuilder::new();
    let mut at = template.node(PRE_CHECK, None);
    for class in [UNINSTALL_LEGACY, INSTALL, UPDATE_STATUS] {
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

/// Runs what may take long, unless the attempt is stopped.
async fn unless_stopped<T>(
    attempt: &Attempt,
    work: impl Future<Output = Result<T, ActionError>>,
) -> Result<T, ActionError> {
    tokio::select! {
        result = work => result,
        () = attempt.cancelled().cancelled() => Err(ActionError::new("the attempt was stopped")),
    }
}

async fn known_hosts(crew: &Crew) -> Result<BTreeSet<i64>, ActionError> {
    Ok(crew.inventory.snapshot().await?.hosts.keys().copied().collect())
}

/// The machine can be logged in to, and an agent can be put on it; from here on its host key is known.
async fn pre_check(crew: &Crew, attempt: &Attempt) -> StepResult {
    let host = crew.host(attempt).await?;
    let access = crew.access(&host).await?;
    attempt.log(format!(
        "{}@{}:{}: logging in",
        access.user, access.address, access.ssh_port
    ));
    let inspect = async { Ok(crew.bootstrap.inspect(&access).await?) };
    let seen = unless_stopped(attempt, inspect).await?;
    attempt.log(format!(
        "{}: {} {}, kernel {}, host key {}; the agent will live in {} as {}, {}",
        seen.facts.name,
        seen.facts.release,
        seen.facts.architecture,
        seen.facts.kernel,
        seen.host_key,
        seen.root,
        seen.user,
        if seen.systemd {
            "run by systemd"
        } else {
            "run by a script that nobody starts when the machine has been started anew: there is no systemd for it"
        }
    ));
    let known = known_hosts(crew).await?;
    let obstacles = bootstrap::obstacles(&seen, &access, &known);
    if !obstacles.is_empty() {
        let told: Vec<_> = obstacles.iter().map(ToString::to_string).collect();
        return Err(ActionError::new(format!(
            "no agent can be put on {}: {}; then retry",
            access.address,
            told.join("; ")
        )));
    }
    Ok(Output::changes(vec![InventoryChange::SetHostFound {
        host_id: host.id,
        facts: seen.facts,
        host_key: seen.host_key,
    }]))
}

/// The host is gone.
pub(super) async fn forget(_: &Crew, attempt: &Attempt) -> StepResult {
    Ok(Output::changes(vec![InventoryChange::SetHostGone {
        host_id: host_id(attempt)?,
    }]))
}

async fn uninstall_legacy(crew: &Crew, attempt: &Attempt) -> StepResult {
    let host = crew.host(attempt).await?;
    let access = crew.access(&host).await?;
    let work = async {
        let seen = crew.bootstrap.inspect(&access).await?;
        let known = known_hosts(crew).await?;
        match bootstrap::left_behind(&seen, &access, &known) {
            Some(left) => {
                attempt.log(format!(
                    "{}: the agent of host {left}, which is gone, is removed",
                    host.address
                ));
                let log = |line: &str| attempt.log(line);
                Ok(crew.bootstrap.remove(&access, left, &log).await?)
            }
            None => {
                attempt.log(format!("{}: nothing was left behind", host.address));
                Ok(())
            }
        }
    };
    unless_stopped(attempt, work).await?;
    Ok(Output::nothing())
}

/// The agent runs, has enrolled and answers.
pub(super) async fn install(crew: &Crew, attempt: &Attempt) -> StepResult {
    let host = crew.host(attempt).await?;
    if host.has_agent() && crew.agents.status(&host).await.is_ok() {
        attempt.log(format!("{}: the agent answers already", host.address));
        return Ok(Output::nothing());
    }
    let access = crew.access(&host).await?;
    let before = host.facts.host_uid.clone();
    let work = async {
        let log = |line: &str| attempt.log(line);
        crew.bootstrap.install(&access, &log).await?;
        attempt.log(format!(
            "{}: the agent is started; waiting until it has enrolled and answers",
            host.address
        ));
        let give_up = Instant::now() + AGENT_PATIENCE;
        loop {
            let host = crew.host(attempt).await?;
            let status = match host.has_agent() && host.facts.host_uid != before {
                true => crew.agents.status(&host).await.map_err(|error| error.to_string()),
                false => Err("it has not enrolled".to_owned()),
            };
            match status {
                Ok(status) => {
                    attempt.log(format!("{}: agent {} answers", host.address, status.version));
                    return Ok(());
                }
                Err(reason) if Instant::now() >= give_up => {
                    let said = crew.bootstrap.complaints(&access).await;
                    let said = said.unwrap_or_else(|error| error.to_string());
                    return Err(ActionError::new(format!(
                        "the agent on {} was started but {reason}; check that the host reaches the server at its public URL \
                         and the server reaches port {} there, then retry. The agent's log ends: {said}",
                        host.address, access.settings.agent_port
                    )));
                }
                Err(_) => sleep(AGENT_PAUSE).await,
            }
        }
    };
    unless_stopped(attempt, work).await?;
    Ok(Output::nothing())
}

/// Nothing of the agent is left on the machine.
pub(super) async fn uninstall(crew: &Crew, attempt: &Attempt) -> StepResult {
    let host = crew.host(attempt).await?;
    let access = crew.access(&host).await?;
    let log = |line: &str| attempt.log(line);
    let remove = async { Ok(crew.bootstrap.remove(&access, host.id, &log).await?) };
    unless_stopped(attempt, remove).await?;
    Ok(Output::nothing())
}

pub(super) async fn set_stage(_: &Crew, attempt: &Attempt, stage: HostStage) -> StepResult {
    Ok(Output::changes(vec![InventoryChange::SetHostStage {
        host_id: host_id(attempt)?,
        stage,
    }]))
}
