//! The fleet as the REST API uses it: one method a route. Each reads a [`Snapshot`], has it planned, and submits the
//! task; none waits for a task.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use obfleet_engine::{Engine, EngineError, Lock, Submission, TaskId, TaskView, TemplateError};
use obfleet_package::{PackageError, PackageKind};
use obfleet_wire::{
    Code, Refusal,
    host::Host as HostView,
    obproxy::{
        AddObproxy, CreateObproxyCluster, ObLink, ObproxyCluster, OperateStatus, ProxyStatus, UpgradeObproxy, WorkMode,
    },
    package::SoftwarePackage,
    reason::{Reason, Thing},
    time::Timestamp,
};
use serde::Serialize;

use crate::{
    Once,
    flows::{self, crew::Crew},
    inventory::{
        Cluster, ClusterSettings, EnrolToken, Host, InventoryChange, InventoryError, Package, Proxy, SealedProbe,
    },
    plan::{
        Snapshot,
        install::{self, NewProxy, Ports},
        upgrade,
    },
    secrets::{self, SealError},
    view,
};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The user's id.
    pub id: i64,
    /// The user's login name.
    pub name: String,
}

/// A task that made a cluster.
#[derive(Debug)]
pub struct Started {
    /// The task.
    pub task: TaskView,
    /// The cluster it made.
    pub cluster_id: i64,
}

/// One entry of Prometheus' HTTP service discovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExporterTarget {
    /// `address:port`, one of them.
    pub targets: Vec<String>,
    /// What the series are labelled with.
    pub labels: BTreeMap<String, String>,
}

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be done as it is.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The engine did not take the task.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The state database failed.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// A secret cannot be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A flow's graph is wrong.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A package file cannot be kept.
    #[error("the package file {path} cannot be kept, read or removed")]
    Storage {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The fleet. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    crew: Arc<Crew>,
    engine: Engine<InventoryChange>,
    base_url: Arc<str>,
}

const DEFAULT_SQL_PORT: u16 = 2883;
const DEFAULT_EXPORTER_PORT: u16 = 2884;

impl Fleet {
    /// The fleet of `crew`, whose tasks run in `engine`; `base_url` is where clients reach this server.
    pub fn new(crew: Arc<Crew>, engine: Engine<InventoryChange>, base_url: &str) -> Self {
        Self {
            crew,
            engine,
            base_url: base_url.into(),
        }
    }

    /// The engine, for the task routes.
    pub fn engine(&self) -> &Engine<InventoryChange> {
        &self.engine
    }

    /// The steps' surroundings, for the observer.
    pub fn crew(&self) -> &Arc<Crew> {
        &self.crew
    }

    async fn snapshot(&self) -> Result<Snapshot, Error> {
        Ok(self.crew.inventory.snapshot().await?)
    }

    /// All clusters, by id.
    pub async fn clusters(&self) -> Result<Vec<ObproxyCluster>, Error> {
        let fleet = self.snapshot().await?;
        Ok(fleet
            .clusters
            .values()
            .map(|cluster| view::cluster(&fleet, cluster, &self.base_url))
            .collect())
    }

    /// One cluster.
    pub async fn cluster(&self, id: i64) -> Result<ObproxyCluster, Error> {
        let fleet = self.snapshot().await?;
        Ok(view::cluster(&fleet, fleet.cluster(id)?, &self.base_url))
    }

    /// Id of the cluster of this name.
    pub async fn cluster_named(&self, name: &str) -> Result<Option<i64>, Error> {
        let fleet = self.snapshot().await?;
        Ok(fleet
            .clusters
            .values()
            .find(|cluster| cluster.name == name)
            .map(|cluster| cluster.id))
    }

    /// Names of these clusters, by id, deleted or not.
    pub async fn cluster_names(&self, ids: &BTreeSet<i64>) -> Result<BTreeMap<i64, String>, Error> {
        Ok(self.crew.inventory.cluster_names(ids).await?)
    }

