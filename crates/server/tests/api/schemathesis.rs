//! A stranger who has nothing but the document of the API: [schemathesis](https://schemathesis.io) makes requests from it,
//! good ones and bad ones, and compares every answer with it. The fleet is there to be got at; its agents say yes to
//! everything.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    fake_agent::FakeAgent,
    openapi,
    support::{Api, NEW, PASSWORD, Reply},
};

/// The directory that has its Python modules; `cargo xtask test` installs them.
const MODULES: &str = "OBFLEET_SCHEMATHESIS";
/// Requests made up for each operation, beside those at the bounds of each value.
const CASES: &str = "OBFLEET_SCHEMATHESIS_CASES";
const FEW_CASES: &str = "3";
const SEED: &str = "20261129";
/// Far more than it takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Routes that do something for the stranger, of some 120: a run that is only refused proves nothing.
const ROUTES_SEEN: usize = 70;
const STRANGER: &str = "stranger";

/// They take away what the others need: they come last.
const ENDING: &[&str] = &[
    "access_keys.remove",
    "clusters.remove",
    "hosts.batch_delete",
    "hosts.remove",
    "obproxies.remove",
    "packages.remove",
    "servers.delete",
    "sites.remove_host_type",
    "sites.remove_idc",
    "sites.remove_region",
    "take_over.move_out",
    "users.remove",
];
/// It answers for as long as somebody listens.
const ENDLESS: &str = "task_events.events";

/// The document is told by each request alone, the checks need no knowledge of what is asked.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,negative_data_rejection";

/// `None`, with a word of why, when it is not installed and nobody promised that it is.
fn modules() -> Option<PathBuf> {
    let found = std::env::var_os(MODULES).map(PathBuf::from);
    let promised = std::env::var_os("OBFLEET_TEST_TOOLS").is_some_and(|value| value == "1");
    assert!(
        found.is_some() || !promised,
        "OBFLEET_TEST_TOOLS=1, but {MODULES} names no schemathesis"
    );
    if found.is_none() {
        eprintln!("left out: {MODULES} names no schemathesis");
    }
    found
}

/// One of each kind of thing. → ids by the names that paths and bodies have for them
async fn furnish(api: &Api, agents: &[&FakeAgent]) -> Value {
    let (cluster, proxies) = api.fleet(agents).await;
    let package = api.upload(NEW).await.data()["id"].clone();
    let made = async |path: &str, body: Value| api.post(path, body).await.data()["id"].clone();
    let region = made("/api/v2/compute/regions", json!({"name": "north"})).await;
    let idc = made("/api/v2/compute/idcs", json!({"name": "n1", "regionId": region})).await;
    let kind = made("/api/v2/compute/hostTypes", json!({"name": "large"})).await;
    let credential = json!({
        "targetType": "HOST", "name": "admin",
        "sshCredentialProperty": {"type": "PASSWORD", "username": "admin", "passphrase": PASSWORD},
    });
    let credential = made("/api/v2/profiles/me/credentials", credential).await;
    let ob = json!({"name": "ob1", "rootServers": [{"ip": "127.0.0.1", "sqlPort": 2881}]});
    let ob = made("/api/v2/ob/clusters", ob).await;
    let mut users = Vec::new();
    for name in ["anna", "berta"] {
        let body = json!({"name": name, "password": PASSWORD, "roles": [{"name": "TASK_VIEWER"}]});
        users.push(made("/api/v2/iam/users", body).await);
    }
    let tasks = api.get("/api/v2/tasks/instances").await.data();
    let steps: Vec<_> = tasks["contents"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|task| {
            let steps = task["subtasks"].as_array().cloned().unwrap_or_default();
            steps.into_iter().map(|step| step["id"].clone())
        })
        .collect();
    let ids = |of: &Value| {
        of["contents"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].clone())
            .collect::<Vec<_>>()
    };
    let hosts: Vec<i64> = agents.iter().map(|agent| agent.host_id).collect();
    json!({
        "/api/v2/obproxy/clusters": [cluster], "/api/v2/ob/clusters": [ob], "/api/v2/software-packages": [package],
        "obproxyIds": proxies, "obproxyServerIds": proxies, "skipHostOperationServerIds": proxies,
        "clusterIds": [cluster], "hostId": hosts, "hostIds": hosts, "hostIdList": hosts,
        "regionId": [region], "idcId": [idc], "typeId": [kind], "credentialId": [credential], "userId": users,
        "taskInstanceId": ids(&tasks), "subtaskInstanceId": steps,
    })
}

