//! A server of an earlier release on the database of a later one.

use obfleet_server::{Options, Server, location};
use obfleet_store::{Database, sql};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    fake_agent::FakeAgent,
    shape::differences,
    support::{Api, Reply},
    tasks::{hanging, step},
};

const STEP: &str = "Check if process not exist";

/// The server again, after `damage` was done to the database while it was away.
async fn again(api: Api, damage: &'static str, value: &str) -> Api {
    let Api { running, dir, http } = api;
    running.stop().await.unwrap();
    let state = dir.path().join("state");
    let database = Database::at(&location(None, &state)).await.unwrap();
    let damage = sql::query(damage).bind(value.to_owned()).bind(STEP);
    damage.execute(database.writer()).await.unwrap();
    database.close().await;
    let running = Server::start(Options::new("127.0.0.1:0".parse().unwrap(), state))
        .await
        .unwrap();
    Api { running, http, dir }
}

#[tokio::test]
async fn a_step_this_release_does_not_know_waits_and_says_why() {
    let api = Api::start_with(|options| options.drain_timeout = std::time::Duration::ZERO).await;
    let agent = FakeAgent::start(&api, "a").await;
    let (task, _) = hanging(&api, &agent).await;
    let class = step(&api.get(&task).await.data(), STEP).clone();
    assert!(class.get("waiting").is_none(), "{class}");
    let later =
        "UPDATE subtask_instance SET spec = REPLACE(spec, '\"class_name\":\"', ?) WHERE spec LIKE '%' || ? || '%'";
    let api = again(api, later, "\"class_name\":\"of.a.later.release.").await;

    let shown = api.until(&task, |task| step(task, STEP).get("waiting").is_some()).await;
    assert_eq!(differences(&shown, "task-wrapped"), [""; 0]);
    let waits = step(&shown, STEP);
    assert_eq!(
        (&shown["status"], &waits["status"]),
        (&json!("RUNNING"), &json!("READY"))
    );
    assert!(
        waits["waiting"].as_str().unwrap().contains("of.a.later.release."),
        "{waits}"
    );
    assert!(waits.get("failure").is_none(), "{waits}");
    let events = api
        .until(&format!("{task}/events?size=1000"), |events| unknown(events).len() == 1)
        .await;
    let told = unknown(&events)[0];
    assert!(
        told["className"].as_str().unwrap().starts_with("of.a.later.release."),
        "{told}"
    );
    assert_eq!(told["subtaskId"], waits["id"]);

    let cancelled = api.post_nothing(&format!("{task}/cancel")).await.data();
    assert_eq!(cancelled["status"], "FAILED", "{cancelled}");
    assert_eq!(
        api.post(&format!("{task}/abandon"), json!({"reason": "downgraded"}))
            .await
            .status,
        200
    );
}

fn unknown(events: &Value) -> Vec<&Value> {
    let events = events["contents"].as_array().unwrap().iter();
    events.filter(|event| event["kind"] == "SUB_UNKNOWN").collect()
}

#[tokio::test]
async fn a_task_that_cannot_be_read_is_listed() {
    const UNREADABLE: &str = "/api/v2/tasks/unreadable";
    let api = Api::start_with(|options| options.drain_timeout = std::time::Duration::ZERO).await;
    let agent = FakeAgent::start(&api, "a").await;
    let (task, _) = hanging(&api, &agent).await;
    let counted = async |api: &Api| {
        let text = Reply::of(api.bare(Method::GET, "/metrics")).await.text;
        let line = text.lines().find(|line| line.starts_with("obfleet_unreadable_tasks "));
        line.map(str::to_owned)
    };
    assert_eq!(api.get(UNREADABLE).await.data(), json!({"contents": []}));
    assert_eq!(counted(&api).await.as_deref(), Some("obfleet_unreadable_tasks 0"));

    let word = "UPDATE subtask_instance SET state = ? WHERE spec LIKE '%' || ? || '%'";
    let api = again(api, word, "DREAMING").await;
    let listed = api.until(UNREADABLE, |listed| listed["contents"] != json!([])).await;
    let [one] = &listed["contents"].as_array().unwrap()[..] else {
        panic!("{listed}")
    };
    assert!(task.ends_with(&format!("/{}", one["id"])), "{task} {one}");
    assert!(one["reason"].as_str().unwrap().contains("DREAMING"), "{one}");
    assert_eq!(counted(&api).await.as_deref(), Some("obfleet_unreadable_tasks 1"));
}
