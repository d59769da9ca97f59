//! What is measured of proxies: agents tell it, the server keeps it and answers in OCP's shape.

use std::collections::BTreeSet;

use obfleet_wire::time::Timestamp;
use serde_json::Value;

use crate::{fake_agent::FakeAgent, shape::differences, support::Api};

/// A time as clients write it in a query, so many seconds from now.
fn time(seconds: i64) -> String {
    let at = Timestamp(Timestamp::now().millis() + seconds * 1000).to_string();
    at.replace('+', "%2B")
}

fn names<'v>(data: &'v Value, label: &str) -> BTreeSet<&'v str> {
    let entries = data["contents"].as_array().unwrap();
    entries.iter().filter_map(|entry| entry[label].as_str()).collect()
}

#[tokio::test]
async fn what_agents_measure_is_answered_by_label_and_time() {
    let api = Api::start().await;
    let (one, two) = (FakeAgent::start(&api, "a").await, FakeAgent::start(&api, "b").await);
    let (cluster, proxies) = api.fleet(&[&one, &two]).await;
    let (from, to) = (time(-300), time(60));
    let by_proxy = format!(
        "/api/v2/monitor/metricsWithLabel?startTime={from}&endTime={to}&interval=60&minStep=15&maxPoints=1440\
         &metrics=odp_transaction_total,obproxy_rss_memory&groupBy=obproxy_id,obproxy_cluster\
         &labels=app:obproxy,obproxy_cluster_id:{cluster}"
    );
    let both = api
        .until(&by_proxy, |data| names(data, "obproxy_id").len() == proxies.len())
        .await;
    assert_eq!(names(&both, "obproxy_cluster"), BTreeSet::from(["test"]));
    for group in both["contents"].as_array().unwrap() {
        let data = group["data"].as_array().unwrap();
        let times: Vec<i64> = data
            .iter()
            .map(|sample| sample["timestamp"].as_i64().unwrap())
            .collect();
        assert!(times.is_sorted() && times.iter().all(|at| at % 60 == 0), "{times:?}");
        let known: Vec<&Value> = data
            .iter()
            .filter(|sample| !sample["odp_transaction_total"].is_null())
            .collect();
        assert!(!known.is_empty(), "{group}");
        for sample in known {
            assert_eq!(sample["odp_transaction_total"], 10.0, "{sample}");
            assert_eq!(sample["obproxy_rss_memory"], 1e8, "{sample}");
        }
    }

    // The older spelling of the times, and a plus nobody escaped.
    let together = format!(
        "/api/v2/monitor/metric?start_time={}&end_time={to}&metrics=odp_transaction_total&groupBy=obproxy_cluster",
        time(-300).replace("%2B", "+")
    );
    let together = api.get(&together).await.data();
    let entry = &together["contents"][0];
    assert!(
        entry["timestamp"].is_i64() && entry["obproxy_cluster"] == "test",
        "{entry}"
    );
    let rates = together["contents"].as_array().unwrap().iter();
    assert!(
        rates.clone().any(|entry| entry["odp_transaction_total"] == 20.0),
        "{together}"
    );

    let by_type = format!(
        "/api/v2/monitor/metricsWithLabel?startTime={from}&metrics=odp_sql_request_total&groupBy=sqlType\
         &labels=obproxy_id:{}",
        proxies[0]
    );
    assert_eq!(
        names(&api.get(&by_type).await.data(), "sqlType"),
        BTreeSet::from(["SELECT"])
    );
}

