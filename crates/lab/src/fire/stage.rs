//! Where operations take place: a server and two agents, without proxies between two points.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use obfleet_standin::{
    foreign::{Foreign, Order, Tool},
    ports::PortLease,
};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

use super::operation::FOREIGN_PASSWORD;
use crate::{
    api,
    backend::{Backend, BackendChoice},
    fleet::Fleet,
    machine::{self, Machine},
    packages::{NEW, OLD, Release},
    process,
    testbed::{CLIENT, PATIENCE, SYS_PASSWORD},
};

const HOSTS: u8 = 2;
/// Nobody has sessions that a drain would wait for.
const DRAIN_WINDOW_S: u64 = 5;
/// The one proxy cluster, which serves an OceanBase cluster of the same name.
pub const CLUSTER: &str = "lab";
const LOOK: Duration = Duration::from_millis(50);
/// What a foreign proxy runs, which nothing on its host has.
const FOREIGN_RELEASE: Release = Release {
    version: "4.2.0.0",
    build: "7",
};

/// Where proxies learn what they serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// From their own configuration.
    RsList,
    /// From the server.
    ConfigUrl,
}

/// A fleet that is the same before each point. All of it ends with this.
#[derive(Debug)]
pub struct Stage {
    /// Server and hosts.
    pub fleet: Fleet,
    /// A proxy that somebody else started.
    pub foreign: Option<Foreign>,
    /// A machine that may become a host, once there is one.
    pub machine: Option<Machine>,
    /// By which it is logged in to.
    credential: i64,
    foreign_binary: PathBuf,
    /// SQL and metrics ports of each host's proxy: metrics are served on all addresses of this one machine.
    ports: Vec<[PortLease; 2]>,
    /// SQL, metrics and OBKV ports of a foreign proxy.
    foreign_ports: [PortLease; 3],
    // What the proxies serve ends after them.
    backend: Backend,
    other: Backend,
    exe: PathBuf,
}

/// A proxy as the server shows it, and where it lies.
#[derive(Debug, Clone)]
pub struct Shown {
    /// What the server shows.
    pub row: Value,
    /// Its host, counted from 0.
    pub host: usize,
    /// Its home.
    pub home: PathBuf,
    /// Where clients reach it.
    pub address: SocketAddr,
}

impl Stage {
    /// Starts a server and agents of the executable, and uploads two releases.
    pub async fn start(exe: &Path) -> anyhow::Result<Self> {
        let builtin = || Backend::start(&BackendChoice::Builtin, Path::new(""));
        let (backend, other) = (builtin().await?, builtin().await?);
        let fleet = Fleet::start_with(exe, HOSTS, DRAIN_WINDOW_S, None).await?;
        let foreign_binary = fleet.root().join("foreign-binary");
        FOREIGN_RELEASE.pack(exe, &foreign_binary)?;
        let leases = || PortLease::take();
        let stage = Self {
            foreign: None,
            machine: None,
            credential: 0,
            foreign_binary,
            ports: vec![[leases()?, leases()?], [leases()?, leases()?]],
            foreign_ports: [leases()?, leases()?, leases()?],
            fleet,
            backend,
            other,
            exe: exe.to_owned(),
        };
        for release in [OLD, NEW] {
            let dir = tempfile::tempdir_in(stage.fleet.root())?;
            let (exe, to) = (exe.to_owned(), dir.path().to_owned());
            let file = tokio::task::spawn_blocking(move || release.build(&exe, None, &to)).await??;
            stage.fleet.api()?.upload(&release.file_name(), fs::read(file)?).await?;
        }
        Ok(stage)
    }

    /// What makes a cluster, with a proxy on the first host or without.
    pub fn cluster(&self, world: World, with_proxy: bool) -> Value {
        let work_mode = match world {
            World::RsList => "RS_LIST",
            World::ConfigUrl => "CONFIG_URL",
        };
        let none = json!({"hostIds": []});
        json!({
            "name": CLUSTER, "address": "127.0.0.1", "port": 2883, "workMode": work_mode, "password": SYS_PASSWORD,
            "obproxyInstallParam": if with_proxy { self.addition(0) } else { none },
            "obLinks": [{"clusterName": CLUSTER, "username": "proxyro", "rootServers": [self.backend.address.to_string()]}],
            "parameters": [{"name": "syslog_level", "value": "INFO"}],
            "startupParameters": [{"name": "proxy_hot_upgrade_check_interval", "value": "1s"}],
            "probe": {"user": CLIENT, "sql": "select 1"},
        })
    }

