//! *Upgrade obproxy*: preparing and finishing fan out over all proxies; from *Hot restart obproxy* to *Check proxy
//! version* there is one chain per proxy, one proxy after another.
//!
//! OCP prohibits the rollback of an upgrade; this one can be rolled back, and every step says how.

use futures::FutureExt as _;
use obfleet_engine::{
    ActionError, Attempt, Context, ContextDelta, Output, Template, TemplateBuilder, TemplateError, barrier,
};
use obfleet_wire::{
    agent::{Operation, Outcome},
    obproxy::WorkMode,
    version::ProxyVersion,
};

use super::{
    crew::{Crew, cluster_id, proxy_id, unexpected, version},
    hot_restart::{self, method},
    keys, shared,
    step::{Step, StepResult},
};
use crate::{
    inventory::{Cluster, InventoryChange},
    plan::{config_server, upgrade::UpgradePlan},
};

// OCP documents no class names for the steps of its upgrade: these are ours.
const PREPARE: &str = "obfleet.upgrade.PrepareUpgrade";
const COPY_CONFIG: &str = "obfleet.upgrade.CopyConfig";
const UPGRADE_RPM: &str = "obfleet.upgrade.UpgradeRpm";
const PREFLIGHT: &str = "obfleet.upgrade.CheckNewBinary";
const RECORD: &str = "obfleet.upgrade.RecordInfo";
const HOT_RESTART: &str = "obfleet.upgrade.HotRestart";
const CHECK_VERSION: &str = "obfleet.upgrade.CheckVersion";
const SET_VERSION: &str = "obfleet.upgrade.SetVersion";
const SET_CLUSTER_VERSION: &str = "obfleet.upgrade.SetClusterVersion";

/// What each node does. OCP's *Prepare etc*, *Uninstall obproxy package*, *Restart obproxyd process* and *Check and reset
/// proxy_id* have no effect here and are left out; *Check new binary* is ours.
pub fn steps() -> Vec<Step> {
    vec![
        Step::new(PREPARE, "Prepare upgrade obproxy", 1800, |c, a| prepare(c, a).boxed())
            .undone_by(|c, a| shared::release(c, a).boxed()),
        Step::new(COPY_CONFIG, "Copy obproxy config db file", 1800, |c, a| {
            copy_config(c, a).boxed()
        })
        .on_host(),
        Step::new(UPGRADE_RPM, "Upgrade Obproxy Rpm", 3600, |c, a| {
            install_slot(c, a).boxed()
        })
        .on_host()
        .undone_by(|c, a| remove_slot(c, a).boxed()),
        Step::new(PREFLIGHT, "Check new binary", 600, |c, a| preflight(c, a).boxed()),
        Step::new(RECORD, "Record obproxy info", 1800, |c, a| record(c, a).boxed()),
        Step::new(HOT_RESTART, "Hot restart obproxy", 1800, |c, a| restart(c, a).boxed())
            .on_host()
            .undone_by(|c, a| hot_restart::go_back(c, a, c.drain).boxed()),
        Step::new(CHECK_VERSION, "Check proxy version", 1800, |c, a| {
            check_version(c, a).boxed()
        }),
        Step::new(SET_VERSION, "Set obproxy version", 1800, |c, a| {
            set_version(c, a).boxed()
        })
        .undone_by(|c, a| reset_version(c, a).boxed()),
        Step::new(SET_CLUSTER_VERSION, "Set obproxy cluster version", 1800, |c, a| {
            set_cluster_version(c, a).boxed()
        })
        .undone_by(|c, a| reset_cluster_version(c, a).boxed()),
    ]
}

/// The graph for `proxies` proxies.
pub fn template(proxies: u32) -> Result<Template, TemplateError> {
    let mut template = TemplateBuilder::new();
    let mut at = template.node(barrier::START_NODE, None);
    for class in [PREPARE, COPY_CONFIG, UPGRADE_RPM, PREFLIGHT, RECORD] {
        let fan = template.fan_out(&[at], proxies, class);
        at = template.barrier(&fan);
    }
    for index in 0..proxies {
        for class in [HOT_RESTART, hot_restart::WAIT, CHECK_VERSION] {
            at = template.then(&[at], class, Some(index));
        }
    }
    at = template.barrier(&[at]);
    let fan = template.fan_out(&[at], proxies, SET_VERSION);
    at = template.barrier(&fan);
    for class in [SET_CLUSTER_VERSION, shared::UPDATE_STATUS, barrier::FINISH_TASK] {
        at = template.then(&[at], class, None);
    }
    template.build()
}

