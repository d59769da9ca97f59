//! Log files of proxies, as the server hands them on from agents.

use crate::{
    contract::assert_shape,
    fake_agent::{FakeAgent, LOG},
    support::Api,
};

#[tokio::test]
async fn log_files_are_listed_and_their_end_is_told() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let (cluster, ids) = api.fleet(&[&agent]).await;
    let logs = format!("/api/v2/obproxy/clusters/{cluster}/obproxies/{}/logs", ids[0]);
    let listed = assert_shape(&api.get(&logs).await, "proxy-logs");
    assert_eq!(listed["contents"][0]["name"], "obproxy.log");
    assert_eq!(listed["contents"][0]["size"], LOG.len());

    for (query, text) in [("", LOG), ("?tail=3", "789"), ("?tail=67108864", LOG)] {
        let reply = api.get(&format!("{logs}/obproxy.log{query}")).await;
        assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, text), "{query}");
        assert_eq!(reply.headers["content-type"], "application/octet-stream");
        assert_eq!(
            reply.headers["content-disposition"],
            "attachment; filename=\"obproxy.log\""
        );
    }
    for query in ["tail=0", "tail=67108865", "tail=-1", "tail=all"] {
        let refused = api.get(&format!("{logs}/obproxy.log?{query}")).await.refusal();
        assert_eq!(refused, (400, "COM10001".into(), "tail".into()), "{query}");
    }
    for name in ["missing.log", "..%2F..%2Fsecret", "%2Fetc%2Fpasswd", "%2e%2e"] {
        let missing = api.get(&format!("{logs}/{name}")).await;
        // A client may resolve the dots itself; then no route is left.
        assert!(matches!(missing.status.as_u16(), 400 | 404), "{name}: {}", missing.text);
    }
    let missing = api.get(&format!("{logs}/missing.log")).await.refusal();
    assert_eq!(missing, (404, "COM10002".into(), "name".into()));
}

#[tokio::test]
async fn proxies_that_are_not_there_or_cannot_be_asked_have_no_logs() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let (cluster, ids) = api.fleet(&[&agent]).await;
    let other = api.cluster("other").await;
    let refusal = async |cluster: i64, proxy: i64| {
        let path = format!("/api/v2/obproxy/clusters/{cluster}/obproxies/{proxy}/logs");
        api.get(&path).await.refusal()
    };
    assert_eq!(refusal(777, ids[0]).await, (404, "ODP21001".into(), "id".into()));
    assert_eq!(
        refusal(cluster, 777).await,
        (404, "ODP21002".into(), "obproxyIds".into())
    );
    let elsewhere = refusal(other, ids[0]).await;
    assert_eq!((elsewhere.1.as_str(), elsewhere.2.as_str()), ("ODP21015", "obproxyIds"));
    drop(agent);
    let away = refusal(cluster, ids[0]).await;
    assert_eq!((away.0, away.1.as_str()), (400, "CMP07004"));
}
