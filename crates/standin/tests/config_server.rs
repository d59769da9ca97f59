//! A proxy that learns its clusters from a config server.
#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

#[path = "common/proxy.rs"]
mod proxy;
#[path = "common/small_server.rs"]
mod small_server;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;
use obfleet_mysqlwire::{Client, ClientError};
use obfleet_standin::Faults;
use proxy::{NEW, ProxyHome, send, until};
use serde_json::{Value, json};
use small_server::small_server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, Instant};

/// What a config server tells: version, and the SQL address of each cluster's root server.
#[derive(Default)]
struct Told {
    version: String,
    clusters: BTreeMap<String, SocketAddr>,
    /// Actions asked for, in order.
    asked: Vec<String>,
}

/// A config server of the test's own; it is gone when this is dropped.
struct ConfigServer {
    address: SocketAddr,
    told: Arc<Mutex<Told>>,
    serving: tokio::task::JoinHandle<()>,
}

impl ConfigServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let told = Arc::<Mutex<Told>>::default();
        let shared = Arc::clone(&told);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // One after the other: a proxy asks no two things at once.
                let _ = serve(stream, &shared, address).await;
            }
        });
        Self { address, told, serving }
    }

    fn url(&self) -> String {
        format!(
            "http://{}/services?Action=GetObProxyConfig&User_ID=alibaba&UID=admin&ObproxyClusterName=c1",
            self.address
        )
    }

    fn tell(&self, version: &str, clusters: &[(&str, SocketAddr)]) {
        let mut told = self.told.lock().unwrap();
        told.version = version.into();
        told.clusters = clusters
            .iter()
            .map(|(name, address)| ((*name).to_owned(), *address))
            .collect();
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap().asked)
    }
}

impl Drop for ConfigServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(mut stream: TcpStream, told: &Mutex<Told>, own: SocketAddr) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let target = request.split(' ').nth(1).unwrap_or_default();
    let parameters: BTreeMap<_, _> = target
        .split_once('?')
        .map_or("", |(_, query)| query)
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .collect();
    let answer = {
        let mut told = told.lock().unwrap();
        let asked = ["Action", "VersionOnly", "ObRegion", "version"];
        let asked: Vec<_> = asked.iter().filter_map(|name| parameters.get(name).copied()).collect();
        told.asked.push(asked.join(" "));
        answer(&told, &parameters, own)
    };
    let body = json!({"Code": 200, "Message": "successful", "Success": true, "Data": answer}).to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await
}

fn answer(told: &Told, parameters: &BTreeMap<&str, &str>, own: SocketAddr) -> Value {
    let url = |name: &str| format!("http://{own}/services?Action=ObRootServiceInfo&ObRegion={name}");
    if parameters["Action"] == "ObRootServiceInfo" {
        let name = parameters["ObRegion"];
        // The metadb is whichever there is.
        let (name, address) = match told.clusters.get_key_value(name) {
            Some(found) => found,
            None => told.clusters.iter().next().unwrap(),
        };
        return json!({"ObRegion": name, "ObRegionId": 0, "Type": "PRIMARY", "ReadonlyRsList": [],
            "RsList": [{"address": format!("{}:2882", address.ip()), "role": "LEADER", "sql_port": address.port()}]});
    }
    if parameters.contains_key("VersionOnly") {
        return json!({"Version": told.version});
    }
    let list: Vec<_> = told
        .clusters
        .keys()
        .map(|name| json!({"ObRegion": name, "ObRootServiceInfoUrl": url(name)}))
        .collect();
    json!({"Version": told.version, "ObProxyBinUrl": "http://nowhere", "ObRootServiceInfoUrlList": list,
        "ObProxyDatabaseInfo": {"DataBase": "d", "MetaDataBase": url("MetaDataBase"), "Password": "p", "User": "u"}})
}

async fn connect(home: &ProxyHome, user: &str) -> Result<Client, ClientError> {
    Client::connect(home.address(), user, "", Instant::now() + Duration::from_secs(20)).await
}