/// The context the steps read.
pub fn context(cluster: &Cluster, plan: &UpgradePlan) -> Context {
    let list = |value: fn(&crate::plan::upgrade::Target) -> String| plan.targets.iter().map(value).collect::<Vec<_>>();
    let package_name = plan
        .short_rpm_name
        .strip_suffix(&format!("-{}", plan.to))
        .unwrap_or(&plan.short_rpm_name);
    let context = match plan.warnings.as_slice() {
        [] => Context::new(),
        warnings => Context::new().with_list(keys::WARNINGS, warnings.iter().cloned()),
    };
    context
        .with_list(keys::PROXY_IDS, list(|target| target.proxy_id.to_string()))
        .with_list(keys::HOST_IDS, list(|target| target.host_id.to_string()))
        .with_list(keys::PACKAGE_IDS, list(|target| target.package_id.to_string()))
        .with_list(keys::FROM_VERSIONS, list(|target| target.from.to_string()))
        .with_list(
            keys::RESTART_METHODS,
            list(|target| hot_restart::method_name(target.method).to_owned()),
        )
        .with(keys::SERVICE_TYPE, "OB_PROXY")
        .with(keys::SERVICE_NAME, &cluster.name)
        .with(keys::CLUSTER_ID, cluster.id.to_string())
        .with(keys::CLUSTER_NAME, &cluster.name)
        .with(keys::PACKAGE_NAME, package_name)
        .with(keys::PACKAGE_VERSION, plan.to.to_string())
        .with(
            keys::CLUSTER_VERSION_BEFORE,
            cluster.version.as_ref().map(ToString::to_string).unwrap_or_default(),
        )
        .with(keys::PROHIBIT_ROLLBACK, "false")
}

fn target_version(attempt: &Attempt) -> Result<ProxyVersion, ActionError> {
    version(attempt.string(keys::PACKAGE_VERSION)?)
}

/// The agent answers and the proxy runs the version the plan was made for.
async fn prepare(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    let planned = version(attempt.item(keys::FROM_VERSIONS)?)?;
    for warning in attempt.list(keys::WARNINGS).unwrap_or_default() {
        attempt.log(format!("warning: {warning}"));
    }
    match crew.perform(attempt, Operation::Inspect { proxy_id }).await? {
        Outcome::Proxy(facts) if facts.version == planned => {
            attempt.log(format!("obproxy {proxy_id} runs {}, pid {}", facts.version, facts.pid));
            Ok(Output::nothing())
        }
        Outcome::Proxy(facts) => Err(ActionError::new(format!(
            "obproxy {proxy_id} runs {}, the upgrade was planned from {planned}; roll back and start the upgrade again",
            facts.version
        ))),
        other => Err(unexpected(&other)),
    }
}

async fn copy_config(crew: &Crew, attempt: &Attempt) -> StepResult {
    let operation = Operation::BackupConfig {
        proxy_id: proxy_id(attempt)?,
        version: target_version(attempt)?,
    };
    crew.perform(attempt, operation).await?;
    Ok(Output::nothing())
}

/// Brings the package to the host and extracts it beside the slots that are there; nothing that runs is touched.
async fn install_slot(crew: &Crew, attempt: &Attempt) -> StepResult {
    let package = crew.package(attempt).await?;
    crew.deliver(attempt, &package).await?;
    let operation = Operation::InstallPackage {
        sha256: package.sha256,
        version: package.name.version,
    };
    match crew.perform(attempt, operation).await? {
        Outcome::Slot {
            version, binary_sha256, ..
        } => {
            attempt.log(format!("slot {version}: bin/obproxy has sha256 {binary_sha256}"));
            Ok(Output::delta(
                ContextDelta::new().with(keys::new_binary(proxy_id(attempt)?), binary_sha256),
            ))
        }
        other => Err(unexpected(&other)),
    }
}

/// Takes the slot away unless a proxy of the host uses it.
async fn remove_slot(crew: &Crew, attempt: &Attempt) -> StepResult {
    crew.perform(
        attempt,
        Operation::RemoveSlot {
            version: target_version(attempt)?,
        },
    )
    .await?;
    Ok(Output::nothing())
}

async fn preflight(crew: &Crew, attempt: &Attempt) -> StepResult {
    let operation = Operation::Preflight {
        proxy_id: proxy_id(attempt)?,
        version: target_version(attempt)?,
        method: method(attempt)?,
    };
    match crew.perform(attempt, operation).await? {
        Outcome::Preflight(report) => {
            for warning in &report.warnings {
                attempt.log(format!("warning: {warning}"));
            }
            attempt.log(format!("ready to restart; {} client sessions", report.sessions));
            Ok(Output::nothing())
        }
        other => Err(unexpected(&other)),
    }
}

async fn record(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    match crew.perform(attempt, Operation::Inspect { proxy_id }).await? {
        Outcome::Proxy(facts) => {
            attempt.log(format!(
                "obproxy {proxy_id} before: pid {}, {}, sha256 {}",
                facts.pid, facts.version, facts.binary_sha256
            ));
            Ok(Output::delta(
                ContextDelta::new().with(keys::old_binary(proxy_id), facts.binary_sha256),
            ))
        }
        other => Err(unexpected(&other)),
    }
}

/// The one step that can hurt.
async fn restart(crew: &Crew, attempt: &Attempt) -> StepResult {
    hot_restart::begin(crew, attempt, target_version(attempt)?, method(attempt)?).await
}

