//! What a demo plays on: a fleet whose proxies run the old version, with both packages uploaded.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::Context as _;
use obfleet_mysqlwire::Client;
use obfleet_standin::{
    foreign::{Foreign, Order, Tool},
    ports::PortLease,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Options, Scenario, say};
use crate::{
    api::{self, Api},
    backend::Backend,
    fleet::{Fleet, Host},
    packages::{Fault, NEW, OLD, Release},
    reply_time,
};

const HOSTS: u8 = 3;
const INSTALL_PATIENCE: Duration = Duration::from_secs(180);
const ADMIN_PATIENCE: Duration = Duration::from_secs(10);
/// Of root@proxysys.
const SYS_PASSWORD: &str = "Demo-Proxysys-1";
/// Of root@proxysys of proxies that somebody else starts.
const FOREIGN_PASSWORD: &str = "Foreign-Proxysys-1";

/// A fleet with running proxies.
pub(super) struct Stage {
    pub(super) fleet: Fleet,
    /// What somebody else started; gone with the fleet.
    foreign: Vec<Foreign>,
    pub(super) cluster: i64,
    pub(super) proxies: Vec<Proxy>,
    pub(super) backend: Backend,
    _ports: Vec<PortLease>,
}

pub(super) struct Proxy {
    pub(super) id: i64,
    pub(super) address: SocketAddr,
}

/// What the clients log in as.
pub(super) fn client_user(backend: &Backend) -> String {
    format!("{}@sys#demo", backend.user)
}

impl Stage {
    pub(super) async fn set(options: &Options) -> anyhow::Result<Self> {
        let fleet = Fleet::start(&options.exe, HOSTS).await?;
        // Below the fleet's directory, so that it ends with the fleet however that ends.
        let databases = fleet.root().join("databases");
        fs::create_dir(&databases)?;
        let backend = Backend::start(&options.backend, &databases).await?;
        say(&format!("server and {HOSTS} agents are ready at {}", fleet.api()?.url));
        upload(&fleet, &options.exe, OLD, None).await?;
        upload(&fleet, &options.exe, NEW, options.fault).await?;
        let cluster = create_cluster(fleet.api()?, &backend).await?;
        if options.scenario == Scenario::Takeover {
            return Self::with_foreign(options, fleet, cluster, backend).await;
        }
        let mut ports = Vec::new();
        let mut installing = Vec::new();
        for host in &fleet.hosts {
            let [sql, exporter] = [PortLease::take()?, PortLease::take()?];
            let body = json!({
                "hostIds": [host.id], "sqlPort": sql.port(), "exporterPort": exporter.port(), "version": OLD.file_name(),
            });
            let path = format!("/api/v2/obproxy/clusters/{cluster}/obproxies/batchAdd");
            let tasks = fleet.api()?.post(&path, &body).await?;
            installing.push(api::id(&api::contents(&tasks)[0])?);
            ports.extend([sql, exporter]);
        }
        for task in installing {
            fleet.api()?.success(task, INSTALL_PATIENCE).await?;
        }
        let detail = all_running(fleet.api()?, cluster).await?;
        let proxies = obproxies(&detail)
            .iter()
            .map(Proxy::read)
            .collect::<anyhow::Result<Vec<_>>>()?;
        say(&format!("{} proxies run {}", proxies.len(), OLD.text()));
        Ok(Self {
            fleet,
            foreign: Vec::new(),
            cluster,
            proxies,
            backend,
            _ports: ports,
        })
    }

    /// For each host a proxy that is none of the fleet's, started as OceanBase Deployer does.
    async fn with_foreign(options: &Options, fleet: Fleet, cluster: i64, backend: Backend) -> anyhow::Result<Self> {
        let root = fleet.root().to_owned();
        let binary = root.join("foreign-obproxy");
        OLD.pack(&options.exe, &binary)?;
        let (mut foreign, mut ports, mut proxies) = (Vec::new(), Vec::new(), Vec::new());
        for number in 1..=fleet.hosts.len() {
            let [sql, exporter, rpc] = [PortLease::take()?, PortLease::take()?, PortLease::take()?];
            let home = root.join(format!("foreign-{number}")).join("obproxy");
            fs::create_dir_all(&home)?;
            let order = Order {
                binary: binary.clone(),
                home,
                sql_port: sql.port(),
                exporter_port: exporter.port(),
                rpc_port: rpc.port(),
                root_servers: backend.address.to_string(),
                ob_cluster: "demo".to_owned(),
                password: FOREIGN_PASSWORD.to_owned(),
                items: Vec::new(),
                user: None,
            };
            let started = tokio::task::spawn_blocking(move || Foreign::start(Tool::Obd, &order)).await??;
            proxies.push(Proxy {
                id: 0,
                address: started.address(),
            });
            foreign.push(started);
            ports.extend([sql, exporter, rpc]);
        }
        say(&format!(
            "{} proxies run {}, started as obd does, each with its watchdog; the fleet has none of them",
            proxies.len(),
            OLD.text()
        ));
        Ok(Self {
            fleet,
            foreign,
            cluster,
            proxies,
            backend,
            _ports: ports,
        })
    }