    /// Makes a cluster, and its first proxies if hosts are given.
    pub async fn create_cluster(
        &self,
        who: &Actor,
        body: CreateObproxyCluster,
        once: Option<&Once>,
    ) -> Result<Started, Error> {
        let task = self.first_time(once, self.submit_cluster(who, body, once)).await?;
        Ok(Started {
            cluster_id: task.cluster_id.unwrap_or_default(),
            task,
        })
    }

    async fn submit_cluster(
        &self,
        who: &Actor,
        body: CreateObproxyCluster,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let fleet = self.snapshot().await?;
        install::check_cluster_name(&fleet, &body.name)?;
        let (host_ids, new_proxies) = first_proxies(&fleet, &body)?;
        let cluster = self.new_cluster(who, &body).await?;
        if cluster.work_mode == WorkMode::ConfigUrl && !host_ids.is_empty() {
            return Err(Refusal::invalid("workMode", Reason::ConfigUrl).into());
        }

        let mut with_ids = Vec::new();
        for new in new_proxies {
            with_ids.push((self.crew.inventory.next_id().await?, new));
        }
        let template = flows::install::template_for_cluster(u32::try_from(with_ids.len()).unwrap_or(u32::MAX))?;
        let mut submission = Submission::new("Install obproxy", &who.name, template);
        submission.context = flows::install::context_for_cluster(&cluster, &with_ids);
        submission.cluster_id = Some(cluster.id);
        submission.locks = vec![
            Lock::exclusive("obproxy_cluster_name", &cluster.name),
            Lock::exclusive("obproxy_cluster", cluster.id),
        ];
        submission.changes = with_ids.iter().map(|(id, new)| creating(*id, &cluster, new)).collect();
        submission
            .changes
            .insert(0, InventoryChange::InsertCluster(Box::new(cluster)));
        submission
            .locks
            .extend(with_ids.iter().map(|(id, _)| Lock::exclusive("obproxy", id)));
        Once::mark(once, &mut submission);
        Ok(self.engine.submit(submission).await?)
    }

    async fn new_cluster(&self, who: &Actor, body: &CreateObproxyCluster) -> Result<Cluster, Error> {
        let work_mode = body.work_mode.unwrap_or(WorkMode::ConfigUrl);
        let backend = install::plan_backend(work_mode, &body.ob_links, &body.startup_parameters)?;
        let password = match &body.password {
            Some(password) => {
                install::check_sys_password(password)?;
                password.clone()
            }
            None => secrets::generate_password()?,
        };
        let seal = |secret: &str| self.crew.sealer.seal(secret);
        let probe = body.probe.as_ref().map(|probe| {
            Ok::<_, SealError>(SealedProbe {
                user: probe.user.clone(),
                password: seal(&probe.password)?,
                sql: probe.sql.clone(),
            })
        });
        let link = |link: &obfleet_wire::obproxy::ObLinkParam| ObLink {
            cluster_id: link.cluster_id,
            cluster_name: link.cluster_name.clone(),
            ob_cluster_id: link.ob_cluster_id,
            root_servers: link.root_servers.clone(),
            username: link.username.clone(),
        };
        let now = Timestamp::now();
        Ok(Cluster {
            id: self.crew.inventory.next_id().await?,
            name: body.name.clone(),
            address: body.address.clone(),
            port: Some(body.port.unwrap_or(DEFAULT_SQL_PORT)),
            work_mode,
            settings: ClusterSettings {
                ob_links: body.ob_links.iter().map(link).collect(),
                root_servers: backend
                    .iter()
                    .flat_map(|backend| backend.root_servers.clone())
                    .collect(),
                ob_cluster: backend.map(|backend| backend.ob_cluster),
                startup_parameters: body.startup_parameters.clone(),
                parameters: body.parameters.clone(),
                sys_password: seal(&password)?,
                proxyro_password: body.proxyro_password.as_deref().map(seal).transpose()?,
                probe: probe.transpose()?,
            },
            parameter_version: 1,
            version: None,
            creator_id: who.id,
            creator_name: who.name.clone(),
            deleted: false,
            created: now,
            updated: now,
        })
    }

