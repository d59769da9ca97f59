//! Proxies that somebody else installed: what is told of them.

use obfleet_wire::agent::{CronEntry, FoundProcess, FoundProxy, FoundWatchdog, PackageLayout, StartMethod};
use serde_json::json;

use crate::{
    contract::assert_shape,
    fake_agent::{FOREIGN_PASSWORD, FakeAgent},
    support::{Api, Reply},
};

/// One that OceanBase Deployer started.
pub fn of_obd() -> FoundProxy {
    FoundProxy {
        cron_entries: vec![CronEntry {
            file: "/var/spool/cron/crontabs/admin".into(),
            line: 3,
        }],
        exporter_port: Some(2884),
        home: Some("/home/admin/obproxy".into()),
        managed: false,
        ob_cluster: Some("ob".into()),
        obproxy_server_id: None,
        package_layout: PackageLayout::Plain,
        processes: vec![FoundProcess {
            argv0: "/home/admin/obproxy/bin/obproxy".into(),
            container: false,
            executable: Some("/home/admin/obproxy/bin/obproxy".into()),
            executable_replaced: false,
            listening: vec!["0.0.0.0:2883".parse().unwrap()],
            parent_pid: 1,
            pid: 4711,
            root: None,
        }],
        restarting: false,
        rpc_port: None,
        sql_port: Some(2883),
        start_method: StartMethod::Obd,
        user: "admin".into(),
        version: Some("4.2.1.0-11".parse().unwrap()),
        watchdogs: vec![FoundWatchdog::Obd {
            pid: 4712,
            script: "/home/admin/obproxy/obproxyd.sh".into(),
        }],
    }
}

#[tokio::test]
async fn what_runs_on_a_host_is_told() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let path = format!("/api/v2/compute/hosts/{}/obproxies", agent.host_id);
    assert_eq!(api.get(&path).await.data()["contents"], json!([]));
    agent.finds(vec![of_obd()]);
    let told = assert_shape(&api.get(&path).await, "found-proxies");
    let one = &told["contents"][0];
    assert_eq!((&one["startMethod"], &one["managed"]), (&json!("OBD"), &json!(false)));
    assert_eq!(one["watchdogs"][0]["kind"], "OBD");

    let nobody = api.get("/api/v2/compute/hosts/777/obproxies").await.refusal();
    assert_eq!(nobody, (404, "CMP07005".into(), "hostId".into()));
    drop(agent);
    let reply = api.get(&path).await;
    assert_eq!(reply.status, 502, "{}", reply.text);
    assert!(reply.text.contains("does not answer"), "{}", reply.text);
}

#[tokio::test]
async fn a_check_tells_what_is_in_the_way_and_what_would_change() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let cluster = api.cluster("test").await;
    let path = format!("/api/v2/obproxy/clusters/{cluster}/takeOver/precheck");
    let body = |password: Option<&str>| {
        let mut host = json!({"hostId": agent.host_id, "sqlPort": 2883});
        if let Some(password) = password {
            host["proxysysPasswd"] = password.into();
        }
        json!({"hosts": [host]})
    };
    let nothing = assert_shape(&api.post(&path, body(None)).await, "take-over-checks");
    let one = &nothing["contents"][0];
    assert_eq!(one["obstacles"][0]["name"], "NOT_RUNNING");
    assert_eq!((one.get("proxy"), &one["parameters"]), (None, &json!([])));

    agent.finds(vec![of_obd()]);
    let locked = api.post(&path, body(None)).await.data();
    assert_eq!(locked["contents"][0]["obstacles"][0]["name"], "WRONG_PASSWORD");
    let chinese = api
        .request(reqwest::Method::POST, &path)
        .header("accept-language", "zh-CN");
    let chinese = Reply::of(chinese.json(&body(None))).await.data();
    let said = chinese["contents"][0]["obstacles"][0]["message"].as_str().unwrap();
    assert!(said.contains("密码"), "{said}");

    let fine = assert_shape(&api.post(&path, body(Some(FOREIGN_PASSWORD))).await, "take-over-checks");
    let one = &fine["contents"][0];
    assert_eq!(one["obstacles"], json!([]));
    assert_eq!(one["proxy"]["version"], "4.2.1.0-11");
    let warnings: Vec<_> = one["warnings"].as_array().unwrap().iter().map(|w| &w["name"]).collect();
    assert_eq!(warnings, [&json!("STARTED_BY"), &json!("CRON")]);

    let exporter = json!({"hosts": body(Some(FOREIGN_PASSWORD))["hosts"], "exporterPort": 9});
    let other = api.post(&path, exporter).await.data();
    assert_eq!(other["contents"][0]["obstacles"][0]["name"], "EXPORTER_PORT");

    let refused = |body| async { api.post(&path, body).await.refusal() };
    assert_eq!(
        refused(json!({"hosts": []})).await,
        (400, "COM10001".into(), "hosts".into())
    );
    let unknown = json!({"hosts": [{"hostId": 777, "sqlPort": 2883}]});
    assert_eq!(refused(unknown).await, (404, "CMP07005".into(), "hostId".into()));
    let twice = json!({"hosts": [body(None)["hosts"][0], body(None)["hosts"][0]]});
    assert_eq!(refused(twice).await, (400, "COM10001".into(), "hosts".into()));
    let misspelt = json!({"hosts": [{"hostId": 1, "sqlPort": 2883, "proxysysPassword": "x"}]});
    assert_eq!(refused(misspelt).await.0, 400);
    let nowhere = api
        .post("/api/v2/obproxy/clusters/777/takeOver/precheck", body(None))
        .await;
    assert_eq!(nowhere.refusal(), (404, "ODP21001".into(), "id".into()));
}

