//! The main job, shown: a fleet under traffic is upgraded through the endpoint, or finds its way back from a bad package.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use obfleet_mysqlwire::Client;
use obfleet_standin::ports::PortLease;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    api::{self, Api},
    backend::{Backend, BackendChoice},
    fleet::Fleet,
    packages::{Fault, NEW, OLD, Release},
    reply_time,
    report::Findings,
    traffic::Traffic,
};

const HOSTS: u8 = 3;
const INSTALL_PATIENCE: Duration = Duration::from_secs(180);
const UPGRADE_PATIENCE: Duration = Duration::from_secs(600);
const ADMIN_PATIENCE: Duration = Duration::from_secs(10);
const PROGRESS: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(100);
/// Of root@proxysys.
const SYS_PASSWORD: &str = "Demo-Proxysys-1";
/// What the clients log in as.
const CLIENT: &str = "root@sys#demo";

/// What to show.
#[derive(Debug)]
pub struct Options {
    /// The obfleet executable.
    pub exe: PathBuf,
    /// One JSON line at the beginning and one at the end on standard output, instead of a table.
    pub json: bool,
    /// What is wrong with the new package.
    pub fault: Option<Fault>,
    /// Tell how to use the fleet at the end; it runs for as long as [`Shown`] is kept.
    pub keep: bool,
    /// Whether to upgrade, or only to set everything up.
    pub upgrade: bool,
    /// What the proxies serve.
    pub backend: BackendChoice,
}

/// A fleet with running proxies.
struct Stage {
    fleet: Fleet,
    cluster: i64,
    proxies: Vec<Proxy>,
    _backend: Backend,
    _databases: tempfile::TempDir,
    _ports: Vec<PortLease>,
}

struct Proxy {
    id: i64,
    address: SocketAddr,
}

/// What was shown. The fleet and its clients are there as long as this is.
pub struct Shown {
    /// Whether all went well.
    pub good: bool,
    // The clients end before what they ask.
    _traffic: Traffic,
    _stage: Stage,
}

/// Shows it. Progress goes to standard error.
pub async fn run(options: Options) -> anyhow::Result<Shown> {
    let mut stage = Stage::set(&options).await?;
    if options.json {
        println!("{}", stage.opening(&options)?);
    }
    let reply_ms_p99 = if options.upgrade {
        stage.time_replies(&options.exe).await?
    } else {
        0
    };
    let addresses: Vec<_> = stage.proxies.iter().map(|proxy| proxy.address).collect();
    let traffic = Traffic::start(&addresses, CLIENT).await?;
    say("clients are at work");

    let mut good = true;
    if options.upgrade {
        good = stage
            .upgrade(options.fault, options.json, &traffic, reply_ms_p99)
            .await?;
    }
    if options.keep {
        let api = stage.fleet.api()?;
        let lead = if options.json {
            String::new()
        } else {
            format!("{}\n", stage.opening(&options)?)
        };
        eprintln!(
            "{lead}running at {}, user {}, password {}; Ctrl-C ends it",
            api.url,
            api::USER,
            api.password
        );
    }
    Ok(Shown {
        good,
        _traffic: traffic,
        _stage: stage,
    })
}

fn say(text: &str) {
    eprintln!("{text}");
}