    /// Installs one proxy on each host: one task a host. A repetition makes the tasks that the first time did not come to.
    pub async fn add_obproxies(
        &self,
        who: &Actor,
        cluster_id: i64,
        mut body: AddObproxy,
        once: Option<&Once>,
    ) -> Result<Vec<TaskView>, Error> {
        let part = |index| once.map(|once| once.part(index));
        let mut parts = BTreeMap::new();
        let mut tasks = Vec::new();
        for (index, host) in std::mem::take(&mut body.host_ids).into_iter().enumerate() {
            match self.made(part(index).as_ref()).await? {
                Some(made) => tasks.push(made),
                None => {
                    parts.entry(host).or_insert(index);
                    body.host_ids.push(host);
                }
            }
        }
        if body.host_ids.is_empty() && !tasks.is_empty() {
            return Ok(tasks);
        }
        let fleet = self.snapshot().await?;
        let cluster = fleet.cluster(cluster_id)?;
        if cluster.work_mode == WorkMode::ConfigUrl {
            return Err(Refusal::new(Code::Odp21010, [cluster.name.as_str(), "CONFIG_URL"])
                .field("id")
                .into());
        }
        let ports = Ports {
            sql: body.sql_port,
            exporter: body.exporter_port,
            rpc: body.rpc_port,
        };
        for new in install::plan_install(&fleet, &body.host_ids, ports, &body.version)? {
            let id = self.crew.inventory.next_id().await?;
            let InventoryChange::InsertProxy(proxy) = creating(id, cluster, &new) else {
                continue;
            };
            let package = fleet.packages.get(&new.package_id);
            let package = package.ok_or_else(|| Refusal::new(Code::Pkg10014, [&body.version]).field("version"))?;
            let mut submission = Submission::new("Install obproxy", &who.name, flows::install::template_for_one()?);
            submission.context = flows::install::context_for_one(cluster, &proxy, package);
            submission.cluster_id = Some(cluster_id);
            submission.host_id = Some(proxy.host_id);
            submission.locks = vec![
                Lock::shared("obproxy_cluster", cluster_id),
                Lock::exclusive("obproxy", id),
                // The ports were looked for in the inventory; nobody else may take them meanwhile.
                Lock::exclusive("host_port", format!("{}:{}", proxy.host_id, proxy.sql_port)),
            ];
            let index = parts.get(&proxy.host_id).copied().unwrap_or_default();
            Once::mark(part(index).as_ref(), &mut submission);
            submission.changes = vec![InventoryChange::InsertProxy(proxy)];
            tasks.push(self.engine.submit(submission).await?);
        }
        Ok(tasks)
    }

    /// Upgrades proxies of a cluster: one task.
    pub async fn upgrade_obproxies(
        &self,
        who: &Actor,
        cluster_id: i64,
        ids: &[i64],
        body: UpgradeObproxy,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        self.first_time(once, self.submit_upgrade(who, cluster_id, ids, body, once))
            .await
    }

    async fn submit_upgrade(
        &self,
        who: &Actor,
        cluster_id: i64,
        ids: &[i64],
        body: UpgradeObproxy,
        once: Option<&Once>,
    ) -> Result<TaskView, Error> {
        let fleet = self.snapshot().await?;
        let plan = upgrade::plan_upgrade(&fleet, cluster_id, ids, body.short_rpm_name.as_deref())?;
        let cluster = fleet.cluster(cluster_id)?;
        let template = flows::upgrade::template(u32::try_from(plan.targets.len()).unwrap_or(u32::MAX))?;
        let mut submission = Submission::new("Upgrade obproxy", &who.name, template);
        submission.context = flows::upgrade::context(cluster, &plan);
        submission.cluster_id = Some(cluster_id);
        submission.locks = locks(cluster_id, ids);
        submission.changes = held(ids, ProxyStatus::Upgrading);
        Once::mark(once, &mut submission);
        Ok(self.engine.submit(submission).await?)
    }