    /// Takes over what somebody else started. → how many go on in the same process and have lost their watchdog
    pub(super) async fn take_over(&mut self) -> anyhow::Result<usize> {
        let api = self.fleet.api()?;
        let pids = |foreign: &Foreign| foreign.processes();
        let before: Vec<_> = self.foreign.iter().map(pids).collect();
        let one = |(host, foreign): (&Host, &Foreign)| json!({"hostId": host.id, "sqlPort": foreign.address().port(), "proxysysPasswd": FOREIGN_PASSWORD});
        let hosts: Vec<_> = self.fleet.hosts.iter().zip(&self.foreign).map(one).collect();
        let body = json!({"hosts": hosts});
        let path = format!("/api/v2/obproxy/clusters/{}", self.cluster);
        let checked = api.post(&format!("{path}/takeOver/precheck"), &body).await?;
        for one in api::contents(&checked) {
            say(&format!(
                "port {}: started by {}, {} obstacles, {} parameters will change",
                one["sqlPort"],
                one["proxy"]["startMethod"],
                one["obstacles"].as_array().map_or(0, Vec::len),
                one["parameters"].as_array().map_or(0, Vec::len)
            ));
        }
        let tasks = api.post(&format!("{path}/takeOver"), &body).await?;
        for task in api::contents(&tasks) {
            api.success(api::id(task)?, INSTALL_PATIENCE).await?;
        }
        let detail = all_running(api, self.cluster).await?;
        for proxy in &mut self.proxies {
            let mut rows = obproxies(&detail).iter();
            let row = rows.find(|row| row["sqlPort"] == proxy.address.port());
            proxy.id = api::id(row.context("a proxy that was taken over is not listed")?)?;
        }
        let as_before =
            |(foreign, before): &(&Foreign, Vec<_>)| foreign.processes() == *before && foreign.watchdogs().is_empty();
        let taken = self.foreign.iter().zip(before).filter(as_before).count();
        say(&format!("{taken} proxies are taken over, in the processes they ran in"));
        Ok(taken)
    }

    /// The first JSON line: where it is and what is there.
    pub(super) fn opening(&self, options: &Options) -> anyhow::Result<String> {
        let api = self.fleet.api()?;
        // What is not taken over yet has none.
        let known = self.proxies.iter().map(|proxy| proxy.id).filter(|id| *id != 0);
        let line = Opening {
            url: &api.url,
            user: api::USER,
            password: &api.password,
            cluster_id: self.cluster,
            obproxy_ids: known.collect(),
            packages: [OLD.short_rpm_name(), NEW.short_rpm_name()],
            backend: options.backend.to_string(),
        };
        Ok(serde_json::to_string(&line)?)
    }

    pub(super) fn upgrade_path(&self) -> String {
        let ids: Vec<_> = self.proxies.iter().map(|proxy| proxy.id.to_string()).collect();
        format!(
            "/api/v2/obproxy/clusters/{}/obproxies/{}/upgrade",
            self.cluster,
            ids.join(",")
        )
    }

    /// How fast upgrade submissions are accepted, on a copy of the state and before there is any traffic.
    pub(super) async fn time_replies(&mut self) -> anyhow::Result<u64> {
        say("timing upgrade submissions on a copy of the state");
        let scratch = self.fleet.root().join("scratch");
        all_running(self.fleet.api()?, self.cluster).await?;
        self.fleet.copy_state(&scratch).await?;
        let setting = self.fleet.setting();
        reply_time::p99_ms(setting, &scratch, &self.upgrade_path(), &NEW.short_rpm_name()).await
    }

