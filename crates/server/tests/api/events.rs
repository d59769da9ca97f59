//! What befell hosts and proxies.

use crate::{contract::assert_shape, fake_agent::FakeAgent, support::Api};

#[tokio::test]
async fn what_befell_a_host_is_listed() {
    let api = Api::start().await;
    let (stays, goes) = (FakeAgent::start(&api, "a").await, FakeAgent::start(&api, "b").await);
    let (cluster, proxies) = api.fleet(&[&stays]).await;
    let away = goes.host_id;
    drop(goes);
    let path = format!("/api/v2/obproxy/events?hostId={away}");
    let page = api
        .until(&path, |page| page["contents"][0]["type"] == "AGENT_OFFLINE")
        .await;
    assert_shape(&api.get(&path).await, "fleet-event-page");
    let newest = &page["contents"][0];
    assert_eq!(newest["hostId"], away);
    assert!(
        newest["message"].as_str().unwrap().contains("does not answer"),
        "{newest}"
    );
    let chinese = api
        .request(reqwest::Method::GET, &path)
        .header("Accept-Language", "zh-CN");
    let chinese = crate::support::Reply::of(chinese).await.data();
    assert!(
        chinese["contents"][0]["message"].as_str().unwrap().contains("无应答"),
        "{chinese}"
    );

    let offline = format!("{path}&type=AGENT_OFFLINE,AGENT_ONLINE&page=1&size=1");
    let offline = api.get(&offline).await.data();
    assert_eq!(offline["contents"].as_array().unwrap().len(), 1);
    for nothing in [
        format!("clusterId={cluster}&hostId={away}"),
        format!("obproxyId={}&type=PROXY_CRASHED", proxies[0]),
    ] {
        let page = api.get(&format!("/api/v2/obproxy/events?{nothing}")).await.data();
        assert_eq!(page["page"]["totalElements"], 0, "{page}");
    }
    for (wrong, field) in [
        ("type=OOPS", "type"),
        ("hostId=x", "hostId"),
        ("size=0", "size"),
        ("page=x", "page"),
    ] {
        let refusal = api.get(&format!("/api/v2/obproxy/events?{wrong}")).await.refusal();
        assert_eq!(refusal, (400, "COM10001".to_owned(), field.to_owned()));
    }
}