    /// Takes proxies of a cluster away: one task.
    pub async fn delete_obproxies(&self, who: &Actor, cluster_id: i64, ids: &[i64]) -> Result<TaskView, Error> {
        let fleet = self.snapshot().await?;
        let cluster = fleet.cluster(cluster_id)?;
        let proxies = fleet.members(cluster, ids)?;
        let mut submission = self.offline(who, cluster, &proxies, false)?;
        submission.locks = locks(cluster_id, ids);
        Ok(self.engine.submit(submission).await?)
    }

    /// Deletes a cluster with its proxies: one task.
    pub async fn delete_cluster(&self, who: &Actor, cluster_id: i64) -> Result<TaskView, Error> {
        let fleet = self.snapshot().await?;
        let cluster = fleet.cluster(cluster_id)?;
        let proxies: Vec<_> = fleet.proxies_of(cluster_id).collect();
        let mut submission = self.offline(who, cluster, &proxies, true)?;
        submission.locks = vec![Lock::exclusive("obproxy_cluster", cluster_id)];
        submission
            .locks
            .extend(proxies.iter().map(|proxy| Lock::exclusive("obproxy", proxy.id)));
        if proxies.is_empty() {
            submission.changes.push(InventoryChange::SetClusterDeleted {
                cluster_id,
                deleted: true,
            });
        }
        Ok(self.engine.submit(submission).await?)
    }

    /// Gives a FAILED task up as it stands. What it held is free again; the observer tells what state that is in.
    pub async fn abandon_task(&self, who: &Actor, task: TaskId, reason: &str) -> Result<TaskView, Error> {
        let held = self.engine.task(task).await?.locks;
        let proxies = held.iter().filter(|lock| lock.kind == "obproxy" && lock.exclusive);
        let freed = proxies
            .filter_map(|lock| lock.name.parse().ok())
            .map(|proxy_id| InventoryChange::SetProxyStatus {
                proxy_id,
                status: ProxyStatus::Unavailable,
                operate_status: OperateStatus::Normal,
            });
        let freed: Vec<_> = freed.collect();
        Ok(self.engine.abandon(task, &who.name, reason, &freed).await?)
    }

    fn offline(
        &self,
        who: &Actor,
        cluster: &Cluster,
        proxies: &[&Proxy],
        delete_cluster: bool,
    ) -> Result<Submission<InventoryChange>, Error> {
        let template = flows::offline::template(u32::try_from(proxies.len()).unwrap_or(u32::MAX))?;
        let mut submission = Submission::new("Offline obproxy", &who.name, template);
        submission.context = flows::offline::context(cluster, proxies, delete_cluster);
        submission.cluster_id = Some(cluster.id);
        let ids: Vec<_> = proxies.iter().map(|proxy| proxy.id).collect();
        submission.changes = held(&ids, ProxyStatus::Deleting);
        Ok(submission)
    }

    /// All hosts, by id.
    pub async fn hosts(&self) -> Result<Vec<HostView>, Error> {
        let fleet = self.snapshot().await?;
        Ok(fleet.hosts.values().map(|host| view::host(&fleet, host)).collect())
    }

    /// One host.
    pub async fn host(&self, id: i64) -> Result<HostView, Error> {
        let fleet = self.snapshot().await?;
        Ok(view::host(
            &fleet,
            fleet.host(id).map_err(|refusal| refusal.field("hostId"))?,
        ))
    }

    /// Keeps a token an agent can enrol with once.
    pub async fn keep_enrol_token(&self, token: &EnrolToken) -> Result<(), Error> {
        Ok(self.crew.inventory.insert_token(token).await?)
    }

    /// A token that is neither used nor expired.
    pub async fn enrol_token(&self, id: &str) -> Result<Option<EnrolToken>, Error> {
        let token = self.crew.inventory.token(id).await?;
        Ok(token.filter(|token| token.expires > Timestamp::now()))
    }

    /// Uses up a token for a host, whose `id` is of no account. → its id, `None` when the token was used meanwhile
    pub async fn enrol(&self, token_id: &str, host: &Host) -> Result<Option<i64>, Error> {
        Ok(self.crew.inventory.enrol(token_id, host).await?)
    }