impl Stage {
    async fn set(options: &Options) -> anyhow::Result<Self> {
        let databases = tempfile::tempdir()?;
        let backend = Backend::start(options.backend, databases.path()).await?;
        let fleet = Fleet::start(&options.exe, HOSTS).await?;
        say(&format!("server and {HOSTS} agents are ready at {}", fleet.api()?.url));
        upload(&fleet, &options.exe, OLD, None).await?;
        upload(&fleet, &options.exe, NEW, options.fault).await?;
        let cluster = create_cluster(fleet.api()?, backend.address).await?;
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
            cluster,
            proxies,
            _backend: backend,
            _databases: databases,
            _ports: ports,
        })
    }

    /// The first JSON line: where it is and what is there.
    fn opening(&self, options: &Options) -> anyhow::Result<String> {
        let api = self.fleet.api()?;
        let ids: Vec<i64> = self.proxies.iter().map(|proxy| proxy.id).collect();
        let backend = match options.backend {
            BackendChoice::Builtin => "builtin".to_owned(),
            BackendChoice::MariaDb => "mariadb".to_owned(),
            BackendChoice::SeekDb => "seekdb".to_owned(),
            BackendChoice::At(address) => address.to_string(),
        };
        let line = Opening {
            url: &api.url,
            user: api::USER,
            password: &api.password,
            cluster_id: self.cluster,
            obproxy_ids: ids,
            packages: [OLD.short_rpm_name(), NEW.short_rpm_name()],
            backend,
        };
        Ok(serde_json::to_string(&line)?)
    }

    fn upgrade_path(&self) -> String {
        let ids: Vec<_> = self.proxies.iter().map(|proxy| proxy.id.to_string()).collect();
        format!(
            "/api/v2/obproxy/clusters/{}/obproxies/{}/upgrade",
            self.cluster,
            ids.join(",")
        )
    }

    /// How fast upgrade submissions are accepted, on a copy of the state and before there is any traffic.
    async fn time_replies(&mut self, exe: &Path) -> anyhow::Result<u64> {
        say("timing upgrade submissions on a copy of the state");
        let scratch = self.fleet.root().join("scratch");
        all_running(self.fleet.api()?, self.cluster).await?;
        self.fleet.copy_state(&scratch).await?;
        let password = &self.fleet.api()?.password;
        reply_time::p99_ms(exe, &scratch, password, &self.upgrade_path(), &NEW.short_rpm_name()).await
    }

    async fn upgrade(
        &self,
        fault: Option<Fault>,
        json: bool,
        traffic: &Traffic,
        reply_ms_p99: u64,
    ) -> anyhow::Result<bool> {
        let api = self.fleet.api()?;
        all_running(api, self.cluster).await?;
        traffic.restart_begins();
        let started = Instant::now();
        let task = api
            .post(&self.upgrade_path(), &json!({"shortRpmName": NEW.short_rpm_name()}))
            .await?;
        let task = self.watch(api::id(&task)?, traffic).await?;
        let seconds = started.elapsed().as_secs_f64();
        let rolled_back = self.free(&task, fault).await?;
        traffic.restart_is_over();
        let server_rss_mb = self.fleet.server()?.process.resident_mb()?;
        let versions = self.versions().await;
        let counts = traffic.per_proxy();

        let findings = Findings {
            fault,
            from: &OLD.text(),
            to: &NEW.text(),
            versions: &versions,
            counts: &counts,
            seconds,
            reply_ms_p99,
            server_rss_mb,
            start_ms: self.fleet.server()?.start_ms,
            rolled_back,
        };
        let report = findings.report();
        if json {
            say(&findings.table());
            println!("{}", serde_json::to_string(&report)?);
        } else {
            println!("{}", findings.table());
        }
        Ok(report.ok)
    }

    /// Tells how the task goes, every second, until it comes to rest.
    async fn watch(&self, id: i64, traffic: &Traffic) -> anyhow::Result<Value> {
        let started = Instant::now();
        let mut next = started;
        loop {
            let task = self.fleet.api()?.task(id).await?;
            let at_rest = task["status"] != "RUNNING";
            if at_rest || Instant::now() >= next {
                next = Instant::now() + PROGRESS;
                let counts = traffic.total();
                say(&format!(
                    "{:>4} s  {:<44} [{}]  connects {}  refused {}  broken {}",
                    started.elapsed().as_secs(),
                    at_work(&task),
                    self.versions().await.join(" "),
                    counts.connects,
                    counts.refused,
                    counts.broken_transactions,
                ));
            }
            if at_rest {
                return Ok(task);
            }
            if started.elapsed() > UPGRADE_PATIENCE {
                bail!("the upgrade did not end within {} s", UPGRADE_PATIENCE.as_secs());
            }
            sleep(LOOK).await;
        }
    }

    /// Gives a failed upgrade back, which frees its proxies. → whether it was rolled back
    async fn free(&self, task: &Value, fault: Option<Fault>) -> anyhow::Result<bool> {
        let api = self.fleet.api()?;
        if task["status"] != "FAILED" {
            return Ok(false);
        }
        let why = api.why(task).await;
        if fault.is_none() {
            say(&format!("the upgrade failed:{why}"));
        }
        let id = api::id(task)?;
        api.post_nothing(&format!("/api/v2/tasks/instances/{id}/rollback"))
            .await?;
        let task = api.rest(id, UPGRADE_PATIENCE).await?;
        if task["status"] != "SUCCESSFUL" || task["operation"] != "ROLLBACK" {
            bail!("the rollback ended {}{}", task["status"], api.why(&task).await);
        }
        say("the failed upgrade is rolled back, the proxies are free");
        Ok(true)
    }

    /// The version each proxy itself tells.
    async fn versions(&self) -> Vec<String> {
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

async fn create_cluster(api: &Api, backend: SocketAddr) -> anyhow::Result<i64> {
    let body = json!({
        "name": "demo", "address": "127.0.0.1", "port": 2883, "workMode": "RS_LIST", "password": SYS_PASSWORD,
        "obproxyInstallParam": {"hostIds": []},
        "obLinks": [{"clusterName": "demo", "username": "proxyro", "rootServers": [backend.to_string()]}],
        "probe": {"user": CLIENT, "sql": "select 1"},
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

/// The steps that run, with the number of their branch.
fn at_work(task: &Value) -> String {
    let steps = task["subtasks"].as_array().into_iter().flatten();
    let names: Vec<String> = steps
        .filter(|step| step["status"] == "RUNNING" || step["status"] == "FAILED")
        .map(|step| {
            let name = step["name"].as_str().unwrap_or_default();
            match step["parallelIdx"].as_i64() {
                Some(branch) if branch >= 0 => format!("{name} ({})", branch + 1),
                _ => name.to_owned(),
            }
        })
        .collect();
    match names.as_slice() {
        [] => task["status"].as_str().unwrap_or_default().to_owned(),
        [one] => one.clone(),
        [first, others @ ..] => format!("{first} and {} more", others.len()),
    }
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
