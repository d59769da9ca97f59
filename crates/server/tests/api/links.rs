//! Which OceanBase clusters a proxy cluster serves, and how that changes while proxies run.

use obfleet_wire::obproxy::LinkStatus;
use serde_json::{Value, json};

use crate::{
    fake_agent::FakeAgent,
    support::{Api, OLD, Reply},
};

async fn register(api: &Api, name: &str, ip: &str) -> i64 {
    let body = json!({"name": name, "rootServers": [{"ip": ip, "sqlPort": 2881}]});
    api.post("/api/v2/ob/clusters", body).await.data()["id"]
        .as_i64()
        .unwrap()
}

/// A CONFIG_URL cluster with a proxy on each agent's host. → its path
async fn config_url(api: &Api, links: Value, agents: &[&FakeAgent]) -> String {
    let hosts: Vec<_> = agents.iter().map(|agent| agent.host_id).collect();
    let body = json!({
        "name": "test", "workMode": "CONFIG_URL", "obLinks": links,
        "obproxyInstallParam": {"hostIds": hosts, "version": OLD},
    });
    let task = api.post("/api/v2/obproxy/clusters", body).await.data();
    let done = api.rest(task["id"].as_i64().unwrap()).await;
    assert_eq!(done["status"], "SUCCESSFUL", "{done}");
    format!("/api/v2/obproxy/clusters/{}", task["obproxyClusterId"])
}

