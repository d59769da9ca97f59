//! The server renews the certificates of real agents in time.

use std::time::Duration;

use obfleet_wire::time::Timestamp;
use reqwest::Method;
use serde_json::Value;

use crate::{
    fake_agent::real_agent,
    support::{Api, Reply},
};

/// Shorter than anybody would want, long enough for a slow machine to renew in the last third.
const LIFETIME: Duration = Duration::from_secs(12);

fn expiry(host: &Value) -> Option<Timestamp> {
    serde_json::from_value(host["certificateExpireTime"].clone()).unwrap()
}

#[tokio::test]
async fn an_agents_certificate_is_renewed_before_it_expires() {
    let api = Api::start_with(|options| options.agents_valid = LIFETIME).await;
    let dir = tempfile::tempdir().unwrap();
    let agent = tokio::spawn(obfleet_agent::run(real_agent(&api, dir.path()).await));
    let hosts = "/api/v2/compute/hosts";
    let known = |hosts: &Value| expiry(&hosts["contents"][0]).is_some();
    let first = api
        .until(hosts, |hosts| hosts["contents"][0].is_object() && known(hosts))
        .await;
    let first_expiry = expiry(&first["contents"][0]).unwrap();
    let path = format!("{hosts}/{}", first["contents"][0]["id"]);
    assert_eq!(expiry(&api.get(&path).await.data()), Some(first_expiry));

    let renewed = |host: &Value| expiry(host) > Some(first_expiry);
    let host = api.until(&path, renewed).await;
    assert!(Timestamp::now() < first_expiry, "it was renewed too late");
    assert_eq!(host["hostAgentStatus"], "AVAILABLE");
    // It is still heard of when the first certificate would long be of no use.
    let kept_up = |host: &Value| Timestamp::now() > first_expiry && expiry(host) > Some(Timestamp::now());
    let host = api.until(&path, kept_up).await;
    assert_eq!(host["hostAgentStatus"], "AVAILABLE");

    let metrics = Reply::of(api.bare(Method::GET, "/metrics")).await.text;
    assert!(
        metrics.contains("obfleet_agent_certificate_renewals_total{result=\"renewed\"}"),
        "{metrics}"
    );
    assert!(!metrics.contains("{result=\"failed\"}"), "{metrics}");
    agent.abort();
}
