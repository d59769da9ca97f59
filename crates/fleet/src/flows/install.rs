//! *Install obproxy*: one proxy on one host (batchAdd, one task a host), or the first proxies of a new cluster (one
//! task, one chain a host).

use futures::FutureExt as _;
use obfleet_engine::{ActionError, Attempt, Context, Output, Template, TemplateBuilder, TemplateError, barrier};
use obfleet_wire::{
    agent::{Operation, Outcome},
    obproxy::WorkMode,
};

use super::{
    crew::{Crew, host_id, proxy_id, proxy_ids},
    keys, parameters, shared,
    step::{Step, StepResult},
};
use crate::{
    inventory::{Cluster, InventoryChange, Package, Proxy},
    plan::{self, install::NewProxy},
};

const PREPARE_INSTALL: &str = "com.alipay.ocp.service.task.business.obproxy.PrepareObproxyInstallTask";
pub(super) const PREPARE_CREATE: &str = "com.alipay.ocp.service.task.business.obproxy.PrepareCreateObproxyTask";
const CHECK_PROCESS: &str = "com.alipay.ocp.service.task.business.host.CheckProcessNotExistTask";
const CHECK_COMMAND: &str = "com.alipay.ocp.service.task.business.host.CheckCommandTask";
const INSTALL_RPM: &str = "com.alipay.ocp.service.task.business.host.InstallRpmByPackageAndVersionTask";
const START: &str = "com.alipay.ocp.service.task.business.obproxy.StartObproxyTask";
const SYNC_PARAMETER: &str = "com.alipay.ocp.service.task.business.obproxy.SyncObproxyParameterTask";
const SET_PASSWORD: &str = "com.alipay.ocp.service.task.business.obproxy.SetObproxyUserPasswordForObTask";
const REFRESH_AGENT: &str = "com.alipay.ocp.service.task.business.host.RefreshAgentConfigTask";
pub(super) const REGISTER_EXPORTER: &str = "com.alipay.ocp.service.task.business.obproxy.RegisterObproxyExporterTask";

/// The chain of one proxy after *Prepare obproxy install*, in order.
const CHAIN: [&str; 10] = [
    PREPARE_CREATE,
    CHECK_PROCESS,
    CHECK_COMMAND,
    INSTALL_RPM,
    START,
    SYNC_PARAMETER,
    SET_PASSWORD,
    REFRESH_AGENT,
    REGISTER_EXPORTER,
    shared::UPDATE_STATUS,
];

/// The agent operations an installation needs, looked for before anything is touched.
const NEEDED: [&str; 6] = [
    "checkAbsent",
    "installPackage",
    "createProxy",
    "setParameters",
    "supervise",
    "discardProxy",
];

/// What a CONFIG_URL cluster needs besides.
const NEEDED_TO_ASK: [&str; 2] = ["inspectConfig", "refreshConfig"];

fn needed(cluster: &Cluster) -> Vec<&'static str> {
    match cluster.work_mode {
        WorkMode::ConfigUrl => NEEDED.into_iter().chain(NEEDED_TO_ASK).collect(),
        WorkMode::RsList => NEEDED.into(),
    }
}

