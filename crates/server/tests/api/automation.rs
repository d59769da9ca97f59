//! Request sequences of clients that were written for OCP.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    fake_agent::FakeAgent,
    support::{Api, OLD, Reply},
};

/// Polls a task by the short path, as OCP's Terraform provider does.
async fn successful(api: &Api, task: &Value) {
    let path = format!("/api/v2/tasks/{}", task["id"]);
    let task = api.until(&path, |task| task["status"] != "RUNNING").await;
    assert_eq!(task["status"], "SUCCESSFUL", "{task}");
}

#[tokio::test]
async fn a_cluster_is_created_read_and_destroyed_as_terraform_does() {
    let api = Api::start().await;
    let agents = [FakeAgent::start(&api, "a").await, FakeAgent::start(&api, "b").await];
    api.upload(OLD).await.data();
    let body = json!({
        "name": "terraform", "address": "10.0.0.1", "port": 2883, "workMode": "RS_LIST",
        "obproxyInstallParam": {
            "hostIds": [agents[0].host_id, agents[1].host_id],
            "sqlPort": 2883, "exportPort": 2884, "version": OLD,
            "installPath": "/home/admin/obproxy", "runPath": "/home/admin/obproxy", "runUser": "admin",
        },
        "obLinks": [{"clusterName": "ob", "username": "proxyro", "rootServers": ["127.0.0.1:2881"]}],
        "startupParameters": [], "parameters": [],
        "clientToken": "terraform-0001",
    });
    let created = api.post("/api/v2/obproxy/clusters", body.clone()).await.data();
    let again = api.post("/api/v2/obproxy/clusters", body).await.data();
    assert_eq!(again["id"], created["id"], "the same token makes no second cluster");
    let cluster = created["obproxyClusterId"].as_i64().unwrap();
    successful(&api, &created).await;

    let path = format!("/api/v2/obproxy/clusters/{cluster}");
    let read = api.get(&path).await.data();
    assert_eq!(
        (&read["name"], &read["workMode"]),
        (&json!("terraform"), &json!("RS_LIST"))
    );
    assert_eq!(read["status"], "RUNNING", "{read}");
    let proxies = read["obproxies"].as_array().unwrap();
    assert_eq!(proxies.len(), 2);
    for proxy in proxies {
        assert_eq!(
            (&proxy["status"], &proxy["exporterPort"]),
            (&json!("RUNNING"), &json!(2884))
        );
    }

    let deleted = api.delete(&path).await.data();
    successful(&api, &deleted).await;
    let gone = Reply::of(api.request(Method::GET, &path)).await;
    assert_eq!(gone.refusal(), (404, "ODP21001".into(), "id".into()));
}
