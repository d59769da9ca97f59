//! Several servers on one database.

use std::{fs, path::Path};

use obfleet_mysqlwire::Client;
use obfleet_server::{Options, Running, Server, ServerError, founding::FoundingError, state_dir::StateDirError};
use obfleet_store::{Database, Location};
use obfleet_testdb::shared;
use reqwest::{Method, header::ACCEPT_LANGUAGE};
use tempfile::TempDir;
use tokio::time::{Duration, Instant, sleep};

use crate::{
    fake_agent::{FakeAgent, token},
    support::{Api, PASSWORD, Reply, client},
};

/// Long enough for a loaded machine; nothing waits this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);

fn options(url: &str, dir: &Path) -> Options {
    fs::write(dir.join("password"), PASSWORD).unwrap();
    let mut options = Options::new("127.0.0.1:0".parse().unwrap(), dir.join("state"));
    options.database = Some(url.parse().unwrap());
    options.admin_password_file = Some(dir.join("password"));
    options
}

async fn start(url: &str, dir: &Path) -> Result<Running, ServerError> {
    Server::start(options(url, dir)).await
}

async fn first(url: &str) -> Api {
    let dir = tempfile::tempdir().unwrap();
    let running = start(url, dir.path()).await.unwrap();
    let http = client();
    Api { running, http, dir }
}

/// A server's directory that has been prepared for a first start beside this one.
fn prepared(first: &Api) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("state")).unwrap();
    let key = |dir: &Path| dir.join("state/key");
    fs::copy(key(first.dir.path()), key(dir.path())).unwrap();
    dir
}

async fn another(first: &Api, url: &str) -> Api {
    let dir = prepared(first);
    let running = start(url, dir.path()).await.unwrap();
    let http = client();
    Api { running, http, dir }
}

#[tokio::test]
async fn another_server_needs_the_key_alone() {
    let url = shared::mariadb().await.unwrap();
    let one = first(&url).await;
    let agent = FakeAgent::start(&one, "a").await;
    let two = another(&one, &url).await;
    assert_eq!(token(&one).await.ca_sha256, token(&two).await.ca_sha256);
    one.running.stop().await.unwrap();

    // The agent lets the second server in, or this would not end.
    let newcomer = FakeAgent::start(&two, "b").await;
    let (_, proxies) = two.fleet(&[&agent, &newcomer]).await;
    assert_eq!(proxies.len(), 2);
    for dir in [one.dir.path(), two.dir.path()] {
        assert!(!dir.join("state/ca.pem").exists(), "it is in the database");
    }
}

#[tokio::test]
async fn of_two_first_starts_one_makes_the_key() {
    let url = shared::mariadb().await.unwrap();
    // Only what comes after the schema is done at the same time.
    let schema = Database::at(&Location::Server(url.parse().unwrap())).await.unwrap();
    schema.close().await;
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, two) = tokio::join!(start(&url, dirs[0].path()), start(&url, dirs[1].path()));
    let key = |dir: &TempDir| dir.path().join("state/key");
    let (running, from, refused, to) = match (one, two) {
        (Ok(running), Err(refused)) => (running, &dirs[0], refused, &dirs[1]),
        (Err(refused), Ok(running)) => (running, &dirs[1], refused, &dirs[0]),
        (one, two) => panic!("{:?} and {:?}", one.map(|_| ()), two.map(|_| ())),
    };
    let missing = matches!(
        &refused,
        ServerError::Founding(FoundingError::StateDir(StateDirError::KeyMissing { .. }))
    );
    assert!(missing, "{refused:?}");
    assert!(refused.to_string().contains("from another server"), "{refused}");
    assert!(!key(to).exists(), "a key that opens nothing is in the way");

    fs::copy(key(from), key(to)).unwrap();
    start(&url, to.path()).await.unwrap().stop().await.unwrap();
    running.stop().await.unwrap();
}

#[tokio::test]
async fn without_a_lease_nothing_is_changed_and_it_is_said() {
    let url = shared::mariadb().await.unwrap();
    let api = first(&url).await;
    let cluster = api.cluster("test").await;
    let path = format!("/api/v2/obproxy/clusters/{cluster}");
    until(&api, "/metrics", |reply| lease_age(reply).is_some()).await;

    // As if another process had started under the server's name, and lived.
    let mut database = sql(&url).await;
    let steal = "update engine_server set incarnation = 'another', lease_expires_at = 9000000000000000000";
    database.query(steal).await.unwrap();
    let gone = until(&api, "/readyz", |reply| reply.status == 503).await;
    assert_eq!(gone.json()["checks"]["database"], "ok", "{}", gone.text);
    for (language, words) in [("en", "lost its lease"), ("zh-CN", "租约")] {
        let request = api.request(Method::DELETE, &path).header(ACCEPT_LANGUAGE, language);
        let reply = Reply::of(request).await;
        assert_eq!(reply.refusal().0, 503, "{}", reply.text);
        assert_eq!(reply.headers["retry-after"], "1");
        let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(api.get(&path).await.data()["id"], cluster, "reading needs no lease");
    let before = lease_age(&Reply::of(api.bare(Method::GET, "/metrics")).await).unwrap();
    until(&api, "/metrics", |reply| lease_age(reply).unwrap() > before).await;

    database
        .query("update engine_server set lease_expires_at = 0")
        .await
        .unwrap();
    until(&api, "/readyz", |reply| reply.status == 200).await;
    let task = api.delete(&path).await.data();
    assert_eq!(api.rest(task["id"].as_i64().unwrap()).await["status"], "SUCCESSFUL");
}

fn lease_age(metrics: &Reply) -> Option<f64> {
    let line = |line: &str| line.strip_prefix("obfleet_lease_age_seconds ")?.parse().ok();
    metrics.text.lines().find_map(line)
}

async fn until(api: &Api, path: &str, done: impl Fn(&Reply) -> bool) -> Reply {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reply = Reply::of(api.bare(Method::GET, path)).await;
        if done(&reply) {
            return reply;
        }
        assert!(Instant::now() < deadline, "{path} never came to it: {}", reply.text);
        sleep(Duration::from_millis(20)).await;
    }
}

/// The database itself.
async fn sql(url: &str) -> Client {
    let (_, rest) = url.split_once('@').unwrap();
    let (address, schema) = rest.split_once('/').unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut client = Client::connect(address.parse().unwrap(), "root", "", deadline)
        .await
        .unwrap();
    client.query(&format!("use {schema}")).await.unwrap();
    client
}
