//! What clients of a cluster connect to.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    contract::assert_shape,
    support::{Api, Reply},
};

async fn patch(api: &Api, cluster: i64, body: Value) -> Reply {
    let path = format!("/api/v2/obproxy/clusters/{cluster}");
    Reply::of(api.request(Method::PATCH, &path).json(&body)).await
}

#[tokio::test]
async fn address_and_port_are_changed_each_by_itself() {
    let api = Api::start().await;
    let cluster = api.cluster("test").await;
    let path = format!("/api/v2/obproxy/clusters/{cluster}");
    let before = api.get(&path).await.data();
    for (body, address, port) in [
        (json!({}), "db.example", 2883),
        (json!({"address": "10.0.0.9"}), "10.0.0.9", 2883),
        (json!({"port": 80}), "10.0.0.9", 80),
        (json!({"address": "数据库", "port": 65535}), "数据库", 65535),
    ] {
        let answer = assert_shape(&patch(&api, cluster, body).await, "cluster");
        assert_eq!((&answer["address"], &answer["port"]), (&json!(address), &json!(port)));
        assert_eq!(api.get(&path).await.data(), answer);
    }
    let after = api.get(&path).await.data();
    assert_eq!(after["createTime"], before["createTime"]);
    assert_ne!(after["updateTime"], before["updateTime"]);
}

#[tokio::test]
async fn a_wrong_address_or_port_changes_nothing() {
    let api = Api::start().await;
    let cluster = api.cluster("test").await;
    let path = format!("/api/v2/obproxy/clusters/{cluster}");
    let before = api.get(&path).await.data();
    for (body, field) in [
        (json!({"address": "", "port": 1}), "address"),
        (json!({"address": " a"}), "address"),
        (json!({"address": "a\nb"}), "address"),
        (json!({"address": "x".repeat(256)}), "address"),
        (json!({"address": "a", "port": 0}), "port"),
        (json!({"port": 65536}), "port"),
        (json!({"port": "80"}), "port"),
        (json!({"name": "other"}), "name"),
    ] {
        let refused = patch(&api, cluster, body.clone()).await.refusal();
        assert_eq!(refused, (400, "COM10001".into(), field.into()), "{body}");
    }
    assert_eq!(api.get(&path).await.data(), before);
    let zero = patch(&api, cluster, json!({"port": 0})).await.json();
    let message = zero["error"]["message"].to_string();
    assert!(message.contains("from 1 to 65535"), "{message}");

    let missing = patch(&api, 777, json!({"port": 1})).await.refusal();
    assert_eq!(missing, (404, "ODP21001".into(), "id".into()));
}