#[tokio::test]
async fn a_question_that_cannot_be_is_told_which_part() {
    let api = Api::start().await;
    let (from, to) = (time(-60), time(0));
    let good = format!("startTime={from}&endTime={to}&metrics=obproxy_up&groupBy=obproxy");
    let metric = "/api/v2/monitor/metric";
    assert_eq!(
        api.get(&format!("{metric}?{good}")).await.data()["contents"],
        Value::Array(Vec::new())
    );
    // From now on: who goes on asking begins like this.
    let nothing_yet = format!("{metric}?startTime={to}&endTime={to}&metrics=obproxy_up");
    assert_eq!(api.get(&nothing_yet).await.data()["contents"], Value::Array(Vec::new()));
    for (wrong, field) in [
        ("metrics=obproxy_up".to_owned(), "startTime"),
        ("startTime=yesterday&metrics=obproxy_up".to_owned(), "startTime"),
        (
            format!("start_time={to}&end_time={from}&metrics=obproxy_up"),
            "start_time",
        ),
        (
            format!("startTime={}&metrics=obproxy_up", time(-16 * 86_400)),
            "startTime",
        ),
        (format!("startTime={}&metrics=obproxy_up", time(3600)), "startTime"),
        (format!("startTime={from}&endTime=now&metrics=obproxy_up"), "endTime"),
        (format!("startTime={from}"), "metrics"),
        (format!("startTime={from}&metrics=cpu_percent"), "metrics"),
        (format!("startTime={from}&metrics=obproxy_up&groupBy=tenant"), "groupBy"),
        (format!("{good}&labels=obproxy_cluster"), "labels"),
        (format!("{good}&labels=ob_cluster_name:x"), "labels"),
        (format!("{good}&interval=-1"), "interval"),
        (format!("{good}&minStep=x"), "minStep"),
        (format!("{good}&maxPoints=1441"), "maxPoints"),
    ] {
        let refusal = api.get(&format!("{metric}?{wrong}")).await.refusal();
        assert_eq!(refusal, (400, "COM10001".to_owned(), field.to_owned()), "{wrong}");
    }
}

#[tokio::test]
async fn metrics_are_listed_by_class() {
    let api = Api::start().await;
    let path = "/api/v2/monitor/metricGroups?type=NORMAL&scope=OBPROXY&target=OBPROXY&targetId=1";
    let page = api.get(path).await.data();
    assert_eq!(differences(&page, "metric-class-page"), [""; 0]);
    let text = page.to_string();
    for name in [
        "odp_transaction_total",
        "odp_sql_request_total",
        "obproxy_rss_memory",
        "obproxy_client_max_connections",
    ] {
        assert!(text.contains(&format!("\"key\":\"{name}\"")), "{name}");
    }
    for (other, field) in [("type=NORMAL", "scope"), ("scope=OBPROXY&type=ALL", "type")] {
        let refusal = api
            .get(&format!("/api/v2/monitor/metricGroups?{other}"))
            .await
            .refusal();
        assert_eq!(refusal, (400, "COM10001".to_owned(), field.to_owned()));
    }
    let nothing = api.get("/api/v2/monitor/metricGroups?scope=TENANT").await.data();
    assert_eq!(nothing["page"]["totalElements"], 0);
}

#[tokio::test]
async fn one_scrape_has_all_proxies() {
    let api = Api::start().await;
    let (one, two) = (FakeAgent::start(&api, "a").await, FakeAgent::start(&api, "b").await);
    let (cluster, proxies) = api.fleet(&[&one, &two]).await;
    let answer = api.get("/api/v2/obproxy/metrics").await;
    assert!(
        answer.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    for proxy in &proxies {
        let line = answer.text.lines().find(|line| {
            line.starts_with("odp_transaction_total{") && line.contains(&format!("obproxy_id=\"{proxy}\""))
        });
        let line = line.unwrap_or_else(|| panic!("{}", answer.text));
        assert!(
            line.contains(&format!("obproxy_cluster_id=\"{cluster}\"")) && line.contains("tenant=\"sys\""),
            "{line}"
        );
        assert_eq!(line.split(' ').nth(1), Some("7"), "{line}");
    }

    // An agent that went away takes its proxies' figures with it, and that is told.
    let away = two.host_id;
    drop(two);
    let up = |text: &str, host: i64, value: u8| {
        let mut lines = text.lines().filter(|line| line.starts_with("obfleet_agent_up{"));
        lines.any(|line| line.contains(&format!("host_id=\"{host}\"}} {value} ")))
    };
    let text = api.get("/api/v2/obproxy/metrics").await.text;
    assert!(up(&text, one.host_id, 1) && up(&text, away, 0), "{text}");
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("odp_transaction_total{"))
            .count(),
        1
    );
}
