//! What people say of a host is changed by them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    contract::assert_shape,
    fake_agent::FakeAgent,
    support::{Api, Reply},
};

async fn edit(api: &Api, host: i64, body: Value) -> Reply {
    let path = format!("/api/v2/compute/hosts/{host}");
    Reply::of(api.request(Method::PATCH, &path).json(&body)).await
}

#[tokio::test]
async fn alias_description_idc_and_type_of_a_host_are_changed() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let id = agent.host_id;
    let idc = json!({"name": "n1", "regionId": 1});
    let idc = api.post("/api/v2/compute/idcs", idc).await.data();
    let tiny = api
        .post("/api/v2/compute/hostTypes", json!({"name": "tiny"}))
        .await
        .data();

    let body = json!({"alias": "front", "description": "北", "idcId": idc["id"], "typeId": tiny["id"]});
    let edited = assert_shape(&edit(&api, id, body).await, "host");
    assert_eq!(
        (&edited["alias"], &edited["description"]),
        (&json!("front"), &json!("北"))
    );
    assert_eq!(
        (&edited["idcName"], &edited["typeName"]),
        (&json!("n1"), &json!("tiny"))
    );
    let path = format!("/api/v2/compute/hosts/{id}");
    assert_eq!(api.get(&path).await.data()["alias"], "front");
    let found = api.get("/api/v2/compute/hosts?keyword=FRON").await.data();
    assert_eq!(found["contents"][0]["id"], id);

    let rest = edit(&api, id, json!({"alias": ""})).await.data();
    assert_eq!((&rest["alias"], &rest["description"]), (&Value::Null, &json!("北")));
    assert_eq!(rest["idcName"], "n1", "what is left out stays");

    for (body, refusal) in [
        (json!({"alias": " x"}), (400, "COM10001", "alias")),
        (
            json!({"description": "x".repeat(513)}),
            (400, "COM10001", "description"),
        ),
        (json!({"idcId": 777}), (404, "COM10002", "idcId")),
        (json!({"typeId": 777}), (404, "COM10002", "typeId")),
    ] {
        let (status, code, field) = refusal;
        let refused = edit(&api, id, body).await.refusal();
        assert_eq!(refused, (status, code.into(), field.into()));
    }
    let missing = edit(&api, 777, json!({"alias": "x"})).await.refusal();
    assert_eq!((missing.0, missing.2), (404, "hostId".into()));
    let used = api.delete(&format!("/api/v2/compute/idcs/{}", idc["id"])).await;
    assert_eq!(used.refusal().0, 409, "the host is in it");
}

#[tokio::test]
async fn hosts_without_proxies_are_deleted_all_or_none() {
    let api = Api::start().await;
    let agents = [
        FakeAgent::start(&api, "a").await,
        FakeAgent::start(&api, "b").await,
        FakeAgent::start(&api, "c").await,
    ];
    let [first, second, third] = agents.each_ref().map(|agent| agent.host_id);
    let (_, proxies) = api.fleet(&[&agents[0]]).await;
    let delete = async |ids: Value| {
        api.post("/api/v2/compute/hosts/batchDelete", json!({"hostIdList": ids}))
            .await
    };
    let hosts = async || {
        let page = api.get("/api/v2/compute/hosts").await.data();
        let ids: Vec<i64> = page["contents"]
            .as_array()
            .unwrap()
            .iter()
            .map(|host| host["id"].as_i64().unwrap())
            .collect();
        ids
    };
    let used = delete(json!([second, first])).await;
    assert_eq!(used.refusal(), (409, "CMP07000".into(), "hostIdList".into()));
    assert_eq!(
        used.json()["error"]["target"],
        json!({"hostId": first, "obproxyServerIds": proxies})
    );
    assert_eq!(delete(json!([second, 777])).await.refusal().0, 404);
    assert_eq!(
        delete(json!([])).await.refusal(),
        (400, "COM10001".into(), "hostIdList".into())
    );
    assert_eq!(hosts().await.len(), 3, "none was deleted");

    let one = format!("/api/v2/compute/hosts/{third}");
    assert_eq!(api.delete(&one).await.status, 200);
    assert_eq!(
        api.delete(&one).await.refusal(),
        (404, "CMP07005".into(), "hostId".into())
    );
    assert_eq!(delete(json!([second])).await.status, 200);
    assert_eq!(hosts().await, [first]);

    // Its agent joins anew: it is the same host.
    let again = FakeAgent::start(&api, "c").await;
    assert_eq!(again.host_id, third);
    assert!(hosts().await.contains(&third));
}
