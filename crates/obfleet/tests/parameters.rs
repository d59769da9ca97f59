//! Parameters of real proxies: changed on all or on none, waiting for a restart, given again to one that was down; and what
//! somebody changed by SQL is found, repaired or accepted.

#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use obfleet_lab::{
    api,
    packages::{NEW, OLD},
    process,
    testbed::{PATIENCE, Proxy, SYS_PASSWORD, Testbed},
};
use obfleet_wire::time::Timestamp;
use serde_json::{Value, json};

const EXE: &str = env!("CARGO_BIN_EXE_obfleet");
const DRAIN_WINDOW_S: u64 = 5;
/// What somebody changes by SQL is known within a minute.
const FOUND: Duration = Duration::from_secs(60);

struct Bed {
    bed: Testbed,
    path: String,
}

impl Bed {
    async fn start(hosts: u8) -> Self {
        let bed = Testbed::start(Path::new(EXE), hosts, DRAIN_WINDOW_S).await.unwrap();
        bed.at_rest_as(OLD).await.unwrap();
        let path = format!("/api/v2/obproxy/clusters/{}", bed.cluster);
        let this = Self { bed, path };
        this.until("/parameters", |list| {
            let values = parameter(list, "syslog_level").map(|entry| entry["values"].as_array().unwrap());
            let read = values
                .into_iter()
                .flatten()
                .map(|value| value["obproxyIds"].as_array().unwrap().len());
            read.sum::<usize>() == usize::from(hosts)
        })
        .await;
        this
    }

    fn api(&self) -> &api::Api {
        self.bed.api().unwrap()
    }

    async fn get(&self, rest: &str) -> Value {
        self.api().get(&format!("{}{rest}", self.path)).await.unwrap()
    }

    async fn until(&self, rest: &str, done: impl Fn(&Value) -> bool) -> Value {
        let path = format!("{}{rest}", self.path);
        self.api().until(&path, FOUND, done).await.unwrap()
    }

    /// A change of these values on all proxies, once its task has come to rest.
    async fn edit(&self, values: &[(&str, &str)]) -> Value {
        let parameters: Vec<_> = values.iter().map(|(n, v)| json!({"name": n, "value": v})).collect();
        let path = format!("{}/parameters", self.path);
        let task = self.api().put(&path, &json!({"parameters": parameters})).await.unwrap();
        self.api().rest(api::id(&task).unwrap(), PATIENCE).await.unwrap()
    }

    async fn order(&self, rest: &str) {
        let task = self.api().post_nothing(&format!("{}{rest}", self.path)).await.unwrap();
        self.api().success(api::id(&task).unwrap(), PATIENCE).await.unwrap();
    }

    /// The row of a proxy.
    async fn row(&self, proxy: &Proxy) -> Value {
        let detail = self.get("").await;
        let rows = detail["obproxies"].as_array().unwrap();
        rows.iter().find(|row| row["id"] == proxy.id).unwrap().clone()
    }

    /// The server has seen the proxy serve since it was replaced.
    async fn replaced(&self, proxy: &Proxy, before: &[u32]) {
        replaced(proxy, before).await;
        let since = Timestamp::now();
        self.until("", |detail| {
            let rows = detail["obproxies"].as_array().unwrap();
            let row = rows.iter().find(|row| row["id"] == proxy.id).unwrap();
            let seen: Option<Timestamp> = serde_json::from_value(row["lastActiveTime"].clone()).unwrap();
            row["status"] == "RUNNING" && seen > Some(since)
        })
        .await;
    }

    async fn until_seen(&self, proxy: &Proxy, status: &str) {
        self.until("", |detail| {
            let rows = detail["obproxies"].as_array().unwrap();
            rows.iter().any(|row| row["id"] == proxy.id && row["status"] == status)
        })
        .await;
    }
}

fn parameter<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    api::contents(list).iter().find(|entry| entry["name"] == name)
}

/// The proxies that go by another value of an item than they show.
fn waiting(list: &Value, name: &str) -> Vec<i64> {
    let waits = parameter(list, name).unwrap()["pendingRestart"].as_array().unwrap();
    waits.iter().map(|wait| wait["obproxyId"].as_i64().unwrap()).collect()
}