    /// All packages, by id.
    pub async fn packages(&self) -> Result<Vec<SoftwarePackage>, Error> {
        let fleet = self.snapshot().await?;
        Ok(fleet
            .packages
            .values()
            .map(|package| view::package(&fleet, package, &self.base_url))
            .collect())
    }

    /// Takes an uploaded file over: what it is, is read from its header, its digests are checked, and its name is made
    /// from the header. `file_name` is what the client called it; only its suffix counts.
    pub async fn add_package(&self, uploaded: &Path, file_name: &str) -> Result<SoftwarePackage, Error> {
        let suffix = Path::new(file_name)
            .extension()
            .and_then(|suffix| suffix.to_str())
            .unwrap_or("");
        if suffix != "rpm" {
            return Err(Refusal::new(Code::Pkg10003, [suffix, "rpm"]).field("file").into());
        }
        let path = uploaded.to_owned();
        let info = tokio::task::spawn_blocking(move || {
            let info = obfleet_package::inspect(&path)?;
            obfleet_package::verify(&path)?;
            Ok::<_, PackageError>(info)
        });
        let info = info
            .await
            .map_err(|error| InventoryError(error.to_string()))?
            .map_err(unreadable)?;
        let package = Package {
            id: self.crew.inventory.next_id().await?,
            name: info.package_name(),
            is_proxy: info.kind != PackageKind::Other,
            size: info.size,
            sha1: info.sha1,
            sha256: info.sha256,
            created: Timestamp::now(),
        };
        let kept = self.crew.packages.join(package.stored_name());
        let fleet = self.snapshot().await?;
        if fleet.packages.values().any(|other| other.name == package.name) {
            return Err(Refusal::new(Code::Pkg10012, [package.name.file_name()])
                .field("file")
                .into());
        }
        let move_file = tokio::fs::rename(uploaded, &kept).await;
        move_file.map_err(|source| Error::Storage {
            path: kept.clone(),
            source,
        })?;
        if !self.crew.inventory.insert_package(&package).await? {
            return Err(Refusal::new(Code::Pkg10012, [package.name.file_name()])
                .field("file")
                .into());
        }
        Ok(view::package(&fleet, &package, &self.base_url))
    }

    /// Removes a package no proxy runs.
    pub async fn remove_package(&self, id: i64) -> Result<(), Error> {
        let fleet = self.snapshot().await?;
        let package = fleet
            .packages
            .get(&id)
            .ok_or_else(|| Refusal::new(Code::Pkg10014, [id]).field("id"))?;
        let file_name = package.name.file_name();
        if let Some(user) = fleet
            .proxies
            .values()
            .find(|proxy| proxy.version == package.name.version)
        {
            let user = Thing::Proxy(user.id.to_string());
            let refusal = Refusal::about(Code::Pkg10007, [(&file_name).into(), user.into()]);
            return Err(refusal.field("id").into());
        }
        if self.crew.inventory.delete_package(id).await? {
            let path = self.crew.packages.join(package.stored_name());
            let removed = tokio::fs::remove_file(&path).await;
            removed.map_err(|source| Error::Storage { path, source })?;
        }
        Ok(())
    }

    /// Where the file of a package lies.
    pub async fn package_file(&self, file_name: &str) -> Result<PathBuf, Error> {
        let packages = self.crew.inventory.packages().await?;
        let package = packages.iter().find(|package| package.name.file_name() == file_name);
        let package = package.ok_or_else(|| Refusal::new(Code::Pkg10014, [file_name]).field("fileName"))?;
        Ok(self.crew.packages.join(package.stored_name()))
    }

