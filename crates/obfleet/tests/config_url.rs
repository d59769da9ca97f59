//! Proxies that learn their OceanBase clusters from the server: two databases behind one proxy cluster, links that come and
//! go under sessions, a server that is away, and an upgrade.

#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use nix::sys::signal::Signal;
use obfleet_lab::{
    api,
    fleet::Fleet,
    packages::{NEW, OLD, Release},
    process,
    testbed::{PATIENCE, Proxy, SYS_PASSWORD, until},
};
use obfleet_mysqlwire::Client;
use obfleet_obproxy::admin::AdminConn;
use obfleet_standin::ports::PortLease;
use obfleet_testdb::{Database, folder};
use serde_json::{Value, json};

const EXE: &str = env!("CARGO_BIN_EXE_obfleet");
const HOSTS: u8 = 2;
const DRAIN_WINDOW_S: u64 = 5;
const CLUSTER: &str = "shop";
const CLUSTERS: &str = "/api/v2/obproxy/clusters";
const LOGIN_PATIENCE: Duration = Duration::from_secs(20);

/// A fleet whose proxies have no root servers of their own.
struct Bed {
    fleet: Fleet,
    /// Path of the proxy cluster.
    path: String,
    proxies: Vec<Proxy>,
    _ports: Vec<[PortLease; 2]>,
}

impl Bed {
    /// A proxy on each host, linked to these clusters.
    async fn start(links: &[&str], known: &[(&str, SocketAddr)]) -> Self {
        let fleet = Fleet::start_with(Path::new(EXE), HOSTS, DRAIN_WINDOW_S, None)
            .await
            .unwrap();
        let api = fleet.api().unwrap();
        for (name, address) in known {
            let body = json!({"name": name, "rootServers": [{"ip": address.ip(), "sqlPort": address.port()}]});
            api.post("/api/v2/ob/clusters", &body).await.unwrap();
        }
        upload(&fleet, OLD).await;
        let links: Vec<_> = links.iter().map(|name| json!({"clusterName": name})).collect();
        let body = json!({
            "name": CLUSTER, "address": "127.0.0.1", "port": 2883, "workMode": "CONFIG_URL", "password": SYS_PASSWORD,
            "obLinks": links,
        });
        let task = api.post(CLUSTERS, &body).await.unwrap();
        api.success(api::id(&task).unwrap(), PATIENCE).await.unwrap();
        let path = format!("{CLUSTERS}/{}", task["obproxyClusterId"]);
        let mut ports = Vec::new();
        for host in &fleet.hosts {
            let [sql, exporter] = [PortLease::take().unwrap(), PortLease::take().unwrap()];
            let body = json!({
                "hostIds": [host.id], "sqlPort": sql.port(), "exporterPort": exporter.port(), "version": OLD.file_name(),
            });
            let tasks = api.post(&format!("{path}/obproxies/batchAdd"), &body).await.unwrap();
            api.success(api::id(&api::contents(&tasks)[0]).unwrap(), PATIENCE)
                .await
                .unwrap();
            ports.push([sql, exporter]);
        }
        let detail = api.get(&path).await.unwrap();
        let proxy = |row: &Value| {
            let host = fleet.hosts.iter().find(|host| row["hostId"] == host.id).unwrap();
            let id = api::id(row).unwrap();
            Proxy {
                id,
                address: SocketAddr::new(host.address, u16::try_from(row["sqlPort"].as_u64().unwrap()).unwrap()),
                home: host.root().join("proxies").join(format!("{CLUSTER}-{id}")),
            }
        };
        let proxies = detail["obproxies"].as_array().unwrap().iter().map(proxy).collect();
        Self {
            path,
            proxies,
            fleet,
            _ports: ports,
        }
    }

    async fn add(&self, name: &str) {
        let path = format!("{}/obLinks/batchAdd", self.path);
        let body = json!({"clusterName": name});
        assert_eq!(self.fleet.api().unwrap().post(&path, &body).await.unwrap(), Value::Null);
    }

    async fn remove(&self, name: &str) {
        let path = format!("{}/obLinks/{name}", self.path);
        assert_eq!(self.fleet.api().unwrap().delete(&path).await.unwrap(), Value::Null);
    }

    /// Waits until the cluster has these links, all RUNNING; then every proxy has them too, and the version that is told.
    async fn serves(&self, names: &[&str]) {
        let version = self.tells(names).await;
        for proxy in &self.proxies {
            assert_eq!(has(proxy).await, (Some(version.clone()), sorted(names)), "{proxy:?}");
        }
    }

    /// Like [`Bed::serves`], where the server may have taken a proxy for away: that one has not been asked, and has what is
    /// told when it has asked by itself.
    async fn comes_to_serve(&self, names: &[&str]) {
        let version = self.tells(names).await;
        for proxy in &self.proxies {
            until("the proxy has asked by itself", PATIENCE, async || {
                has(proxy).await == (Some(version.clone()), sorted(names))
            })
            .await;
        }
    }

    /// Waits until the cluster has these links, all RUNNING, and gives the version of the configuration that tells them.
    async fn tells(&self, names: &[&str]) -> String {
        let are_running = |cluster: &Value| {
            let links = cluster["obLinks"].as_array().unwrap();
            let is = |(link, name): (&Value, &&str)| link["clusterName"] == **name && link["status"] == "RUNNING";
            links.len() == names.len() && links.iter().zip(names).all(is)
        };
        let api = self.fleet.api().unwrap();
        let detail = api.until(&self.path, PATIENCE, are_running).await.unwrap();
        let url = detail["configUrl"].as_str().unwrap();
        let told = api.open(url.strip_prefix(&api.url).unwrap()).await.unwrap();
        told["Data"]["Version"].as_str().unwrap().to_owned()
    }
}

