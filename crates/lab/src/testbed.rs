//! A fleet for tests: one proxy on each host, and what tests ask of it and of its proxies.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use obfleet_mysqlwire::{Client, QueryResult};
use obfleet_standin::ports::PortLease;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    api::{self, Api},
    backend::{Backend, BackendChoice},
    fleet::Fleet,
    packages::{Fault, OLD, Release},
    process,
};

/// How long anything may take that is not waiting for clients.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// What clients of the proxies log in as.
pub const CLIENT: &str = "root@sys#lab";
const CLUSTER: &str = "lab";
/// Of root@proxysys.
pub const SYS_PASSWORD: &str = "Lab-Proxysys-1";
const LOGIN_PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);

/// Waits for a condition.
///
/// # Panics
/// When it does not come true in time.
pub async fn until(what: &str, patience: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(LOOK).await;
    }
}

/// A fleet with one proxy on each host. All of it ends with this.
#[derive(Debug)]
pub struct Testbed {
    /// Server and hosts.
    pub fleet: Fleet,
    /// The one cluster.
    pub cluster: i64,
    /// The proxies, in the order of the hosts.
    pub proxies: Vec<Proxy>,
    exe: PathBuf,
    /// SQL and metrics ports of each host's proxy.
    ports: Vec<[PortLease; 2]>,
    // What the proxies serve ends after them.
    backend: Backend,
}

/// One proxy.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Its id.
    pub id: i64,
    /// Where clients reach it.
    pub address: SocketAddr,
    /// Its home on the host.
    pub home: PathBuf,
}

impl Testbed {
    /// Starts a server and `hosts` agents, and installs [`OLD`] on each host.
    pub async fn start(exe: &Path, hosts: u8, drain_window_s: u64) -> anyhow::Result<Self> {
        Self::start_on(exe, hosts, drain_window_s, None).await
    }

    /// The same on the database with this URL, if any.
    pub async fn start_on(
        exe: &Path,
        hosts: u8,
        drain_window_s: u64,
        database: Option<String>,
    ) -> anyhow::Result<Self> {
        let backend = Backend::start(&BackendChoice::Builtin, Path::new("")).await?;
        let fleet = Fleet::start_with(exe, hosts, drain_window_s, database).await?;
        let body = json!({
            "name": CLUSTER, "address": "127.0.0.1", "port": 2883, "workMode": "RS_LIST", "password": SYS_PASSWORD,
            "obproxyInstallParam": {"hostIds": []},
            "obLinks": [{"clusterName": CLUSTER, "username": "proxyro", "rootServers": [backend.address.to_string()]}],
            "probe": {"user": CLIENT, "sql": "select 1"},
        });
        let task = fleet.api()?.post("/api/v2/obproxy/clusters", &body).await?;
        fleet.api()?.success(api::id(&task)?, PATIENCE).await?;
        let ports = fleet.hosts.iter().map(|_| Ok([PortLease::take()?, PortLease::take()?]));
        let mut bed = Self {
            cluster: task["obproxyClusterId"]
                .as_i64()
                .context("no cluster id in the answer")?,
            proxies: Vec::new(),
            exe: exe.to_owned(),
            ports: ports.collect::<anyhow::Result<_>>()?,
            fleet,
            backend,
        };
        bed.upload(OLD, None).await?;
        bed.install_all().await?;
        Ok(bed)
    }

    /// What the proxies serve.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// How the server is asked.
    pub fn api(&self) -> anyhow::Result<&Api> {
        self.fleet.api()
    }

    /// Packs a release and uploads it.
    pub async fn upload(&self, release: Release, fault: Option<Fault>) -> anyhow::Result<()> {
        let dir = tempfile::tempdir_in(self.fleet.root())?;
        let (exe, to) = (self.exe.clone(), dir.path().to_owned());
        let file = tokio::task::spawn_blocking(move || release.build(&exe, fault, &to)).await??;
        self.api()?.upload(&release.file_name(), fs::read(file)?).await?;
        Ok(())
    }

    fn path(&self, rest: &str) -> String {
        format!("/api/v2/obproxy/clusters/{}{rest}", self.cluster)
    }

    /// The path that upgrades these proxies.
    pub fn upgrade_path(&self, proxies: &[Proxy]) -> String {
        self.path(&format!("/obproxies/{}/upgrade", ids(proxies)))
    }

    /// Submits an upgrade of all proxies. → the task as answered
    pub async fn upgrade(&self, release: Release) -> anyhow::Result<Value> {
        let body = json!({"shortRpmName": release.short_rpm_name()});
        self.api()?.post(&self.upgrade_path(&self.proxies), &body).await
    }

    /// Submits the removal of some proxies. → the task as answered
    pub async fn submit_removal(&self, proxies: &[Proxy]) -> anyhow::Result<Value> {
        let path = self.path(&format!("/obproxies/{}", ids(proxies)));
        self.api()?.delete(&path).await
    }

    /// Installs [`OLD`] on every host. Their proxies must be gone.
    pub async fn install_all(&mut self) -> anyhow::Result<()> {
        let mut tasks = Vec::new();
        for host in 0..self.fleet.hosts.len() {
            tasks.push(self.submit_install(host).await?);
        }
        self.proxies.clear();
        for task in tasks {
            self.api()?.success(task, PATIENCE).await?;
        }
        self.proxies = self.listed_as("RUNNING").await?;
        Ok(())
    }

