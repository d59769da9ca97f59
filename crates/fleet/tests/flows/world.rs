//! A whole fleet in one process: a real database, the real engine and flows, hosts in memory.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use obfleet_engine::{
    Engine, Options, Registry, Store, TaskFilter, TaskId, TaskView, core::fsck, testing::check_invariants,
};
use obfleet_fleet::{
    Actor, Fleet,
    flows::crew::Crew,
    inventory::{
        Cluster, EnrolToken, Host, HostPlace, HostProfile, HostSighting, HostStage, Inventory as _, InventoryChange,
        Package, ParameterRecords as _, ProxyConfig, ProxySighting,
    },
    package_files::PackageFiles,
    plan::Snapshot,
    secrets::Sealer,
};
use obfleet_store::{Database, sql};
use obfleet_wire::{
    agent::{DrainPolicy, HostFacts},
    credential::{NewCredential, NewSshCredential, SshLoginType, TargetType},
    time::Timestamp,
};
use tempfile::TempDir;

use crate::{
    actions::troubled,
    agents::Agents,
    host::Hosts,
    machines::{Machines, Ways},
    trouble::Troubles,
};

/// Longest any one thing may take here.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How long a server that dies takes to be gone.
const GRACE: Duration = Duration::from_millis(1);

pub const HOSTS: [&str; 3] = ["host0", "host1", "host2"];
/// Package files, by version: one that is old enough to be restarted cold, and three to go up by.
pub const VERSIONS: [&str; 3] = ["3.1.0-1", "4.2.1.0-11", "4.3.1.0-1"];

pub fn package_name(version: &str) -> String {
    format!("obproxy-ce-{version}.el7.x86_64.rpm")
}

fn digest(version: &str) -> String {
    format!("digest of {version}")
}

/// A world at rest, to be taken up any number of times.
pub struct Template {
    files: Vec<(std::ffi::OsString, Vec<u8>)>,
    hosts: Hosts,
    machines: Machines,
}

pub struct World {
    directory: TempDir,
    database: Database,
    tasks: Arc<dyn Store<InventoryChange>>,
    slots: usize,
    pub hosts: Arc<Hosts>,
    pub machines: Arc<Machines>,
    pub troubles: Arc<Troubles>,
    pub fleet: Fleet,
}

impl World {
    /// Three hosts without a proxy, and the packages.
    pub async fn found() -> Result<Self> {
        let contents = VERSIONS
            .iter()
            .map(|version| (digest(version), version.parse().unwrap()));
        let directory = directory()?;
        let world = Self::start(directory, Hosts::new(contents.collect()), Machines::default(), WIDE).await?;
        let inventory = world.database.inventory();
        for name in HOSTS {
            let token = EnrolToken {
                id: name.into(),
                key: Vec::new(),
                expires: Timestamp::now(),
                place: HostPlace::default(),
                host_id: None,
            };
            inventory.insert_token(&token).await?;
            inventory.enrol(name, &host(name)).await?;
        }
        for version in VERSIONS {
            let package = Package {
                id: inventory.next_id().await?,
                name: package_name(version).parse()?,
                is_proxy: true,
                size: 1,
                sha1: String::new(),
                sha256: digest(version),
                signed_by: None,
                created: Timestamp(0),
            };
            ensure!(inventory.insert_package(&package).await?, "{version} is there already");
        }
        let password = NewCredential {
            description: None,
            name: "root".into(),
            ob_jdbc_credential_property: None,
            ssh_credential_property: NewSshCredential {
                host_id_list: None,
                key_passphrase: None,
                login_type: SshLoginType::Password,
                passphrase: "secret".into(),
                username: "root".into(),
            },
            target_type: TargetType::Host,
            validate: None,
        };
        world.fleet.add_credential(&admin(), password).await?;
        Ok(world)
    }

    /// The world as it was put away, with `slots` steps at a time.
    pub async fn of(template: &Template, slots: usize) -> Result<Self> {
        let directory = directory()?;
        for (name, bytes) in &template.files {
            fs::write(directory.path().join(name), bytes)?;
        }
        Self::start(
            directory,
            template.hosts.duplicate(),
            template.machines.duplicate(),
            slots,
        )
        .await
    }