/// Name and status of each link.
async fn links(api: &Api, path: &str) -> Vec<(String, String)> {
    let cluster = api.get(path).await.data();
    let links = cluster["obLinks"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    links
        .map(|link| (text(&link["clusterName"]), text(&link["status"])))
        .collect()
}

/// Waits until these links are all there are, and RUNNING.
async fn until_linked(api: &Api, path: &str, names: &[&str]) {
    let running = serde_json::to_value(LinkStatus::Running).unwrap();
    api.until(path, |cluster| {
        let links = cluster["obLinks"].as_array().unwrap();
        let is = |(link, name): (&Value, &&str)| link["clusterName"] == **name && link["status"] == running;
        links.len() == names.len() && links.iter().zip(names).all(is)
    })
    .await;
}

fn no_data(reply: &Reply) {
    assert_eq!(reply.status, 200, "{}", reply.text);
    let json = reply.json();
    assert!(
        json["successful"] == true && json.get("data").is_none_or(Value::is_null),
        "{json}"
    );
}

#[tokio::test]
async fn links_come_in_every_form_and_go() {
    let api = Api::start().await;
    let agents = [FakeAgent::start(&api, "a").await, FakeAgent::start(&api, "b").await];
    api.upload(OLD).await.data();
    let ids = [
        register(&api, "ob1", "10.0.0.1").await,
        register(&api, "ob2", "10.0.0.2").await,
    ];
    let path = config_url(&api, json!([{"clusterName": "ob1"}]), &[&agents[0], &agents[1]]).await;
    let shown = api.get(&path).await.data();
    let link = json!({
        "clusterId": ids[0], "clusterName": "ob1", "clusterType": "PRIMARY", "rootServers": ["10.0.0.1:2881"],
        "status": "RUNNING", "username": "proxyro",
    });
    assert_eq!(shown["obLinks"], json!([link]));
    let url = shown["configUrl"].as_str().unwrap();
    assert!(
        url.starts_with(&api.running.url) && url.ends_with("&ObproxyClusterName=test"),
        "{url}"
    );

    let add = format!("{path}/obLinks/batchAdd");
    no_data(&api.post(&add, json!({"clusterName": "ob2"})).await);
    until_linked(&api, &path, &["ob1", "ob2"]).await;
    no_data(
        &api.post(
            &add,
            json!([{"clusterName": "ob3", "rootServers": ["10.0.0.3:3882:3881"]}]),
        )
        .await,
    );
    until_linked(&api, &path, &["ob1", "ob2", "ob3"]).await;
    no_data(
        &api.post(
            &add,
            json!({"obLinks": [{"clusterName": "ob4", "rootServers": ["10.0.0.4:2881"]}]}),
        )
        .await,
    );
    until_linked(&api, &path, &["ob1", "ob2", "ob3", "ob4"]).await;
    let brought = api.get("/api/v2/ob/clusters?keyword=ob3").await.data();
    let brought = &brought["contents"][0];
    assert_eq!(
        brought["rootServers"],
        json!([{"ip": "10.0.0.3", "rpcPort": 3882, "sqlPort": 3881}])
    );
    assert_eq!(brought["obproxyClusters"][0]["name"], "test");

    for (gone, left) in [("ob2", ["ob1", "ob3", "ob4"].as_slice()), ("ob1", &["ob3", "ob4"])] {
        no_data(&api.delete(&format!("{path}/obLinks/{gone}")).await);
        until_linked(&api, &path, left).await;
    }
    let tasks = api.get("/api/v2/tasks/instances?size=100").await.data();
    let named = |name: &str| {
        tasks["contents"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|task| task["name"] == name)
            .count()
    };
    assert_eq!((named("Add ob link"), named("Delete ob link")), (3, 2));
    assert_eq!(
        api.delete(&format!("/api/v2/ob/clusters/{}", ids[0])).await.status,
        200,
        "nobody serves it any more"
    );
}

#[tokio::test]
async fn what_is_at_odds_with_what_there_is_is_refused() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    api.upload(OLD).await.data();
    let id = register(&api, "ob1", "10.0.0.1").await;
    let path = config_url(&api, json!([{"clusterId": id}]), &[&agent]).await;
    let add = format!("{path}/obLinks/batchAdd");
    for (body, status, code, field) in [
        (json!({"clusterName": "ob1"}), 409, "COM10006", "obLinks"),
        (json!({"clusterName": "ob9"}), 400, "COM10001", "obLinks"),
        (json!({"clusterId": 999}), 400, "COM10001", "obLinks"),
        (json!({}), 400, "COM10001", "obLinks"),
        (json!([]), 400, "COM10001", "obLinks"),
        (
            json!([{"clusterName": "ob2", "rootServers": ["x"]}]),
            400,
            "COM10001",
            "obLinks",
        ),
        (json!({"clusterName": "ob2", "colour": 1}), 400, "COM10001", "colour"),
        (json!(7), 400, "COM10001", "body"),
    ] {
        let reply = api.post(&add, body.clone()).await;
        assert_eq!(
            reply.refusal(),
            (status, code.to_owned(), field.to_owned()),
            "{body}: {}",
            reply.text
        );
    }
    let last = api.delete(&format!("{path}/obLinks/ob1")).await;
    assert_eq!(last.refusal(), (409, "COM10003".into(), "obClusterName".into()));
    assert!(last.text.contains("last"), "{}", last.text);
    let missing = api.delete(&format!("{path}/obLinks/ob9")).await;
    assert_eq!(missing.refusal(), (404, "COM10002".into(), "obClusterName".into()));
    let served = api.delete(&format!("/api/v2/ob/clusters/{id}")).await;
    assert_eq!(served.refusal(), (409, "COM10003".into(), "id".into()));
    assert!(served.text.contains("test"), "{}", served.text);

    let rs_list = format!("/api/v2/obproxy/clusters/{}", api.cluster("fixed").await);
    let second = api
        .post(&format!("{rs_list}/obLinks/batchAdd"), json!({"clusterName": "ob1"}))
        .await;
    assert_eq!(second.refusal().0, 400);
    assert!(
        second.text.contains("RS_LIST") && second.text.contains("restart"),
        "{}",
        second.text
    );
    assert_eq!(api.delete(&format!("{rs_list}/obLinks/ob")).await.refusal().0, 400);
    assert_eq!(
        api.post(
            "/api/v2/obproxy/clusters/999/obLinks/batchAdd",
            json!({"clusterName": "x"})
        )
        .await
        .refusal()
        .0,
        404
    );
}

