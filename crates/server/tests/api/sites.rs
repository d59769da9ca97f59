//! Regions, IDCs and host types, and which of them hosts are in.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    contract::assert_shape,
    fake_agent::{FakeAgent, enrol, enrol_request, signing_request},
    support::{Api, Reply},
};

/// Path, what is added, and the fixture of what is answered.
const KINDS: [(&str, &str, &str); 3] = [
    ("regions", "region", "regionId"),
    ("idcs", "idc", "idcId"),
    ("hostTypes", "host-type", "typeId"),
];

fn body(path: &str, name: &str, region: i64) -> Value {
    let mut body = json!({"name": name, "description": "for tests"});
    if path == "idcs" {
        body["regionId"] = json!(region);
    }
    body
}

#[tokio::test]
async fn each_kind_is_added_shown_listed_and_deleted() {
    let api = Api::start().await;
    for (path, fixture, field) in KINDS {
        let path = format!("/api/v2/compute/{path}");
        let kind = path.rsplit('/').next().unwrap();
        let added = assert_shape(&api.post(&path, body(kind, "one", 1)).await, fixture);
        let one = format!("{path}/{}", added["id"]);
        assert_eq!(assert_shape(&api.get(&one).await, fixture), added);
        let page = assert_shape(&api.get(&path).await, &format!("{fixture}-page"));
        let names: Vec<_> = page["contents"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| &e["name"])
            .collect();
        assert_eq!(names, ["default", "one"]);
        let default = &page["contents"][0];
        assert_eq!((&default["id"], &default["createTime"]), (&json!(1), &Value::Null));
        let found = api.get(&format!("{path}?keyword=ON")).await.data();
        assert_eq!(found["page"]["totalElements"], 1);

        let twice = api.post(&path, body(kind, "one", 1)).await;
        assert_eq!(twice.refusal(), (409, "COM10006".into(), "name".into()));
        for wrong in ["", " one", "a\u{7}b", &"x".repeat(65)] {
            let refused = api.post(&path, body(kind, wrong, 1)).await.refusal();
            assert_eq!(refused, (400, "COM10001".into(), "name".into()), "{wrong:?}");
        }
        let missing = api.get(&format!("{path}/777")).await.refusal();
        assert_eq!(missing, (404, "COM10002".into(), field.into()));

        let gone = api.delete(&one).await;
        assert_eq!(
            (gone.status.as_u16(), gone.json().get("data")),
            (200, None),
            "{}",
            gone.text
        );
        assert_eq!(api.delete(&one).await.refusal(), (404, "COM10002".into(), field.into()));
        let default = api.delete(&format!("{path}/1")).await.refusal();
        assert_eq!(
            (default.0, default.1),
            (409, "CMP07000".into()),
            "it is for hosts to come"
        );
    }
}

#[tokio::test]
async fn an_idc_is_in_a_region_that_is_there() {
    let api = Api::start().await;
    let refused = api.post("/api/v2/compute/idcs", body("idcs", "one", 777)).await;
    assert_eq!(refused.refusal(), (404, "COM10002".into(), "regionId".into()));
    let region = api
        .post("/api/v2/compute/regions", body("regions", "north", 0))
        .await
        .data();
    let id = region["id"].as_i64().unwrap();
    let idc = api.post("/api/v2/compute/idcs", body("idcs", "one", id)).await.data();
    assert_eq!((&idc["regionId"], &idc["regionName"]), (&region["id"], &json!("north")));
    let found = api.get(&format!("/api/v2/compute/idcs?regionId={id}")).await.data();
    assert_eq!(found["contents"], json!([idc]));

    let used = api.delete(&format!("/api/v2/compute/regions/{id}")).await;
    assert_eq!((used.refusal().0, used.refusal().1), (409, "CMP07000".into()));
    assert_eq!(used.json()["error"]["target"], json!({"idcIds": [idc["id"]]}));
    let message = used.json()["error"]["message"].to_string();
    assert!(message.contains(&format!("IDC {}", idc["id"])), "{message}");
}

