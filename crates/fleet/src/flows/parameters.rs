//! *Update obproxy parameters* and what belongs to it: proxies are given values, and the cluster's set is written down with
//! what was changed.
//!
//! A change of a cluster goes from proxy to proxy; when one refuses, the task goes back by itself, so that all have the old
//! values and nothing is held. A refresh and a repair concern each proxy by itself, and are tried again.

use std::collections::BTreeMap;

use futures::FutureExt as _;
use obfleet_engine::{
    ActionError, Attempt, Context, ContextDelta, Output, Template, TemplateBuilder, TemplateError, barrier,
};
use obfleet_wire::agent::{Operation, ProxyParameters};

use super::{
    crew::{Crew, cluster_id, proxy_id, proxy_ids},
    keys, shared,
    step::{Step, StepResult},
};
use crate::{
    inventory::{Cluster, InventoryChange, ParameterChange},
    plan::parameters::{
        SetPlan,
        drift::RepairPlan,
        edit::{EditPlan, Target},
        means_same,
        refresh::RefreshPlan,
    },
};

const PREPARE: &str = "obfleet.parameters.PrepareParameters";
const UPDATE: &str = "obfleet.parameters.UpdateParameters";
const REFRESH: &str = "obfleet.parameters.RefreshParameters";
const RECORD: &str = "obfleet.parameters.RecordParameters";

/// What each node does.
pub fn steps() -> Vec<Step> {
    vec![
        Step::new(PREPARE, "Prepare update obproxy parameters", 300, |c, a| {
            prepare(c, a).boxed()
        })
        .undone_by(|c, a| shared::release(c, a).boxed()),
        Step::new(UPDATE, "Update obproxy parameters", 300, |c, a| update(c, a).boxed())
            .on_host()
            .undone_by(|c, a| put_back(c, a).boxed()),
        Step::new(REFRESH, "Refresh obproxy parameters", 300, |c, a| refresh(c, a).boxed())
            .on_host()
            .undone_by(|c, a| take_refresh_back(c, a).boxed()),
        Step::new(RECORD, "Record obproxy parameters", 300, |c, a| record(c, a).boxed())
            .undone_by(|c, a| forget_record(c, a).boxed()),
    ]
}

/// The graph of a change of a cluster with `proxies` proxies that are changed: one after another.
pub fn template_for_edit(proxies: u32) -> Result<Template, TemplateError> {
    let mut template = TemplateBuilder::new();
    let mut at = template.node(barrier::START_NODE, None);
    if proxies > 0 {
        let prepared = template.fan_out(&[at], proxies, PREPARE);
        at = template.barrier(&prepared);
        for index in 0..proxies {
            at = template.then(&[at], UPDATE, Some(index));
        }
    }
    at = template.then(&[at], RECORD, None);
    if proxies > 0 {
        at = template.then(&[at], shared::UPDATE_STATUS, None);
    }
    template.then(&[at], barrier::FINISH_TASK, None);
    template.build()
}

/// The graph of a refresh.
pub fn template_for_refresh(proxies: u32) -> Result<Template, TemplateError> {
    fanned_out(proxies, REFRESH)
}

/// The graph of a repair.
pub fn template_for_repair(proxies: u32) -> Result<Template, TemplateError> {
    fanned_out(proxies, UPDATE)
}

fn fanned_out(proxies: u32, class: &str) -> Result<Template, TemplateError> {
    let mut template = TemplateBuilder::new();
    let start = template.node(barrier::START_NODE, None);
    let prepared = template.fan_out(&[start], proxies, PREPARE);
    let all = template.barrier(&prepared);
    let done = template.fan_out(&[all], proxies, class);
    let all = template.barrier(&done);
    let freed = template.then(&[all], shared::UPDATE_STATUS, None);
    template.then(&[freed], barrier::FINISH_TASK, None);
    template.build()
}

/// The graph of what is accepted.
pub fn template_for_accept() -> Result<Template, TemplateError> {
    let mut template = TemplateBuilder::new();
    let start = template.node(barrier::START_NODE, None);
    let recorded = template.then(&[start], RECORD, None);
    template.then(&[recorded], barrier::FINISH_TASK, None);
    template.build()
}