/// What each node does.
pub fn steps() -> Vec<Step> {
    vec![
        Step::new(PREPARE_INSTALL, "Prepare obproxy install", 300, |c, a| {
            prepare_install(c, a).boxed()
        })
        .undone_by(|c, a| forget(c, a).boxed()),
        Step::new(PREPARE_CREATE, "Prepare create obproxy", 1800, |c, a| {
            prepare_create(c, a).boxed()
        })
        .undone_by(|c, a| free_host(c, a).boxed()),
        Step::new(CHECK_PROCESS, "Check if process not exist", 300, |c, a| {
            check_absent(c, a).boxed()
        }),
        Step::new(CHECK_COMMAND, "Check if command exists", 300, |c, a| {
            check_commands(c, a).boxed()
        }),
        Step::new(INSTALL_RPM, "Install rpm by package and version", 3600, |c, a| {
            install_slot(c, a).boxed()
        })
        .on_host()
        .undone_by(|c, a| remove_slot(c, a).boxed()),
        Step::new(START, "Start obproxy process", 600, |c, a| create(c, a).boxed())
            .on_host()
            .undone_by(|c, a| discard(c, a).boxed()),
        Step::new(SYNC_PARAMETER, "Sync obproxy parameter", 30, |c, a| {
            sync_parameters(c, a).boxed()
        })
        .on_host(),
        Step::new(SET_PASSWORD, "Set obproxy user and password for connect", 30, |c, a| {
            set_password(c, a).boxed()
        })
        .on_host(),
        Step::new(REFRESH_AGENT, "Refresh ocp agent config", 3600, |c, a| {
            supervise(c, a, true).boxed()
        })
        .on_host()
        .undone_by(|c, a| supervise(c, a, false).boxed()),
        Step::new(REGISTER_EXPORTER, "Register obproxy exporter", 30, |c, a| {
            register(c, a, true).boxed()
        })
        .undone_by(|c, a| register(c, a, false).boxed()),
    ]
}

/// One proxy on one host: OCP's twelve steps in a row.
pub fn template_for_one() -> Result<Template, TemplateError> {
    let mut template = TemplateBuilder::new();
    let mut at = template.node(PREPARE_INSTALL, None);
    for class in CHAIN {
        at = template.then(&[at], class, None);
    }
    template.then(&[at], barrier::FINISH_TASK, None);
    template.build()
}

/// A new cluster with `proxies` proxies, none for an empty one.
pub fn template_for_cluster(proxies: u32) -> Result<Template, TemplateError> {
    let mut template = TemplateBuilder::new();
    let prepare = template.node(PREPARE_INSTALL, None);
    let mut ends = Vec::new();
    for index in 0..proxies {
        let mut at = prepare;
        for class in CHAIN {
            at = template.then(&[at], class, Some(index));
        }
        ends.push(at);
    }
    template.then(
        if ends.is_empty() {
            std::slice::from_ref(&prepare)
        } else {
            &ends
        },
        barrier::FINISH_TASK,
        None,
    );
    template.build()
}

/// The context of a task that installs one proxy.
pub fn context_for_one(cluster: &Cluster, proxy: &Proxy, package: &Package) -> Context {
    cluster_context(cluster)
        .with_list(keys::COMMANDS_TO_CHECK, needed(cluster))
        .with_list("process_keywords", ["obproxy", "obproxyd.sh"])
        .with(keys::PROXY_ID, proxy.id.to_string())
        .with(keys::HOST_ID, proxy.host_id.to_string())
        .with(keys::PACKAGE_ID, package.id.to_string())
        .with(keys::PACKAGE_NAME, &package.name.name)
        .with(keys::PACKAGE_VERSION, package.name.version.to_string())
        .with(keys::NEED_DELETE_CLUSTER, "false")
}

/// The context of a task that makes a cluster and installs `proxies`; `brought` are the OceanBase clusters that came to be
/// known by its links.
pub fn context_for_cluster(cluster: &Cluster, proxies: &[(i64, NewProxy)], brought: &[i64]) -> Context {
    let context = match brought {
        [] => cluster_context(cluster),
        brought => {
            cluster_context(cluster).with_list(keys::OB_CLUSTERS_BROUGHT, brought.iter().map(ToString::to_string))
        }
    };
    if proxies.is_empty() {
        return context;
    }
    context
        .with_list(keys::COMMANDS_TO_CHECK, needed(cluster))
        .with_list(keys::PROXY_IDS, proxies.iter().map(|(id, _)| id.to_string()))
        .with_list(keys::HOST_IDS, proxies.iter().map(|(_, new)| new.host_id.to_string()))
        .with_list(
            keys::PACKAGE_IDS,
            proxies.iter().map(|(_, new)| new.package_id.to_string()),
        )
        // A cluster whose installation is rolled back disappears with its proxies.
        .with(keys::NEED_DELETE_CLUSTER, "true")
}