    /// What installs a proxy on a host.
    pub fn addition(&self, host: usize) -> Value {
        let (hosts, [sql, exporter]) = ([self.fleet.hosts[host].id], &self.ports[host]);
        json!({"hostIds": hosts, "sqlPort": sql.port(), "exporterPort": exporter.port(), "version": OLD.file_name()})
    }

    /// What takes the foreign proxy over.
    pub fn take_over(&self) -> anyhow::Result<Value> {
        let host = self.fleet.hosts.last().context("no host")?.id;
        let port = self.foreign_ports[0].port();
        Ok(json!({"hosts": [{"hostId": host, "sqlPort": port, "proxysysPasswd": FOREIGN_PASSWORD}]}))
    }

    /// Root servers of the OceanBase cluster, one more than it has.
    pub fn both_root_servers(&self) -> [Value; 2] {
        [self.backend.address, self.other.address].map(|at| json!({"ip": at.ip(), "sqlPort": at.port()}))
    }

    /// Where another OceanBase cluster is.
    pub fn other_root_server(&self) -> String {
        self.other.address.to_string()
    }

    /// Where the proxy of a host listens, or would.
    pub fn address(&self, host: usize) -> SocketAddr {
        SocketAddr::new(self.fleet.hosts[host].address, self.ports[host][0].port())
    }

    /// Makes the cluster, with proxies on the first hosts.
    pub async fn create(&mut self, world: World, proxies: usize) -> anyhow::Result<()> {
        let (api, clusters) = (self.fleet.api()?, "/api/v2/obproxy/clusters");
        let task = api.post(clusters, &self.cluster(world, false)).await?;
        self.succeed(api::id(&task)?).await?;
        let add = format!("{clusters}/{}/obproxies/batchAdd", task["obproxyClusterId"]);
        let mut tasks = Vec::new();
        for host in 0..proxies {
            let started = api.post(&add, &self.addition(host)).await?;
            tasks.push(api::id(
                api::contents(&started).first().context("no task in the answer")?,
            )?);
        }
        for task in tasks {
            self.succeed(task).await?;
        }
        Ok(())
    }

    fn foreign_dir(&self) -> PathBuf {
        self.fleet.root().join("foreign")
    }

    /// Starts a proxy as obd does.
    pub async fn begin_foreign(&mut self) -> anyhow::Result<()> {
        let home = self.foreign_dir().join("obproxy");
        fs::create_dir_all(&home)?;
        let [sql, exporter, rpc] = &self.foreign_ports;
        let order = Order {
            binary: self.foreign_binary.clone(),
            home,
            sql_port: sql.port(),
            exporter_port: exporter.port(),
            rpc_port: rpc.port(),
            root_servers: self.backend.address.to_string(),
            ob_cluster: CLUSTER.into(),
            password: FOREIGN_PASSWORD.into(),
            items: vec![("proxy_hot_upgrade_check_interval".into(), "1s".into())],
            user: None,
        };
        let started = tokio::task::spawn_blocking(move || Foreign::start(Tool::Obd, &order)).await?;
        self.foreign = Some(started?);
        Ok(())
    }

    /// There is a machine, which is no host.
    pub async fn begin_machine(&mut self) -> anyhow::Result<()> {
        if self.machine.is_some() {
            return Ok(());
        }
        let root = self.fleet.root();
        self.machine = Some(Machine::start(root.join("sshd"), root.join("machine")).await?);
        machine::lighten(&self.fleet.server()?.state_dir, &self.exe)?;
        let login = json!({"type": "PASSWORD", "username": "root", "passphrase": machine::PASSWORD});
        let credential = json!({"targetType": "HOST", "name": "machine", "sshCredentialProperty": login});
        let made = self
            .fleet
            .api()?
            .post("/api/v2/profiles/me/credentials", &credential)
            .await?;
        self.credential = api::id(&made)?;
        Ok(())
    }

    /// What makes the machine a host.
    pub fn machine_to_add(&self) -> anyhow::Result<Value> {
        let machine = self.machine.as_ref().context("there is no machine")?;
        Ok(machine.addition(self.credential))
    }

    /// The machine as a host, if it is one.
    pub async fn machine_host(&self) -> anyhow::Result<Option<i64>> {
        let Some(machine) = &self.machine else { return Ok(None) };
        let hosts = self.fleet.api()?.get("/api/v2/compute/hosts?size=1000").await?;
        let host = api::contents(&hosts)
            .iter()
            .find(|host| host["sshPort"] == machine.ssh_port());
        host.map(api::id).transpose()
    }