fn context<'t>(cluster: &Cluster, targets: impl Iterator<Item = &'t Target> + Clone) -> Context {
    let context = Context::new()
        .with(keys::CLUSTER_ID, cluster.id.to_string())
        .with(keys::CLUSTER_NAME, &cluster.name)
        .with(keys::SERVICE_NAME, &cluster.name)
        .with(keys::SERVICE_TYPE, "OB_PROXY")
        .with(keys::PROHIBIT_ROLLBACK, "false");
    if targets.clone().next().is_none() {
        return context;
    }
    context
        .with_list(
            keys::PROXY_IDS,
            targets.clone().map(|target| target.proxy_id.to_string()),
        )
        .with_list(keys::HOST_IDS, targets.map(|target| target.host_id.to_string()))
}

/// The context of a change.
pub fn context_for_edit(cluster: &Cluster, plan: &EditPlan) -> Context {
    let left_out = plan.left_out.iter().map(|id| {
        format!("obproxy {id} is down or its host is away: it is left out and has to be refreshed when it is back")
    });
    let context = match plan.left_out.as_slice() {
        [] => context(cluster, plan.targets.iter()),
        _ => context(cluster, plan.targets.iter()).with_list(keys::WARNINGS, left_out),
    };
    with_plan(context, &plan.set)
        .with_list(keys::PARAMETER_NAMES, plan.values.iter().map(|(name, _)| name.clone()))
        .with_list(
            keys::PARAMETER_VALUES,
            plan.values.iter().map(|(_, value)| value.clone()),
        )
}

/// The context of a refresh.
pub fn context_for_refresh(cluster: &Cluster, plan: &RefreshPlan) -> Context {
    let targets = plan.targets.iter();
    context(cluster, targets.clone().map(|(target, ..)| target))
        .with_list(keys::PARAMETER_SETS, targets.clone().map(|(_, _, values)| json(values)))
        .with_list(
            keys::PARAMETER_VERSIONS_BEFORE,
            targets.map(|(_, before, _)| before.to_string()),
        )
        .with(keys::PARAMETER_VERSION, plan.to.to_string())
}

/// The context of a repair.
pub fn context_for_repair(cluster: &Cluster, plan: &RepairPlan) -> Context {
    let targets = plan.targets.iter();
    context(cluster, targets.clone().map(|(target, _)| target))
        .with_list(keys::PARAMETER_SETS, targets.map(|(_, values)| json(values)))
}

/// The context of what is accepted.
pub fn context_for_accept(cluster: &Cluster, plan: &SetPlan) -> Context {
    with_plan(context(cluster, std::iter::empty()), plan)
}

fn with_plan(context: Context, plan: &SetPlan) -> Context {
    context
        .with(keys::PARAMETER_VERSION, plan.to.to_string())
        .with(keys::PARAMETER_PLAN, json(plan))
}

/// Texts and numbers alone, so it never fails.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, ActionError> {
    serde_json::from_str(text).map_err(|error| ActionError::new(format!("the context holds damaged JSON: {error}")))
}

/// The values the step's proxy is to get.
fn values(attempt: &Attempt) -> Result<Vec<(String, String)>, ActionError> {
    if attempt.list(keys::PARAMETER_SETS).is_ok() {
        return from_json(attempt.item(keys::PARAMETER_SETS)?);
    }
    let (names, values) = (
        attempt.list(keys::PARAMETER_NAMES)?,
        attempt.list(keys::PARAMETER_VALUES)?,
    );
    Ok(names.iter().cloned().zip(values.iter().cloned()).collect())
}

/// The values of parameters the proxy has; what its version lacks is left out.
pub(super) fn that_exist(
    attempt: &Attempt,
    has: &ProxyParameters,
    values: Vec<(String, String)>,
) -> Vec<(String, String)> {
    let (there, lacking): (Vec<_>, Vec<_>) = values
        .into_iter()
        .partition(|(name, _)| has.items.iter().any(|item| item.name == *name));
    for (name, _) in lacking {
        attempt.log(format!("{} has no parameter {name}: it is left out", has.version));
    }
    there
}

