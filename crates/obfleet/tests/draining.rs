//! A server that is stopped in the middle of an upgrade and started again: the task does not notice.

#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

use std::{fs, path::Path};

use obfleet_lab::{
    api,
    chaos::account::ran_again,
    packages::{NEW, OLD},
    testbed::{PATIENCE, Testbed},
};
use serde_json::Value;

const EXE: &str = env!("CARGO_BIN_EXE_obfleet");
const DRAIN_WINDOW_S: u64 = 5;
const RESTART: &str = "Hot restart obproxy";
const DRAIN: &str = "Wait hot restart obproxy finish";

fn step<'a>(task: &'a Value, name: &str, branch: i64) -> &'a Value {
    let steps = task["subtasks"].as_array().unwrap();
    let found = steps.iter().find(|s| s["name"] == name && s["parallelIdx"] == branch);
    found.unwrap_or_else(|| panic!("no {name} of branch {branch} in {task}"))
}

/// The task as soon as the step is at work.
async fn at_work(bed: &Testbed, task: i64, name: &str, branch: i64) -> Value {
    let path = format!("/api/v2/tasks/instances/{task}");
    let begun = |task: &Value| !matches!(step(task, name, branch)["status"].as_str(), Some("PENDING" | "READY"));
    let seen = bed.api().unwrap().until(&path, PATIENCE, begun).await.unwrap();
    assert_eq!(seen["status"], "RUNNING", "{seen}");
    seen
}

/// How often each step was begun, by the heads in its log.
async fn attempts(bed: &Testbed, task: &Value) -> Vec<(String, usize)> {
    let mut all = Vec::new();
    for step in task["subtasks"].as_array().unwrap() {
        let path = format!("/api/v2/tasks/instances/{}/subtasks/{}/log", task["id"], step["id"]);
        let log = bed.api().unwrap().get(&path).await.unwrap();
        let heads = log["log"].as_str().unwrap().matches("############{EXECUTE}").count();
        let name = step["name"].as_str().unwrap();
        all.push((format!("{name} {}", step["parallelIdx"]), heads));
    }
    all
}

#[tokio::test]
async fn an_upgrade_does_not_notice_that_the_server_is_stopped() {
    let mut bed = Testbed::start(Path::new(EXE), 2, DRAIN_WINDOW_S).await.unwrap();
    bed.upload(NEW, None).await.unwrap();
    bed.at_rest_as(OLD).await.unwrap();
    let task = api::id(&bed.upgrade(NEW).await.unwrap()).unwrap();

    // One signal: running steps end, the next ones are begun by the next server.
    let mut seen = Vec::new();
    for (name, branch) in [(RESTART, 0), (DRAIN, 0)] {
        seen.push(at_work(&bed, task, name, branch).await);
        let ended = bed.fleet.restart_server(1).await.unwrap();
        assert!(ended.success(), "{ended}");
    }
    let drained = bed.api().unwrap().task(task).await.unwrap();
    for (name, branch) in [(RESTART, 0), (DRAIN, 0)] {
        assert_eq!(step(&drained, name, branch)["status"], "SUCCESSFUL", "{drained}");
    }
    seen.push(drained);

    // Two signals: the agent goes on alone, and the next server finds it at work or done.
    seen.push(at_work(&bed, task, RESTART, 1).await);
    let ended = bed.fleet.restart_server(2).await.unwrap();
    assert!(!ended.success(), "the second signal was not taken");

    bed.api().unwrap().success(task, PATIENCE).await.unwrap();
    bed.at_rest_as(NEW).await.unwrap();
    let end = bed.api().unwrap().task(task).await.unwrap();
    for before in &seen {
        assert_eq!(ran_again(before, &end), [""; 0]);
    }
    for step in end["subtasks"].as_array().unwrap() {
        assert_eq!(step["runTime"], 1, "{step}");
    }
    for (name, count) in attempts(&bed, &end).await {
        let may_be_taken_up = name == format!("{RESTART} 1") || name == format!("{DRAIN} 1");
        assert!(
            count == 1 || (may_be_taken_up && count == 2),
            "{name} was begun {count} times"
        );
    }
    for host in &bed.fleet.hosts {
        let restarts = fs::read_dir(host.root().join("restarts")).unwrap().count();
        assert_eq!(restarts, 1, "restarts of the proxy on {}", host.address);
    }
}