    /// The proxies whose metrics are offered to Prometheus.
    pub async fn exporter_targets(&self) -> Result<Vec<ExporterTarget>, Error> {
        let fleet = self.snapshot().await?;
        let target = |proxy: &Proxy| {
            let host = fleet.hosts.get(&proxy.host_id)?;
            let cluster = fleet.clusters.get(&proxy.cluster_id)?;
            let labels = [
                ("obproxy_cluster", cluster.name.clone()),
                ("obproxy_cluster_id", cluster.id.to_string()),
                ("obproxy_id", proxy.id.to_string()),
                ("host", host.facts.name.clone()),
            ];
            Some(ExporterTarget {
                targets: vec![format!("{}:{}", host.address, proxy.exporter_port)],
                labels: labels
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect(),
            })
        };
        Ok(fleet
            .proxies
            .values()
            .filter(|proxy| proxy.exporter_registered)
            .filter_map(target)
            .collect())
    }
}

/// The first proxies a new cluster asks for.
fn first_proxies(fleet: &Snapshot, body: &CreateObproxyCluster) -> Result<(Vec<i64>, Vec<NewProxy>), Refusal> {
    let Some(param) = body
        .obproxy_install_param
        .as_ref()
        .filter(|param| !param.host_ids.is_empty())
    else {
        return Ok((Vec::new(), Vec::new()));
    };
    let ports = Ports {
        sql: param.sql_port.unwrap_or(DEFAULT_SQL_PORT),
        exporter: param.exporter_port.unwrap_or(DEFAULT_EXPORTER_PORT),
        rpc: param.rpc_port,
    };
    let version = param.version.as_deref();
    let version = version.ok_or_else(|| Refusal::invalid("version", Reason::VersionNeeded))?;
    Ok((
        param.host_ids.clone(),
        install::plan_install(fleet, &param.host_ids, ports, version)?,
    ))
}

/// The row of a proxy that is being installed.
fn creating(id: i64, cluster: &Cluster, new: &NewProxy) -> InventoryChange {
    InventoryChange::InsertProxy(Proxy {
        id,
        cluster_id: cluster.id,
        host_id: new.host_id,
        version: new.version.clone(),
        sql_port: new.ports.sql,
        exporter_port: new.ports.exporter,
        rpc_port: new.ports.rpc,
        status: ProxyStatus::Creating,
        operate_status: OperateStatus::Operating,
        parameter_version: 0,
        exporter_registered: false,
        last_active: None,
        deleted: false,
    })
}

fn locks(cluster_id: i64, ids: &[i64]) -> Vec<Lock> {
    let mut locks = vec![Lock::shared("obproxy_cluster", cluster_id)];
    locks.extend(ids.iter().map(|id| Lock::exclusive("obproxy", id)));
    locks
}

fn held(ids: &[i64], status: ProxyStatus) -> Vec<InventoryChange> {
    let held = |proxy_id: &i64| InventoryChange::SetProxyStatus {
        proxy_id: *proxy_id,
        status,
        operate_status: OperateStatus::Operating,
    };
    ids.iter().map(held).collect()
}

/// What an uploaded file that is no good package is told. Where the server keeps the file is nobody's business.
fn unreadable(error: PackageError) -> Error {
    let flawed = |reason: Reason| Refusal::about(Code::Pkg10006, [reason.into()]);
    let refusal = match error {
        PackageError::Io { path, source, .. } => return Error::Storage { path, source },
        PackageError::NotAnRpm { found, .. } => {
            Refusal::about(Code::Pkg10004, [Thing::OtherFile(found).into(), "rpm".into()])
        }
        PackageError::UnsupportedArch { arch, .. } => Refusal::new(Code::Pkg10015, [arch]),
        PackageError::Malformed { reason, .. } => flawed(Reason::Malformed(reason)),
        PackageError::DigestMismatch { .. } => flawed(Reason::Damaged),
        PackageError::NoProxyBinary { .. } => flawed(Reason::NoExecutable),
        PackageError::TooLarge { limit, .. } => flawed(Reason::TooLarge { limit }),
        PackageError::TooManyEntries { entries, limit, .. } => flawed(Reason::TooManyFiles { files: entries, limit }),
        PackageError::UnsafePath { path, .. } | PackageError::SpecialFile { path, .. } => {
            flawed(Reason::UnsafeFile(path))
        }
        other => flawed(Reason::Malformed(other.to_string())),
    };
    refusal.field("file").into()
}
