//! *Add ob link*, *Delete ob link* and *Update ob cluster*: proxies that run are told of another set of OceanBase clusters,
//! or of other root servers, and each proves that it took it. *Change proxyro password* brings them the password alone.
//!
//! Every proxy is looked at before anything is changed. Then the config server tells the new content, and the proxies are
//! made to ask for it. The rollback has it tell the old content, and they ask again: that is why the look is what the second
//! asking undoes.

use futures::FutureExt as _;
use obfleet_engine::{
    ActionError, Attempt, Context, NodeRef, Output, Template, TemplateBuilder, TemplateError, barrier,
};
use obfleet_wire::{
    agent::Operation,
    ob::ClusterType,
    obproxy::{LinkStatus, WorkMode},
};

use super::{
    backends,
    crew::{Crew, cluster_id, proxy_id},
    keys,
    step::{Step, StepResult},
};
use crate::{
    inventory::{Cluster, InventoryChange, ObCluster, ObLink},
    plan::{ob::Facts, ob_links::Concerned},
};

// OCP has no tasks for these: the names are ours.
const PREPARE: &str = "obfleet.link.Prepare";
const CHECK: &str = "obfleet.link.CheckConfig";
const TELL: &str = "obfleet.link.UpdateConfig";
const REFRESH: &str = "obfleet.link.RefreshConfig";
const SET_STATUS: &str = "obfleet.link.UpdateStatus";

const ADD: &str = "add";
const DELETE: &str = "delete";
const UPDATE: &str = "update";
const PASSWORD: &str = "password";

/// What each node does.
pub fn steps() -> Vec<Step> {
    vec![
        Step::new(PREPARE, "Prepare ob link", 300, |c, a| prepare(c, a).boxed())
            .undone_by(|c, a| unprepare(c, a).boxed()),
        Step::new(CHECK, "Check obproxy config", 600, |c, a| check(c, a).boxed())
            .on_host()
            .undone_by(|c, a| refresh(c, a).boxed()),
        Step::new(TELL, "Update obproxy config", 300, |c, a| tell(c, a, true).boxed())
            .undone_by(|c, a| tell(c, a, false).boxed()),
        Step::new(REFRESH, "Refresh obproxy config", 600, |c, a| refresh(c, a).boxed()).on_host(),
        Step::new(SET_STATUS, "Update ob link status", 300, |c, a| {
            set_status(c, a).boxed()
        })
        .undone_by(|c, a| reset_status(c, a).boxed()),
    ]
}

/// The graph of a change of links, for `proxies` proxies.
pub fn template(proxies: u32) -> Result<Template, TemplateError> {
    let (mut template, last) = told(proxies);
    let last = template.then(&[last], SET_STATUS, None);
    template.then(&[last], barrier::FINISH_TASK, None);
    template.build()
}

/// The graph of a change of root servers, for `proxies` proxies.
pub fn template_for_update(proxies: u32) -> Result<Template, TemplateError> {
    let (mut template, last) = told(proxies);
    template.then(&[last], barrier::FINISH_TASK, None);
    template.build()
}

/// The graph of a change of proxyro's password, for `proxies` proxies.
pub fn template_for_password(proxies: u32) -> Result<Template, TemplateError> {
    let mut template = TemplateBuilder::new();
    let mut at = template.node(PREPARE, None);
    if proxies > 0 {
        for class in [CHECK, REFRESH] {
            let fan = template.fan_out(&[at], proxies, class);
            at = template.barrier(&fan);
        }
    }
    template.then(&[at], barrier::FINISH_TASK, None);
    template.build()
}

fn told(proxies: u32) -> (TemplateBuilder, NodeRef) {
    let mut template = TemplateBuilder::new();
    let mut at = template.node(PREPARE, None);
    if proxies > 0 {
        let fan = template.fan_out(&[at], proxies, CHECK);
        at = template.barrier(&fan);
    }
    at = template.then(&[at], TELL, None);
    if proxies > 0 {
        let fan = template.fan_out(&[at], proxies, REFRESH);
        at = template.barrier(&fan);
    }
    (template, at)
}

/// The context of a task that adds links; `registered` are the OceanBase clusters they bring.
pub fn context_for_add(cluster: &Cluster, names: &[String], registered: &[i64], concerned: &Concerned) -> Context {
    of_cluster(cluster, concerned)
        .with(keys::LINK_CHANGE, ADD)
        .with_list(keys::OB_LINKS, names.iter().cloned())
        .with_list(keys::OB_CLUSTERS_BROUGHT, registered.iter().map(ToString::to_string))
}

/// The context of a task that takes a link away.
pub fn context_for_delete(cluster: &Cluster, link: &ObLink, concerned: &Concerned) -> Context {
    of_cluster(cluster, concerned)
        .with(keys::LINK_CHANGE, DELETE)
        .with_list(keys::OB_LINKS, [link.name.clone()])
        .with(keys::OB_CLUSTER, link.ob_cluster.to_string())
        .with(keys::OB_USERNAME, &link.username)
        .with(keys::OB_TOLD_BEFORE, link.told.to_string())
}

