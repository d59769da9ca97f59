//! What operators and their machines ask of the server itself: health and metrics.

use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Value, json};

use crate::{
    fake_agent::FakeAgent,
    support::{Api, Reply},
};

/// The value of a metric with these labels, as written.
fn value(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().parse().unwrap_or_else(|_| panic!("{name}{line}")))
}

async fn scrape(api: &Api) -> String {
    let reply = Reply::of(api.bare(Method::GET, "/metrics")).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let kind = reply.headers[CONTENT_TYPE].to_str().unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    assert!(reply.text.ends_with("# EOF\n"));
    reply.text
}

#[tokio::test]
async fn health_is_told_without_a_login() {
    let api = Api::start().await;
    let alive = Reply::of(api.bare(Method::GET, "/healthz")).await;
    assert_eq!((alive.status.as_u16(), alive.text.as_str()), (200, "ok\n"));
    let ready = Reply::of(api.bare(Method::GET, "/readyz")).await;
    assert_eq!(ready.status, 200);
    assert_eq!(
        ready.json(),
        json!({"ready": true, "checks": {"database": "ok", "engine": "ok"}})
    );

    let status = api.get("/api/status").await;
    assert_eq!((status.status.as_u16(), status.text.as_str()), (200, "okay"));

    api.running.fleet().engine().shutdown().await;
    let status = api.get("/api/status").await;
    assert_eq!((status.status.as_u16(), status.text.as_str()), (503, "bad"));
    let ready = Reply::of(api.bare(Method::GET, "/readyz")).await;
    assert_eq!(ready.status, 503);
    let told = ready.json();
    assert_eq!(
        (&told["ready"], &told["checks"]["database"]),
        (&json!(false), &json!("ok"))
    );
    assert!(
        told["checks"]["engine"].as_str().unwrap().contains("stopping"),
        "{told}"
    );
    assert_eq!(Reply::of(api.bare(Method::GET, "/healthz")).await.status, 200);
}

#[tokio::test]
async fn what_the_server_is_is_told_to_who_has_logged_in() {
    let api = Api::start().await;
    let info = api.get("/api/v2/info").await;
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        info.json(),
        json!({"artifact": "obfleet", "buildVersion": version, "group": "obfleet", "name": "obfleet"})
    );
    for path in ["/api/v2/info", "/api/status"] {
        assert_eq!(Reply::of(api.bare(Method::GET, path)).await.status, 401, "{path}");
    }
}

#[tokio::test]
async fn metrics_follow_the_work() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let (cluster, proxies) = api.fleet(&[&agent]).await;
    let text = scrape(&api).await;
    let of = |name: &str| value(&text, name).unwrap_or_else(|| panic!("{name} is missing in {text}"));
    assert_eq!(of("obfleet_tasks_ended_total{outcome=\"COMPLETED\"}"), 2.0);
    assert_eq!(of("obfleet_tasks{status=\"RUNNING\"}"), 0.0);
    for still in [
        "obfleet_queue_depth",
        "obfleet_steps_backing_off",
        "obfleet_running_attempts",
    ] {
        assert_eq!(of(still), 0.0, "{still}");
    }
    let hops = of("obfleet_hop_duration_seconds_count");
    let attempts = api.get("/api/v2/tasks/instances").await.data()["contents"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|task| task["subtasks"].as_array().unwrap())
        .filter(|step| !step["name"].as_str().unwrap().ends_with(" node"))
        .count();
    assert_eq!(hops, attempts as f64, "a hop for each step that ran");
    assert!(of("obfleet_store_operation_duration_seconds_count{operation=\"commit\"}") >= hops);
    assert!(of("obfleet_agent_call_duration_seconds_count{call=\"perform\"}") > 0.0);
    assert_eq!(of("obfleet_orphans_taken_over_total"), 0.0);
    assert!(of("process_resident_memory_bytes") > 1e6);
    assert!(text.contains("obfleet_build_info{version="), "{text}");

    // A step at work, and a failed one.
    agent.busy(true);
    let remove = format!("/api/v2/obproxy/clusters/{cluster}/obproxies/{}", proxies[0]);
    let task = api.delete(&remove).await.data()["id"].as_i64().unwrap();
    let path = format!("/api/v2/tasks/instances/{task}");
    let at_agent = |step: &Value| step["name"] == "Stop and uninstall obproxy" && step["status"] == "RUNNING";
    let at_work = |task: &Value| task["subtasks"].as_array().unwrap().iter().any(at_agent);
    let seen = api.until(&path, at_work).await;
    assert_eq!(value(&scrape(&api).await, "obfleet_running_attempts"), Some(1.0));
    let steps = seen["subtasks"].as_array().unwrap();
    let running = steps.iter().find(|step| at_agent(step)).unwrap();
    api.post_nothing(&format!("{path}/subtasks/{}/cancel", running["id"]))
        .await
        .data();
    api.rest(task).await;
    let text = scrape(&api).await;
    for (name, count) in [
        ("obfleet_running_attempts", 0.0),
        ("obfleet_failed_attempts_total{cause=\"CANCELLED\"}", 1.0),
        ("obfleet_tasks_ended_total{outcome=\"FAILED\"}", 1.0),
        ("obfleet_tasks{status=\"FAILED\"}", 1.0),
    ] {
        assert_eq!(value(&text, name), Some(count), "{name} in {text}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_and_not_by_path() {
    let api = Api::start().await;
    for id in 1..=3 {
        api.get(&format!("/api/v2/obproxy/clusters/{id}")).await;
        api.get(&format!("/no/such/route/{id}")).await;
    }
    Reply::of(api.bare(Method::from_bytes(b"BREW").unwrap(), "/healthz")).await;
    let text = scrape(&api).await;
    for (labels, count) in [
        (
            "method=\"GET\",route=\"/api/v2/obproxy/clusters/{id}\",status=\"404\"",
            3.0,
        ),
        ("method=\"GET\",route=\"none\",status=\"400\"", 3.0),
        ("method=\"OTHER\",route=\"/healthz\",status=\"400\"", 1.0),
    ] {
        let name = format!("obfleet_http_requests_total{{{labels}}}");
        assert_eq!(value(&text, &name), Some(count), "{name} in {text}");
    }
    assert!(!text.contains("/no/such"), "{text}");
}

#[tokio::test]
async fn metrics_are_not_for_everybody() {
    let api = Api::start().await;
    let passed_on = |request: reqwest::RequestBuilder| request.header("x-forwarded-for", "10.0.0.7");
    let stranger = Reply::of(passed_on(api.bare(Method::GET, "/metrics"))).await;
    assert_eq!(stranger.refusal().0, 401);
    let known = Reply::of(passed_on(api.request(Method::GET, "/metrics"))).await;
    assert_eq!(known.status, 200);
    scrape(&api).await;
}
