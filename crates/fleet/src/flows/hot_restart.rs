//! A restart by a guard, as the flows that have one share it: begun up to the verdict, waited for to its end, taken back.

use futures::FutureExt as _;
use obfleet_engine::{ActionError, Attempt, ContextDelta, Output};
use obfleet_wire::{
    agent::{DrainPolicy, Operation, Outcome, RestartMethod},
    version::ProxyVersion,
};

use super::{
    crew::{Crew, proxy_id, unexpected},
    keys,
    step::{Step, StepResult},
};

/// *Wait hot restart obproxy finish*: the next proxy's turn comes when the old process of this one is gone.
pub const WAIT: &str = "obfleet.upgrade.WaitHotRestart";

/// The steps.
pub fn steps() -> Vec<Step> {
    vec![Step::new(WAIT, "Wait hot restart obproxy finish", 1800, |c, a| {
        wait(c, a).boxed()
    })]
}

/// The word of a method in the context.
pub fn method_name(method: RestartMethod) -> &'static str {
    match method {
        RestartMethod::Hot => "hot",
        RestartMethod::Cold => "cold",
    }
}

/// How the branch's proxy is restarted.
pub fn method(attempt: &Attempt) -> Result<RestartMethod, ActionError> {
    Ok(if attempt.item(keys::RESTART_METHODS)? == "cold" {
        RestartMethod::Cold
    } else {
        RestartMethod::Hot
    })
}

/// Restarts the branch's proxy onto a version. The restart is named before it begins, so that undo finds it after any
/// crash.
pub async fn begin(crew: &Crew, attempt: &Attempt, version: ProxyVersion, method: RestartMethod) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    let key = attempt.key();
    let restart_id = format!("t{}-s{}-r{}", key.task, key.subtask, key.run_time);
    attempt.checkpoint("restart_id", &restart_id).await?;
    let cluster = crew.cluster(attempt).await?;
    let operation = Operation::Restart {
        proxy_id,
        restart_id: restart_id.clone(),
        version,
        method,
        drain: crew.drain,
        probe: crew.probe(&cluster)?,
    };
    match crew.perform(attempt, operation).await? {
        Outcome::Restarted(report) => {
            attempt.log(format!(
                "obproxy {proxy_id}: pid {} ({}) -> pid {} ({}), answered after {} ms, {}",
                report.before.pid,
                report.before.version,
                report.after.pid,
                report.after.version,
                report.answered_after_ms,
                if report.probed { "probed" } else { "not probed" }
            ));
            Ok(Output::delta(
                ContextDelta::new().with(keys::restart_id(proxy_id), restart_id),
            ))
        }
        other => Err(unexpected(&other)),
    }
}

/// Back to what ran before, by whatever way is best from where the restart stands. `drain` is for the sessions of a process
/// that has to go for it.
pub async fn go_back(crew: &Crew, attempt: &Attempt, drain: DrainPolicy) -> StepResult {
    let Some(restart_id) = attempt.checkpointed("restart_id").map(str::to_owned) else {
        attempt.log("the restart had not begun");
        return Ok(Output::nothing());
    };
    let proxy_id = proxy_id(attempt)?;
    let cluster = crew.cluster(attempt).await?;
    if let Outcome::Proxy(facts) = crew
        .perform(
            attempt,
            Operation::RevertRestart {
                proxy_id,
                restart_id,
                drain,
                probe: crew.probe(&cluster)?,
            },
        )
        .await?
    {
        attempt.log(format!("obproxy {proxy_id} runs {}, pid {}", facts.version, facts.pid));
    }
    Ok(Output::nothing())
}

async fn wait(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    let restart_id = attempt.string(&keys::restart_id(proxy_id))?.to_owned();
    match crew
        .perform(attempt, Operation::AwaitRestart { proxy_id, restart_id })
        .await?
    {
        Outcome::Drained(report) => {
            attempt.log(format!(
                "old process gone after {} ms; {} sessions closed between transactions, {} cut",
                report.took_ms,
                report.closed_at_boundary,
                report.cut.len()
            ));
            for cut in &report.cut {
                attempt.log(format!(
                    "cut: {} from {}, in a transaction for {} ms",
                    cut.user, cut.client, cut.age_ms
                ));
            }
            Ok(Output::nothing())
        }
        other => Err(unexpected(&other)),
    }
}