/// A user who may do everything, and whose id is none of those at a bound.
async fn stranger(api: &Api) {
    for n in 0.. {
        let name = if n < 5 {
            format!("filler{n}")
        } else {
            STRANGER.to_owned()
        };
        let body = json!({
            "name": name, "password": PASSWORD, "needChangePassword": false, "roles": [{"name": "ADMIN"}],
        });
        let made = api.post("/api/v2/iam/users", body).await.data();
        if name == STRANGER {
            break;
        }
        api.delete(&format!("/api/v2/iam/users/{}", made["id"])).await.json();
    }
}

/// Routes that have answered 200 to somebody.
async fn answered(api: &Api) -> usize {
    let metrics = Reply::of(api.request(Method::GET, "/metrics")).await.text;
    let counted = metrics
        .lines()
        .filter(|line| line.starts_with("obfleet_http_requests_total{"));
    counted.filter(|line| line.contains("status=\"200\"")).count()
}

struct Run<'r> {
    modules: &'r Path,
    api: &'r Api,
    known: &'r Value,
}

impl Run<'_> {
    async fn of(&self, operations: impl IntoIterator<Item = String>) -> Output {
        let cases = std::env::var(CASES).unwrap_or_else(|_| FEW_CASES.to_owned());
        // What is served is this; a test of its own says so.
        let document = self.api.dir.path().join("openapi.json");
        std::fs::write(&document, openapi::made().to_string()).unwrap();
        let mut command = Command::new("python3");
        command.args(["-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]);
        command.env("PYTHONPATH", self.modules);
        command.arg(document).args([
            "--url",
            &self.api.running.url,
            "--auth",
            &format!("{STRANGER}:{PASSWORD}"),
            "--checks",
            CHECKS,
        ]);
        command.args([
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            &cases,
            "--seed",
            SEED,
        ]);
        command.args([
            "--generation-database",
            "none",
            "--no-color",
            "--request-timeout",
            "60",
            "--warnings",
            "off",
        ]);
        command.args([
            "--continue-on-failure",
            "--suppress-health-check",
            "all",
            "--generation-with-security-parameters",
            "false",
            // One after another: the same seed makes the same requests.
            "--workers",
            "1",
        ]);
        command.args(operations);
        let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/schemathesis/hooks.py");
        command
            .env("SCHEMATHESIS_HOOKS", hooks)
            .env("OBFLEET_KNOWN_IDS", self.known.to_string());
        // It looks for its settings where it is started.
        command
            .current_dir(self.api.dir.path())
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        output.expect("schemathesis comes to no end").unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_a_stranger_sends_breaks_what_the_document_says() {
    let Some(modules) = modules() else { return };
    let api = Api::start_with(|options| options.requests_per_minute = 0).await;
    let agents = [FakeAgent::start(&api, "a").await, FakeAgent::start(&api, "b").await];
    let known = furnish(&api, &[&agents[0], &agents[1]]).await;
    stranger(&api).await;
    let run = Run {
        modules: &modules,
        api: &api,
        known: &known,
    };
    let named = |flag: &str, operation: &str| format!("--{flag}-operation-id={operation}");
    let last = || ENDING.iter().map(|operation| named("include", operation));
    let first = ENDING
        .iter()
        .chain([&ENDLESS])
        .map(|operation| named("exclude", operation));
    let mut wrong = String::new();
    for output in [run.of(first).await, run.of(last()).await] {
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        if std::env::var_os(CASES).is_some() {
            println!("{told}");
        }
        if !output.status.success() {
            wrong += &format!("{told}\n{}\n", String::from_utf8_lossy(&output.stderr));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    // It was let in to the end: what it was shown were no refusals.
    let seen = answered(&api).await;
    assert!(
        seen > ROUTES_SEEN,
        "only {seen} routes have done what they were asked for"
    );
    let me = api
        .bare(Method::GET, "/api/v2/profiles/me")
        .basic_auth(STRANGER, Some(PASSWORD));
    assert_eq!(Reply::of(me).await.data()["name"], STRANGER);
}
