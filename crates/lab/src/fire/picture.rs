//! What there is of a fleet, as the server tells it and as it is: lines that can be compared, without ids, times and pids.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use obfleet_mysqlwire::{Client, QueryResult};
use serde_json::Value;
use tokio::time::{Duration, Instant, sleep, timeout};

use super::{
    operation::SYS_PASSWORDS,
    stage::{CLUSTER, Shown, Stage},
};
use crate::{api, process, testbed::CLIENT};

const LOOK: Duration = Duration::from_millis(100);
/// What is shown of health follows the fact within ten seconds, and this machine may be slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// A picture that stays for this long is not about to change: the server looks at its hosts every two seconds.
const STILL: Duration = Duration::from_secs(3);
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// Members of what the server tells that are other ones each time.
const PASSING: [&str; 9] = [
    "id",
    "pid",
    "hostId",
    "hostAgentId",
    "clusterId",
    "obClusterId",
    "obproxyServerId",
    "taskId",
    "configUrl",
];
/// Members of what is found on a host that differ by the moment, as a metrics port that opens after the others; or by the way
/// there: a restart that is taken back may leave the new process, with the same version in another file.
const PASSING_FOUND: [&str; 4] = ["home", "exporterPort", "listening", "executableReplaced"];
/// Items of a proxy's configuration that are other ones each time.
const PASSING_ITEMS: [&str; 8] = [
    "refresh_json_config",
    "refresh_rslist",
    "json_config_modified_time",
    "local_bound_ip",
    "proxy_id",
    "app_name",
    "obproxy_config_server_url",
    "current_local_config_version",
];

/// A fleet at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    lines: Vec<String>,
    /// Status of each proxy, in the order of the hosts.
    pub statuses: Vec<String>,
    /// The proxy's processes by host: not compared, since many operations change them.
    pub processes: BTreeMap<usize, Vec<u32>>,
}

impl Picture {
    /// What is different in another one: what is missing there, and what is there beside.
    pub fn difference(&self, other: &Self) -> String {
        let only = |one: &Self, other: &Self, sign: &str| {
            let lines = one.lines.iter().filter(|line| !other.lines.contains(line));
            lines.map(|line| format!("\n{sign} {line}")).collect::<String>()
        };
        only(self, other, "-") + &only(other, self, "+")
    }

    fn is(&self, other: &Self) -> bool {
        self.lines == other.lines
    }
}

/// Waits until the fleet is as in this picture. → what it is
pub async fn comes_to(stage: &Stage, wanted: &Picture) -> anyhow::Result<Picture> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let not_yet = match look(stage).await {
            Ok(seen) if seen.is(wanted) => return Ok(seen),
            Ok(seen) => wanted.difference(&seen),
            Err(error) => format!("{error:#}"),
        };
        ensure!(Instant::now() < deadline, "it is not as it should be: {not_yet}");
        sleep(LOOK).await;
    }
}

/// Waits until the fleet is sound and changes no more. → what it is
pub async fn settled(stage: &Stage) -> anyhow::Result<Picture> {
    let deadline = Instant::now() + PATIENCE;
    let mut last: Option<(Picture, Instant)> = None;
    loop {
        let seen = look(stage).await;
        match (seen, &last) {
            (Ok(seen), Some((before, since))) if seen.is(before) => {
                if since.elapsed() >= STILL {
                    return Ok(seen);
                }
            }
            (Ok(seen), _) => last = Some((seen, Instant::now())),
            (Err(error), _) => {
                if Instant::now() > deadline {
                    return Err(error.context("the fleet is not sound"));
                }
                last = None;
            }
        }
        ensure!(Instant::now() < deadline, "the fleet does not come to rest");
        sleep(LOOK).await;
    }
}