#[tokio::test]
async fn one_is_taken_over_and_given_back() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let cluster = api.cluster("test").await;
    let path = format!("/api/v2/obproxy/clusters/{cluster}");
    let take_over = format!("{path}/takeOver");
    let body = json!({"hosts": [{"hostId": agent.host_id, "sqlPort": 2883, "proxysysPasswd": FOREIGN_PASSWORD}]});
    let nothing = api.post(&take_over, body.clone()).await;
    assert_eq!(nothing.refusal(), (409, "ODP21107".into(), "hosts".into()));
    assert!(
        nothing.text.contains("no OBProxy serves on port 2883"),
        "{}",
        nothing.text
    );

    agent.finds(vec![of_obd()]);
    let started = assert_shape(&api.post(&take_over, body.clone()).await, "tasks-started");
    let [task] = &started["contents"].as_array().unwrap()[..] else {
        panic!("{started}")
    };
    assert_eq!(
        (&task["name"], &task["hostId"], &task["clusterId"]),
        (&json!("Take over obproxy"), &json!(agent.host_id), &json!(cluster))
    );
    let id = task["id"].as_i64().unwrap();
    let ended = api.rest(id).await;
    assert_eq!(ended["status"], "SUCCESSFUL", "{ended}");
    // The password is in nothing that is shown.
    let events = api.get(&format!("/api/v2/tasks/instances/{id}/events")).await;
    assert!(!(started.to_string() + &ended.to_string() + &events.text).contains(FOREIGN_PASSWORD));
    let detail = assert_shape(&api.get(&path).await, "cluster");
    let proxy = &detail["obproxies"][0];
    assert_eq!(
        (
            &proxy["status"],
            &proxy["sqlPort"],
            &proxy["exporterPort"],
            &proxy["version"]
        ),
        (&json!("RUNNING"), &json!(2883), &json!(2884), &json!("4.2.1.0-11"))
    );

    let proxy = proxy["id"].as_i64().unwrap();
    let move_out = format!("{path}/obproxies/{proxy}/moveOut");
    let weak = api.post(&move_out, json!({"proxysysPasswd": "short"})).await;
    assert_eq!(weak.refusal(), (400, "ODP21106".into(), "proxysysPasswd".into()));
    let misspelt = api.post(&move_out, json!({"password": "Abcdef12"})).await;
    assert_eq!(misspelt.refusal().0, 400);
    let task = assert_shape(&api.post_nothing(&move_out).await, "task-started");
    assert_eq!(task["name"], "Move out obproxy");
    assert_eq!(api.rest(task["id"].as_i64().unwrap()).await["status"], "SUCCESSFUL");
    assert_eq!(api.get(&path).await.data()["obproxies"], json!([]));
    let gone = api.post_nothing(&move_out).await;
    assert_eq!(gone.refusal().0, 404);
}

#[tokio::test]
async fn one_that_asks_a_config_server_asks_ours_from_then_on() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let body = json!({"name": "conf", "workMode": "CONFIG_URL", "obLinks": [], "obproxyInstallParam": {"hostIds": []}});
    let made = api.post("/api/v2/obproxy/clusters", body).await.data();
    api.rest(made["id"].as_i64().unwrap()).await;
    let path = format!("/api/v2/obproxy/clusters/{}", made["obproxyClusterId"]);
    let url = api.get(&path).await.data()["configUrl"].clone();
    let body = json!({"hosts": [{"hostId": agent.host_id, "sqlPort": 2883, "proxysysPasswd": FOREIGN_PASSWORD}]});
    let check = async || {
        let checks = api.post(&format!("{path}/takeOver/precheck"), body.clone()).await;
        assert_shape(&checks, "take-over-checks")["contents"][0].clone()
    };

    // One with a list of servers would lose them.
    agent.finds(vec![of_obd()]);
    assert_eq!(check().await["obstacles"][0]["name"], "OTHER_WORK_MODE");
    let refused = api.post(&format!("{path}/takeOver"), body.clone()).await;
    assert_eq!(refused.refusal(), (409, "ODP21107".into(), "hosts".into()));

    agent.finds_by_url("http://10.0.0.9:8080/services?Action=GetObProxyConfig");
    let one = check().await;
    assert_eq!(one["obstacles"], json!([]));
    let changes = one["parameters"].as_array().unwrap();
    let change = changes
        .iter()
        .find(|change| change["name"] == "obproxy_config_server_url");
    let change = change.unwrap_or_else(|| panic!("{one}"));
    assert_eq!(change["clusterValue"], url);
    assert_eq!(
        change["proxyValue"],
        "http://10.0.0.9:8080/services?Action=GetObProxyConfig"
    );

    let started = api.post(&format!("{path}/takeOver"), body.clone()).await.data();
    let ended = api.rest(started["contents"][0]["id"].as_i64().unwrap()).await;
    assert_eq!(ended["status"], "SUCCESSFUL", "{ended}");
    assert_eq!(api.get(&path).await.data()["obproxies"][0]["status"], "RUNNING");
}
