//! Member names, types and spellings of every answer.

mod documented;
mod order;

use serde_json::{Value, json};

use crate::{
    fake_agent::FakeAgent,
    shape::differences,
    support::{Api, NEW, OLD, Reply},
};

pub fn assert_shape(reply: &Reply, fixture: &str) -> Value {
    assert_eq!(differences(&reply.json(), "envelope"), [""; 0], "{}", reply.text);
    let data = reply.data();
    assert_eq!(differences(&data, fixture), [""; 0], "{fixture}: {}", reply.text);
    assert_eq!(order::unsorted(&reply.text), [""; 0], "{fixture}: {}", reply.text);
    data
}

#[tokio::test]
async fn clusters_and_proxies() {
    let api = Api::start().await;
    let agents = [FakeAgent::start(&api, "a").await, FakeAgent::start(&api, "b").await];
    api.upload(OLD).await.data();
    let cluster = api.cluster("test").await;
    let path = format!("/api/v2/obproxy/clusters/{cluster}");
    let hosts = [agents[0].host_id, agents[1].host_id];
    let body = json!({"hostIds": hosts, "sqlPort": 2883, "exportPort": 2884, "rpcPort": 2885, "version": OLD});
    let added = assert_shape(
        &api.post(&format!("{path}/obproxies/batchAdd"), body).await,
        "tasks-started",
    );
    assert_eq!(added["contents"].as_array().unwrap().len(), 2, "one task a host");
    for (task, host) in added["contents"].as_array().unwrap().iter().zip(hosts) {
        assert_eq!(task["hostId"], host);
        assert_eq!(api.rest(task["id"].as_i64().unwrap()).await["status"], "SUCCESSFUL");
    }

    let detail = assert_shape(&api.get(&path).await, "cluster");
    assert_eq!(
        (&detail["creatorId"], &detail["creatorName"]),
        (&json!(100), &json!("admin"))
    );
    assert_eq!(detail["versions"], json!([{"count": 2, "version": "4.2.1.0-11"}]));
    assert_eq!(detail["obproxies"][0]["status"], "RUNNING");
    assert_eq!(detail["obproxies"][0]["operateStatus"], "NORMAL");
    assert_eq!(detail["obproxies"][0]["exporterPort"], 2884);
    let page = assert_shape(
        &api.get("/api/v2/obproxy/clusters?page=1&size=10").await,
        "cluster-page",
    );
    assert_eq!(
        page["page"],
        json!({"number": 1, "size": 10, "totalElements": 1, "totalPages": 1})
    );

    api.upload(NEW).await.data();
    let ids: Vec<i64> = detail["obproxies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|proxy| proxy["id"].as_i64().unwrap())
        .collect();
    let upgrade = format!("{path}/obproxies/{}%2C%20{}/upgrade", ids[0], ids[1]);
    let task = assert_shape(&api.post_nothing(&upgrade).await, "task-started");
    assert_eq!(
        (&task["name"], &task["creator"]),
        (&json!("Upgrade obproxy"), &json!("admin"))
    );
    assert_eq!(
        (&task["prohibitRollback"], &task["clusterId"]),
        (&json!(false), &json!(cluster))
    );
    assert_eq!(
        task["context"]["listMap"]["obproxy_server_ids"],
        json!([ids[0].to_string(), ids[1].to_string()])
    );
    assert_eq!(api.rest(task["id"].as_i64().unwrap()).await["status"], "SUCCESSFUL");
    let detail = api.get(&path).await.data();
    assert_eq!(detail["versions"], json!([{"count": 2, "version": "4.3.1.0-1"}]));

    let offline = format!("{path}/obproxies/{},{}", ids[0], ids[1]);
    let task = assert_shape(&api.delete(&offline).await, "task-started");
    assert_eq!(api.rest(task["id"].as_i64().unwrap()).await["status"], "SUCCESSFUL");
    assert_eq!(api.get(&path).await.data()["obproxies"], json!([]));
    assert_shape(&api.delete(&path).await, "task-started");
    assert_eq!(api.get(&path).await.refusal(), (404, "ODP21001".into(), "id".into()));
}

#[tokio::test]
async fn hosts() {
    let api = Api::start().await;
    let agents = [FakeAgent::start(&api, "a").await, FakeAgent::start(&api, "b").await];
    api.fleet(&[&agents[0]]).await;
    let path = format!("/api/v2/compute/hosts/{}", agents[0].host_id);
    let host = assert_shape(&api.get(&path).await, "host");
    assert_eq!((&host["name"], &host["status"]), (&json!("host-a"), &json!("ONLINE")));
    assert_eq!(host["services"][0]["type"], "OB_PROXY");
    let count = async |query: &str| {
        let page = assert_shape(&api.get(&format!("/api/v2/compute/hosts?{query}")).await, "host-page");
        page["page"]["totalElements"].as_u64().unwrap()
    };
    assert_eq!(count("").await, 2);
    assert_eq!(count("status=AVAILABLE").await, 1);
    assert_eq!(count("status=AVAILABLE,ONLINE").await, 2);
    assert_eq!(count("keyword=HOST-B").await, 1);
    assert_eq!(count("keyword=test:").await, 1);
    assert_eq!(count("includedServiceType=OB_PROXY").await, 1);
    assert_eq!(count("excludedServiceType=OB_PROXY").await, 1);
    assert_eq!(
        api.get("/api/v2/compute/hosts/777").await.refusal(),
        (404, "CMP07005".into(), "hostId".into())
    );
}

#[tokio::test]
async fn tasks() {
    let api = Api::start().await;
    let cluster = api.cluster("test").await;
    let page = assert_shape(&api.get("/api/v2/tasks/instances").await, "task-wrapped-page");
    let task = &page["contents"][0];
    assert_eq!(task["creator"], json!({"id": 100, "name": "admin"}));
    assert_eq!(task["cluster"], json!({"id": cluster, "name": "test"}));
    let id = task["id"].as_i64().unwrap();
    let detail = assert_shape(&api.get(&format!("/api/v2/tasks/instances/{id}")).await, "task-wrapped");
    assert_eq!(&detail, task);
    assert_eq!(api.get(&format!("/api/v2/tasks/{id}")).await.data(), detail);
}

#[tokio::test]
async fn plain_answers() {
    let api = Api::start().await;
    let time = Reply::of(api.bare(reqwest::Method::GET, "/api/v2/time")).await;
    assert_eq!(time.status, 200);
    assert!(time.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    chrono::DateTime::parse_from_rfc3339(&time.text).unwrap();

    let agent = FakeAgent::start(&api, "a").await;
    let (cluster, proxies) = api.fleet(&[&agent]).await;
    let targets = api.get("/api/v2/obproxy/exporterTargets").await;
    assert_eq!(
        targets.json(),
        json!([{
            "targets": ["127.0.0.1:2884"],
            "labels": {"host": "host-a", "obproxy_cluster": "test", "obproxy_cluster_id": cluster.to_string(), "obproxy_id": proxies[0].to_string()},
        }])
    );
}

#[tokio::test]
async fn the_envelope_tells_server_and_trace() {
    let api = Api::start().await;
    let ask = async |trace: &str| {
        let request = api
            .request(reqwest::Method::GET, "/api/v2/obproxy/clusters")
            .header("x-trace-id", trace);
        Reply::of(request).await.json()
    };
    let (one, two) = (ask("0fda4c74b7a84932").await, ask("?").await);
    assert_eq!(one["traceId"], "0fda4c74b7a84932");
    assert_eq!(two["traceId"].as_str().unwrap().len(), 16);
    assert_eq!(one["server"], two["server"]);
    assert_eq!(one["server"].as_str().unwrap().len(), 10);
}