    async fn start(directory: TempDir, hosts: Hosts, machines: Machines, slots: usize) -> Result<Self> {
        let database = Database::open(&directory.path().join("state.db")).await?;
        let (hosts, troubles) = (Arc::new(hosts), Arc::new(Troubles::default()));
        let machines = Arc::new(machines);
        let tasks: Arc<dyn Store<InventoryChange>> = Arc::new(database.tasks());
        let reached = (&hosts, &machines);
        let fleet = serve(&database, &tasks, reached, &troubles, directory.path(), slots).await?;
        Ok(Self {
            directory,
            database,
            tasks,
            slots,
            hosts,
            machines,
            troubles,
            fleet,
        })
    }

    /// Puts the world away.
    pub async fn put_away(self) -> Result<Template> {
        self.fleet.engine().shutdown().await;
        self.database.close().await;
        let mut files = Vec::new();
        for entry in fs::read_dir(self.directory.path())? {
            let entry = entry?;
            files.push((entry.file_name(), fs::read(entry.path())?));
        }
        Ok(Template {
            files,
            hosts: self.hosts.duplicate(),
            machines: self.machines.duplicate(),
        })
    }

    /// Ends the server of a world that is no longer needed.
    pub async fn end(self) {
        self.fleet.engine().shutdown().await;
        self.database.close().await;
    }

    /// Waits until the task is at rest; a server that dies meanwhile is followed by another.
    pub async fn rest(&mut self, task: TaskId) -> Result<TaskView> {
        loop {
            let engine = self.fleet.engine().clone();
            tokio::select! {
                view = engine.wait(task, DEADLINE) => match view {
                    Ok(view) => return Ok(view),
                    Err(error) => return Err(error).context(stands(&engine.task(task).await?)),
                },
                () = self.troubles.death() => {}
            }
            engine.shutdown().await;
            let Self {
                database,
                tasks,
                hosts,
                machines,
                troubles,
                ..
            } = self;
            let reached = (&*hosts, &*machines);
            self.fleet = serve(database, tasks, reached, troubles, self.directory.path(), self.slots).await?;
        }
    }

    /// What there is, one line a thing: hosts, inventory, locks. Ids, times and passwords are left out.
    pub async fn lines(&self) -> Result<Vec<String>> {
        let mut lines = self.hosts.lines();
        lines.extend(self.machines.lines());
        let fleet = self.database.inventory().snapshot().await?;
        let hosts = fleet.hosts.values();
        lines.extend(hosts.map(|host| {
            let settings = host.bootstrap.as_ref();
            format!(
                "host {} {:?} {:?}, reserved {}, agent {}, key {:?}",
                host.facts.name,
                host.profile.alias,
                host.stage,
                host.reserved,
                host.has_agent(),
                settings.and_then(|settings| settings.host_key.as_ref())
            )
        }));
        lines.extend(fleet.clusters.values().map(|cluster| {
            format!(
                "cluster {} version {:?}, parameters {}",
                cluster.name, cluster.version, cluster.parameter_version
            )
        }));
        lines.extend(fleet.proxies.values().map(|proxy| {
            let cluster = fleet.clusters.get(&proxy.cluster_id).map(|cluster| &cluster.name);
            format!(
                "row of proxy {cluster:?} {}:{}: {:?} {:?} {}, parameters {}, exporter {}, offline {}",
                fleet.hosts[&proxy.host_id].facts.name,
                proxy.sql_port,
                proxy.status,
                proxy.operate_status,
                proxy.version,
                proxy.parameter_version,
                proxy.exporter_registered,
                proxy.offline
            )
        }));
        for cluster in fleet.clusters.values() {
            lines.extend(self.parameters(&fleet, cluster).await?);
        }
        lines.extend(fleet.ob_clusters.values().map(|known| {
            format!(
                "OceanBase cluster {} {:?} {:?} {:?}, password {}",
                known.name,
                known.ob_cluster_id,
                known.cluster_type,
                known.root_servers,
                known.proxyro_password.is_some()
            )
        }));
        lines.extend(fleet.ob_links.iter().map(|link| {
            let cluster = fleet.clusters.get(&link.cluster_id).map(|cluster| &cluster.name);
            let behind = fleet.ob_clusters.get(&link.ob_cluster).map(|known| &known.name);
            format!(
                "link of {cluster:?} to {behind:?} {} as {}: {:?}, told {}",
                link.name, link.username, link.status, link.told
            )
        }));
        for id in sql::query("SELECT proxy_id FROM take_over_password")
            .fetch_all(self.database.readers())
            .await?
        {
            lines.push(format!(
                "a password is kept of {:?}",
                fleet.proxies.get(&id.get("proxy_id")?)
            ));
        }
        lines.extend(self.locks().await?);
        lines.sort();
        Ok(lines)
    }