/// The code a login is refused with; 0 if it is not.
async fn refused(home: &ProxyHome, user: &str) -> u16 {
    match connect(home, user).await {
        Ok(client) => {
            client.close().await;
            0
        }
        Err(ClientError::LoginRefused(error)) => error.code,
        Err(other) => panic!("{other}"),
    }
}

/// Version and number of clusters that the proxy says it holds.
async fn held(home: &ProxyHome) -> (String, String) {
    let mut admin = home.admin().await;
    let items = admin.query("show proxyconfig like 'json_config%'").await.unwrap();
    assert_eq!(items.rows.len(), 7);
    let value = |name: &str| {
        let row = (0..items.rows.len()).find(|row| items.text(*row, "name").as_deref() == Some(name));
        items.text(row.unwrap(), "value").unwrap()
    };
    let held = (value("json_config_version"), value("json_config_cluster_count"));
    admin.close().await;
    held
}

/// Cluster and root server of each row of `show proxycluster`.
async fn clusters(home: &ProxyHome) -> Vec<(String, String)> {
    let mut admin = home.admin().await;
    let listed = admin.query("show proxycluster").await.unwrap();
    let row = |row| {
        (
            listed.text(row, "cluster_name").unwrap(),
            listed.text(row, "root_addr").unwrap(),
        )
    };
    let rows = (0..listed.rows.len()).map(row).collect();
    admin.close().await;
    rows
}

async fn set(home: &ProxyHome, item: &str) {
    let mut admin = home.admin().await;
    admin
        .query(&format!("alter proxyconfig set {item} = 'True'"))
        .await
        .unwrap();
    admin.close().await;
}

async fn until_off(home: &ProxyHome, item: &str) {
    until(&format!("{item} is done"), async || {
        let mut admin = home.admin().await;
        let items = admin.query(&format!("show proxyconfig like '{item}'")).await.unwrap();
        admin.close().await;
        items.text(0, "value").as_deref() == Some("False")
    })
    .await;
}

#[tokio::test]
async fn logins_are_led_to_the_cluster_they_name() {
    let server = ConfigServer::start().await;
    let (north, south) = (small_server(0).await, small_server(0).await);
    server.tell("v1", &[("north", north), ("south", south)]);
    let home = ProxyHome::new();
    home.start_with_config_server(&server.url()).await;
    assert_eq!(
        server.asked(),
        ["GetObProxyConfig true", "GetObProxyConfig"],
        "the version first"
    );
    assert_eq!(held(&home).await, ("v1".into(), "2".into()));
    let listed = |north: &str| {
        let rows = [("north", north), ("south", ""), ("MetaDataBase", "")];
        rows.map(|(name, address)| (name.to_owned(), address.to_owned()))
    };
    assert_eq!(clusters(&home).await, listed(""), "nobody has logged in yet");
    for _ in 0..2 {
        assert_eq!(refused(&home, "app@t#north").await, 0);
    }
    assert_eq!(server.asked(), ["ObRootServiceInfo north 2"], "asked for once");
    assert_eq!(clusters(&home).await, listed(&north.to_string()));
    assert_eq!(refused(&home, "app@t#west").await, 4669);
    assert_eq!(refused(&home, "app@t").await, 4669, "there are two");

    let mut client = connect(&home, "app@t#south").await.unwrap();
    let mut admin = home.admin().await;
    let sessions = admin.query("show proxysession").await.unwrap();
    let row = (0..sessions.rows.len()).find(|row| sessions.text(*row, "User").as_deref() == Some("app"));
    assert_eq!(sessions.text(row.unwrap(), "Cluster").as_deref(), Some("south"));
    client.query("select user").await.unwrap();
}