/// The values that are others than the proxy has; another spelling of what it has is none.
fn that_differ(has: &ProxyParameters, values: Vec<(String, String)>) -> Vec<(String, String)> {
    let differs = |(name, value): &(String, String)| {
        let now = has.items.iter().find(|item| item.name == *name);
        now.is_none_or(|now| !means_same(name, &now.value, value))
    };
    values.into_iter().filter(differs).collect()
}

/// The proxy can be read, and has what is to be changed.
async fn prepare(crew: &Crew, attempt: &Attempt) -> StepResult {
    for warning in attempt.list(keys::WARNINGS).unwrap_or_default() {
        attempt.log(format!("warning: {warning}"));
    }
    let has = crew.configuration(attempt).await?;
    let values = values(attempt)?;
    let there = that_exist(attempt, &has, values.clone());
    let missing = values.iter().find(|value| !there.contains(value));
    if let (Some((name, _)), Ok(_)) = (missing, attempt.list(keys::PARAMETER_NAMES)) {
        return Err(ActionError::new(format!(
            "obproxy {} runs {}, which has no parameter {name}: change it on the others alone",
            proxy_id(attempt)?,
            has.version
        )));
    }
    Ok(Output::nothing())
}

const BEFORE: &str = "before";

/// Gives the proxy the values. What it had is written down beforehand, by the first attempt that comes to it.
pub(super) async fn change(
    crew: &Crew,
    attempt: &Attempt,
    values: Vec<(String, String)>,
) -> Result<(BTreeMap<String, String>, ProxyParameters), ActionError> {
    let proxy_id = proxy_id(attempt)?;
    let has = crew.configuration(attempt).await?;
    let values = that_exist(attempt, &has, values);
    let before = match attempt.checkpointed(BEFORE) {
        Some(before) => from_json(before)?,
        None => {
            let items = has
                .items
                .iter()
                .filter(|item| values.iter().any(|(name, _)| *name == item.name));
            let before: BTreeMap<_, _> = items.map(|item| (item.name.clone(), item.value.clone())).collect();
            attempt.checkpoint(BEFORE, json(&before)).await?;
            before
        }
    };
    let values = that_differ(&has, values);
    for (name, value) in &values {
        let was = before.get(name).map_or("", String::as_str);
        attempt.log(format!("obproxy {proxy_id}: {name} from '{was}' to '{value}'"));
    }
    if !values.is_empty() {
        crew.perform(attempt, Operation::SetParameters { proxy_id, values })
            .await?;
    }
    let now = crew.configuration(attempt).await?;
    for item in &now.items {
        if let (Some(in_force), true) = (&item.in_force, before.contains_key(&item.name)) {
            attempt.log(format!("{} stays '{in_force}' until the proxy is restarted", item.name));
        }
    }
    Ok((before, now))
}

async fn update(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    let (before, now) = change(crew, attempt, values(attempt)?).await?;
    Ok(Output {
        delta: ContextDelta::new().with(keys::parameters_before(proxy_id), json(&before)),
        changes: vec![crew.noted(proxy_id, &[], &now).await?],
    })
}

/// Gives the proxy back what it had before [`change`].
pub(super) async fn put_back(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    let Some(before) = attempt.checkpointed(BEFORE) else {
        attempt.log("nothing was changed");
        return Ok(Output::nothing());
    };
    let before: BTreeMap<String, String> = from_json(before)?;
    // A proxy that refused a value has the old one, and may refuse that as well.
    let has = crew.configuration(attempt).await?;
    let values = that_differ(&has, before.into_iter().collect());
    if !values.is_empty() {
        crew.perform(attempt, Operation::SetParameters { proxy_id, values })
            .await?;
    }
    let now = crew.configuration(attempt).await?;
    Ok(Output::changes(vec![crew.noted(proxy_id, &[], &now).await?]))
}

