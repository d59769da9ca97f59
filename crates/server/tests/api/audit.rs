//! What was changed is written down, and by whom.

use std::time::Duration;

use obfleet_server::{Options, Server, location};
use obfleet_store::{Database, audit::verify};
use obfleet_wire::audit::{AuditRecord, Chain};
use obfleet_wire::time::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    contract::assert_shape,
    support::{Api, PASSWORD, Reply},
};

const RECORDS: &str = "/api/v2/audit/records";

async fn newest(api: &Api, query: &str) -> Value {
    api.get(&format!("{RECORDS}?{query}")).await.data()["contents"][0].clone()
}

#[tokio::test]
async fn a_change_is_written_down_with_what_was_before_and_after() {
    let api = Api::start().await;
    let user = json!({"name": "anna", "password": "Secret-of-anna-1", "roles": [{"name": "OBPROXY_VIEWER"}]});
    let made = api.post("/api/v2/iam/users", user).await;
    let record = newest(&api, "path=/api/v2/iam").await;
    assert_shape(&api.get(RECORDS).await, "audit-record-page");
    let id = made.data()["id"].clone();
    assert_eq!(record["traceId"], made.json()["traceId"]);
    assert_eq!(
        (
            &record["userName"],
            &record["address"],
            &record["right"],
            &record["status"]
        ),
        (&json!("admin"), &json!("127.0.0.1"), &json!("user:manage"), &json!(200))
    );
    assert_eq!(record["detail"]["request"]["password"], "******");
    assert_eq!(record["detail"]["after"]["id"], id);

    let path = format!("/api/v2/iam/users/{id}");
    let edit = api.request(Method::PATCH, &path).json(&json!({"description": "夜班"}));
    assert_eq!(Reply::of(edit).await.status, 200);
    let record = newest(&api, "status=200").await;
    assert_eq!(record["method"], "PATCH");
    assert_ne!(record["detail"]["before"]["description"], "夜班", "{record}");
    assert_eq!(record["detail"]["after"]["description"], "夜班", "{record}");

    api.delete(&path).await;
    let record = newest(&api, "").await;
    assert_eq!(record["detail"]["before"]["name"], "anna", "{record}");
    assert_eq!(record["detail"].get("after"), None, "{record}");
    assert_eq!(
        api.get(&format!("{RECORDS}?status=x")).await.refusal(),
        (400, "COM10001".into(), "status".into())
    );
}

#[tokio::test]
async fn attempts_and_logins_are_written_down_and_strangers_write_nothing() {
    let api = Api::start().await;
    let cluster = api.cluster("test").await;
    let path = format!("/api/v2/obproxy/clusters/{cluster}");
    let user = json!({"name": "anna", "password": PASSWORD, "needChangePassword": false, "roles": [{"name": "OBPROXY_VIEWER"}]});
    api.post("/api/v2/iam/users", user).await.data();
    let total = async || api.get(RECORDS).await.data()["page"]["totalElements"].as_u64().unwrap();
    let before = total().await;
    assert_eq!(Reply::of(api.bare(Method::DELETE, &path)).await.status, 401);
    let wrong = api.bare(Method::DELETE, &path).basic_auth("admin", Some("wrong"));
    assert_eq!(Reply::of(wrong).await.status, 401);
    let form = |password: &str| {
        let form = api.bare(Method::POST, "/api/v2/login");
        let form = form.header("Content-Type", "application/x-www-form-urlencoded");
        form.body(format!("username=anna&password={password}"))
    };
    assert_ne!(Reply::of(form("wrong")).await.status, 200);
    assert_eq!(total().await, before);

    assert_eq!(Reply::of(form(PASSWORD)).await.status, 200);
    let login = newest(&api, "").await;
    assert_eq!(
        (&login["path"], &login["userName"]),
        (&json!("/api/v2/login"), &json!("anna"))
    );
    assert!(!login.to_string().contains(PASSWORD), "{login}");
    let refused = api.bare(Method::DELETE, &path).basic_auth("anna", Some(PASSWORD));
    assert_eq!(Reply::of(refused).await.status, 403);
    let refused = newest(&api, "userName=anna").await;
    assert_eq!((&refused["status"], &refused["path"]), (&json!(403), &json!(path)));
    assert!(refused["detail"]["error"]["message"].is_string(), "{refused}");
    assert_eq!(total().await, before + 2);
}

#[tokio::test]
async fn records_are_exported_as_they_were_digested() {
    let api = Api::start().await;
    api.cluster("test").await;
    api.post(
        "/api/v2/obproxy/clusters",
        json!({"name": "测试", "share": 0.10, "x": null}),
    )
    .await
    .refusal();
    let export = async |query: &str| {
        let text = api.get(&format!("{RECORDS}/export{query}")).await.text;
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect::<Vec<AuditRecord>>()
    };
    let all = export("").await;
    assert!(all.len() >= 2);
    let mut chain = Chain::default();
    for record in &all {
        chain.follow(record).unwrap();
    }
    assert_eq!(export(&format!("?after={}", all.len() - 1)).await.len(), 1);
}

#[tokio::test]
async fn records_are_removed_when_they_are_too_old_and_the_rest_is_verified() {
    let Api { running, dir, http } = Api::start().await;
    running.stop().await.unwrap();
    let state = dir.path().join("state");
    let place = location(None, &state);
    let database = Database::at(&place).await.unwrap();
    let day = 24 * 60 * 60 * 1000;
    let now = Timestamp::now().millis();
    for (path, age) in [("/old", 9), ("/older", 8), ("/new", 0)] {
        let mut record = AuditRecord::of_removal(0, "", Timestamp(now - age * day)).unwrap();
        record.path = path.to_owned();
        database.audit().append(&record).await.unwrap();
    }
    database.close().await;

    let mut options = Options::new("127.0.0.1:0".parse().unwrap(), &state);
    options.admin_password_file = Some(dir.path().join("password"));
    options.keep_audit = Some(Duration::from_secs(7 * 24 * 60 * 60));
    let running = Server::start(options).await.unwrap();
    let api = Api { running, dir, http };
    let records = api
        .until(RECORDS, |page| {
            page["contents"][0]["method"] == "DELETE" && page["contents"][0]["path"] == RECORDS
        })
        .await;
    let seqs: Vec<_> = records["contents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["seq"].clone())
        .collect();
    assert_eq!(seqs, [4, 3], "{records}");
    assert_eq!(records["contents"][0]["detail"]["removed"]["seq"], 2);
    let chain = verify(&place, |_| Ok(())).await.unwrap();
    assert_eq!((chain.first(), chain.count()), (3, 2));
    api.running.stop().await.unwrap();
}
