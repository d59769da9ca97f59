//! What the API does to real proxies, besides a plain upgrade: adding, deleting, upgrades at odds with each other, the way
//! back and the way on after a failure, and a server that stands still for a while.

#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

use std::{fs, net::TcpStream, path::Path};

use nix::sys::signal::Signal;
use obfleet_lab::{
    api,
    packages::{NEW, OLD},
    process,
    testbed::{PATIENCE, Proxy, Testbed, until},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const EXE: &str = env!("CARGO_BIN_EXE_obfleet");
const DRAIN_WINDOW_S: u64 = 5;

async fn testbed() -> Testbed {
    let bed = Testbed::start(Path::new(EXE), 2, DRAIN_WINDOW_S).await.unwrap();
    bed.upload(NEW, None).await.unwrap();
    bed.at_rest_as(OLD).await.unwrap();
    bed
}

fn subtask<'a>(task: &'a Value, name: &str, branch: i64) -> &'a Value {
    let steps = task["subtasks"].as_array().unwrap();
    let found = steps.iter().find(|s| s["name"] == name && s["parallelIdx"] == branch);
    found.unwrap_or_else(|| panic!("no {name} of branch {branch} in {task}"))
}

async fn order(bed: &Testbed, task: i64, order: &str) {
    let path = format!("/api/v2/tasks/instances/{task}/{order}");
    bed.api().unwrap().post_nothing(&path).await.unwrap();
}

/// Gives the second proxy a bad day: whatever is started in its home ends at once.
fn spoil(proxy: &Proxy) {
    fs::write(proxy.home.join("standin-faults.json"), r#"{"exit": 1}"#).unwrap();
}

fn mend(proxy: &Proxy) {
    fs::remove_file(proxy.home.join("standin-faults.json")).unwrap();
}

#[tokio::test]
async fn a_failure_half_way_is_taken_back_or_gone_on_from() {
    let bed = testbed().await;
    let api = bed.api().unwrap();
    let [first, second] = &bed.proxies[..] else { panic!() };

    spoil(second);
    let task = api::id(&bed.upgrade(NEW).await.unwrap()).unwrap();
    let failed = api.rest(task, PATIENCE).await.unwrap();
    assert_eq!(failed["status"], "FAILED", "{failed}");
    assert_eq!(subtask(&failed, "Check proxy version", 0)["status"], "SUCCESSFUL");
    assert_eq!(subtask(&failed, "Hot restart obproxy", 1)["status"], "FAILED");
    first.serves_as(NEW.version).await.unwrap();
    second.serves_as(OLD.version).await.unwrap();

    // It keeps its proxies until somebody decides.
    let body = json!({"shortRpmName": NEW.short_rpm_name()});
    let path = bed.upgrade_path(std::slice::from_ref(second));
    let (status, refusal) = api.try_post(&path, &body).await.unwrap();
    assert_eq!(status, 409, "{refusal}");
    assert!(refusal["error"].to_string().contains(&task.to_string()), "{refusal}");

    order(&bed, task, "rollback").await;
    let rolled_back = api.rest(task, PATIENCE).await.unwrap();
    assert_eq!(
        (&rolled_back["status"], &rolled_back["operation"]),
        (&json!("SUCCESSFUL"), &json!("ROLLBACK")),
        "{}",
        api.why(&rolled_back).await
    );
    bed.at_rest_as(OLD).await.unwrap();

    // Again, and this time the cause goes away.
    let task = api::id(&bed.upgrade(NEW).await.unwrap()).unwrap();
    let failed = api.rest(task, PATIENCE).await.unwrap();
    assert_eq!(failed["status"], "FAILED", "{failed}");
    mend(second);
    order(&bed, task, "retry").await;
    api.success(task, PATIENCE).await.unwrap();
    let retried = api.task(task).await.unwrap();
    assert_eq!(subtask(&retried, "Hot restart obproxy", 1)["runTime"], 2);
    for name in [
        "Hot restart obproxy",
        "Wait hot restart obproxy finish",
        "Check proxy version",
    ] {
        assert_eq!(subtask(&failed, name, 0), subtask(&retried, name, 0), "ran again");
    }
    bed.at_rest_as(NEW).await.unwrap();
}

#[tokio::test]
async fn of_upgrades_of_one_proxy_one_wins() {
    let bed = testbed().await;
    let path = bed.upgrade_path(&bed.proxies[..1]);
    let body = json!({"shortRpmName": NEW.short_rpm_name()});
    let mut racing = JoinSet::new();
    for _ in 0..6 {
        let (api, path, body) = (bed.api().unwrap().clone(), path.clone(), body.clone());
        racing.spawn(async move { api.try_post(&path, &body).await.unwrap() });
    }
    let answers = racing.join_all().await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(status, _)| *status == 200);
    assert_eq!(won.len(), 1, "{won:?} {lost:?}");
    let winner = api::id(&won[0].1["data"]).unwrap();
    for (status, refusal) in &lost {
        assert_eq!(*status, 409, "{refusal}");
        assert_eq!(refusal["successful"], false);
        let told = refusal["error"].to_string();
        assert!(told.contains(&winner.to_string()), "{winner} is not named: {told}");
    }
    let api = bed.api().unwrap();
    api.success(winner, PATIENCE).await.unwrap();
    bed.proxies[0].serves_as(NEW.version).await.unwrap();
    bed.proxies[1].serves_as(OLD.version).await.unwrap();
    let (status, refusal) = api.try_post(&path, &body).await.unwrap();
    assert_eq!(status, 400, "{refusal}");
}

