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