async fn upload(fleet: &Fleet, release: Release) {
    let dir = tempfile::tempdir_in(fleet.root()).unwrap();
    let to = dir.path().to_owned();
    let build = tokio::task::spawn_blocking(move || release.build(Path::new(EXE), None, &to));
    let bytes = fs::read(build.await.unwrap().unwrap()).unwrap();
    let api = fleet.api().unwrap();
    api.upload(&release.file_name(), bytes).await.unwrap();
}

fn sorted(names: &[&str]) -> Vec<String> {
    let mut names: Vec<_> = names.iter().map(ToString::to_string).collect();
    names.sort();
    names
}

/// What a proxy says it has from its config server: the version, and the clusters of clients by name.
async fn has(proxy: &Proxy) -> (Option<String>, Vec<String>) {
    let mut admin = AdminConn::connect(proxy.address, SYS_PASSWORD, LOGIN_PATIENCE)
        .await
        .unwrap();
    let version = admin.config_version().await.unwrap();
    let mut names = admin.ob_clusters().await.unwrap();
    admin.close().await;
    names.retain(|name| name != "MetaDataBase");
    names.sort();
    (version, names)
}

/// Writes into a database which one it is.
async fn mark(address: SocketAddr, name: &str) {
    let deadline = tokio::time::Instant::now() + LOGIN_PATIENCE;
    let mut client = Client::connect(address, "root", "", deadline).await.unwrap();
    for sql in [
        "create database shop".to_owned(),
        "create table shop.here (name varchar(20) primary key)".to_owned(),
        format!("insert into shop.here values ('{name}')"),
    ] {
        client.query(&sql).await.unwrap();
    }
    client.close().await;
}

async fn where_is(client: &mut Client) -> String {
    let answer = client.query("select name from shop.here").await.unwrap();
    answer.text(0, "name").unwrap()
}

/// Which database a client of this cluster comes to; `None` when it is not let in.
async fn led(proxy: &Proxy, cluster: &str) -> Option<String> {
    let mut client = proxy.log_in(&format!("root@sys#{cluster}"), "").await.ok()?;
    let name = where_is(&mut client).await;
    client.close().await;
    Some(name)
}

#[tokio::test]
async fn links_come_and_go_under_sessions_and_proxies_do_without_the_server() {
    let (first, second) = (folder().unwrap(), folder().unwrap());
    let (maria, ocean) = tokio::join!(Database::mariadb(first.path()), Database::seekdb(second.path()));
    let (maria, ocean) = (maria.unwrap(), ocean.unwrap());
    mark(maria.address(), "maria").await;
    mark(ocean.address(), "ocean").await;
    let known = [("maria", maria.address()), ("ocean", ocean.address())];
    let mut bed = Bed::start(&["maria"], &known).await;
    bed.serves(&["maria"]).await;

    // A second cluster, while a transaction of the first is under way.
    let mut traveller = bed.proxies[0].log_in("root@sys#maria", "").await.unwrap();
    traveller.query("begin").await.unwrap();
    for proxy in &bed.proxies {
        assert_eq!(led(proxy, "maria").await.as_deref(), Some("maria"));
        assert_eq!(led(proxy, "ocean").await, None, "{proxy:?} does not know it yet");
    }
    bed.add("ocean").await;
    bed.serves(&["maria", "ocean"]).await;
    for proxy in &bed.proxies {
        for name in ["maria", "ocean"] {
            assert_eq!(led(proxy, name).await.as_deref(), Some(name), "{proxy:?}");
        }
    }

    bed.remove("maria").await;
    bed.serves(&["ocean"]).await;
    for proxy in &bed.proxies {
        assert_eq!(led(proxy, "maria").await, None, "{proxy:?} still knows it");
        assert_eq!(led(proxy, "ocean").await.as_deref(), Some("ocean"));
    }
    assert_eq!(where_is(&mut traveller).await, "maria", "who was there stays");
    traveller.query("commit").await.unwrap();
    traveller.close().await;

    // Nobody to ask: proxies that come back have what they were told.
    let told = has(&bed.proxies[0]).await;
    let lost = bed.fleet.lose_server().unwrap();
    for proxy in &bed.proxies {
        let before = process::of_home(&proxy.home);
        for pid in &before {
            process::signal(*pid, Signal::SIGKILL);
        }
        until("the agent has started the proxy again", PATIENCE, async || {
            let now = process::of_home(&proxy.home);
            !now.is_empty()
                && !now.iter().any(|pid| before.contains(pid))
                && AdminConn::connect(proxy.address, SYS_PASSWORD, LOGIN_PATIENCE)
                    .await
                    .is_ok()
        })
        .await;
        assert_eq!(has(proxy).await, told, "{proxy:?}");
        assert_eq!(led(proxy, "ocean").await.as_deref(), Some("ocean"), "{proxy:?}");
        assert_eq!(led(proxy, "maria").await, None, "{proxy:?}");
    }
    bed.fleet.bring_back(lost).await.unwrap();

    // The server is back, and links change as before.
    let api = bed.fleet.api().unwrap();
    bed.add("maria").await;
    bed.comes_to_serve(&["maria", "ocean"]).await;

    // What a hot restart leaves behind asks for itself.
    upload(&bed.fleet, NEW).await;
    let path = format!("{}/obproxies/{}/upgrade", bed.path, bed.proxies[0].id);
    let body = json!({"shortRpmName": NEW.short_rpm_name()});
    let task = api.post(&path, &body).await.unwrap();
    api.success(api::id(&task).unwrap(), PATIENCE).await.unwrap();
    bed.serves(&["maria", "ocean"]).await;
    for name in ["maria", "ocean"] {
        assert_eq!(led(&bed.proxies[0], name).await.as_deref(), Some(name));
    }
}
