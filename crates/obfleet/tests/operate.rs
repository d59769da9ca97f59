//! Stopping, starting and restarting real proxies under traffic, and taking away one whose host is gone.

#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

use std::{fs, net::TcpStream, path::Path};

use obfleet_lab::{
    api,
    packages::OLD,
    process,
    testbed::{CLIENT, PATIENCE, Proxy, Testbed},
};
use serde_json::{Value, json};

const EXE: &str = env!("CARGO_BIN_EXE_obfleet");
const DRAIN_WINDOW_S: u64 = 5;

async fn testbed() -> Testbed {
    let bed = Testbed::start(Path::new(EXE), 2, DRAIN_WINDOW_S).await.unwrap();
    bed.at_rest_as(OLD).await.unwrap();
    bed
}

/// Orders something of `…/servers/{order}`. → the task's id
async fn order(bed: &Testbed, order: &str, body: &Value) -> i64 {
    let path = format!("/api/v2/obproxy/clusters/{}/servers/{order}", bed.cluster);
    api::id(&bed.api().unwrap().post(&path, body).await.unwrap()).unwrap()
}

async fn ask_of_task(bed: &Testbed, task: i64, order: &str) {
    let path = format!("/api/v2/tasks/instances/{task}/{order}");
    bed.api().unwrap().post_nothing(&path).await.unwrap();
}

async fn succeed(bed: &Testbed, task: i64) {
    bed.api().unwrap().success(task, PATIENCE).await.unwrap();
}

fn pid(proxy: &Proxy) -> u32 {
    let pids = process::of_home(&proxy.home);
    assert_eq!(pids.len(), 1, "processes {pids:?} in {}", proxy.home.display());
    pids[0]
}

#[tokio::test]
async fn stopped_started_and_restarted() {
    let bed = testbed().await;
    let [first, second] = &bed.proxies[..] else { panic!() };

    let stop = order(&bed, "stop", &json!({"obproxyServerIds": [first.id]})).await;
    succeed(&bed, stop).await;
    assert_eq!(process::of_home(&first.home), [0_u32; 0]);
    TcpStream::connect(first.address).unwrap_err();
    second.serves_as(OLD.version).await.unwrap();
    let path = format!("/api/v2/obproxy/clusters/{}", bed.cluster);
    let status = |detail: &Value, id: i64| {
        let rows = detail["obproxies"].as_array().unwrap();
        rows.iter().find(|row| row["id"] == id).unwrap()["status"].clone()
    };
    assert_eq!(
        status(&bed.api().unwrap().get(&path).await.unwrap(), first.id),
        "STOPPED"
    );

    let start = order(&bed, "start", &json!({"obproxyServerIds": [first.id]})).await;
    succeed(&bed, start).await;
    bed.at_rest_as(OLD).await.unwrap();

    // Hot: another process takes over, and a session that is open goes on.
    let (before, other) = (pid(first), pid(second));
    let mut session = first.log_in(CLIENT, "").await.unwrap();
    session.query("begin").await.unwrap();
    let restart = order(
        &bed,
        "restart",
        &json!({"obproxyServerIds": [first.id], "hotRestart": true}),
    )
    .await;
    let begun = format!("/api/v2/tasks/instances/{restart}");
    let draining = |task: &Value| {
        let steps = task["subtasks"].as_array().unwrap();
        steps
            .iter()
            .any(|step| step["name"] == "Wait hot restart obproxy finish" && step["status"] == "RUNNING")
    };
    bed.api().unwrap().until(&begun, PATIENCE, draining).await.unwrap();
    session.query("select 1").await.unwrap();
    session.query("commit").await.unwrap();
    session.close().await;
    succeed(&bed, restart).await;
    bed.at_rest_as(OLD).await.unwrap();
    assert_ne!(pid(first), before, "it is the same process");
    assert_eq!(pid(second), other, "the other was left alone");

    // Forced: also one that stands still.
    let before = pid(second);
    process::signal(before, nix::sys::signal::Signal::SIGSTOP);
    let restart = order(
        &bed,
        "restart",
        &json!({"obproxyServerIds": [second.id], "hotRestart": false}),
    )
    .await;
    succeed(&bed, restart).await;
    bed.at_rest_as(OLD).await.unwrap();
    assert_ne!(pid(second), before, "it is the same process");
}

#[tokio::test]
async fn a_start_that_fails_is_taken_back_or_gone_on_from() {
    let bed = testbed().await;
    let [first, second] = &bed.proxies[..] else { panic!() };
    let both = json!({"obproxyServerIds": [first.id, second.id]});
    let stop = order(&bed, "stop", &both).await;
    succeed(&bed, stop).await;
    let faults = second.home.join("standin-faults.json");
    fs::write(&faults, r#"{"exit": 1}"#).unwrap();
    let start = order(&bed, "start", &both).await;
    let failed = bed.api().unwrap().rest(start, PATIENCE).await.unwrap();
    assert_eq!(failed["status"], "FAILED", "{failed}");
    ask_of_task(&bed, start, "rollback").await;
    let back = bed.api().unwrap().rest(start, PATIENCE).await.unwrap();
    assert_eq!(
        (&back["status"], &back["operation"]),
        (&json!("SUCCESSFUL"), &json!("ROLLBACK")),
        "{back}"
    );
    assert_eq!(bed.listed_as("STOPPED").await.unwrap().len(), 2);
    for proxy in [first, second] {
        assert_eq!(process::of_home(&proxy.home), [0_u32; 0]);
    }

    let start = order(&bed, "start", &both).await;
    assert_eq!(
        bed.api().unwrap().rest(start, PATIENCE).await.unwrap()["status"],
        "FAILED"
    );
    fs::remove_file(&faults).unwrap();
    ask_of_task(&bed, start, "retry").await;
    succeed(&bed, start).await;
    bed.at_rest_as(OLD).await.unwrap();
}

#[tokio::test]
async fn a_proxy_is_deleted_although_its_host_is_gone() {
    let mut bed = testbed().await;
    let (first, second) = (bed.proxies[0].clone(), bed.proxies[1].clone());
    let lost = bed.fleet.hosts.remove(1);
    drop(lost);
    let both = json!({
        "obproxyServerIds": [first.id, second.id], "skipHostOperationServerIds": [second.id],
    });
    let delete = order(&bed, "delete", &both).await;
    succeed(&bed, delete).await;
    assert_eq!(process::of_home(&first.home), [0_u32; 0]);
    let path = format!("/api/v2/obproxy/clusters/{}", bed.cluster);
    let detail = bed.api().unwrap().get(&path).await.unwrap();
    assert_eq!(detail["obproxies"], json!([]));
}