fn cluster_context(cluster: &Cluster) -> Context {
    Context::new()
        .with(keys::CLUSTER_ID, cluster.id.to_string())
        .with(keys::CLUSTER_NAME, &cluster.name)
        .with(keys::SERVICE_NAME, &cluster.name)
        .with(keys::PARAMETER_VERSION, cluster.parameter_version.to_string())
        .with(keys::PROHIBIT_ROLLBACK, "false")
}

/// The agents answer, and the cluster is still there to install into.
async fn prepare_install(crew: &Crew, attempt: &Attempt) -> StepResult {
    crew.cluster_still_there(attempt).await?;
    let hosts = match attempt.list(keys::HOST_IDS) {
        Ok(ids) => ids.to_vec(),
        Err(_) => attempt.string(keys::HOST_ID).map(str::to_owned).into_iter().collect(),
    };
    for id in hosts.iter().filter_map(|id| id.parse().ok()) {
        let host = crew.inventory.host(id).await?;
        let host = host.ok_or_else(|| ActionError::new(format!("host {id} is not in the inventory any more")))?;
        let status = crew.agent_status(attempt, &host).await?;
        attempt.log(format!("host {}: agent {} answers", host.facts.name, status.version));
    }
    Ok(Output::nothing())
}

/// A rolled back installation leaves no proxy behind, however far it got, and no cluster that never had one.
async fn forget(crew: &Crew, attempt: &Attempt) -> StepResult {
    // Chains that never began undo nothing, but their proxies stand in the inventory since the task was submitted. The
    // task of an empty cluster names none.
    let mut changes: Vec<_> = proxy_ids(attempt)
        .unwrap_or_default()
        .into_iter()
        .map(|proxy_id| InventoryChange::SetProxyDeleted {
            proxy_id,
            deleted: true,
        })
        .collect();
    let made_here = attempt
        .find_string(keys::NEED_DELETE_CLUSTER)
        .is_none_or(|value| value == "true");
    if made_here {
        changes.push(InventoryChange::SetClusterDeleted {
            cluster_id: crew.cluster(attempt).await?.id,
            deleted: true,
        });
        let brought = attempt.list(keys::OB_CLUSTERS_BROUGHT).unwrap_or_default();
        let brought = brought.iter().filter_map(|id| id.parse().ok());
        changes.extend(brought.map(|id| InventoryChange::DeleteObCluster { id }));
    }
    Ok(Output::changes(changes))
}

async fn prepare_create(_: &Crew, attempt: &Attempt) -> StepResult {
    Ok(Output::changes(vec![InventoryChange::SetHostReserved {
        host_id: host_id(attempt)?,
        reserved: true,
    }]))
}

async fn free_host(crew: &Crew, attempt: &Attempt) -> StepResult {
    let (proxy_id, host_id) = (proxy_id(attempt)?, host_id(attempt)?);
    let mut changes = vec![InventoryChange::SetProxyDeleted {
        proxy_id,
        deleted: true,
    }];
    let fleet = crew.inventory.snapshot().await?;
    if !fleet
        .proxies
        .values()
        .any(|other| other.host_id == host_id && other.id != proxy_id)
    {
        changes.push(InventoryChange::SetHostReserved {
            host_id,
            reserved: false,
        });
    }
    Ok(Output::changes(changes))
}

async fn check_absent(crew: &Crew, attempt: &Attempt) -> StepResult {
    let fleet = crew.inventory.snapshot().await?;
    let spec = crew
        .spec(&fleet, &crew.cluster(attempt).await?, &crew.proxy(attempt).await?)
        .await?;
    crew.perform(attempt, Operation::CheckAbsent { spec }).await?;
    Ok(Output::nothing())
}

/// The agent knows every operation the task will ask of it.
async fn check_commands(crew: &Crew, attempt: &Attempt) -> StepResult {
    let needed: Vec<_> = attempt
        .list(keys::COMMANDS_TO_CHECK)?
        .iter()
        .map(String::as_str)
        .collect();
    crew.check_agent(attempt, &needed).await?;
    Ok(Output::nothing())
}