    /// What is known of the parameters of a cluster, and what was changed.
    async fn parameters(&self, fleet: &Snapshot, cluster: &Cluster) -> Result<Vec<String>> {
        let records = self.database.inventory();
        let place = |id: i64| {
            let proxy = fleet.proxies.get(&id);
            proxy.map(|proxy| format!("{}:{}", fleet.hosts[&proxy.host_id].facts.name, proxy.sql_port))
        };
        let mut lines = Vec::new();
        for row in records.wanted(cluster.id).await? {
            let of = row.proxy_id.map(place);
            lines.push(format!(
                "wanted of {of:?} {}: {} by {}",
                row.name, row.value, row.version
            ));
        }
        for (id, config) in records.configs(cluster.id).await? {
            let values = config.values;
            lines.push(format!(
                "read of {:?}: {:?}, came with {:?}",
                place(id),
                values.shown,
                values.came_with
            ));
        }
        for past in records.past_changes(cluster.id, None, 1, 100).await?.0 {
            let change = past.change;
            let proxies: Vec<_> = change.proxies.iter().map(|(id, value)| (place(*id), value)).collect();
            lines.push(format!(
                "{:?} of {} {:?}: {:?} to {}, {proxies:?}",
                change.kind, change.name, change.whole_cluster, change.before, change.after
            ));
        }
        Ok(lines)
    }

    /// Somebody starts a proxy on a host.
    pub async fn foreign(&self, host: &str, port: u16) -> Result<()> {
        let fleet = self.database.inventory().snapshot().await?;
        let host = fleet
            .hosts
            .values()
            .find(|known| known.facts.name == host)
            .context("no such host")?;
        self.hosts.at(host, |machine| machine.start_foreign(port));
        Ok(())
    }

    /// The observer sees that a proxy serves, or does not.
    pub async fn is_seen(&self, proxy_id: i64, serving: bool) -> Result<()> {
        let inventory = self.database.inventory();
        let proxy = inventory.proxy(proxy_id).await?.context("no such proxy")?;
        let seen = ProxySighting {
            serving,
            stopped: false,
            offline: false,
        };
        let sighting = HostSighting {
            host_id: proxy.host_id,
            online: true,
            agent_version: None,
            proxies: BTreeMap::from([(proxy_id, seen)]),
            restarts: BTreeMap::new(),
            asked: Timestamp::now(),
            at: Timestamp::now(),
        };
        Ok(inventory.record_sightings(&[sighting]).await?)
    }

    /// Somebody sets a value of a proxy by SQL, and it is seen.
    pub async fn set_by_sql(&self, proxy_id: i64, name: &str, value: &str) -> Result<()> {
        let records = self.database.inventory();
        let proxy = records.proxy(proxy_id).await?.context("no such proxy")?;
        let host = records.host(proxy.host_id).await?.context("no such host")?;
        let now = self.hosts.at(&host, |machine| {
            machine.set_by_sql(proxy_id, name, value);
            machine.parameters(proxy_id)
        });
        let now = now.map_err(anyhow::Error::msg)?;
        let before = records.config(proxy_id).await?.context("it was never read")?;
        let config = ProxyConfig::read(proxy_id, Some(&before), &now, Timestamp::now());
        ensure!(
            records.record_config(&config, Some(&before.digest)).await?,
            "somebody else wrote"
        );
        Ok(())
    }

    /// What was done to hosts and machines, and how often.
    pub fn effects(&self) -> Effects {
        self.hosts
            .effects()
            .into_iter()
            .chain(self.machines.effects())
            .collect()
    }