/// Looks at everything once.
///
/// # Errors
/// When it contradicts itself: when what is shown to run has not one process that serves, what is shown to be stopped has
/// one, somebody is at work, or something is left that belongs to nobody.
pub async fn look(stage: &Stage) -> anyhow::Result<Picture> {
    let mut lines = Vec::new();
    let (mut statuses, mut processes) = (Vec::new(), BTreeMap::new());
    let mut homes = Vec::new();
    for cluster in stage.clusters().await? {
        let shown = stage.shown(&cluster)?;
        lines.push(format!("cluster {}", plain(&cluster, &["obproxies"])));
        for proxy in shown {
            ensure!(proxy.row["operateStatus"] == "NORMAL", "somebody holds {}", proxy.row);
            let status = proxy.row["status"].as_str().unwrap_or_default();
            lines.push(format!("proxy on {}: {}", proxy.host, plain(&proxy.row, &[])));
            let pids = process::of_home(&proxy.home);
            let running = status == "RUNNING";
            ensure!(
                pids.len() == usize::from(running),
                "{status} with processes {pids:?} in {}",
                proxy.home.display()
            );
            if running {
                serves(stage, &proxy, &mut lines).await?;
            } else {
                ensure!(
                    !answers(proxy.address).await,
                    "{status} and somebody answers on {}",
                    proxy.address
                );
            }
            statuses.push(status.to_owned());
            processes.insert(proxy.host, pids);
            homes.push(proxy.home);
        }
    }
    nothing_else(stage, &homes)?;
    told(stage, &mut lines).await?;
    if let Some(foreign) = &stage.foreign {
        let watchdogs = foreign.watchdogs().len();
        lines.push(format!(
            "foreign: {} process, {watchdogs} watchdogs",
            foreign.processes().len()
        ));
    }
    // A stage that has had no machine yet is as one whose machine is empty.
    let agents = stage.machine.as_ref().map_or(0, |machine| machine.agents().len());
    let is_empty = stage.machine.as_ref().is_none_or(|machine| !machine.root().exists());
    lines.push(format!("machine: {agents} agents, nothing of theirs: {is_empty}"));
    lines.sort();
    Ok(Picture {
        lines,
        statuses,
        processes,
    })
}

/// What the server tells beside the clusters.
async fn told(stage: &Stage, lines: &mut Vec<String>) -> anyhow::Result<()> {
    let api = stage.fleet.api()?;
    let root = stage.fleet.root().display().to_string();
    for path in ["ob/clusters", "compute/hosts"] {
        let list = api.get(&format!("/api/v2/{path}?size=1000")).await?;
        lines.extend(
            api::contents(&list)
                .iter()
                .map(|one| format!("{path} {}", plain(one, &[]))),
        );
    }
    for (index, host) in stage.fleet.hosts.iter().enumerate() {
        let found = api.get(&format!("/api/v2/compute/hosts/{}/obproxies", host.id)).await?;
        // Every agent finds everything on this machine, also what others test there.
        let found = api::contents(&found)
            .iter()
            .filter(|one| one.to_string().contains(&root));
        let own = found.filter(|one| one["managed"] == true || index == 0);
        lines.extend(own.map(|one| format!("found on {index}: {}", seen_from_home(one))));
    }
    Ok(())
}

/// A proxy that was found, with what it runs as seen from its home: obd starts `./bin/obproxy`, an agent the same by its
/// whole path.
fn seen_from_home(found: &Value) -> String {
    let text = plain(found, &PASSING_FOUND).to_string();
    match found["home"].as_str() {
        Some(home) => text.replace(&format!("{home}/"), "./"),
        None => text,
    }
}

/// No guard, no home and no process that belongs to no proxy.
fn nothing_else(stage: &Stage, homes: &[PathBuf]) -> anyhow::Result<()> {
    let guards = process::guards(stage.fleet.root());
    ensure!(guards.is_empty(), "guards {guards:?} are left");
    for host in &stage.fleet.hosts {
        let dir = host.root().join("proxies");
        for name in names(&dir)? {
            ensure!(
                homes.contains(&dir.join(&name)),
                "{name} is in {} for nobody",
                dir.display()
            );
        }
        for pid in process::of_home(&host.root()) {
            let place = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            ensure!(
                homes.iter().any(|home| place.starts_with(home)),
                "process {pid} is at work in {} for nobody",
                place.display()
            );
        }
    }
    Ok(())
}