/// The context of a task that changes what is told of an OceanBase cluster.
pub fn context_for_update(known: &ObCluster, facts: &Facts, concerned: &Concerned) -> Context {
    let context = Context::new()
        .with(keys::LINK_CHANGE, UPDATE)
        .with(keys::OB_CLUSTER, known.id.to_string())
        .with(keys::OB_CLUSTER_NAME, &known.name);
    let context = with_facts(context, keys::OB_FACTS_AFTER, facts);
    with_proxies(with_facts(context, keys::OB_FACTS_BEFORE, &Facts::of(known)), concerned)
}

/// The context of a task that brings another password of proxyro to proxies.
pub fn context_for_password(concerned: &Concerned) -> Context {
    with_proxies(Context::new().with(keys::LINK_CHANGE, PASSWORD), concerned)
}

fn of_cluster(cluster: &Cluster, concerned: &Concerned) -> Context {
    let context = Context::new()
        .with(keys::SERVICE_TYPE, "OB_PROXY")
        .with(keys::SERVICE_NAME, &cluster.name)
        .with(keys::CLUSTER_ID, cluster.id.to_string())
        .with(keys::CLUSTER_NAME, &cluster.name);
    with_proxies(context, concerned)
}

fn with_proxies(context: Context, concerned: &Concerned) -> Context {
    let context = context.with(keys::PROHIBIT_ROLLBACK, "false");
    let context = match concerned.skipped.as_slice() {
        [] => context,
        skipped => context.with_list(keys::PROXIES_LEFT_OUT, skipped.iter().map(ToString::to_string)),
    };
    match concerned.proxies.as_slice() {
        [] => context,
        proxies => context
            .with_list(keys::PROXY_IDS, proxies.iter().map(|(proxy, _)| proxy.to_string()))
            .with_list(keys::HOST_IDS, proxies.iter().map(|(_, host)| host.to_string())),
    }
}

/// Type, id and root servers as one list.
fn with_facts(context: Context, key: &str, facts: &Facts) -> Context {
    let id = facts.ob_cluster_id.map(|id| id.to_string()).unwrap_or_default();
    let servers = facts.root_servers.iter().map(|server| server.long());
    let list = [facts.cluster_type.as_str().to_owned(), id].into_iter().chain(servers);
    context.with_list(key, list)
}

fn facts(attempt: &Attempt, key: &str) -> Result<Facts, ActionError> {
    let wrong = || {
        ActionError::new(format!(
            "the context holds something else than an OceanBase cluster under {key}"
        ))
    };
    let [cluster_type, id, servers @ ..] = attempt.list(key)? else {
        return Err(wrong());
    };
    Ok(Facts {
        cluster_type: match cluster_type == ClusterType::Standby.as_str() {
            true => ClusterType::Standby,
            false => ClusterType::Primary,
        },
        ob_cluster_id: id.parse().ok(),
        root_servers: servers
            .iter()
            .map(|server| server.parse().map_err(|_| wrong()))
            .collect::<Result<_, _>>()?,
    })
}

/// The cluster is still there, and the log says who is not told.
async fn prepare(crew: &Crew, attempt: &Attempt) -> StepResult {
    if attempt.find_string(keys::CLUSTER_ID).is_some() {
        crew.cluster_still_there(attempt).await?;
    }
    for proxy in attempt.list(keys::PROXIES_LEFT_OUT).unwrap_or_default() {
        attempt.log(format!(
            "obproxy {proxy} does not run, or its host is away: it is not told, and asks by itself: within ten seconds if it runs, else when it starts"
        ));
    }
    Ok(Output::nothing())
}

async fn unprepare(_: &Crew, attempt: &Attempt) -> StepResult {
    let names = attempt.list(keys::OB_LINKS).unwrap_or_default();
    let mut changes = Vec::new();
    match attempt.string(keys::LINK_CHANGE)? {
        ADD => {
            let cluster_id = cluster_id(attempt)?;
            let delete = |name: &String| InventoryChange::DeleteObLink {
                cluster_id,
                name: name.clone(),
            };
            changes.extend(names.iter().map(delete));
            let brought = attempt.list(keys::OB_CLUSTERS_BROUGHT).unwrap_or_default();
            let brought = brought.iter().filter_map(|id| id.parse().ok());
            changes.extend(brought.map(|id| InventoryChange::DeleteObCluster { id }));
        }
        DELETE => changes.extend(links(attempt, LinkStatus::Running, was_told(attempt)?)?),
        _ => {}
    }
    Ok(Output::changes(changes))
}

/// Every link of the task so.
fn links(attempt: &Attempt, status: LinkStatus, told: bool) -> Result<Vec<InventoryChange>, ActionError> {
    let cluster_id = cluster_id(attempt)?;
    let set = |name: &String| InventoryChange::SetObLink {
        cluster_id,
        name: name.clone(),
        status,
        told,
    };
    Ok(attempt.list(keys::OB_LINKS)?.iter().map(set).collect())
}

