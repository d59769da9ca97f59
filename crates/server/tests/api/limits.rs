//! How much one user may ask of a server.

use std::collections::HashSet;

use reqwest::{Method, header::HeaderMap};
use serde_json::json;

use crate::support::{Api, PASSWORD, Reply};

fn told(headers: &HeaderMap) -> [Option<u64>; 3] {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.parse().ok();
    ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"].map(number)
}

#[tokio::test]
async fn a_user_has_so_many_requests_and_nobody_elses() {
    // Far more than a minute's worth of what comes before, whose window may end.
    let api = Api::start_with(|options| options.requests_per_minute = 5).await;
    let body = json!({"name": "other", "password": "Correct-Horse-2", "roles": [{"name": "OBPROXY_VIEWER"}]});
    let made = api.post("/api/v2/iam/users", body).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let me = "/api/v2/profiles/me";
    let mut seen = HashSet::new();
    let refused = loop {
        let reply = api.get(me).await;
        let [limit, remaining, reset] = told(&reply.headers);
        assert_eq!(limit, Some(5));
        assert!(reset.is_some_and(|reset| reset <= 60), "{reset:?}");
        if reply.status == 429 {
            assert_eq!(remaining, Some(0));
            break reply;
        }
        assert_eq!(reply.status, 200, "{}", reply.text);
        seen.insert(remaining.unwrap());
    };
    assert!((0..4).all(|left| seen.contains(&left)), "{seen:?}");
    let envelope = refused.json();
    assert_eq!(
        (&envelope["status"], &envelope["successful"]),
        (&429.into(), &false.into())
    );
    assert_eq!(envelope["error"]["code"], 0);
    assert!(
        envelope["error"]["message"]
            .as_str()
            .unwrap()
            .contains("5 requests a minute"),
        "{envelope}"
    );
    assert!(refused.headers.contains_key("retry-after"));

    let other = api.bare(Method::GET, me).basic_auth("other", Some("Correct-Horse-2"));
    let other = Reply::of(other).await;
    assert_ne!(other.status, 429, "{}", other.text);
    assert_eq!(told(&other.headers)[1], Some(4));
    // Who is nobody is told nothing, and uses nothing up.
    let nobody = Reply::of(api.bare(Method::GET, me)).await;
    assert_eq!((nobody.status.as_u16(), told(&nobody.headers)), (401, [None; 3]));
    let time = Reply::of(
        api.bare(Method::GET, "/api/v2/time")
            .basic_auth("admin", Some(PASSWORD)),
    )
    .await;
    assert_eq!(time.status, 200, "what is open is not counted");
}

#[tokio::test]
async fn limits_can_be_switched_off() {
    let api = Api::start_with(|options| options.requests_per_minute = 0).await;
    let reply = api.get("/api/v2/profiles/me").await;
    assert_eq!((reply.status.as_u16(), told(&reply.headers)), (200, [None; 3]));
}