/// What runs is the version and the very file that was wanted.
async fn check_version(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    let wanted = target_version(attempt)?;
    let binary = attempt.string(&keys::new_binary(proxy_id))?;
    match crew.perform(attempt, Operation::Inspect { proxy_id }).await? {
        Outcome::Proxy(facts) if facts.version == wanted && facts.binary_sha256 == binary => {}
        Outcome::Proxy(facts) => {
            return Err(ActionError::new(format!(
                "obproxy {proxy_id} runs {} (sha256 {}), wanted {wanted} (sha256 {binary}); roll the task back",
                facts.version, facts.binary_sha256
            )));
        }
        other => return Err(unexpected(&other)),
    }
    check_config(crew, attempt, proxy_id).await
}

/// The new process has read its configuration, from the config server or from what the old one had kept of it.
async fn check_config(crew: &Crew, attempt: &Attempt, proxy_id: i64) -> StepResult {
    let cluster = crew.cluster(attempt).await?;
    let fleet = crew.inventory.snapshot().await?;
    if cluster.work_mode == WorkMode::RsList || config_server::told(&fleet, cluster.id).is_empty() {
        return Ok(Output::nothing());
    }
    let facts = crew.inspect_config(attempt, proxy_id).await?;
    let Some(version) = facts.version else {
        return Err(ActionError::new(format!(
            "obproxy {proxy_id} has no configuration from its config server, so it serves nobody; see that its host reaches \
             the server, then retry, or roll the task back"
        )));
    };
    attempt.log(format!(
        "obproxy {proxy_id} has configuration {version} and serves {}",
        facts.clusters.join(", ")
    ));
    Ok(Output::nothing())
}

async fn set_version(_: &Crew, attempt: &Attempt) -> StepResult {
    let version = target_version(attempt)?;
    Ok(Output::changes(vec![InventoryChange::SetProxyVersion {
        proxy_id: proxy_id(attempt)?,
        version,
    }]))
}

async fn reset_version(_: &Crew, attempt: &Attempt) -> StepResult {
    let version = version(attempt.item(keys::FROM_VERSIONS)?)?;
    Ok(Output::changes(vec![InventoryChange::SetProxyVersion {
        proxy_id: proxy_id(attempt)?,
        version,
    }]))
}

async fn set_cluster_version(_: &Crew, attempt: &Attempt) -> StepResult {
    let version = Some(target_version(attempt)?);
    Ok(Output::changes(vec![InventoryChange::SetClusterVersion {
        cluster_id: cluster_id(attempt)?,
        version,
    }]))
}

async fn reset_cluster_version(_: &Crew, attempt: &Attempt) -> StepResult {
    let before = attempt.string(keys::CLUSTER_VERSION_BEFORE)?;
    let version = if before.is_empty() {
        None
    } else {
        Some(version(before)?)
    };
    Ok(Output::changes(vec![InventoryChange::SetClusterVersion {
        cluster_id: cluster_id(attempt)?,
        version,
    }]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::{
            Selection, Snapshot,
            upgrade::{Wanted, plan_upgrade},
        },
        testing::{self, SnapshotExt as _},
    };

    fn plan(fleet: &Snapshot) -> UpgradePlan {
        plan_upgrade(fleet, 1, &Selection::in_path(&[10]), Wanted::default()).unwrap()
    }

    #[test]
    fn the_plans_warnings_stand_in_the_reply() {
        let fleet = testing::fleet_of(1, "3.2.0-1").with_package(7, "obproxy-ce-4.3.1.0-1.el7.x86_64.rpm");
        let plan_of_old = plan(&fleet);
        let warned = context(&fleet.clusters[&1], &plan_of_old);
        assert_eq!(warned.list_map[keys::WARNINGS], plan_of_old.warnings);
        assert_eq!(warned.string_map[keys::PACKAGE_NAME], "obproxy-ce");

        let fleet = testing::fleet_of(1, "4.2.1.0-11").with_package(7, "obproxy-ce-4.3.1.0-1.el7.x86_64.rpm");
        assert!(
            !context(&fleet.clusters[&1], &plan(&fleet))
                .list_map
                .contains_key(keys::WARNINGS)
        );
    }

    #[test]
    fn proxies_are_restarted_one_after_another() {
        let template = template(2).unwrap();
        let nodes = template.nodes();
        let at = |class: &str, index| {
            nodes
                .iter()
                .position(|node| node.class_name == class && node.parallel_idx == Some(index))
                .unwrap()
        };
        let edge = |from, to| template.graph().upstreams(to) == [from];
        assert!(edge(at(HOT_RESTART, 0), at(hot_restart::WAIT, 0)));
        assert!(edge(at(hot_restart::WAIT, 0), at(CHECK_VERSION, 0)));
        assert!(edge(at(CHECK_VERSION, 0), at(HOT_RESTART, 1)));
    }
}
