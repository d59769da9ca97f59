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

/// Looks whether the server lives, keeps its login for hosts, finds or makes a place for them, and uploads what it brought;
/// run again it finds all of that there.
#[tokio::test]
async fn a_server_is_prepared_as_obd_does() {
    let api = Api::start().await;
    let credentials = "/api/v2/profiles/me/credentials";
    for run in 0..2 {
        let time = Reply::of(api.bare(Method::GET, "/api/v2/time")).await;
        assert_eq!(time.status, 200);
        let listed = api
            .get(&format!("{credentials}?targetType=HOST&page=1&size=2000"))
            .await
            .data();
        let known = listed["contents"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["name"] == "obd");
        assert_eq!(known, run > 0, "{listed}");
        if !known {
            let body = json!({
                "targetType": "HOST", "name": "obd",
                "sshCredentialProperty": {"type": "PASSWORD", "username": "admin", "passphrase": "Ssh-Passw0rd"},
            });
            assert!(api.post(credentials, body).await.data()["id"].is_i64());
        }
        for (path, body) in [
            (
                "/api/v2/compute/regions",
                json!({"name": "OCP_DEFAULT", "description": ""}),
            ),
            ("/api/v2/compute/hostTypes", json!({"name": "DEFAULT"})),
        ] {
            let name = body["name"].clone();
            let listed = api.get(&format!("{path}?page=1&size=2000")).await.data();
            let found = listed["contents"]
                .as_array()
                .unwrap()
                .iter()
                .any(|one| one["name"] == name);
            let reply = api.post(path, body).await;
            assert_eq!(reply.status, if found { 409 } else { 200 }, "{}", reply.text);
        }
        let upload = api.upload(OLD).await;
        match run {
            0 => assert_eq!(upload.data()["type"], "OBPROXY_INSTALL_PACKAGE"),
            _ => assert_eq!(upload.refusal().1, "PKG10012"),
        }
    }
}