fn drifts(list: &Value) -> Vec<(i64, String)> {
    let drifts = api::contents(list).iter();
    drifts
        .map(|drift| {
            (
                drift["obproxyId"].as_i64().unwrap(),
                drift["value"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

async fn sql(proxy: &Proxy, text: &str) -> Vec<Vec<String>> {
    let mut admin = proxy.log_in("root@proxysys", SYS_PASSWORD).await.unwrap();
    let answer = admin.query(text).await.unwrap();
    admin.close().await;
    let text = |value: Option<Vec<u8>>| String::from_utf8_lossy(&value.unwrap_or_default()).into_owned();
    let rows = answer.rows.into_iter();
    rows.map(|row| row.into_iter().map(text).collect()).collect()
}

async fn set_by_sql(proxy: &Proxy, name: &str, value: &str) {
    sql(proxy, &format!("alter proxyconfig set {name} = '{value}'")).await;
}

async fn value(proxy: &Proxy, name: &str) -> String {
    let rows = sql(proxy, "show proxyconfig").await;
    rows.into_iter().find(|row| row[0] == name).unwrap()[1].clone()
}

async fn values(bed: &Bed, name: &str) -> Vec<String> {
    let mut values = Vec::new();
    for proxy in &bed.bed.proxies {
        values.push(value(proxy, name).await);
    }
    values
}

/// Whatever is started in the home of the proxy from now on has this fault.
fn spoil(proxy: &Proxy, fault: &Value) {
    fs::write(proxy.home.join("standin-faults.json"), fault.to_string()).unwrap();
}

fn mend(proxy: &Proxy) {
    fs::remove_file(proxy.home.join("standin-faults.json")).unwrap();
}

/// Kills the proxy's process; its agent starts another.
fn kill(proxy: &Proxy) -> Vec<u32> {
    let pids = process::of_home(&proxy.home);
    pids.iter().for_each(|pid| process::signal(*pid, Signal::SIGKILL));
    pids
}

/// Another process serves in place of those.
async fn replaced(proxy: &Proxy, before: &[u32]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = process::of_home(&proxy.home);
        let other = !now.is_empty() && now.iter().all(|pid| !before.contains(pid));
        if other && proxy.serves_as(OLD.version).await.is_ok() {
            return;
        }
        assert!(Instant::now() < deadline, "{proxy:?} does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_change_is_on_all_proxies_or_on_none_and_waits_for_a_restart_where_it_must() {
    let bed = Bed::start(3).await;
    let [first, second, third] = &bed.bed.proxies[..] else {
        panic!()
    };
    spoil(third, &json!({"refuse_parameter": "syslog_level"}));
    bed.replaced(third, &kill(third)).await;
    let before = values(&bed, "syslog_level").await;

    let failed = bed
        .edit(&[("enable_prometheus", "False"), ("syslog_level", "WARN")])
        .await;
    assert_eq!(
        (&failed["status"], &failed["outcome"]),
        (&json!("FAILED"), &json!("ROLLED_BACK")),
        "{failed}"
    );
    assert!(failed.to_string().contains("syslog_level"), "{failed}");
    assert_eq!(values(&bed, "syslog_level").await, before);
    assert!(
        values(&bed, "enable_prometheus")
            .await
            .iter()
            .all(|value| value.eq_ignore_ascii_case("true"))
    );
    assert_eq!(bed.get("").await["parameterVersion"], 1);
    assert_eq!(bed.get("/parameters/history").await["contents"], json!([]));
    bed.bed.at_rest_as(OLD).await.unwrap();

    mend(third);
    bed.replaced(third, &kill(third)).await;
    let done = bed.edit(&[("syslog_level", "WARN"), ("work_thread_num", "32")]).await;
    assert_eq!(done["status"], "SUCCESSFUL", "{}", bed.api().why(&done).await);
    assert_eq!(values(&bed, "syslog_level").await, ["WARN"; 3]);
    assert_eq!(bed.get("/parameters/history").await["page"]["totalElements"], 2);
    let list = bed.get("/parameters").await;
    assert_eq!(waiting(&list, "work_thread_num"), [first.id, second.id, third.id]);
    assert_eq!(
        parameter(&list, "work_thread_num").unwrap()["pendingRestart"][0]["inForce"],
        "128"
    );
    assert_eq!(waiting(&list, "syslog_level"), [0; 0]);

    // A crash is a restart as well; and so is an upgrade, which leaves the values as they are.
    bed.replaced(first, &kill(first)).await;
    bed.until("/parameters", |list| {
        waiting(list, "work_thread_num") == [second.id, third.id]
    })
    .await;
    bed.bed.at_rest_as(OLD).await.unwrap();
    bed.bed.upload(NEW, None).await.unwrap();
    let body = json!({"shortRpmName": NEW.short_rpm_name()});
    let upgrade = bed.bed.upgrade_path(std::slice::from_ref(second));
    let task = bed.api().post(&upgrade, &body).await.unwrap();
    bed.api().success(api::id(&task).unwrap(), PATIENCE).await.unwrap();
    let list = bed
        .until("/parameters", |list| waiting(list, "work_thread_num") == [third.id])
        .await;
    assert_eq!(parameter(&list, "work_thread_num").unwrap()["valueString"], "32");
    assert_eq!(value(second, "work_thread_num").await, "32");
    assert_eq!(drifts(&bed.get("/parameters/drift").await), []);
}

#[tokio::test]
async fn what_somebody_changed_by_sql_is_found_repaired_or_accepted() {
    let bed = Bed::start(2).await;
    let [first, second] = &bed.bed.proxies[..] else {
        panic!()
    };
    let done = bed.edit(&[("syslog_level", "WARN")]).await;
    assert_eq!(done["status"], "SUCCESSFUL", "{}", bed.api().why(&done).await);
    assert_eq!(drifts(&bed.get("/parameters/drift").await), []);

    set_by_sql(second, "syslog_level", "DEBUG").await;
    let found = bed.until("/parameters/drift", |list| !drifts(list).is_empty()).await;
    assert_eq!(drifts(&found), [(second.id, "DEBUG".to_owned())]);
    assert_eq!(api::contents(&found)[0]["expectedValue"], "WARN");
    bed.order("/parameters/drift/repair").await;
    assert_eq!(values(&bed, "syslog_level").await, ["WARN"; 2]);
    assert_eq!(drifts(&bed.get("/parameters/drift").await), []);

    // Everybody has the same: the cluster's value from now on, and that of proxies to come.
    for proxy in [first, second] {
        set_by_sql(proxy, "syslog_level", "TRACE").await;
    }
    bed.until("/parameters/drift", |list| drifts(list).len() == 2).await;
    bed.order("/parameters/drift/accept").await;
    assert_eq!(drifts(&bed.get("/parameters/drift").await), []);
    let history = bed.get("/parameters/history").await;
    let change = &api::contents(&history)[0];
    assert_eq!(
        (
            &change["kind"],
            &change["valueBefore"],
            &change["valueAfter"],
            &change["wholeCluster"]
        ),
        (&json!("ACCEPT"), &json!("WARN"), &json!("TRACE"), &json!(true))
    );
    let task = bed.bed.submit_removal(std::slice::from_ref(second)).await.unwrap();
    bed.api().success(api::id(&task).unwrap(), PATIENCE).await.unwrap();
    let task = bed.bed.submit_install(1).await.unwrap();
    bed.api().success(task, PATIENCE).await.unwrap();
    for proxy in bed.bed.listed_as("RUNNING").await.unwrap() {
        assert_eq!(value(&proxy, "syslog_level").await, "TRACE");
        assert_eq!(bed.row(&proxy).await["parameterVersion"], 3);
    }
}

#[tokio::test]
async fn a_proxy_that_was_down_is_given_what_it_missed() {
    let bed = Bed::start(2).await;
    let [first, second] = &bed.bed.proxies[..] else {
        panic!()
    };
    let before = value(second, "syslog_level").await;
    spoil(second, &json!({"exit": 1}));
    let pids = kill(second);
    bed.until_seen(second, "UNAVAILABLE").await;
    let done = bed.edit(&[("syslog_level", "WARN")]).await;
    assert_eq!(done["status"], "SUCCESSFUL", "{}", bed.api().why(&done).await);
    assert_eq!(value(first, "syslog_level").await, "WARN");

    mend(second);
    bed.replaced(second, &pids).await;
    bed.bed.at_rest_as(OLD).await.unwrap();
    assert_eq!(value(second, "syslog_level").await, before);
    assert_eq!(bed.row(first).await["parameterVersion"], 2);
    assert_eq!(bed.row(second).await["parameterVersion"], 1);
    assert_eq!(drifts(&bed.get("/parameters/drift").await), [], "it lags behind");
    bed.order(&format!("/obproxies/{}/refreshParameters", second.id)).await;
    assert_eq!(value(second, "syslog_level").await, "WARN");
    assert_eq!(bed.row(second).await["parameterVersion"], 2);
    bed.bed.at_rest_as(OLD).await.unwrap();
}