/// As a machine does that is suspended, or swaps.
#[tokio::test]
async fn a_server_that_stands_still_for_a_while_goes_on() {
    let bed = testbed().await;
    let (api, server) = (bed.api().unwrap(), bed.fleet.server().unwrap().process.pid());
    let task = api::id(&bed.upgrade(NEW).await.unwrap()).unwrap();
    let a_guard_is_at_work = || !process::guards(bed.fleet.root()).is_empty();
    until("the first restart begins", PATIENCE, async || a_guard_is_at_work()).await;
    process::signal(server, Signal::SIGSTOP);
    // The restart ends while nobody looks.
    until("the new version serves", PATIENCE, async || {
        bed.proxies[0].serves_as(NEW.version).await.is_ok()
    })
    .await;
    until("the guard is done", PATIENCE, async || !a_guard_is_at_work()).await;
    process::signal(server, Signal::SIGCONT);
    api.success(task, PATIENCE).await.unwrap();
    bed.at_rest_as(NEW).await.unwrap();
}

const SEEDS_STEPS: [&str; 8] = [
    "Start node",
    "Prepare offline obproxy",
    "Wait node",
    "Stop and uninstall obproxy",
    "Delete obproxy info",
    "Offline obproxy exporter",
    "Unreserve host",
    "Finish node",
];

fn assert_gone(proxy: &Proxy) {
    assert!(process::of_home(&proxy.home).is_empty(), "{proxy:?}");
    assert!(!proxy.home.exists(), "{proxy:?}");
    assert!(TcpStream::connect(proxy.address).is_err(), "{proxy:?}");
}

#[tokio::test]
async fn proxies_are_deleted_and_added() {
    let mut bed = testbed().await;
    let [kept, deleted] = [bed.proxies[0].clone(), bed.proxies[1].clone()];

    let task = bed.submit_removal(std::slice::from_ref(&deleted)).await.unwrap();
    let mut steps: Vec<_> = task["subtasks"].as_array().unwrap().iter().collect();
    steps.sort_by_key(|step| step["id"].as_i64());
    let names: Vec<_> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(names, SEEDS_STEPS);
    bed.api()
        .unwrap()
        .success(api::id(&task).unwrap(), PATIENCE)
        .await
        .unwrap();
    assert_gone(&deleted);
    let listed = bed.listed_as("RUNNING").await.unwrap();
    assert_eq!(listed.iter().map(|proxy| proxy.id).collect::<Vec<_>>(), [kept.id]);
    kept.serves_as(OLD.version).await.unwrap();

    let task = bed.submit_install(1).await.unwrap();
    bed.api().unwrap().success(task, PATIENCE).await.unwrap();
    bed.proxies = bed.listed_as("RUNNING").await.unwrap();
    assert_eq!(bed.proxies[0].id, kept.id);
    assert_eq!(bed.proxies[1].address, deleted.address);
    assert_ne!(bed.proxies[1].id, deleted.id);
    bed.at_rest_as(OLD).await.unwrap();

    // The one that came and the one that was there, by one task.
    let task = bed.submit_removal(&bed.proxies).await.unwrap();
    bed.api()
        .unwrap()
        .success(api::id(&task).unwrap(), PATIENCE)
        .await
        .unwrap();
    bed.proxies.iter().for_each(assert_gone);
    assert!(bed.listed_as("RUNNING").await.unwrap().is_empty());
}