    /// The task ends well.
    pub async fn succeed(&self, task: i64) -> anyhow::Result<()> {
        self.fleet.api()?.success(task, PATIENCE).await
    }

    /// The clusters in full.
    pub async fn clusters(&self) -> anyhow::Result<Vec<Value>> {
        let api = self.fleet.api()?;
        let listed = async || {
            let list = api.get("/api/v2/obproxy/clusters?size=1000").await?;
            api::contents(&list)
                .iter()
                .map(api::id)
                .collect::<anyhow::Result<Vec<_>>>()
        };
        let mut clusters = Vec::new();
        for id in listed().await? {
            match api.get(&format!("/api/v2/obproxy/clusters/{id}")).await {
                Ok(cluster) => clusters.push(cluster),
                // A task may have deleted it since.
                Err(error) => ensure!(!listed().await?.contains(&id), "cluster {id}: {error:#}"),
            }
        }
        Ok(clusters)
    }

    /// The one cluster and its proxies, in the order of the hosts; 0 when there is none.
    pub async fn proxies(&self) -> anyhow::Result<(i64, Vec<i64>)> {
        match self.clusters().await?.first() {
            None => Ok((0, Vec::new())),
            Some(cluster) => {
                let shown = self.shown(cluster)?;
                let ids = shown.iter().map(|proxy| api::id(&proxy.row));
                Ok((api::id(cluster)?, ids.collect::<anyhow::Result<_>>()?))
            }
        }
    }

    /// The proxies of a cluster, in the order of the hosts.
    pub fn shown(&self, cluster: &Value) -> anyhow::Result<Vec<Shown>> {
        let rows = cluster["obproxies"].as_array().into_iter().flatten();
        let mut shown = rows.map(|row| self.read(row)).collect::<anyhow::Result<Vec<_>>>()?;
        shown.sort_by_key(|proxy| proxy.host);
        Ok(shown)
    }

    fn read(&self, row: &Value) -> anyhow::Result<Shown> {
        let (id, host_id) = (api::id(row)?, row["hostId"].as_i64());
        let host = self.fleet.hosts.iter().position(|known| Some(known.id) == host_id);
        let host = host.with_context(|| format!("proxy {id} is on no host of ours"))?;
        let port = u16::try_from(row["sqlPort"].as_u64().context("a proxy without port")?)?;
        let adopted = self.foreign.as_ref().filter(|foreign| foreign.address().port() == port);
        let (home, address) = match adopted {
            Some(foreign) => (foreign.home.clone(), foreign.address()),
            None => {
                let at = &self.fleet.hosts[host];
                let home = at.root().join("proxies").join(format!("{CLUSTER}-{id}"));
                (home, SocketAddr::new(at.address, port))
            }
        };
        Ok(Shown {
            row: row.clone(),
            host,
            home,
            address,
        })
    }

    /// The home of the last proxy.
    pub async fn last_home(&self) -> anyhow::Result<PathBuf> {
        let clusters = self.clusters().await?;
        let shown = self.shown(clusters.first().context("no cluster")?)?;
        Ok(shown.last().context("no proxy")?.home.clone())
    }

    /// Has another process run in a home, as an operator would.
    pub async fn begin_anew(&self, home: &Path) -> anyhow::Result<()> {
        let clusters = self.clusters().await?;
        let cluster = clusters.first().context("no cluster")?;
        let shown = self.shown(cluster)?;
        let proxy = shown.iter().find(|proxy| proxy.home == home).context("nobody's home")?;
        let path = format!("/api/v2/obproxy/clusters/{}/servers/restart", api::id(cluster)?);
        let body = json!({"obproxyServerIds": [api::id(&proxy.row)?], "hotRestart": false});
        let task = self.fleet.api()?.post(&path, &body).await?;
        self.succeed(api::id(&task)?).await
    }

    /// Kills what runs in a home, where nothing can be started any more, and waits until the server knows.
    pub async fn is_down(&self, home: &Path) -> anyhow::Result<()> {
        for pid in process::of_home(home) {
            process::signal(pid, Signal::SIGKILL);
        }
        self.are_shown(|row| row["status"] == "UNAVAILABLE", 1).await
    }

