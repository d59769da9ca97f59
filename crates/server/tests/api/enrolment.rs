//! How agents are let in.

use obfleet_agent::token::fingerprint;
use obfleet_wire::{agent::EnrolRequest, time::Timestamp};
use serde_json::json;

use crate::{
    fake_agent::{enrol, enrol_request, signing_request, token},
    support::Api,
};

const REFUSED: (u16, &str) = (401, "COM10003");

async fn refusal(api: &Api, request: &EnrolRequest) -> (u16, String) {
    let refusal = enrol(api, request).await.refusal();
    (refusal.0, refusal.1)
}

#[tokio::test]
async fn a_token_is_good_for_one_host_once() {
    let api = Api::start().await;
    let token = token(&api).await;
    let (csr, _) = signing_request();
    let request = enrol_request(&token, "a", &csr, 1);
    let answer = enrol(&api, &request).await.data();
    let ca = answer["caPem"].as_str().unwrap();
    assert_eq!(fingerprint(ca).as_deref(), Some(token.ca_sha256.as_str()));
    assert!(answer["certificatePem"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    assert!(!answer["installation"].as_str().unwrap().is_empty());
    let host = api
        .get(&format!("/api/v2/compute/hosts/{}", answer["hostId"]))
        .await
        .data();
    assert_eq!(
        (&host["name"], &host["innerIpAddress"]),
        (&json!("host-a"), &json!("127.0.0.1"))
    );
    assert_eq!(
        refusal(&api, &request).await,
        (REFUSED.0, REFUSED.1.into()),
        "it is used up"
    );

    let again = enrol_request(&self::token(&api).await, "a", &csr, 1);
    assert_eq!(
        enrol(&api, &again).await.data()["hostId"],
        answer["hostId"],
        "the same host with another token"
    );
}

#[tokio::test]
async fn what_is_wrong_does_not_use_up_the_token() {
    let api = Api::start().await;
    let token = token(&api).await;
    let (csr, _) = signing_request();
    let good = enrol_request(&token, "a", &csr, 1);
    let (other_csr, _) = signing_request();
    for wrong in [
        EnrolRequest {
            proof: "00".repeat(32),
            ..good.clone()
        },
        EnrolRequest {
            csr_pem: other_csr,
            ..good.clone()
        },
        EnrolRequest {
            token_id: "unknown".into(),
            ..good.clone()
        },
    ] {
        assert_eq!(refusal(&api, &wrong).await, (REFUSED.0, REFUSED.1.into()));
    }
    for uid in ["", "A", "a.b", "server.obfleet", &"a".repeat(64)] {
        assert_eq!(
            refusal(&api, &enrol_request(&token, uid, &csr, 1)).await.0,
            400,
            "{uid}"
        );
    }
    let nowhere = EnrolRequest {
        address: "http://x/".into(),
        ..good.clone()
    };
    assert_eq!(refusal(&api, &nowhere).await, (400, "COM10001".into()));
    assert_eq!(refusal(&api, &enrol_request(&token, "a", "no request", 1)).await.0, 400);
    assert_eq!(enrol(&api, &good).await.status, 200);
}

#[tokio::test]
async fn a_token_expires() {
    let api = Api::start().await;
    for wrong in [0, 86_401] {
        let reply = api
            .post("/api/v2/compute/agents/tokens", json!({"validSeconds": wrong}))
            .await;
        assert_eq!(reply.refusal(), (400, "COM10001".into(), "validSeconds".into()));
    }
    let made = api
        .post("/api/v2/compute/agents/tokens", json!({"validSeconds": 1}))
        .await
        .data();
    let expires: Timestamp = serde_json::from_value(made["expireTime"].clone()).unwrap();
    while Timestamp::now() <= expires {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let token = made["token"].as_str().unwrap().parse().unwrap();
    let (csr, _) = signing_request();
    assert_eq!(
        refusal(&api, &enrol_request(&token, "a", &csr, 1)).await,
        (REFUSED.0, REFUSED.1.into())
    );
}
