//! A fleet of any size, made through the API of a real server: its hosts' agents run in this process and say yes to all.

mod agent;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use obfleet_client::Client;
use obfleet_package::build::{BuildSpec, build_obproxy_rpm};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use agent::Agent;

/// Hosts there are; proxies of one cluster are on hosts of their own.
pub const HOSTS: usize = 104;
/// Longest wait for one cluster or one task.
const DEADLINE: Duration = Duration::from_secs(300);
/// The first port; each cluster has two of its own.
const FIRST_PORT: usize = 10_000;

/// Clusters with running proxies.
pub struct Fleet {
    /// In the order in which they were made.
    pub clusters: Vec<Cluster>,
    /// They answer for as long as this lives.
    _agents: Vec<Agent>,
}

/// One of them.
pub struct Cluster {
    /// Its id.
    pub id: i64,
    /// Ids of its proxies.
    pub proxies: Vec<i64>,
}

impl Fleet {
    /// A cluster of each of these sizes, at most [`HOSTS`], whose proxies can be upgraded.
    pub async fn build(client: &Client, dir: &Path, sizes: &[usize]) -> Result<Self> {
        let old = upload(client, dir, "4.2.1.0", "11").await?;
        upload(client, dir, "4.3.1.0", "1").await?;
        let mut agents = Vec::new();
        for number in 0..HOSTS {
            agents.push(Agent::start(client, number).await?);
        }
        let hosts: Vec<i64> = agents.iter().map(|agent| agent.host_id).collect();
        let mut ids = Vec::new();
        for (number, &size) in sizes.iter().enumerate() {
            let id = create(client, number).await?;
            let hosts = hosts.iter().cycle().skip(number % HOSTS).take(size);
            let body = json!({
                "hostIds": hosts.collect::<Vec<_>>(), "version": old,
                "sqlPort": FIRST_PORT + 2 * number, "exporterPort": FIRST_PORT + 2 * number + 1,
            });
            let path = format!("/api/v2/obproxy/clusters/{id}/obproxies/batchAdd");
            let added = client.call(Method::POST, &path, &[], Some(&body)).await?;
            ids.push((id, added));
        }
        let mut clusters = Vec::new();
        for ((id, added), &size) in ids.into_iter().zip(sizes) {
            for task in added["contents"].as_array().into_iter().flatten() {
                succeed(client, &task["id"]).await?;
            }
            let proxies = running(client, id, size).await?;
            clusters.push(Cluster { id, proxies });
        }
        Ok(Self {
            clusters,
            _agents: agents,
        })
    }
}

/// An RS_LIST cluster without proxies.
async fn create(client: &Client, number: usize) -> Result<i64> {
    let body = json!({
        "name": format!("bench{number}"), "address": "db.example", "port": 2883, "workMode": "RS_LIST",
        "obLinks": [{"clusterName": "ob", "username": "proxyro", "rootServers": ["127.0.0.1:2881"]}],
    });
    let task = client.call(Method::POST, "/api/v2/obproxy/clusters", &[], Some(&body));
    let task = task.await?;
    // It has to let go of the cluster before that gets proxies.
    succeed(client, &task["id"]).await?;
    task["obproxyClusterId"]
        .as_i64()
        .context("a cluster was made without id")
}

/// Waits for a task.
async fn succeed(client: &Client, task: &Value) -> Result<()> {
    let path = format!("/api/v2/tasks/instances/{task}");
    let ended = until(client, &path, |task| task["status"] != "RUNNING").await?;
    ensure!(ended["status"] == "SUCCESSFUL", "task {task} did not succeed: {ended}");
    Ok(())
}

/// The ids of the proxies of a cluster, once as many run.
async fn running(client: &Client, cluster: i64, size: usize) -> Result<Vec<i64>> {
    let all_run = |cluster: &Value| {
        let proxies = cluster["obproxies"].as_array().map(Vec::as_slice).unwrap_or_default();
        proxies.len() == size && proxies.iter().all(|proxy| proxy["status"] == "RUNNING")
    };
    let cluster = until(client, &format!("/api/v2/obproxy/clusters/{cluster}"), all_run).await?;
    let proxies = cluster["obproxies"].as_array().into_iter().flatten();
    Ok(proxies.filter_map(|proxy| proxy["id"].as_i64()).collect())
}

/// What `path` answers, once it is as it has to be.
async fn until(client: &Client, path: &str, done: impl Fn(&Value) -> bool) -> Result<Value> {
    let begun = Instant::now();
    loop {
        let found = client.call(Method::GET, path, &[], None).await?;
        if done(&found) {
            return Ok(found);
        }
        ensure!(begun.elapsed() < DEADLINE, "{path} does not come to it: {found}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Uploads a package around a file that is no proxy; its file name.
async fn upload(client: &Client, dir: &Path, version: &str, build: &str) -> Result<String> {
    let binary = dir.join("binary");
    std::fs::write(&binary, format!("#!/bin/false {version}\n"))?;
    let spec = BuildSpec {
        name: "obproxy-ce".to_owned(),
        version: version.to_owned(),
        release: format!("{build}.el7"),
        arch: "x86_64".to_owned(),
    };
    let package = build_obproxy_rpm(&spec, &binary, dir)?;
    client.upload("/api/v2/software-packages", &package, |_| {}).await?;
    let name = package.file_name().context("a package without name")?;
    Ok(name.to_string_lossy().into_owned())
}