async fn install_slot(crew: &Crew, attempt: &Attempt) -> StepResult {
    let package = crew.package(attempt).await?;
    crew.deliver(attempt, &package).await?;
    crew.perform(
        attempt,
        Operation::InstallPackage {
            sha256: package.sha256,
            version: package.name.version,
        },
    )
    .await?;
    Ok(Output::nothing())
}

async fn remove_slot(crew: &Crew, attempt: &Attempt) -> StepResult {
    let version = crew.proxy(attempt).await?.version;
    crew.perform(attempt, Operation::RemoveSlot { version }).await?;
    Ok(Output::nothing())
}

async fn create(crew: &Crew, attempt: &Attempt) -> StepResult {
    let proxy = crew.proxy(attempt).await?;
    let fleet = crew.inventory.snapshot().await?;
    let spec = crew.spec(&fleet, &crew.cluster(attempt).await?, &proxy).await?;
    match crew
        .perform(
            attempt,
            Operation::CreateProxy {
                spec,
                version: proxy.version,
            },
        )
        .await?
    {
        Outcome::Proxy(facts) => {
            attempt.log(format!(
                "obproxy {} runs {}, pid {}",
                proxy.id, facts.version, facts.pid
            ));
            Ok(Output::nothing())
        }
        _ => Ok(Output::nothing()),
    }
}

async fn discard(crew: &Crew, attempt: &Attempt) -> StepResult {
    crew.perform(
        attempt,
        Operation::DiscardProxy {
            proxy_id: proxy_id(attempt)?,
        },
    )
    .await?;
    Ok(Output::nothing())
}

/// The cluster's set as it is now; and what the proxy has is known from here on.
async fn sync_parameters(crew: &Crew, attempt: &Attempt) -> StepResult {
    let cluster = crew.cluster(attempt).await?;
    let proxy_id = proxy_id(attempt)?;
    let wanted = crew.parameters.wanted(cluster.id).await?;
    let values = plan::parameters::values_of(&plan::parameters::wanted(&cluster, &wanted, Some(proxy_id)));
    let has = crew.configuration(attempt).await?;
    let values = parameters::that_exist(attempt, &has, values);
    if !values.is_empty() {
        let values = values.clone();
        crew.perform(attempt, Operation::SetParameters { proxy_id, values })
            .await?;
    }
    if cluster.work_mode == WorkMode::ConfigUrl {
        crew.refresh_config(attempt, proxy_id, &cluster, false).await?;
    }
    let now = crew.configuration(attempt).await?;
    let parameter_version = cluster.parameter_version;
    Ok(Output::changes(vec![
        InventoryChange::SetProxyParameterVersion {
            proxy_id,
            parameter_version,
        },
        crew.noted(proxy_id, &values, &now).await?,
    ]))
}

/// The proxy's account on the OceanBase servers; and root@proxysys, proved by the login the inspection makes.
async fn set_password(crew: &Crew, attempt: &Attempt) -> StepResult {
    let cluster = crew.cluster(attempt).await?;
    let proxy_id = proxy_id(attempt)?;
    let fleet = crew.inventory.snapshot().await?;
    let mut values = crew.password_parameters(&fleet, &cluster)?;
    values.retain(|(_, password)| !password.is_empty());
    if !values.is_empty() {
        crew.perform(attempt, Operation::SetParameters { proxy_id, values })
            .await?;
    }
    crew.perform(attempt, Operation::Inspect { proxy_id }).await?;
    Ok(Output::nothing())
}

/// From now on the agent starts the proxy again when it dies.
async fn supervise(crew: &Crew, attempt: &Attempt, on: bool) -> StepResult {
    crew.perform(
        attempt,
        Operation::Supervise {
            proxy_id: proxy_id(attempt)?,
            on,
        },
    )
    .await?;
    Ok(Output::nothing())
}

async fn register(_: &Crew, attempt: &Attempt, registered: bool) -> StepResult {
    let proxy_id = proxy_id(attempt)?;
    Ok(Output::changes(vec![InventoryChange::SetExporterRegistered {
        proxy_id,
        registered,
    }]))
}
