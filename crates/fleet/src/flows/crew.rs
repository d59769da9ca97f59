//! What every step works with: the inventory, the agents and the package store; and how it calls an agent.

use std::{sync::Arc, time::Duration};

use obfleet_engine::{ActionError, Attempt};
use obfleet_wire::{
    agent::{
        AgentStatus, AttemptKey, DrainPolicy, Examination, ExamineRequest, Fence, Operation, OperationRequest, Outcome,
        ProbeQuery, ProxyParameters,
    },
    credential::SshLoginType,
    time::Timestamp,
    version::ProxyVersion,
};
use tokio::time::{Instant, sleep};

use crate::{
    bootstrap::{Access, Bootstrap, BootstrapError, LoginSecret, SSH_PORT},
    flows::keys,
    host_agent::{HostAgent, HostAgentError},
    inventory::{
        Cluster, Host, Installation, Inventory, InventoryChange, InventoryError, Package, ParameterRecords, Proxy,
        ProxyConfig,
    },
    package_files::{PackageFileError, PackageFiles},
    secrets::{SealError, Sealer},
};

/// An agent that is started again is back by then; a proxy that cannot be read after this will not be.
const READING: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(200);

/// The steps' surroundings.
pub struct Crew {
    /// What is known of the fleet.
    pub inventory: Arc<dyn Inventory>,
    /// What is known of parameters.
    pub parameters: Arc<dyn ParameterRecords>,
    /// The agents.
    pub agents: Arc<dyn HostAgent>,
    /// Machines, by SSH.
    pub bootstrap: Arc<dyn Bootstrap>,
    /// The package files.
    pub packages: PackageFiles,
    /// Opens the clusters' secrets.
    pub sealer: Sealer,
    /// Scope of attempt keys.
    pub installation: Installation,
    /// How sessions of a process that is to go are ended.
    pub drain: DrainPolicy,
}

