//! A server whose state is on a database server, and `obfleet migrate`.

#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
};

use obfleet_lab::{
    api::{self, Api},
    process::Process,
    testbed::PATIENCE,
};
use obfleet_mysqlwire::Client;
use obfleet_standin::ports::PortLease;
use obfleet_testdb::shared;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant, sleep};

const EXE: &str = env!("CARGO_BIN_EXE_obfleet");
const PASSWORD: &str = "a-password-of-a-test";

fn obfleet(url: &str) -> Command {
    let mut command = Command::new(EXE);
    command.env("OBFLEET_DATABASE", url);
    command
}

async fn server(url: &str, dir: &Path, port: &PortLease) -> (Process, Api) {
    let address = format!("127.0.0.1:{}", port.port());
    let password = dir.join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    let mut command = obfleet(url);
    command.args(["server", "--listen", &address]);
    command.arg("--state-dir").arg(dir.join("state"));
    command.arg("--admin-password-file").arg(password);
    let mut process = Process::start(&mut command, dir.join("log")).unwrap();
    let api = Api::new(format!("http://{address}"), PASSWORD.to_owned()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !api.answers().await {
        let words = || process.last_words();
        assert!(Instant::now() < deadline, "{}", words());
        assert!(process.ended().is_none(), "{}", process.last_words());
        sleep(Duration::from_millis(20)).await;
    }
    (process, api)
}

fn migrate(url: &str, dir: &Path, order: &str) -> Output {
    let mut command = obfleet(url);
    command.args(["migrate", "--state-dir"]).arg(dir).arg(order);
    command.output().unwrap()
}

/// Whether all is well, and the last line.
fn fsck(url: &str, dir: &Path) -> (bool, Value) {
    let mut command = obfleet(url);
    let output = command
        .args(["fsck", "--json", "--state-dir"])
        .arg(dir)
        .output()
        .unwrap();
    let lines = text(&output.stdout);
    let last = lines
        .lines()
        .last()
        .unwrap_or_else(|| panic!("{}", text(&output.stderr)));
    (output.status.success(), serde_json::from_str(last).unwrap())
}

fn address(url: &str) -> SocketAddr {
    let (_, rest) = url.split_once('@').unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

#[tokio::test]
async fn a_server_keeps_its_state_on_mariadb() {
    keeps_its_state(shared::mariadb().await.unwrap()).await;
}

#[tokio::test]
async fn a_server_keeps_its_state_on_oceanbase() {
    keeps_its_state(shared::seekdb().await.unwrap()).await;
}

async fn keeps_its_state(url: String) {
    let dir = tempfile::tempdir().unwrap();
    let port = PortLease::take().unwrap();
    let (process, api) = server(&url, dir.path(), &port).await;
    let cluster = json!({
        "name": "c1", "address": "127.0.0.1", "port": 2883, "workMode": "RS_LIST", "password": "secret-Of-sys1",
        "obproxyInstallParam": {"hostIds": []},
        "obLinks": [{"clusterName": "c1", "username": "proxyro", "rootServers": ["127.0.0.1:2881"]}],
    });
    let task = api.post("/api/v2/obproxy/clusters", &cluster).await.unwrap();
    let (task, cluster) = (api::id(&task).unwrap(), task["obproxyClusterId"].as_i64().unwrap());
    api.success(task, PATIENCE).await.unwrap();
    // As `kill -9` does.
    drop(process);

    let (process, api) = server(&url, dir.path(), &port).await;
    assert_eq!(api.task(task).await.unwrap()["status"], "SUCCESSFUL");
    let shown = api.get(&format!("/api/v2/obproxy/clusters/{cluster}")).await.unwrap();
    assert_eq!(shown["name"], "c1", "{shown}");
    // Beside a running server.
    let (clean, last) = fsck(&url, dir.path());
    assert!(
        clean && last == json!({"database": last["database"], "tasks": 1, "findings": 0}),
        "{last}"
    );
    process.stop();
    let mut database = Client::connect(address(&url), "root", "", Instant::now() + PATIENCE)
        .await
        .unwrap();
    let schema = url.rsplit('/').next().unwrap();
    let change = format!("UPDATE {schema}.task_instance SET creator = 'eve' WHERE id = {task}");
    database.query(&change).await.unwrap();
    let (clean, last) = fsck(&url, dir.path());
    assert!(!clean && last["findings"] == 1, "{last}");
    assert!(!dir.path().join("state/obfleet.db").exists());
    let status = migrate(&url, dir.path(), "status");
    assert!(status.status.success(), "{}", text(&status.stdout));
}

#[tokio::test]
async fn migrations_are_told_of_and_made() {
    let url = shared::mariadb().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let before = migrate(&url, dir.path(), "status");
    assert!(!before.status.success());
    assert!(text(&before.stdout).contains("missing"), "{}", text(&before.stdout));
    for order in ["up", "repair", "status"] {
        let after = migrate(&url, dir.path(), order);
        assert!(after.status.success(), "{}", text(&after.stderr));
        let told = text(&after.stdout);
        assert!(told.contains("complete") && !told.contains("missing"), "{told}");
    }
}

#[tokio::test]
async fn an_authority_is_forgotten_and_another_one_made() {
    let url = shared::mariadb().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let port = PortLease::take().unwrap();
    let forget = || {
        let mut command = obfleet(&url);
        command
            .args(["forget-authority", "--state-dir"])
            .arg(dir.path().join("state"));
        command.output().unwrap()
    };
    let authority = async || {
        let (process, api) = server(&url, dir.path(), &port).await;
        let token = api.post_nothing("/api/v2/compute/agents/tokens").await.unwrap();
        process.stop();
        token["token"].as_str().unwrap().rsplit('.').next().unwrap().to_owned()
    };
    let none = forget();
    assert!(!none.status.success() && text(&none.stderr).contains("has no authority"));
    let first = authority().await;
    assert_eq!(authority().await, first);

    // What an earlier release left would bring it back.
    let file = dir.path().join("state/ca.pem");
    std::fs::write(&file, "").unwrap();
    let refused = forget();
    assert!(!refused.status.success() && text(&refused.stderr).contains("ca.pem"));
    std::fs::remove_file(file).unwrap();
    let done = forget();
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_ne!(authority().await, first);
}

#[tokio::test]
async fn who_cannot_reach_the_database_is_told_what_to_do_and_no_password() {
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, "hush\n").unwrap();
    let refused = |url: &str, more: &[&str]| {
        let mut command = obfleet(url);
        command.args(["server", "--listen", "127.0.0.1:0", "--state-dir"]);
        command.arg(dir.path().join("state")).args(more);
        let output = command.output().unwrap();
        assert!(!output.status.success());
        let said = text(&output.stderr);
        assert!(!said.contains("hush"), "{said}");
        said
    };
    let said = refused("mysql://root:hush@127.0.0.1:1/obfleet", &[]);
    assert!(
        said.contains("obfleet on 127.0.0.1:1 cannot be opened; start the server"),
        "{said}"
    );
    let said = refused("root:hush@127.0.0.1", &[]);
    assert!(said.contains("must read mysql://user@host:port/database"), "{said}");
    let url = shared::mariadb().await.unwrap();
    let file = ["--database-password-file", password.to_str().unwrap()];
    let said = refused(&url, &file);
    assert!(said.contains("correct user and password"), "{said}");
    let said = refused(&url, &["--database-password-file", "/not/there"]);
    assert!(said.contains("/not/there cannot be read"), "{said}");
}

#[test]
fn a_password_on_the_command_line_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&["server", "--listen", "127.0.0.1:0"][..], &["migrate"]] {
        let mut command = Command::new(EXE);
        command.env_remove("OBFLEET_DATABASE").args(arguments);
        command.args(["--database", "mysql://root:hush@127.0.0.1:1/obfleet", "--state-dir"]);
        command.arg(dir.path().join("state"));
        if arguments == ["migrate"] {
            command.arg("status");
        }
        let output = command.output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("--database-password-file") && said.contains("OBFLEET_DATABASE"),
            "{said}"
        );
        assert!(!said.contains("hush"), "{said}");
    }
}