    /// Waits until the server has seen all proxies serve.
    pub(super) async fn all_running(&self) -> anyhow::Result<()> {
        all_running(self.fleet.api()?, self.cluster).await.map(drop)
    }

    /// The version each proxy itself tells.
    pub(super) async fn versions(&self) -> Vec<String> {
        let mut versions = Vec::new();
        for proxy in &self.proxies {
            versions.push(proxy.version().await.unwrap_or_else(|| "?".to_owned()));
        }
        versions
    }
}

impl Proxy {
    fn read(row: &Value) -> anyhow::Result<Self> {
        let ip = row["ip"].as_str().context("a proxy without address")?;
        let port = row["sqlPort"].as_u64().context("a proxy without port")?;
        Ok(Self {
            id: api::id(row)?,
            address: SocketAddr::new(ip.parse()?, u16::try_from(port)?),
        })
    }

    /// What the process that answers now says it is; none when it lets nobody in.
    async fn version(&self) -> Option<String> {
        let deadline = Instant::now() + ADMIN_PATIENCE;
        let asked = async {
            let mut admin = Client::connect(self.address, "root@proxysys", SYS_PASSWORD, deadline).await?;
            let answer = admin.query("show proxyinfo binary").await?;
            admin.close().await;
            anyhow::Ok(answer)
        };
        let answer = tokio::time::timeout_at(deadline, asked).await.ok()?.ok()?;
        let text: Vec<_> = answer.rows.iter().flatten().flatten().collect();
        text.iter()
            .find_map(|value| release_in(&String::from_utf8_lossy(value)))
    }
}

/// `4.3.1.0-1` out of `ObProxy-OceanBase 4.3.1.0-1.el7 …`.
fn release_in(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("OceanBase ")?;
    let mut words = rest.split([' ', '-', ')', '\n']);
    let version = words.next()?;
    let build = words.next()?.split('.').next()?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (digits(version) && digits(build)).then(|| format!("{version}-{build}"))
}

/// The first JSON line of a demo.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Opening<'a> {
    url: &'a str,
    user: &'a str,
    password: &'a str,
    cluster_id: i64,
    obproxy_ids: Vec<i64>,
    packages: [String; 2],
    backend: String,
}

async fn upload(fleet: &Fleet, exe: &Path, release: Release, fault: Option<Fault>) -> anyhow::Result<()> {
    let dir = fleet.root().join("packages");
    fs::create_dir_all(&dir)?;
    let exe = exe.to_owned();
    let file = tokio::task::spawn_blocking(move || release.build(&exe, fault, &dir)).await??;
    fleet.api()?.upload(&release.file_name(), fs::read(file)?).await?;
    say(&format!("package {} is uploaded", release.short_rpm_name()));
    Ok(())
}

async fn create_cluster(api: &Api, backend: &Backend) -> anyhow::Result<i64> {
    let body = json!({
        "name": "demo", "address": "127.0.0.1", "port": 2883, "workMode": "RS_LIST", "password": SYS_PASSWORD,
        "obproxyInstallParam": {"hostIds": []},
        "obLinks": [{"clusterName": "demo", "username": "proxyro", "rootServers": [backend.address.to_string()]}],
        "probe": {"user": client_user(backend), "sql": "select 1"},
    });
    let task = api.post("/api/v2/obproxy/clusters", &body).await?;
    api.success(api::id(&task)?, INSTALL_PATIENCE).await?;
    task["obproxyClusterId"].as_i64().context("no cluster id in the answer")
}

/// The cluster, once the server has seen all its proxies serve.
async fn all_running(api: &Api, cluster: i64) -> anyhow::Result<Value> {
    let running = |detail: &Value| obproxies(detail).iter().all(|proxy| proxy["status"] == "RUNNING");
    let path = format!("/api/v2/obproxy/clusters/{cluster}");
    api.until(&path, INSTALL_PATIENCE, running).await
}

fn obproxies(detail: &Value) -> &[Value] {
    detail["obproxies"].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_found_in_what_a_proxy_says() {
        assert_eq!(
            release_in("ObProxy-OceanBase 4.3.1.0-1.el7\nversion:"),
            Some("4.3.1.0-1".to_owned())
        );
        assert_eq!(release_in("4.3.1.0"), None);
    }
}