#[tokio::test]
async fn a_start_without_clusters_serves_nobody_and_learns_later() {
    let server = ConfigServer::start().await;
    server.tell("v0", &[]);
    let home = ProxyHome::new();
    home.start_with_config_server(&server.url()).await;
    assert_eq!(
        held(&home).await,
        (String::new(), "0".into()),
        "an empty list is not taken"
    );
    let mut admin = home.admin().await;
    assert_eq!(proxy::refusal(admin.query("show proxycluster").await), 4018);
    assert_eq!(refused(&home, "app@t#north").await, 4669);
    server.tell("v1", &[("north", small_server(0).await)]);
    until("the timer has come round", async || held(&home).await.0 == "v1").await;
    assert_eq!(refused(&home, "app@t").await, 0, "there is only one");
}

#[tokio::test]
async fn the_switches_have_it_ask_again() {
    let server = ConfigServer::start().await;
    let (north, south) = (small_server(0).await, small_server(0).await);
    server.tell("v1", &[("north", north)]);
    let home = ProxyHome::new();
    home.start_with_config_server(&server.url()).await;
    assert_eq!(refused(&home, "app@t#north").await, 0);

    server.tell("v2", &[("south", south)]);
    set(&home, "refresh_json_config").await;
    until_off(&home, "refresh_json_config").await;
    assert_eq!(held(&home).await, ("v2".into(), "1".into()));
    assert_eq!(refused(&home, "app@t#north").await, 4669, "it is gone");
    assert_eq!(refused(&home, "app@t#south").await, 0);

    // Another root server under the same version is learned only by the other switch.
    let moved = small_server(0).await;
    server.tell("v2", &[("south", moved)]);
    set(&home, "refresh_rslist").await;
    until_off(&home, "refresh_rslist").await;
    let rows = clusters(&home).await;
    assert_eq!(rows[0], ("south".to_owned(), moved.to_string()));

    server.tell("v3", &[]);
    set(&home, "refresh_json_config").await;
    until("it was told nothing it can take", async || {
        home.read("log/obproxy.log")
            .contains("fail to refresh config server info")
    })
    .await;
    assert_eq!(held(&home).await.0, "v2", "and keeps what it has");
    let mut admin = home.admin().await;
    let items = admin
        .query("show proxyconfig like 'refresh_json_config'")
        .await
        .unwrap();
    assert_eq!(items.text(0, "value").as_deref(), Some("True"), "it goes on trying");
}

#[tokio::test]
async fn what_was_told_outlives_the_server_and_the_process() {
    let server = ConfigServer::start().await;
    let (north, south) = (small_server(0).await, small_server(0).await);
    server.tell("v1", &[("north", north), ("south", south)]);
    let home = ProxyHome::new();
    home.start_with_config_server(&server.url()).await;
    assert_eq!(refused(&home, "app@t#north").await, 0);
    for directory in ["etc", ".conf"] {
        for file in ["obproxy_config_server_info.json", "obproxy_rslist_info.json"] {
            assert!(home.join(directory).join(file).is_file(), "{directory}/{file}");
        }
    }

    home.install(NEW, Faults::default());
    let mut keeper = home.admin().await;
    keeper.query("alter proxyconfig set proxy_local_cmd = 2").await.unwrap();
    home.until_version(NEW).await;
    keeper.close().await;
    home.until_process_count(1).await;
    assert_eq!(
        held(&home).await,
        ("v1".into(), "2".into()),
        "the new process has asked, too"
    );
    assert_eq!(refused(&home, "app@t#south").await, 0);

    drop(server);
    for pid in home.pids() {
        send(pid, Signal::SIGKILL);
    }
    home.until_process_count(0).await;
    std::fs::remove_file(home.join("etc/obproxy_config_server_info.json")).unwrap();
    home.start_again().await;
    assert_eq!(held(&home).await, ("v1".into(), "2".into()));
    for user in ["app@t#north", "app@t#south"] {
        assert_eq!(refused(&home, user).await, 0, "{user}");
    }
}

#[tokio::test]
async fn a_cluster_nobody_has_logged_in_to_cannot_be_reached_without_the_server() {
    let server = ConfigServer::start().await;
    server.tell("v1", &[("north", small_server(0).await)]);
    let home = ProxyHome::new();
    home.start_with_config_server(&server.url()).await;
    drop(server);
    assert_eq!(refused(&home, "app@t#north").await, 4016);
}
