//! Which proxies a client that balances load by itself is told.

use serde_json::json;

use crate::{contract::assert_shape, fake_agent::FakeAgent, support::Api};

#[tokio::test]
async fn clients_are_told_the_serving_proxies_of_a_cluster_by_its_name() {
    let api = Api::start().await;
    let agents = [FakeAgent::start(&api, "a").await, FakeAgent::start(&api, "b").await];
    let (cluster, ids) = api.fleet(&[&agents[0], &agents[1]]).await;
    let empty = api.cluster("empty").await;
    assert_ne!(cluster, empty);

    let info = "/api/v2/obproxy/loadBalanceInfo";
    let told = assert_shape(&api.get(&format!("{info}?appName=test")).await, "load-balance-info");
    let server = |id| json!({"id": id, "idcName": "default", "ip": "127.0.0.1", "sqlPort": 2883});
    assert_eq!(told["contents"], json!([server(ids[0]), server(ids[1])]));

    let delete = format!("/api/v2/obproxy/clusters/{cluster}/obproxies/{}", ids[0]);
    let task = api.delete(&delete).await.data();
    assert_eq!(api.rest(task["id"].as_i64().unwrap()).await["status"], "SUCCESSFUL");
    let told = api.get(&format!("{info}?appName=test")).await.data();
    assert_eq!(told["contents"], json!([server(ids[1])]));
    let told = api.get(&format!("{info}?appName=empty")).await.data();
    assert_eq!(told["contents"], json!([]));

    let other = api.get(&format!("{info}?appName=Test")).await.refusal();
    assert_eq!(other, (404, "ODP21102".into(), "appName".into()));
    for query in ["", "?appName="] {
        let unnamed = api.get(&format!("{info}{query}")).await.refusal();
        assert_eq!(unnamed, (400, "COM10001".into(), "appName".into()), "{query:?}");
    }
}

#[tokio::test]
async fn balancers_keep_away_from_what_is_offline() {
    let api = Api::start().await;
    let agents = [FakeAgent::start(&api, "a").await, FakeAgent::start(&api, "b").await];
    let (cluster, ids) = api.fleet(&[&agents[0], &agents[1]]).await;
    let path = format!("/api/v2/obproxy/clusters/{cluster}");
    let told = |wanted: [&'static str; 2]| {
        move |detail: &serde_json::Value| {
            let servers = detail["obproxies"].as_array().unwrap();
            let so = |(server, wanted): (&serde_json::Value, &&str)| {
                server["loadBalanceStatus"] == **wanted && server["operateStatus"] == "NORMAL"
            };
            servers.iter().zip(&wanted).all(so)
        }
    };
    let order = async |ids: &str, order: &str| api.post_nothing(&format!("{path}/obproxies/{ids}/{order}")).await;
    let reply = order(&ids[0].to_string(), "offline").await;
    assert_eq!(
        (reply.status.as_u16(), reply.json().get("data")),
        (200, None),
        "{}",
        reply.text
    );
    api.until(&path, told(["OFFLINE", "ONLINE"])).await;
    let info = api.get("/api/v2/obproxy/loadBalanceInfo?appName=test").await.data();
    assert_eq!(info["contents"].as_array().unwrap().len(), 1, "{info}");
    let both = format!("{},{}", ids[0], ids[1]);
    assert_eq!(order(&both, "online").await.status, 200);
    api.until(&path, told(["ONLINE", "ONLINE"])).await;

    let stop = json!({"obproxyServerIds": [ids[1]]});
    let task = api.post(&format!("{path}/servers/stop"), stop).await.data();
    assert_eq!(api.rest(task["id"].as_i64().unwrap()).await["status"], "SUCCESSFUL");
    let refused = order(&both, "offline").await.refusal();
    assert_eq!(refused, (400, "ODP21017".into(), "obproxyIds".into()));
    assert_eq!(order("999", "online").await.status, 404);
}