fn was_told(attempt: &Attempt) -> Result<bool, ActionError> {
    Ok(attempt.string(keys::OB_TOLD_BEFORE)? == "true")
}

/// The cluster of the proxy the step is about.
async fn cluster_of(crew: &Crew, attempt: &Attempt) -> Result<Cluster, ActionError> {
    let id = crew.proxy(attempt).await?.cluster_id;
    let cluster = crew.inventory.cluster(id).await?;
    cluster.ok_or_else(|| ActionError::new(format!("obproxy cluster {id} is not in the inventory any more")))
}

/// The proxy answers, and its agent can have it ask.
async fn check(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    if cluster_of(crew, attempt).await?.work_mode == WorkMode::RsList {
        crew.perform(attempt, Operation::Inspect { proxy_id }).await?;
        return Ok(Output::nothing());
    }
    let host = crew.host(attempt).await?;
    let status = crew.agent_status(attempt, &host).await?;
    if !status.operations.iter().any(|operation| operation == "refreshConfig") {
        return Err(ActionError::new(format!(
            "the agent of host {} (version {}) cannot have a proxy ask its config server; upgrade it, then retry",
            host.facts.name, status.version
        )));
    }
    let facts = crew.inspect_config(attempt, proxy_id).await?;
    attempt.log(format!(
        "obproxy {proxy_id} has configuration {} and serves {}",
        facts.version.as_deref().unwrap_or("none"),
        facts.clusters.join(", ")
    ));
    Ok(Output::nothing())
}

/// The config server tells the new content, or the old one again.
async fn tell(_: &Crew, attempt: &Attempt, new: bool) -> StepResult {
    let changes = match (attempt.string(keys::LINK_CHANGE)?, new) {
        (ADD, told) => links(attempt, LinkStatus::Creating, told)?,
        (DELETE, true) => links(attempt, LinkStatus::Deleting, false)?,
        (DELETE, false) => links(attempt, LinkStatus::Deleting, was_told(attempt)?)?,
        (_, new) => {
            let key = if new {
                keys::OB_FACTS_AFTER
            } else {
                keys::OB_FACTS_BEFORE
            };
            let facts = facts(attempt, key)?;
            let id = attempt.string(keys::OB_CLUSTER)?;
            vec![InventoryChange::SetObCluster {
                id: id
                    .parse()
                    .map_err(|_| ActionError::new(format!("the context holds '{id}' where an id belongs")))?,
                ob_cluster_id: facts.ob_cluster_id,
                cluster_type: facts.cluster_type,
                root_servers: facts.root_servers,
            }]
        }
    };
    Ok(Output::changes(changes))
}

/// The proxy takes what is told now. One of an RS_LIST cluster keeps it for its next start.
async fn refresh(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    let cluster = cluster_of(crew, attempt).await?;
    let fleet = crew.inventory.snapshot().await?;
    let mut values = crew.password_parameters(&fleet, &cluster)?;
    let password_only = attempt.string(keys::LINK_CHANGE)? == PASSWORD;
    if cluster.work_mode == WorkMode::RsList && !password_only {
        let list = backends::root_servers(backends::only_link(&fleet, &cluster)?).join(";");
        values.push(("rootservice_list".to_owned(), list));
        attempt.log(format!(
            "obproxy {proxy_id} uses the root servers from its next start on: restart it"
        ));
    }
    if !values.is_empty() {
        crew.perform(attempt, Operation::SetParameters { proxy_id, values })
            .await?;
    }
    if cluster.work_mode == WorkMode::ConfigUrl && !password_only {
        let root_servers = attempt.string(keys::LINK_CHANGE)? == UPDATE;
        crew.refresh_config(attempt, proxy_id, &cluster, root_servers).await?;
    }
    Ok(Output::nothing())
}

async fn set_status(_: &Crew, attempt: &Attempt) -> StepResult {
    if attempt.string(keys::LINK_CHANGE)? == ADD {
        return Ok(Output::changes(links(attempt, LinkStatus::Running, true)?));
    }
    let cluster_id = cluster_id(attempt)?;
    let delete = |name: &String| InventoryChange::DeleteObLink {
        cluster_id,
        name: name.clone(),
    };
    Ok(Output::changes(
        attempt.list(keys::OB_LINKS)?.iter().map(delete).collect(),
    ))
}

async fn reset_status(_: &Crew, attempt: &Attempt) -> StepResult {
    if attempt.string(keys::LINK_CHANGE)? == ADD {
        return Ok(Output::changes(links(attempt, LinkStatus::Creating, true)?));
    }
    let link = ObLink {
        cluster_id: cluster_id(attempt)?,
        name: attempt.list(keys::OB_LINKS)?.first().cloned().unwrap_or_default(),
        ob_cluster: attempt.string(keys::OB_CLUSTER)?.parse().unwrap_or_default(),
        username: attempt.string(keys::OB_USERNAME)?.to_owned(),
        status: LinkStatus::Deleting,
        told: false,
    };
    Ok(Output::changes(vec![InventoryChange::InsertObLink(link)]))
}