    /// Submits the installation of [`OLD`] on a host, counted from 0. → the task's id
    pub async fn submit_install(&self, host: usize) -> anyhow::Result<i64> {
        let [sql, exporter] = &self.ports[host];
        let body = json!({
            "hostIds": [self.fleet.hosts[host].id], "sqlPort": sql.port(), "exporterPort": exporter.port(),
            "version": OLD.file_name(),
        });
        let tasks = self.api()?.post(&self.path("/obproxies/batchAdd"), &body).await?;
        api::id(api::contents(&tasks).first().context("no task in the answer")?)
    }

    /// The cluster's proxies in the order of the hosts, once each has this status.
    pub async fn listed_as(&self, status: &str) -> anyhow::Result<Vec<Proxy>> {
        let all = |detail: &Value| rows(detail).iter().all(|row| row["status"] == status);
        let detail = self.api()?.until(&self.path(""), PATIENCE, all).await?;
        let mut proxies = rows(&detail)
            .iter()
            .map(|row| self.read(row))
            .collect::<anyhow::Result<Vec<_>>>()?;
        proxies.sort_by_key(|proxy| proxy.address.ip());
        Ok(proxies)
    }

    fn read(&self, row: &Value) -> anyhow::Result<Proxy> {
        let (id, host) = (api::id(row)?, row["hostId"].as_i64());
        let host = self.fleet.hosts.iter().find(|known| Some(known.id) == host);
        let host = host.with_context(|| format!("proxy {id} is on no host of ours"))?;
        let port = row["sqlPort"].as_u64().context("a proxy without port")?;
        Ok(Proxy {
            id,
            address: SocketAddr::new(host.address, u16::try_from(port)?),
            home: host.root().join("proxies").join(format!("{CLUSTER}-{id}")),
        })
    }

    /// Waits until all is as it should be when no task is at work: each proxy serves clients as `release` from a single
    /// process, the inventory says the same of it and calls it free, and no guard is left.
    pub async fn at_rest_as(&self, release: Release) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Err(not_yet) = self.is_at_rest_as(release).await else {
                return Ok(());
            };
            if Instant::now() > deadline {
                return Err(not_yet.context(format!("not at rest as {}", release.text())));
            }
            sleep(LOOK).await;
        }
    }

    async fn is_at_rest_as(&self, release: Release) -> anyhow::Result<()> {
        let detail = self.api()?.get(&self.path("")).await?;
        for proxy in &self.proxies {
            proxy.serves_as(release.version).await?;
            let pids = process::of_home(&proxy.home);
            ensure!(pids.len() == 1, "processes {pids:?} in {}", proxy.home.display());
            let row = rows(&detail).iter().find(|row| row["id"] == proxy.id);
            let row = row.with_context(|| format!("proxy {} is not listed", proxy.id))?;
            let as_it_should = row["status"] == "RUNNING"
                && row["operateStatus"] == "NORMAL"
                && row["version"].as_str().is_some_and(|v| v.starts_with(&release.text()));
            ensure!(as_it_should, "the inventory says {row}");
        }
        let guards = process::guards(self.fleet.root());
        ensure!(guards.is_empty(), "guards {guards:?} are left");
        Ok(())
    }

    /// Brings every proxy back to [`OLD`] by taking it away and installing it anew, under a new id; and forgets what the
    /// hosts have of other releases, so that the next upgrade begins from nothing.
    pub async fn start_over(&mut self) -> anyhow::Result<()> {
        let task = self.submit_removal(&self.proxies).await?;
        self.api()?.success(api::id(&task)?, PATIENCE).await?;
        for host in &self.fleet.hosts {
            for entry in fs::read_dir(host.root().join("slots"))? {
                let slot = entry?.path();
                if slot.is_dir() && !slot.display().to_string().contains(&OLD.text()) {
                    fs::remove_dir_all(slot)?;
                }
            }
        }
        self.install_all().await?;
        self.at_rest_as(OLD).await
    }
}

impl Proxy {
    /// A client's session.
    pub async fn log_in(&self, user: &str, password: &str) -> anyhow::Result<Client> {
        let deadline = Instant::now() + LOGIN_PATIENCE;
        let client = Client::connect(self.address, user, password, deadline).await;
        client.with_context(|| format!("{user} cannot log in to {}", self.address))
    }

    /// A client gets its answer, and root@proxysys is told this version.
    pub async fn serves_as(&self, version: &str) -> anyhow::Result<()> {
        let mut client = self.log_in(CLIENT, "").await?;
        ask(&mut client, "select 1").await?;
        client.close().await;
        let mut admin = self.log_in("root@proxysys", SYS_PASSWORD).await?;
        let answer = ask(&mut admin, "select proxy_version()").await?;
        admin.close().await;
        let told = answer.rows.iter().flatten().flatten().next();
        let told = told.map(|value| String::from_utf8_lossy(value).into_owned());
        if told.as_deref() != Some(version) {
            bail!("{} serves as {told:?}, not as {version}", self.address);
        }
        Ok(())
    }
}

async fn ask(client: &mut Client, sql: &str) -> anyhow::Result<QueryResult> {
    let answer = tokio::time::timeout(LOGIN_PATIENCE, client.query(sql)).await;
    Ok(answer.with_context(|| format!("no answer to {sql}"))??)
}

fn ids(proxies: &[Proxy]) -> String {
    let ids: Vec<_> = proxies.iter().map(|proxy| proxy.id.to_string()).collect();
    ids.join(",")
}

fn rows(detail: &Value) -> &[Value] {
    detail["obproxies"].as_array().map_or(&[], Vec::as_slice)
}