async fn refresh(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    let parameter_version = version(attempt.string(keys::PARAMETER_VERSION)?)?;
    let (_, now) = change(crew, attempt, values(attempt)?).await?;
    Ok(Output::changes(vec![
        InventoryChange::SetProxyParameterVersion {
            proxy_id,
            parameter_version,
        },
        crew.noted(proxy_id, &[], &now).await?,
    ]))
}

async fn take_refresh_back(crew: &Crew, attempt: &Attempt) -> StepResult {
    let mut output = put_back(crew, attempt).await?;
    output.changes.push(InventoryChange::SetProxyParameterVersion {
        proxy_id: proxy_id(attempt)?,
        parameter_version: version(attempt.item(keys::PARAMETER_VERSIONS_BEFORE)?)?,
    });
    Ok(output)
}

fn version(text: &str) -> Result<i64, ActionError> {
    let wrong = |_| ActionError::new(format!("the context holds '{text}' where a version belongs"));
    text.parse().map_err(wrong)
}

/// From now on this is what the cluster gives its proxies.
async fn record(_: &Crew, attempt: &Attempt) -> StepResult {
    let plan: SetPlan = from_json(attempt.string(keys::PARAMETER_PLAN)?)?;
    let cluster_id = cluster_id(attempt)?;
    let changes = changes(attempt, &plan)?;
    Ok(Output::changes(set(
        cluster_id,
        plan.to,
        plan.after,
        &plan.current,
        changes,
    )))
}

async fn forget_record(_: &Crew, attempt: &Attempt) -> StepResult {
    let plan: SetPlan = from_json(attempt.string(keys::PARAMETER_PLAN)?)?;
    let cluster_id = cluster_id(attempt)?;
    Ok(Output::changes(set(
        cluster_id,
        plan.from,
        plan.before,
        &plan.current,
        Vec::new(),
    )))
}

fn set(
    cluster_id: i64,
    parameter_version: i64,
    rows: Vec<crate::inventory::WantedRow>,
    current: &[i64],
    changes: Vec<ParameterChange>,
) -> Vec<InventoryChange> {
    let mut all = vec![
        InventoryChange::SetWantedParameters {
            cluster_id,
            parameter_version,
            rows,
        },
        InventoryChange::SetParameterChanges { cluster_id, changes },
    ];
    let current = current.iter();
    all.extend(current.map(|proxy_id| InventoryChange::SetProxyParameterVersion {
        proxy_id: *proxy_id,
        parameter_version,
    }));
    all
}

/// What is kept of the plan: with what the proxies had, where that is worth telling.
fn changes(attempt: &Attempt, plan: &SetPlan) -> Result<Vec<ParameterChange>, ActionError> {
    let mut had = BTreeMap::<i64, BTreeMap<String, String>>::new();
    for proxy_id in proxy_ids(attempt).unwrap_or_default() {
        if let Some(before) = attempt.find_string(&keys::parameters_before(proxy_id)) {
            had.insert(proxy_id, from_json(before)?);
        }
    }
    let mut changes = Vec::new();
    for planned in &plan.changes {
        let name = &planned.name;
        let mut proxies = planned.proxies.clone();
        for (proxy_id, had) in &had {
            let had = had.get(name);
            let as_the_cluster = |had: &String| {
                let before = planned.before.as_ref();
                planned.whole_cluster && before.is_some_and(|before| means_same(name, before, had))
            };
            if let Some(had) = had.filter(|had| !as_the_cluster(had)) {
                proxies.insert(*proxy_id, had.clone());
            }
        }
        let same = planned
            .before
            .as_ref()
            .is_some_and(|before| means_same(name, before, &planned.after));
        if same && proxies.values().all(|had| means_same(name, had, &planned.after)) {
            // Nothing was other than it is.
            continue;
        }
        changes.push(ParameterChange {
            kind: plan.kind,
            name: name.clone(),
            whole_cluster: planned.whole_cluster,
            before: planned.before.clone(),
            after: planned.after.clone(),
            proxies,
            operator: plan.operator.clone(),
        });
    }
    Ok(changes)
}
