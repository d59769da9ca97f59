//! The passwords of a cluster are nowhere to be found after it was made, installed, upgraded and deleted.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    fake_agent::FakeAgent,
    support::{Api, NEW, OLD},
};

const SECRETS: [&str; 7] = [
    "R00t-at-proxysys",
    "Pr0xyro-at-observer",
    "Pr0be-at-tenant",
    "Pr0xyro-of-cluster",
    "R00t-at-sys",
    "R00t-at-last",
    "Pr0xyro-at-last",
];

/// Which of them a text holds. They are letters, digits and `-`: the same in JSON, in a URL and in SQL.
fn found(text: &[u8]) -> Vec<&'static str> {
    let holds = |secret: &&&str| text.windows(secret.len()).any(|part| part == secret.as_bytes());
    SECRETS.iter().filter(holds).copied().collect()
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => vec![path],
        })
        .collect()
}

async fn ended_well(api: &Api, task: &Value) {
    let task = api.rest(task["id"].as_i64().unwrap()).await;
    assert_eq!(task["status"], "SUCCESSFUL", "{task}");
}

#[tokio::test]
async fn no_password_is_left_in_contexts_events_logs_or_files() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    for package in [OLD, NEW] {
        api.upload(package).await.data();
    }
    let [root, proxyro, probe, proxyro_there, account, last_root, last_proxyro] = SECRETS;
    let known = api
        .post(
            "/api/v2/ob/clusters",
            json!({
                "name": "ob", "rootServers": [{"ip": "127.0.0.1", "sqlPort": 1}], "proxyroPassword": proxyro_there,
                "account": {"user": "root@sys", "password": account},
            }),
        )
        .await
        .data();
    let known_path = format!("/api/v2/ob/clusters/{}", known["id"]);
    let made = api
        .post(
            "/api/v2/obproxy/clusters",
            json!({
                "name": "test", "address": "db.example", "port": 2883, "workMode": "RS_LIST",
                "obLinks": [{"clusterName": "ob", "username": "proxyro"}],
                "password": root, "proxyroPassword": proxyro,
                "probe": {"user": "probe@tenant#ob", "password": probe, "sql": "SELECT 1 FROM DUAL"},
                "obproxyInstallParam": {"hostIds": [agent.host_id], "sqlPort": 2883, "exporterPort": 2884, "version": OLD},
            }),
        )
        .await
        .data();
    ended_well(&api, &made).await;
    let path = format!("/api/v2/obproxy/clusters/{}", made["obproxyClusterId"]);
    let cluster = api.get(&path).await.data();
    let proxy = &cluster["obproxies"][0]["id"];
    let upgraded = api
        .post_nothing(&format!("{path}/obproxies/{proxy}/upgrade"))
        .await
        .data();
    ended_well(&api, &upgraded).await;
    let password = json!({"password": last_root});
    let changed = api.post(&format!("{path}/sysPassword"), password).await.data();
    ended_well(&api, &changed).await;
    let password = json!({"username": "proxyro", "password": last_proxyro});
    assert_eq!(api.post("/api/v2/obproxy/password", password).await.status, 200);
    api.until("/api/v2/tasks/instances", |page| {
        page["contents"][0]["status"] == "SUCCESSFUL"
    })
    .await;
    let removed = api.delete(&format!("{path}/obproxies/{proxy}")).await.data();
    ended_well(&api, &removed).await;

    let unlinked = json!({"name": "other", "obproxyInstallParam": {"hostIds": []}});
    let other = api.post("/api/v2/obproxy/clusters", unlinked).await.data();
    ended_well(&api, &other).await;
    let links = format!(
        "/api/v2/obproxy/clusters/{}/obLinks/batchAdd",
        other["obproxyClusterId"]
    );
    assert_eq!(api.post(&links, json!([{"clusterName": "ob"}])).await.status, 200);
    api.until("/api/v2/ob/clusters", |known| {
        known["contents"][0]["obproxyClusters"][1]["status"] == "RUNNING"
    })
    .await;
    let changed = json!({"proxyroPassword": proxyro_there, "account": {"user": "root@sys", "password": account}});
    let changed = api.patch(&known_path, changed).await.data();
    api.rest(changed["taskId"].as_i64().unwrap()).await;

    let mut told = vec![
        known.to_string(),
        changed.to_string(),
        api.get(&known_path).await.text,
        api.post_nothing(&format!("{known_path}/probe")).await.text,
        made.to_string(),
        cluster.to_string(),
        upgraded.to_string(),
        removed.to_string(),
    ];
    let tasks = "/api/v2/tasks/instances";
    let listed = api.get(&format!("{tasks}?size=100")).await.data();
    told.push(listed.to_string());
    for task in listed["contents"].as_array().unwrap() {
        let path = format!("{tasks}/{}", task["id"]);
        told.push(api.get(&format!("{path}/events?size=1000")).await.text);
        for step in task["subtasks"].as_array().unwrap() {
            told.push(api.get(&format!("{path}/subtasks/{}/log", step["id"])).await.text);
        }
    }
    assert!(told.len() > 30, "only {} answers", told.len());
    for text in &told {
        assert_eq!(found(text.as_bytes()), [""; 0], "in {text}");
    }

    let (running, dir) = (api.running, api.dir);
    running.stop().await.unwrap();
    let files = files(&dir.path().join("state"));
    assert!(files.iter().any(|file| file.ends_with("obfleet.db")), "{files:?}");
    for file in files {
        assert_eq!(found(&fs::read(&file).unwrap()), [""; 0], "in {}", file.display());
    }
}
