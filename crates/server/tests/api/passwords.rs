//! Passwords of root@proxysys and proxyro are changed on every proxy, and nowhere told.

use reqwest::StatusCode;
use serde_json::json;

use crate::{
    contract::assert_shape,
    fake_agent::{FakeAgent, NOT_TAKEN},
    support::Api,
};

#[tokio::test]
async fn the_sys_password_of_a_cluster_is_changed_on_all_its_proxies() {
    let api = Api::start().await;
    let agents = [FakeAgent::start(&api, "a").await, FakeAgent::start(&api, "b").await];
    let (cluster, proxies) = api.fleet(&[&agents[0], &agents[1]]).await;
    let path = format!("/api/v2/obproxy/clusters/{cluster}/sysPassword");
    for (body, field) in [
        (json!({"password": "weak"}), "password"),
        (json!({}), "password"),
        (json!({"password": "Other-Sys-1", "also": 1}), "also"),
    ] {
        let (status, _, named) = api.post(&path, body.clone()).await.refusal();
        assert_eq!((status, named.as_str()), (400, field), "{body}");
    }
    let missing = api.post(
        "/api/v2/obproxy/clusters/1/sysPassword",
        json!({"password": "Other-Sys-1"}),
    );
    assert_eq!(missing.await.status, StatusCode::NOT_FOUND);

    let started = assert_shape(
        &api.post(&path, json!({"password": "Other-Sys-1"})).await,
        "task-started",
    );
    let task = api.rest(started["id"].as_i64().unwrap()).await;
    assert_eq!(
        (&task["status"], &task["name"]),
        (&json!("SUCCESSFUL"), &json!("Change obproxy sys password"))
    );
    for (agent, proxy) in agents.iter().zip(&proxies) {
        assert_eq!(agent.sys_password(*proxy).as_deref(), Some("Other-Sys-1"));
    }

    // One refuses: all have the former one.
    let body = json!({"password": format!("{NOT_TAKEN}-1")});
    let started = api.post(&path, body).await.data();
    let task = api.rest(started["id"].as_i64().unwrap()).await;
    assert_eq!(task["operation"], "ROLLBACK", "{task}");
    for (agent, proxy) in agents.iter().zip(&proxies) {
        assert_eq!(agent.sys_password(*proxy).as_deref(), Some("Other-Sys-1"));
    }

    // A new proxy starts with what the others have.
    let third = FakeAgent::start(&api, "c").await;
    for task in api.add(cluster, &[&third]).await {
        assert_eq!(api.rest(task["id"].as_i64().unwrap()).await["status"], "SUCCESSFUL");
    }
    let detail = api.get(&format!("/api/v2/obproxy/clusters/{cluster}")).await.data();
    let servers = detail["obproxies"].as_array().unwrap();
    let new = servers.iter().find(|server| server["hostId"] == third.host_id).unwrap();
    assert_eq!(
        third.sys_password(new["id"].as_i64().unwrap()).as_deref(),
        Some("Other-Sys-1")
    );
    assert!(!detail.to_string().contains("Other-Sys-1"));
}

#[tokio::test]
async fn the_password_of_proxyro_goes_to_every_running_proxy() {
    let api = Api::start().await;
    let route = "/api/v2/obproxy/password";
    let body = json!({"username": "proxyro", "password": "Proxyro-1"});
    let (status, code, _) = api.post(route, body.clone()).await.refusal();
    assert_eq!((status, code.as_str()), (400, "COM10003"), "no OceanBase cluster");
    let agent = FakeAgent::start(&api, "a").await;
    let (_, proxies) = api.fleet(&[&agent]).await;
    let root = json!({"username": "root", "password": "Proxyro-1"});
    assert_eq!(
        api.post(route, root).await.refusal(),
        (400, "COM10001".into(), "username".into())
    );

    assert_eq!(api.post(route, body).await.status, 200);
    let ended = |page: &serde_json::Value| {
        let first = &page["contents"][0];
        first["name"] == "Change proxyro password" && first["status"] == "SUCCESSFUL"
    };
    api.until("/api/v2/tasks/instances", ended).await;
    assert_eq!(agent.value(proxies[0], "observer_sys_password"), "Proxyro-1");
    let tasks = api.get("/api/v2/tasks/instances").await.text;
    assert!(!tasks.contains("Proxyro-1"), "{tasks}");
}