#[tokio::test]
async fn a_link_shows_how_far_it_is_and_what_became_of_it() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    api.upload(OLD).await.data();
    register(&api, "ob1", "10.0.0.1").await;
    let path = config_url(&api, json!([{"clusterName": "ob1"}]), &[&agent]).await;
    agent.busy(true);
    let body = json!({"clusterName": "ob2", "rootServers": ["10.0.0.2:2881"]});
    let add = format!("{path}/obLinks/batchAdd");
    let once = |key: &str| {
        api.request(reqwest::Method::POST, &add)
            .header("Idempotency-Key", key)
            .json(&body)
    };
    no_data(&Reply::of(once("k1")).await);
    no_data(&Reply::of(once("k1")).await);
    let both = |status: &str| {
        vec![
            ("ob1".to_owned(), "RUNNING".to_owned()),
            ("ob2".to_owned(), status.to_owned()),
        ]
    };
    assert_eq!(links(&api, &path).await, both("CREATING"));
    // Links change one task at a time, and their proxies stay as they are meanwhile.
    let other = api
        .post(&add, json!({"clusterName": "ob3", "rootServers": ["10.0.0.3:2881"]}))
        .await;
    assert_eq!(other.refusal().1, "COM10005");
    let proxy = api.get(&path).await.data()["obproxies"][0]["id"].clone();
    assert_eq!(
        api.delete(&format!("{path}/obproxies/{proxy}")).await.refusal().1,
        "COM10005"
    );

    let tasks = "/api/v2/tasks/instances";
    let task = api.get(&format!("{tasks}?size=1")).await.data()["contents"][0].clone();
    let task_path = format!("{tasks}/{}", task["id"]);
    let at_work = |task: &Value| {
        task["subtasks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|step| step["status"] == "RUNNING")
            .cloned()
    };
    let seen = api.until(&task_path, |task| at_work(task).is_some()).await;
    let step = at_work(&seen).unwrap()["id"].clone();
    api.post_nothing(&format!("{task_path}/subtasks/{step}/cancel"))
        .await
        .data();
    agent.busy(false);
    assert_eq!(api.rest(task["id"].as_i64().unwrap()).await["status"], "FAILED");
    assert_eq!(links(&api, &path).await, both("CREATING"), "until somebody decides");
    api.post(&format!("{task_path}/abandon"), json!({"reason": "no need"}))
        .await
        .data();
    assert_eq!(links(&api, &path).await.len(), 1, "proxies were never told of it");
    no_data(&api.post(&add, body.clone()).await);
    until_linked(&api, &path, &["ob1", "ob2"]).await;
}

#[tokio::test]
async fn a_link_to_nowhere_comes_to_life_when_root_servers_are_registered() {
    let api = Api::start().await;
    let path = config_url(
        &api,
        json!([{"clusterName": "ob1", "clusterId": 1, "obClusterId": 1}]),
        &[],
    )
    .await;
    assert_eq!(links(&api, &path).await, [("ob1".to_owned(), "UNAVAILABLE".to_owned())]);
    let known = api.get("/api/v2/ob/clusters").await.data()["contents"][0].clone();
    assert_eq!(
        (&known["name"], &known["obClusterId"], &known["rootServers"]),
        (&json!("ob1"), &json!(1), &json!([]))
    );
    let change = json!({"rootServers": [{"ip": "10.0.0.1", "sqlPort": 2881}]});
    let changed = api
        .patch(&format!("/api/v2/ob/clusters/{}", known["id"]), change)
        .await
        .data();
    api.rest(changed["taskId"].as_i64().unwrap()).await;
    assert_eq!(links(&api, &path).await, [("ob1".to_owned(), "RUNNING".to_owned())]);
}

#[tokio::test]
async fn a_cluster_is_made_only_with_links_that_lead_somewhere() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    api.upload(OLD).await.data();
    let make = async |mode: &str, links: Value, startup: Value| {
        let body = json!({
            "name": "test", "workMode": mode, "obLinks": links, "startupParameters": startup,
            "obproxyInstallParam": {"hostIds": [agent.host_id], "version": OLD},
        });
        let reply = api.post("/api/v2/obproxy/clusters", body).await;
        (reply.refusal(), reply.text)
    };
    let parameter = |name: &str| json!([{"name": name, "value": "x"}]);
    for (mode, links, startup, field) in [
        ("CONFIG_URL", json!([{"clusterName": "ob9"}]), json!([]), "obLinks"),
        (
            "CONFIG_URL",
            json!([]),
            parameter("rootservice_list"),
            "startupParameters",
        ),
        (
            "CONFIG_URL",
            json!([]),
            parameter("obproxy_config_server_url"),
            "startupParameters",
        ),
        ("RS_LIST", json!([{"clusterName": "ob9"}]), json!([]), "obLinks"),
        ("RS_LIST", json!([]), json!([]), "obLinks"),
    ] {
        let (refusal, text) = make(mode, links, startup).await;
        assert_eq!(refusal, (400, "COM10001".into(), field.into()), "{text}");
    }
    let passwords = ["One-1", "Two-2", "Three-3"];
    for (index, password) in passwords.iter().enumerate() {
        let servers = json!([{"ip": "10.0.0.1", "sqlPort": 2881}]);
        let body = json!({"name": format!("ob{index}"), "rootServers": servers, "proxyroPassword": password});
        api.post("/api/v2/ob/clusters", body).await.data();
    }
    let all = json!([{"clusterName": "ob0"}, {"clusterName": "ob1"}, {"clusterName": "ob2"}]);
    let (refusal, text) = make("CONFIG_URL", all, json!([])).await;
    assert!(refusal.0 == 400 && text.contains("two different passwords"), "{text}");
}
