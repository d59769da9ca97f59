//! *Change obproxy sys password*: all proxies of a cluster get another password of root@proxysys, or none does.
//!
//! Both passwords are sealed in the cluster's settings from the submission to the end of the task; the context holds neither.
//! Each agent changes its own record only after its proxy has taken the new one, so that it can log in throughout.

use futures::FutureExt as _;
use obfleet_engine::{ActionError, Attempt, Context, Output, Template, TemplateBuilder, TemplateError};
use obfleet_wire::{agent::Operation, obproxy::ProxyStatus};

use super::{
    crew::{Crew, proxy_id},
    keys, operate, shared,
    step::{Step, StepResult},
};
use crate::{
    inventory::{Cluster, ClusterSettings, InventoryChange, PasswordChange},
    plan::operate::Member,
    secrets::Sealed,
};

// OCP documents no task for this: the names are ours.
const PREPARE: &str = "obfleet.password.Prepare";
const CHECK: &str = "obfleet.password.CheckObproxy";
const SET: &str = "obfleet.password.SetSysPassword";
const KEEP: &str = "obfleet.password.KeepSysPassword";
const FINISH: &str = "obfleet.password.Finish";

/// The agent operations it needs, looked for before anything is touched.
const NEEDED: [&str; 2] = ["inspect", "setSysPassword"];

/// What each node does.
pub fn steps() -> Vec<Step> {
    vec![
        Step::new(PREPARE, "Prepare change of password", 300, |c, a| prepare(c, a).boxed())
            .undone_by(|c, a| unprepare(c, a).boxed()),
        Step::new(CHECK, "Check obproxy", 300, |c, a| check(c, a).boxed()).on_host(),
        Step::new(SET, "Set root@proxysys password", 600, |c, a| set(c, a, true).boxed())
            .on_host()
            .undone_by(|c, a| set(c, a, false).boxed()),
        Step::new(KEEP, "Keep root@proxysys password", 300, |c, a| {
            keep(c, a, true).boxed()
        })
        .undone_by(|c, a| keep(c, a, false).boxed()),
        Step::new(FINISH, "Forget former password", 300, |c, a| finish(c, a).boxed()),
    ]
}

/// The graph for `proxies` proxies.
pub fn template(proxies: u32) -> Result<Template, TemplateError> {
    let mut template = TemplateBuilder::new();
    let mut at = template.node(PREPARE, None);
    if proxies > 0 {
        for class in [CHECK, SET] {
            let fan = template.fan_out(&[at], proxies, class);
            at = template.barrier(&fan);
        }
    }
    at = template.then(&[at], KEEP, None);
    if proxies > 0 {
        at = template.then(&[at], operate::LOCK_STATUS, None);
    }
    // The last: without the former password there is no way back.
    template.then(&[at], FINISH, None);
    template.build()
}

/// The context the steps read.
pub fn context(cluster: &Cluster, members: &[Member]) -> Context {
    let running = ProxyStatus::Running;
    operate::context(cluster, members.iter(), running, Some(running))
}

/// The settings of a cluster as the change begins.
pub fn begun(cluster: &Cluster, to: Sealed) -> InventoryChange {
    let from = cluster.settings.sys_password.clone();
    let settings = ClusterSettings {
        sys_password_change: Some(PasswordChange { from, to }),
        ..cluster.settings.clone()
    };
    changed(cluster, settings)
}

fn changed(cluster: &Cluster, settings: ClusterSettings) -> InventoryChange {
    InventoryChange::SetClusterSettings {
        cluster_id: cluster.id,
        settings: Box::new(settings),
    }
}

/// The settings of a cluster as nothing is under way.
fn over(cluster: &Cluster) -> InventoryChange {
    let settings = ClusterSettings {
        sys_password_change: None,
        ..cluster.settings.clone()
    };
    changed(cluster, settings)
}

/// The change that the task is about.
fn change(cluster: &Cluster) -> Result<&PasswordChange, ActionError> {
    cluster.settings.sys_password_change.as_ref().ok_or_else(|| {
        ActionError::new(format!(
            "obproxy cluster {} holds no change of its password any more; start another one",
            cluster.name
        ))
    })
}

async fn prepare(crew: &Crew, attempt: &Attempt) -> StepResult {
    change(&crew.cluster(attempt).await?)?;
    Ok(Output::nothing())
}

/// The last of a rollback: nothing is left of the change, and the proxies are free.
async fn unprepare(crew: &Crew, attempt: &Attempt) -> StepResult {
    let mut changes = vec![over(&crew.cluster(attempt).await?)];
    if attempt.list(keys::PROXY_IDS).is_ok_and(|ids| !ids.is_empty()) {
        changes.extend(shared::release(crew, attempt).await?.changes);
    }
    Ok(Output::changes(changes))
}

/// The agent knows how, and the proxy lets it in.
async fn check(crew: &Crew, attempt: &Attempt) -> StepResult {
    crew.check_agent(attempt, &NEEDED).await?;
    let proxy_id = proxy_id(attempt)?;
    crew.perform(attempt, Operation::Inspect { proxy_id }).await?;
    Ok(Output::nothing())
}

/// The proxy gets the new password, or the former one back.
async fn set(crew: &Crew, attempt: &Attempt, new: bool) -> StepResult {
    let cluster = crew.cluster(attempt).await?;
    let change = change(&cluster)?;
    let operation = Operation::SetSysPassword {
        proxy_id: proxy_id(attempt)?,
        password: crew.sealer.open(if new { &change.to } else { &change.from })?,
    };
    crew.perform(attempt, operation).await?;
    Ok(Output::nothing())
}

/// It is the cluster's, for proxies to come; or the former one is.
async fn keep(crew: &Crew, attempt: &Attempt, new: bool) -> StepResult {
    let cluster = crew.cluster(attempt).await?;
    let change = change(&cluster)?.clone();
    let settings = ClusterSettings {
        sys_password: if new { change.to } else { change.from },
        ..cluster.settings.clone()
    };
    Ok(Output::changes(vec![changed(&cluster, settings)]))
}

async fn finish(crew: &Crew, attempt: &Attempt) -> StepResult {
    Ok(Output::changes(vec![over(&crew.cluster(attempt).await?)]))
}
