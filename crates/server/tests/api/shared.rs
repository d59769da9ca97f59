//! Several servers on one database.

use std::{fs, path::Path};

use obfleet_mysqlwire::Client;
use obfleet_server::{
    Options, Running, Server, ServerError,
    founding::FoundingError,
    peers::{pass, pass::Passes},
    state_dir::StateDirError,
};
use obfleet_store::{Database, Location};
use obfleet_testdb::shared;
use obfleet_wire::time::Timestamp;
use reqwest::{Method, header::ACCEPT_LANGUAGE};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Duration, Instant, sleep};

use crate::{
    fake_agent::{FakeAgent, token},
    support::{Api, NEW, OLD, PASSWORD, Reply, client},
    tls::Authority,
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

/// How often a server was told of work by another.
async fn nudges(api: &Api) -> u64 {
    let taken = "obfleet_http_requests_total{method=\"POST\",route=\"/internal/nudge\",status=\"204\"} ";
    let metrics = Reply::of(api.bare(Method::GET, "/metrics")).await.text;
    let count = metrics.lines().find_map(|line| line.strip_prefix(taken)?.parse().ok());
    count.unwrap_or(0)
}

#[tokio::test]
async fn a_server_tells_the_others_of_what_is_theirs_to_do() {
    let url = shared::mariadb().await.unwrap();
    let one = first(&url).await;
    let agent = FakeAgent::start(&one, "a").await;
    let (cluster, proxies) = one.fleet(&[&agent]).await;
    let two = another(&one, &url).await;
    agent.busy(true);
    let path = format!("/api/v2/obproxy/clusters/{cluster}/obproxies/{}", proxies[0]);
    let task = one.delete(&path).await.data()["id"].as_i64().unwrap();
    let steps = format!("/api/v2/tasks/instances/{task}");
    let at_agent = |step: &Value| step["name"] == "Stop and uninstall obproxy" && step["status"] == "RUNNING";
    let find = |task: &Value| {
        task["subtasks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|step| at_agent(step))
            .cloned()
    };
    let seen = one.until(&steps, |task| find(task).is_some()).await;
    let step = find(&seen).unwrap();

    let metrics = Reply::of(one.bare(Method::GET, "/metrics")).await.text;
    let (runs, other) = match metrics.contains("obfleet_running_attempts 1\n") {
        true => (&one, &two),
        false => (&two, &one),
    };
    let before = nudges(runs).await;
    let cancel = format!("{steps}/subtasks/{}/cancel", step["id"]);
    other.post_nothing(&cancel).await.data();
    let deadline = Instant::now() + PATIENCE;
    while nudges(runs).await == before {
        assert!(Instant::now() < deadline, "the server that runs the step was not told");
        sleep(Duration::from_millis(20)).await;
    }
    agent.busy(false);
    assert_eq!(two.rest(task).await["status"], "FAILED");

    let before = nudges(&two).await;
    one.running.stop().await.unwrap();
    assert!(nudges(&two).await > before, "what is left is for the others at once");
}

#[tokio::test]
async fn only_servers_of_the_database_are_listened_to() {
    let url = shared::mariadb().await.unwrap();
    let one = first(&url).await;
    let id = fs::read_to_string(one.dir.path().join("state/server-id")).unwrap();
    let mut key = [0; 32];
    let text = fs::read_to_string(one.dir.path().join("state/key")).unwrap();
    hex::decode_to_slice(text.trim(), &mut key).unwrap();
    let call = async |pass: Option<String>, path: &str| {
        let request = one.bare(Method::POST, path);
        let request = match pass {
            Some(pass) => request.header(pass::HEADER, pass),
            None => request.basic_auth("admin", Some(PASSWORD)),
        };
        Reply::of(request).await.status.as_u16()
    };
    let path = "/internal/nudge";
    let pass = |key: &[u8; 32], to: &str| Passes::new(key, "other").make(to, "POST", path, Timestamp::now());
    let good = || Some(pass(&key, id.trim()));
    assert_eq!(call(good(), path).await, 204);
    assert_eq!(
        call(good(), &format!("/internal/packages/{}", "0".repeat(64))).await,
        401
    );
    assert_eq!(call(Some(pass(&key, "third")), path).await, 421);
    assert_eq!(call(Some(pass(&[7; 32], id.trim())), path).await, 401);
    assert_eq!(call(None, path).await, 401, "a login is no pass");

    let alone = Api::start().await;
    let reply = Reply::of(alone.request(Method::POST, path)).await;
    assert_eq!(reply.refusal().1, "COM10003", "a server alone has no such route");
}

/// Digests of the package files a server has.
fn files(api: &Api) -> Vec<String> {
    let entries = fs::read_dir(api.dir.path().join("state/packages")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn uploads(api: &Api) -> usize {
    fs::read_dir(api.dir.path().join("state/uploads")).unwrap().count()
}

#[tokio::test]
async fn a_package_is_on_every_server() {
    let url = shared::mariadb().await.unwrap();
    let one = first(&url).await;
    let old = one.upload(OLD).await.data();
    let two = another(&one, &url).await;
    let deadline = Instant::now() + PATIENCE;
    while files(&two) != files(&one) {
        assert!(Instant::now() < deadline, "the newcomer has not got the package");
        sleep(Duration::from_millis(20)).await;
    }

    one.upload(NEW).await.data();
    assert_eq!(files(&two).len(), 2, "the upload is answered when the others have it");
    assert_eq!(files(&two), files(&one));

    // One that is lost is got again when it is needed.
    let path = format!("/api/v2/files/sys-package/{OLD}");
    let sent = fs::read(one.dir.path().join(OLD)).unwrap();
    let lose = |api: &Api| {
        let gone = files(api);
        gone.iter()
            .for_each(|name| fs::remove_file(api.dir.path().join("state/packages").join(name)).unwrap());
    };
    lose(&two);
    let got = two.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(
        (got.status().as_u16(), got.bytes().await.unwrap().to_vec()),
        (200, sent.clone())
    );
    assert_eq!(files(&two).len(), 1);

    // One that goes is removed by every server, where it cannot be told by its next start.
    assert_eq!(
        one.delete(&format!("/api/v2/software-packages/{}", old["id"]))
            .await
            .status,
        200
    );
    assert_eq!((files(&one).len(), files(&two).len()), (1, 1));
    let Api { running, dir, http } = two;
    running.stop().await.unwrap();
    let running = start(&url, dir.path()).await.unwrap();
    let two = Api { running, dir, http };
    let deadline = Instant::now() + PATIENCE;
    while files(&two) != files(&one) {
        assert!(
            Instant::now() < deadline,
            "what was deleted is there: {:?}",
            files(&two)
        );
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn servers_with_certificates_share_packages_too() {
    let url = shared::mariadb().await.unwrap();
    let authority = Authority::new();
    let secured = async |dir: TempDir| {
        let mut options = options(&url, dir.path());
        options.tls = Some(authority.write(dir.path()));
        let running = Server::start(options).await.unwrap();
        let http = authority.client();
        Api { running, http, dir }
    };
    let one = secured(tempfile::tempdir().unwrap()).await;
    let two = secured(prepared(&one)).await;
    one.upload(NEW).await.data();
    assert_eq!((files(&two).len(), files(&one)), (1, files(&two)));
}

#[tokio::test]
async fn a_damaged_package_file_does_not_spread() {
    let url = shared::mariadb().await.unwrap();
    let one = first(&url).await;
    let two = another(&one, &url).await;
    one.upload(OLD).await.data();
    let name = files(&one).remove(0);
    let place = |api: &Api| api.dir.path().join("state/packages").join(&name);
    let sent = fs::read(place(&one)).unwrap();
    fs::remove_file(place(&two)).unwrap();
    for damaged in [b"something else".to_vec(), [&*sent, b"and more"].concat()] {
        fs::write(place(&one), damaged).unwrap();
        let reply = two.get(&format!("/api/v2/files/sys-package/{OLD}")).await;
        assert_eq!(reply.refusal().0, 500);
        assert!(reply.text.contains("gave another file"), "{}", reply.text);
        assert_eq!((files(&two).len(), uploads(&two)), (0, 0), "no part of it is left");
    }
    // The same file, uploaded where it is missing, is no second package.
    assert_eq!(two.upload_bytes("x.rpm", sent.clone()).await.status, 200);
    assert_eq!(fs::read(place(&two)).unwrap(), sent);
    assert_eq!(two.upload_bytes("x.rpm", sent).await.refusal().1, "PKG10012");
}

/// What somebody asks of a server.
async fn ask(api: &Api, user: &str, password: &str, path: &str) -> (u16, String) {
    let reply = Reply::of(api.bare(Method::GET, path).basic_auth(user, Some(password))).await;
    match reply.status.as_u16() {
        200 => (200, String::new()),
        _ => (reply.refusal().0, reply.refusal().1),
    }
}

#[tokio::test]
async fn what_is_changed_of_a_user_counts_at_once_on_all_servers() {
    const TASKS: &str = "/api/v2/tasks/instances";
    let url = shared::mariadb().await.unwrap();
    let one = first(&url).await;
    let two = another(&one, &url).await;
    let body = serde_json::json!({
        "name": "anna", "password": PASSWORD, "needChangePassword": false, "roles": [{"name": "TASK_VIEWER"}],
    });
    let id = one.post("/api/v2/iam/users", body).await.data()["id"].clone();
    let path = format!("/api/v2/iam/users/{id}");
    for api in [&one, &two] {
        assert_eq!(ask(api, "anna", PASSWORD, TASKS).await.0, 200);
    }
    // A session of one server's is one of the other's.
    let form = "username=anna&password=Correct-Horse-1";
    let login = one.bare(Method::POST, "/api/v2/login").body(form);
    let login = Reply::of(login.header("Content-Type", "application/x-www-form-urlencoded")).await;
    let cookie = login.headers["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let in_session = async |api: &Api| {
        Reply::of(api.bare(Method::GET, TASKS).header("Cookie", &cookie))
            .await
            .status
    };
    assert_eq!(in_session(&two).await, 200);

    // The second server has verified this password a moment ago.
    one.patch(&path, serde_json::json!({"roles": []})).await.data();
    assert_eq!(ask(&two, "anna", PASSWORD, TASKS).await, (403, "IAM11000".into()));
    assert_eq!(in_session(&two).await, 403);
    one.patch(&path, serde_json::json!({"enabled": false})).await.data();
    assert_eq!(ask(&two, "anna", PASSWORD, TASKS).await, (401, "IAM10001".into()));
    assert_eq!(in_session(&two).await, 401);
    one.patch(&path, serde_json::json!({"enabled": true})).await.data();
    let other = serde_json::json!({"password": "Other-Horse-2"});
    one.post(&format!("{path}/resetPassword"), other).await.json();
    assert_eq!(ask(&two, "anna", PASSWORD, TASKS).await, (401, "IAM10004".into()));

    // Guesses are counted together, however many come at once.
    let verified = || one.running.verifications() + two.running.verifications();
    let before = verified();
    let guesses = (0..40).map(|n| {
        let api = if n % 2 == 0 { &one } else { &two };
        async move { ask(api, "nobody", &format!("guess{n}"), TASKS).await.0 }
    });
    let refused = futures::future::join_all(guesses).await;
    assert!(refused.iter().all(|status| *status == 401));
    let mut database = sql(&url).await;
    let count = "select failures from login_failure where name = 'nobody'";
    let count = database.query(count).await.unwrap();
    let counted = String::from_utf8(count.rows[0][0].clone().unwrap()).unwrap();
    let counted: u64 = counted.parse().unwrap();
    assert_eq!(
        counted,
        verified() - before,
        "every guess that was looked at is counted"
    );
    assert!(counted <= 14, "{counted} guesses were looked at");
    for running in [one.running, two.running] {
        running.stop().await.unwrap();
    }
}
