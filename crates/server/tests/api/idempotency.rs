//! Requests that arrive twice.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    fake_agent::FakeAgent,
    support::{Api, NEW, OLD, Reply},
};

const CLUSTERS: &str = "/api/v2/obproxy/clusters";

async fn post(api: &Api, path: &str, key: &str, body: &Value) -> Reply {
    let request = api.request(Method::POST, path).header("idempotency-key", key);
    Reply::of(request.json(body)).await
}

fn cluster(name: &str) -> Value {
    json!({
        "name": name, "address": "db.example", "port": 2883, "workMode": "RS_LIST",
        "obLinks": [{"clusterName": "ob", "username": "proxyro", "rootServers": ["127.0.0.1:2881"]}],
    })
}

#[tokio::test]
async fn a_cluster_is_made_once() {
    let api = Api::start().await;
    let first = post(&api, CLUSTERS, "key-1", &cluster("a")).await.data();
    let again = post(&api, CLUSTERS, "key-1", &cluster("a")).await.data();
    assert_eq!(
        (&again["id"], &again["obproxyClusterId"]),
        (&first["id"], &first["obproxyClusterId"])
    );
    let other = post(&api, CLUSTERS, "key-1", &cluster("b")).await;
    let refused = other.refusal();
    assert_eq!((refused.0, refused.2.as_str()), (409, "Idempotency-Key"));
    assert!(other.text.contains("a new request takes a new key"), "{}", other.text);
    assert_ne!(
        post(&api, CLUSTERS, "key-2", &cluster("b")).await.data()["id"],
        first["id"]
    );
    assert_eq!(post(&api, CLUSTERS, "", &cluster("c")).await.refusal().0, 400);
}

#[tokio::test]
async fn ocps_client_token_is_the_same_key() {
    let api = Api::start().await;
    let mut body = cluster("a");
    body["clientToken"] = "key-1".into();
    let first = api.post(CLUSTERS, body.clone()).await.data();
    assert_eq!(api.post(CLUSTERS, body.clone()).await.data()["id"], first["id"]);
    assert_eq!(
        post(&api, CLUSTERS, "key-1", &cluster("a")).await.data()["id"],
        first["id"]
    );
    let refused = post(&api, CLUSTERS, "key-2", &body).await.refusal();
    assert_eq!((refused.0, refused.2.as_str()), (400, "clientToken"));
}

#[tokio::test]
async fn requests_at_the_same_time_make_one_task() {
    let api = Api::start().await;
    let body = cluster("a");
    let all = futures::future::join_all((0..6).map(|_| post(&api, CLUSTERS, "key-1", &body))).await;
    let ids: Vec<_> = all.iter().map(|reply| reply.data()["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [ids[0]; 6]);
}

#[tokio::test]
async fn proxies_are_added_and_upgraded_once() {
    let api = Api::start().await;
    let agents = [FakeAgent::start(&api, "a").await, FakeAgent::start(&api, "b").await];
    api.upload(OLD).await.data();
    api.upload(NEW).await.data();
    let id = api.cluster("test").await;
    let hosts = agents.each_ref().map(|agent| agent.host_id);
    let body = json!({"hostIds": hosts, "sqlPort": 2883, "exporterPort": 2884, "version": OLD});
    let add = format!("{CLUSTERS}/{id}/obproxies/batchAdd");
    let ids = |reply: &Reply| {
        let tasks = reply.data()["contents"].as_array().unwrap().clone();
        tasks
            .iter()
            .map(|task| task["id"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    let first = ids(&post(&api, &add, "key-1", &body).await);
    assert_eq!(ids(&post(&api, &add, "key-1", &body).await), first);
    for task in &first {
        assert_eq!(api.rest(*task).await["status"], "SUCCESSFUL");
    }
    let detail = api.get(&format!("{CLUSTERS}/{id}")).await.data();
    let proxies = [0, 1].map(|at| detail["obproxies"][at]["id"].as_i64().unwrap());
    let upgrade = |proxy: i64| format!("{CLUSTERS}/{id}/obproxies/{proxy}/upgrade");
    let task = post(&api, &upgrade(proxies[0]), "key-1", &json!({})).await.data();
    api.rest(task["id"].as_i64().unwrap()).await;
    let again = post(&api, &upgrade(proxies[0]), "key-1", &json!({})).await.data();
    assert_eq!(again["id"], task["id"], "the route is another one, so is the key");
    let other = post(&api, &upgrade(proxies[1]), "key-1", &json!({})).await.refusal();
    assert_eq!(other.0, 409, "another proxy is another request");
}

#[tokio::test]
async fn proxies_and_clusters_are_deleted_once() {
    let api = Api::start().await;
    let agents = [FakeAgent::start(&api, "a").await, FakeAgent::start(&api, "b").await];
    let (cluster, proxies) = api.fleet(&agents.each_ref()).await;
    let delete = async |path: &str| {
        let request = api.request(Method::DELETE, path).header("idempotency-key", "key-1");
        Reply::of(request).await
    };
    for (path, other) in [
        (
            format!("{CLUSTERS}/{cluster}/obproxies/{}", proxies[0]),
            format!("{CLUSTERS}/{cluster}/obproxies/{}", proxies[1]),
        ),
        (
            format!("{CLUSTERS}/{cluster}"),
            format!("{CLUSTERS}/{}", api.cluster("other").await),
        ),
    ] {
        let task = delete(&path).await.data();
        assert_eq!(api.rest(task["id"].as_i64().unwrap()).await["status"], "SUCCESSFUL");
        assert_eq!(
            delete(&path).await.data()["id"],
            task["id"],
            "though nothing is there any more"
        );
        assert_eq!(api.delete(&path).await.refusal().0, 404, "another request");
        assert_eq!(delete(&other).await.refusal().0, 409, "the same key for another thing");
    }
}