#[tokio::test]
async fn a_token_puts_its_host_where_it_says() {
    let api = Api::start().await;
    let region = api
        .post("/api/v2/compute/regions", body("regions", "north", 0))
        .await
        .data();
    let region_id = region["id"].as_i64().unwrap();
    let idc = api
        .post("/api/v2/compute/idcs", body("idcs", "n1", region_id))
        .await
        .data();
    let host_type = api
        .post("/api/v2/compute/hostTypes", body("hostTypes", "tiny", 0))
        .await
        .data();
    for (member, value) in [("idcId", json!(777)), ("typeId", json!(777))] {
        let refused = api.post("/api/v2/compute/agents/tokens", json!({member: value})).await;
        assert_eq!(refused.refusal(), (404, "COM10002".into(), member.into()));
    }

    let there = json!({"idcId": idc["id"], "typeId": host_type["id"]});
    let host = host_by_token(&api, there, "a").await;
    assert_eq!((&host["idcId"], &host["idcName"]), (&idc["id"], &json!("n1")));
    assert_eq!(host["idcDescription"], "for tests");
    assert_eq!(
        (&host["regionId"], &host["regionName"]),
        (&region["id"], &json!("north"))
    );
    assert_eq!(host["regionDescription"], "for tests");
    assert_eq!((&host["typeId"], &host["typeName"]), (&host_type["id"], &json!("tiny")));
    let elsewhere = host_by_token(&api, json!({}), "b").await;
    assert_eq!(
        (&elsewhere["idcId"], &elsewhere["idcName"]),
        (&json!(1), &json!("default"))
    );
    let found = api
        .get(&format!("/api/v2/compute/hosts?idcId={}", idc["id"]))
        .await
        .data();
    assert_eq!(found["contents"], json!([host]));

    for path in [format!("idcs/{}", idc["id"]), format!("hostTypes/{}", host_type["id"])] {
        let used = api.delete(&format!("/api/v2/compute/{path}")).await;
        assert_eq!((used.refusal().0, used.refusal().1), (409, "CMP07000".into()), "{path}");
        assert_eq!(used.json()["error"]["target"], json!({"hostIds": [host["id"]]}));
    }
}

#[tokio::test]
async fn a_token_outlives_the_idc_it_names() {
    let api = Api::start().await;
    let idc = api.post("/api/v2/compute/idcs", body("idcs", "n1", 1)).await.data();
    let token = api
        .post("/api/v2/compute/agents/tokens", json!({"idcId": idc["id"]}))
        .await
        .data();
    api.delete(&format!("/api/v2/compute/idcs/{}", idc["id"])).await;
    assert_eq!(use_token(&api, &token, "a").await["idcId"], 1);
}

#[tokio::test]
async fn clusters_count_their_proxies_by_idc() {
    let api = Api::start().await;
    let idc = api.post("/api/v2/compute/idcs", body("idcs", "n1", 1)).await.data();
    let agents = [
        FakeAgent::start_with(&api, "a", json!({"idcId": idc["id"]})).await,
        FakeAgent::start(&api, "b").await,
    ];
    let (cluster, _) = api.fleet(&[&agents[0], &agents[1]]).await;
    let detail = api.get(&format!("/api/v2/obproxy/clusters/{cluster}")).await.data();
    assert_eq!(
        detail["topo"],
        json!([{"count": 1, "idcName": "default"}, {"count": 1, "idcName": "n1"}])
    );
    let names: Vec<_> = detail["obproxies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["idcName"])
        .collect();
    assert_eq!(names, ["n1", "default"]);
}

async fn host_by_token(api: &Api, token: Value, name: &str) -> Value {
    let token = Reply::of(api.request(Method::POST, "/api/v2/compute/agents/tokens").json(&token)).await;
    use_token(api, &token.data(), name).await
}

/// The host that an agent brings with the token.
async fn use_token(api: &Api, token: &Value, name: &str) -> Value {
    let token = token["token"].as_str().unwrap().parse().unwrap();
    let (csr, _) = signing_request();
    let answer = enrol(api, &enrol_request(&token, name, &csr, 1)).await.data();
    api.get(&format!("/api/v2/compute/hosts/{}", answer["hostId"]))
        .await
        .data()
}