    /// Kills what runs in a home, and waits until its agent has begun another.
    pub async fn is_replaced(&self, home: &Path) -> anyhow::Result<()> {
        let before = process::of_home(home);
        for pid in &before {
            process::signal(*pid, Signal::SIGKILL);
        }
        let clusters = self.clusters().await?;
        let shown = self.shown(clusters.first().context("no cluster")?)?;
        let proxy = shown.iter().find(|proxy| proxy.home == home).context("nobody's home")?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = process::of_home(home);
            let another = !now.is_empty() && !now.iter().any(|pid| before.contains(pid));
            if another && super::picture::answers(proxy.address).await {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{} does not come back", home.display());
            sleep(LOOK).await;
        }
    }

    /// Waits until a process serves in a home where none did, and the server knows.
    pub async fn is_back(&self, home: &Path) -> anyhow::Result<()> {
        let clusters = self.clusters().await?;
        let shown = self.shown(clusters.first().context("no cluster")?)?;
        let proxy = shown.iter().find(|proxy| proxy.home == home).context("nobody's home")?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if super::picture::answers(proxy.address).await {
                break;
            }
            ensure!(Instant::now() < deadline, "{} does not come back", home.display());
            sleep(LOOK).await;
        }
        self.are_shown(|row| row["status"] == "RUNNING", shown.len()).await
    }

    /// Waits until the server shows so many proxies like this.
    async fn are_shown(&self, like: impl Fn(&Value) -> bool, many: usize) -> anyhow::Result<()> {
        let (cluster, _) = self.proxies().await?;
        let path = format!("/api/v2/obproxy/clusters/{cluster}");
        let count = |cluster: &Value| {
            let rows = cluster["obproxies"].as_array().into_iter().flatten();
            rows.filter(|row| like(row)).count()
        };
        self.fleet
            .api()?
            .until(&path, PATIENCE, |cluster| count(cluster) == many)
            .await?;
        Ok(())
    }

    /// Keeps the agent of a host from writing down what it knows of its proxies: something lies where a file begins. → what
    /// [`Stage::make_room`] takes away
    pub async fn fill(&self, host: usize) -> anyhow::Result<Vec<PathBuf>> {
        let root = self.fleet.hosts[host].root();
        let records = root.with_file_name("state").join("proxies");
        let mut made = Vec::new();
        for cluster in self.clusters().await? {
            for proxy in self.shown(&cluster)?.iter().filter(|proxy| proxy.host == host) {
                made.push(records.join(format!("{}.json.new", api::id(&proxy.row)?)));
            }
        }
        let deadline = Instant::now() + PATIENCE;
        for dir in &made {
            // The agent may be writing that file in this moment.
            while let Err(error) = fs::create_dir(dir) {
                let may_pass = error.kind() == io::ErrorKind::AlreadyExists && Instant::now() < deadline;
                ensure!(may_pass, "cannot make {}: {error}", dir.display());
                sleep(LOOK).await;
            }
        }
        Ok(made)
    }

    /// Takes away what [`Stage::fill`] made.
    pub fn make_room(made: &[PathBuf]) -> io::Result<()> {
        made.iter().try_for_each(fs::remove_dir)
    }

    /// Takes everything away: what is registered as an operator would, what is on the hosts by hand where it is kept.
    pub async fn clear(&mut self) -> anyhow::Result<()> {
        for cluster in self.clusters().await? {
            let path = format!("/api/v2/obproxy/clusters/{}", api::id(&cluster)?);
            let task = self.fleet.api()?.delete(&path).await?;
            self.succeed(api::id(&task)?)
                .await
                .context("the cluster cannot be deleted")?;
        }
        if self.foreign.take().is_some() {
            fs::remove_dir_all(self.foreign_dir())?;
        }
        let api = self.fleet.api()?;
        if let Some(host) = self.machine_host().await? {
            api.delete(&format!("/api/v2/compute/hosts/{host}")).await?;
            let is_gone = |hosts: &Value| !api::contents(hosts).iter().any(|one| one["id"] == host);
            api.until("/api/v2/compute/hosts?size=1000", PATIENCE, is_gone)
                .await
                .context("the machine stays a host")?;
        }
        let known = api.get("/api/v2/ob/clusters?size=1000").await?;
        for known in api::contents(&known) {
            api.delete(&format!("/api/v2/ob/clusters/{}", api::id(known)?)).await?;
        }
        for host in &self.fleet.hosts {
            empty(&host.root().join("slots"))?;
            empty(&host.root().join("removed"))?;
        }
        Ok(())
    }
}

fn empty(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