    /// The locks that are held.
    pub async fn locks(&self) -> Result<Vec<String>> {
        let rows = sql::query("SELECT kind, name FROM resource_lock")
            .fetch_all(self.database.readers())
            .await?;
        let mut locks = Vec::new();
        for row in rows {
            let (kind, name): (String, String) = (row.get("kind")?, row.get("name")?);
            locks.push(format!("lock {kind} {name}"));
        }
        Ok(locks)
    }

    /// The rows of every task are the fold of its events and sound in themselves; no agent did anything twice for one
    /// key.
    pub async fn is_sound(&self) -> Result<()> {
        let filter = TaskFilter {
            size: 100,
            ..TaskFilter::default()
        };
        for state in self.tasks.list(&filter).await?.items {
            let task = state.task.id;
            let events = self.tasks.events(task, 0, u32::MAX).await?;
            fsck(&state, &events).with_context(|| format!("fsck of task {task}"))?;
            check_invariants(&state).map_err(anyhow::Error::msg)?;
        }
        let violations = self.hosts.violations();
        ensure!(violations.is_empty(), "done to the hosts: {violations:?}");
        let left = self.troubles.left();
        ensure!(left.is_empty(), "the case was none, this did not happen: {left:?}");
        Ok(())
    }
}

/// As many steps at a time as any flow here can have.
pub const WIDE: usize = 32;

pub fn admin() -> Actor {
    Actor {
        id: 100,
        name: "admin".into(),
    }
}

/// Where each step of a task is.
fn stands(view: &TaskView) -> String {
    let steps = view.subtasks.iter();
    let steps = steps.map(|step| {
        format!(
            "\n{} [{}] {} {}",
            step.name, step.parallel_idx, step.operation, step.status
        )
    });
    format!(
        "the task is {} {}{}",
        view.status,
        view.operation,
        steps.collect::<String>()
    )
}

/// A server on the database.
async fn serve(
    database: &Database,
    tasks: &Arc<dyn Store<InventoryChange>>,
    (hosts, machines): (&Arc<Hosts>, &Arc<Machines>),
    troubles: &Arc<Troubles>,
    packages: &Path,
    slots: usize,
) -> Result<Fleet> {
    let inventory = database.inventory();
    let crew = Arc::new(Crew {
        installation: inventory.installation().await?,
        inventory: Arc::new(inventory.clone()),
        parameters: Arc::new(inventory),
        bootstrap: Arc::new(Ways {
            machines: Arc::clone(machines),
            troubles: Arc::clone(troubles),
            inventory: Arc::new(database.inventory()),
        }),
        agents: Arc::new(Agents {
            hosts: Arc::clone(hosts),
            machines: Arc::clone(machines),
            troubles: Arc::clone(troubles),
        }),
        packages: PackageFiles::alone(packages.to_owned()),
        sealer: Sealer::new(&[7; 32])?,
        drain: DrainPolicy {
            window_ms: 1,
            closes_per_second: 1,
        },
    });
    let registry = Registry::new(troubled(&crew, troubles, tasks))?;
    let options = Options {
        slots,
        grace: GRACE,
        ..Options::new("server")
    };
    let engine = Engine::start(Arc::clone(tasks), registry, options).await?;
    Ok(Fleet::new(crew, engine, "http://127.0.0.1"))
}

/// Where a power cut cannot happen, nothing need be on a disk.
fn directory() -> Result<TempDir> {
    let memory = Path::new("/dev/shm");
    Ok(tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir())?)
}

fn host(name: &str) -> Host {
    Host {
        id: 0,
        facts: HostFacts {
            host_uid: name.into(),
            name: name.into(),
            architecture: "x86_64".into(),
            kernel: "6.1".into(),
            release: "el7".into(),
        },
        address: "127.0.0.1".into(),
        agent_port: 62888,
        agent_version: "0.1.0".into(),
        online: true,
        reserved: false,
        profile: HostProfile::default(),
        stage: HostStage::Ready,
        bootstrap: None,
        deleted: false,
        created: Timestamp(0),
        updated: Timestamp(0),
    }
}

/// How often each thing was done on the hosts.
pub type Effects = BTreeMap<String, u32>;