/// The proxy serves clients as what it is shown to be, and this is its configuration.
async fn serves(stage: &Stage, proxy: &Shown, lines: &mut Vec<String>) -> anyhow::Result<()> {
    let mut client = log_in(proxy.address, CLIENT, "").await?;
    ask(&mut client, "select 1").await?;
    client.close().await;
    let (mut admin, password) = administer(proxy.address).await?;
    let version = first(&ask(&mut admin, "select proxy_version()").await?);
    let shown = proxy.row["version"].as_str().unwrap_or_default();
    ensure!(
        shown.starts_with(&version) && !version.is_empty(),
        "{} serves as {version}, not as {shown}",
        proxy.address
    );
    let status = first(&ask(&mut admin, "select proxy_status()").await?);
    let config = ask(&mut admin, "show proxyconfig").await?;
    admin.close().await;
    let mut items: Vec<_> = config
        .rows
        .iter()
        .map(|row| (text(row.first()), text(row.get(1))))
        .collect();
    items.retain(|(name, _)| !PASSING_ITEMS.contains(&name.as_str()));
    let host = proxy.host;
    lines.push(format!(
        "served on {host}: {version}, {status}, password {password}, {} items",
        items.len()
    ));
    let root = stage.fleet.root().display().to_string();
    lines.extend(
        items
            .into_iter()
            .map(|(name, value)| format!("item on {host}: {name} = {}", value.replace(&root, ""))),
    );
    Ok(())
}

async fn administer(address: SocketAddr) -> anyhow::Result<(Client, usize)> {
    for (number, password) in SYS_PASSWORDS.iter().enumerate() {
        if let Ok(client) = log_in(address, "root@proxysys", password).await {
            return Ok((client, number));
        }
    }
    bail!("root@proxysys is not let in to {address}")
}

/// Whether somebody greets there.
pub async fn answers(address: SocketAddr) -> bool {
    for password in SYS_PASSWORDS {
        if log_in(address, "root@proxysys", password).await.is_ok() {
            return true;
        }
    }
    false
}

async fn log_in(address: SocketAddr, user: &str, password: &str) -> anyhow::Result<Client> {
    let deadline = Instant::now() + ANSWER_PATIENCE;
    let client = Client::connect(address, user, password, deadline).await;
    client.with_context(|| format!("{user} cannot log in to {address}"))
}

async fn ask(client: &mut Client, sql: &str) -> anyhow::Result<QueryResult> {
    let answer = timeout(ANSWER_PATIENCE, client.query(sql)).await;
    Ok(answer.with_context(|| format!("no answer to {sql}"))??)
}

fn text(value: Option<&Option<Vec<u8>>>) -> String {
    let bytes = value.and_then(Option::as_deref).unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

fn first(answer: &QueryResult) -> String {
    text(answer.rows.first().and_then(|row| row.first()))
}

fn names(dir: &Path) -> anyhow::Result<Vec<String>> {
    let entries = fs::read_dir(dir).with_context(|| format!("{} cannot be read", dir.display()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<anyhow::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// A value without what is another one each time.
fn plain(value: &Value, without: &[&str]) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.iter().filter(|(name, _)| {
                let passing = PASSING.contains(&name.as_str()) || name.ends_with("Time") || name.ends_with("Ids");
                !passing && !without.contains(&name.as_str())
            });
            Value::Object(
                kept.map(|(name, value)| (name.clone(), plain(value, without)))
                    .collect(),
            )
        }
        Value::Array(values) => Value::Array(values.iter().map(|value| plain(value, without)).collect()),
        Value::String(text) => Value::String(without_id(text)),
        other => other.clone(),
    }
}

/// A path into a home, or the name of a service, without the proxy's id.
fn without_id(text: &str) -> String {
    let is_digit = |c: char| c.is_ascii_digit();
    for marker in [format!("/proxies/{CLUSTER}-"), format!("{CLUSTER}:")] {
        if let Some((before, rest)) = text.split_once(&marker) {
            return format!("{before}{marker}{}", rest.trim_start_matches(is_digit));
        }
    }
    text.to_owned()
}