impl From<InventoryError> for ActionError {
    fn from(error: InventoryError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<HostAgentError> for ActionError {
    fn from(error: HostAgentError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<BootstrapError> for ActionError {
    fn from(error: BootstrapError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<PackageFileError> for ActionError {
    fn from(error: PackageFileError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<SealError> for ActionError {
    fn from(error: SealError) -> Self {
        Self::new(error.to_string())
    }
}

fn id(text: &str) -> Result<i64, ActionError> {
    text.parse()
        .map_err(|_| ActionError::new(format!("the context holds '{text}' where an id belongs")))
}

/// The value of this branch in a list, or the single value of a task that has no branches.
fn of_branch<'a>(attempt: &'a Attempt, list: &str, single: &str) -> Result<&'a str, ActionError> {
    match attempt.parallel_idx() {
        Some(_) => attempt.item(list),
        None => attempt.string(single),
    }
}

/// The proxy a step is about.
pub fn proxy_id(attempt: &Attempt) -> Result<i64, ActionError> {
    id(of_branch(attempt, keys::PROXY_IDS, keys::PROXY_ID)?)
}

/// The host a step is about.
pub fn host_id(attempt: &Attempt) -> Result<i64, ActionError> {
    id(of_branch(attempt, keys::HOST_IDS, keys::HOST_ID)?)
}

/// The cluster the task is about.
pub fn cluster_id(attempt: &Attempt) -> Result<i64, ActionError> {
    id(attempt.string(keys::CLUSTER_ID)?)
}

/// All proxies the task is about.
pub fn proxy_ids(attempt: &Attempt) -> Result<Vec<i64>, ActionError> {
    match attempt.list(keys::PROXY_IDS) {
        Ok(list) => list.iter().map(|text| id(text)).collect(),
        Err(_) => Ok(vec![id(attempt.string(keys::PROXY_ID)?)?]),
    }
}

/// A version of the context.
pub fn version(text: &str) -> Result<ProxyVersion, ActionError> {
    text.parse()
        .map_err(|error| ActionError::new(format!("the context holds a wrong version: {error}")))
}

/// An agent answered with another kind of outcome than the operation has.
pub fn unexpected(outcome: &Outcome) -> ActionError {
    ActionError::new(format!(
        "the agent answered with an unexpected outcome ({outcome:?}); is it of another version?"
    ))
}

/// The answer of an agent that is only asked to look. One that does not answer may be starting again, and is waited for.
async fn answered<T, F>(attempt: &Attempt, ask: impl Fn() -> F) -> Result<T, ActionError>
where
    F: Future<Output = Result<T, HostAgentError>>,
{
    let end = Instant::now() + READING;
    let asked = async {
        loop {
            match ask().await {
                Err(HostAgentError::Unreachable { .. }) if Instant::now() < end => sleep(LOOK).await,
                answer => return Ok(answer?),
            }
        }
    };
    tokio::select! {
        answer = asked => answer,
        () = attempt.cancelled().cancelled() => Err(ActionError::new("the attempt was stopped")),
    }
}

impl Crew {
    /// How sessions are drained in a step that may take this many seconds: a drain can take twice its window, and the
    /// process has to end and another to start within the rest.
    pub fn drain_within(&self, step_s: u32) -> DrainPolicy {
        const BESIDES_S: u32 = 120;
        let longest = u64::from(step_s.saturating_sub(BESIDES_S)) * 1000 / 2;
        DrainPolicy {
            window_ms: self.drain.window_ms.min(longest),
            ..self.drain
        }
    }

    /// What the agent of a host says of itself.
    pub async fn agent_status(&self, attempt: &Attempt, host: &Host) -> Result<AgentStatus, ActionError> {
        answered(attempt, || self.agents.status(host)).await
    }

    /// What the agent of a host finds where a proxy is to be taken over.
    pub async fn examination(
        &self,
        attempt: &Attempt,
        host: &Host,
        request: &ExamineRequest,
    ) -> Result<Examination, ActionError> {
        answered(attempt, || self.agents.examine(host, request)).await
    }

    /// The agent of the step's host answers and knows the operations that the task will ask of it.
    pub async fn check_agent(&self, attempt: &Attempt, needed: &[&str]) -> Result<(), ActionError> {
        let host = self.host(attempt).await?;
        let status = self.agent_status(attempt, &host).await?;
        let missing: Vec<_> = needed
            .iter()
            .filter(|needed| !status.operations.iter().any(|known| known == *needed))
            .copied()
            .collect();
        if missing.is_empty() {
            attempt.log(format!("host {}: agent {} answers", host.facts.name, status.version));
            return Ok(());
        }
        Err(ActionError::new(format!(
            "the agent of host {} (version {}) does not know {}; upgrade it, then retry",
            host.facts.name,
            status.version,
            missing.join(", ")
        )))
    }

    /// The proxy a step is about.
    pub async fn proxy(&self, attempt: &Attempt) -> Result<Proxy, ActionError> {
        let id = proxy_id(attempt)?;
        let proxy = self.inventory.proxy(id).await?;
        proxy.ok_or_else(|| ActionError::new(format!("obproxy {id} is not in the inventory any more")))
    }

    /// The host a step is about.
    pub async fn host(&self, attempt: &Attempt) -> Result<Host, ActionError> {
        let id = host_id(attempt)?;
        let host = self.inventory.host(id).await?;
        host.ok_or_else(|| ActionError::new(format!("host {id} is not in the inventory any more")))
    }

    /// The cluster the task is about.
    pub async fn cluster(&self, attempt: &Attempt) -> Result<Cluster, ActionError> {
        let id = cluster_id(attempt)?;
        let cluster = self.inventory.cluster(id).await?;
        cluster.ok_or_else(|| ActionError::new(format!("obproxy cluster {id} is not in the inventory any more")))
    }

    /// The cluster the task is about was not deleted meanwhile.
    pub async fn cluster_still_there(&self, attempt: &Attempt) -> Result<(), ActionError> {
        let cluster = self.cluster(attempt).await?;
        if cluster.deleted {
            return Err(ActionError::new(format!(
                "obproxy cluster {} was deleted; roll back",
                cluster.name
            )));
        }
        Ok(())
    }

    /// What it takes to log in to a host that was added over SSH.
    pub async fn access(&self, host: &Host) -> Result<Access, ActionError> {
        let settings = host.bootstrap.clone().ok_or_else(|| {
            let name = &host.facts.name;
            ActionError::new(format!(
                "host {name} was not added over SSH: look after its agent by hand"
            ))
        })?;
        let (user, id) = (settings.user_id, settings.credential_id);
        let credential = self.inventory.credential(user, id).await?.ok_or_else(|| {
            let address = &host.address;
            ActionError::new(format!(
                "the credential {id} of host {address} was deleted: abandon the task, and add the host again with another one"
            ))
        })?;
        let secret = self.sealer.open(&credential.secret)?;
        let passphrase = credential.key_passphrase.as_ref();
        let passphrase = passphrase.map(|sealed| self.sealer.open(sealed)).transpose()?;
        Ok(Access {
            host_id: host.id,
            installation: self.installation.id.clone(),
            address: host.address.clone(),
            ssh_port: host.profile.ssh_port.unwrap_or(SSH_PORT),
            user: credential.username,
            secret: match credential.login {
                SshLoginType::Password => LoginSecret::Password(secret),
                SshLoginType::PrivateKey => LoginSecret::Key {
                    text: secret,
                    passphrase,
                },
            },
            settings,
        })
    }

    /// The package a step is about.
    pub async fn package(&self, attempt: &Attempt) -> Result<Package, ActionError> {
        let id = id(of_branch(attempt, keys::PACKAGE_IDS, keys::PACKAGE_ID)?)?;
        let fleet = self.inventory.snapshot().await?;
        let package = fleet.packages.get(&id).cloned();
        package.ok_or_else(|| ActionError::new(format!("package {id} was deleted; upload it again, then retry")))
    }

    /// Has the step's host perform an operation; its log lines become the step's.
    pub async fn perform(&self, attempt: &Attempt, operation: Operation) -> Result<Outcome, ActionError> {
        let host = self.host(attempt).await?;
        let key = attempt.key();
        let request = OperationRequest {
            key: AttemptKey {
                installation: self.installation.id.clone(),
                era: self.installation.era,
                task: key.task.0,
                subtask: key.subtask.0,
                operation: format!("{}-{}", key.operation, operation.name()),
                run: i64::from(key.run_time),
            },
            epoch: attempt.epoch(),
            operation,
        };
        attempt.log(format!("host {}: {}", host.facts.name, request.operation.name()));
        let log = |line: &str| attempt.log(line);
        tokio::select! {
            result = self.agents.perform(&host, request, &log) => Ok(result?),
            () = attempt.cancelled().cancelled() => Err(ActionError::new("the attempt was stopped")),
        }
    }

    /// Keeps earlier attempts of the step from touching its host again, and waits until what they began there has ended.
    pub async fn fence(&self, attempt: &Attempt) -> Result<(), ActionError> {
        let host = self.host(attempt).await?;
        let key = attempt.key();
        let fence = Fence {
            installation: self.installation.id.clone(),
            era: self.installation.era,
            task: key.task.0,
            subtask: key.subtask.0,
            attempt: key.operation.to_string(),
            run: i64::from(key.run_time),
            epoch: attempt.epoch(),
        };
        attempt.log(format!("host {}: earlier attempts are fenced off", host.facts.name));
        tokio::select! {
            result = self.agents.fence(&host, fence) => Ok(result?),
            () = attempt.cancelled().cancelled() => Err(ActionError::new("the attempt was stopped")),
        }
    }

    /// The configuration of the step's proxy, read now.
    pub async fn configuration(&self, attempt: &Attempt) -> Result<ProxyParameters, ActionError> {
        let host = self.host(attempt).await?;
        let proxy_id = proxy_id(attempt)?;
        answered(attempt, || self.agents.parameters(&host, proxy_id, READING)).await
    }

    /// What has been read of a proxy becomes what is known of it. It did not come with what it was `given`.
    pub async fn noted(
        &self,
        proxy_id: i64,
        given: &[(String, String)],
        parameters: &ProxyParameters,
    ) -> Result<InventoryChange, ActionError> {
        let before = self.parameters.config(proxy_id).await?;
        let mut config = ProxyConfig::read(proxy_id, before.as_ref(), parameters, Timestamp::now());
        let came_with = &mut config.values.came_with;
        came_with.retain(|name, _| !given.iter().any(|(given, _)| given == name));
        Ok(InventoryChange::SetProxyConfig(Box::new(config)))
    }

    /// Brings a package to the step's host.
    pub async fn deliver(&self, attempt: &Attempt, package: &Package) -> Result<(), ActionError> {
        let host = self.host(attempt).await?;
        let file_name = package.name.file_name();
        attempt.log(format!(
            "host {}: {file_name}, {} bytes, sha256 {}",
            host.facts.name, package.size, package.sha256
        ));
        let deliver = async {
            let got = self.packages.get(package).await;
            let file = match &got {
                Ok(file) => file.clone(),
                // The host may have it already.
                Err(_) => self.packages.place(package),
            };
            match (self.agents.put_package(&host, &package.sha256, &file).await, got) {
                (Err(_), Err(missing)) => Err(missing.into()),
                (put, _) => {
                    attempt.log(match put? {
                        0 => format!("host {}: it has the package already", host.facts.name),
                        sent => format!("host {}: {sent} bytes sent", host.facts.name),
                    });
                    Ok(())
                }
            }
        };
        tokio::select! {
            result = deliver => result,
            () = attempt.cancelled().cancelled() => Err(ActionError::new("the attempt was stopped")),
        }
    }

    /// The query that proves a new process of the cluster reaches its servers.
    pub fn probe(&self, cluster: &Cluster) -> Result<Option<ProbeQuery>, ActionError> {
        let open = |probe: &crate::inventory::SealedProbe| {
            Ok(ProbeQuery {
                user: probe.user.clone(),
                password: self.sealer.open(&probe.password)?,
                sql: probe.sql.clone(),
            })
        };
        cluster.settings.probe.as_ref().map(open).transpose()
    }
}
