//! Moving tasks by hand.

use serde_json::{Value, json};

use crate::{
    fake_agent::FakeAgent,
    shape::differences,
    support::{Api, OLD},
};

/// The subtask with this name.
pub fn step<'a>(task: &'a Value, name: &str) -> &'a Value {
    task["subtasks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|step| step["name"] == name)
        .unwrap()
}

/// An installation that hangs in its first call to the agent. → its path, its step's path
pub async fn hanging(api: &Api, agent: &FakeAgent) -> (String, String) {
    const STEP: &str = "Check if process not exist";
    api.upload(OLD).await.data();
    let cluster = api.cluster("test").await;
    agent.busy(true);
    let task = api.add(cluster, &[agent]).await.remove(0);
    let path = format!("/api/v2/tasks/instances/{}", task["id"]);
    api.until(&path, |task| step(task, STEP)["status"] == "RUNNING").await;
    let subtask = format!("{path}/subtasks/{}", step(&task, STEP)["id"]);
    (path, subtask)
}

#[tokio::test]
async fn cancel_retry_skip() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let (task, subtask) = hanging(&api, &agent).await;
    for wrong in ["retry", "rollback"] {
        let refusal = api.post_nothing(&format!("{task}/{wrong}")).await.refusal();
        assert_eq!(
            (refusal.0, refusal.1.as_str()),
            (400, "TSK10007"),
            "{wrong} of a running task"
        );
    }
    assert_eq!(
        api.post_nothing(&format!("{subtask}/skip")).await.refusal().1,
        "TSK10007"
    );

    let cancelled = api.post_nothing(&format!("{subtask}/cancel")).await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.text);
    assert!(cancelled.json().get("data").is_none());
    assert_eq!(
        api.until(&task, |task| task["status"] != "RUNNING").await["status"],
        "FAILED"
    );

    let retried = api.post_nothing(&format!("{subtask}/retry")).await.data();
    assert_eq!(differences(&retried, "subtask-wrapped"), [""; 0]);
    assert_eq!(retried["operation"], "RETRY");
    api.until(&task, |task| {
        step(task, "Check if process not exist")["status"] == "RUNNING"
    })
    .await;
    api.post_nothing(&format!("{subtask}/cancel")).await;
    api.until(&task, |task| task["status"] == "FAILED").await;

    agent.busy(false);
    assert_eq!(api.post_nothing(&format!("{subtask}/skip")).await.status, 200);
    let done = api.until(&task, |task| task["status"] != "RUNNING").await;
    assert_eq!(done["status"], "SUCCESSFUL", "{done}");
    assert_eq!(step(&done, "Check if process not exist")["operation"], "SKIP");

    let log = api.get(&format!("{subtask}/log")).await.data();
    let text = log["log"].as_str().unwrap();
    assert!(text.contains("{EXECUTE}") && text.contains("{RETRY}"), "{text}");
    assert_eq!(api.get(&format!("{task}/subtasks/777777/log")).await.refusal().0, 404);
}

#[tokio::test]
async fn retry_and_rollback_of_the_whole() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let (task, subtask) = hanging(&api, &agent).await;
    api.post_nothing(&format!("{subtask}/cancel")).await;
    api.until(&task, |task| task["status"] == "FAILED").await;
    let retried = api.post_nothing(&format!("{task}/retry")).await.data();
    assert_eq!(differences(&retried, "task-wrapped"), [""; 0]);
    assert_eq!(
        (&retried["status"], &retried["operation"]),
        (&json!("RUNNING"), &json!("RETRY"))
    );
    api.until(&task, |task| {
        step(task, "Check if process not exist")["status"] == "RUNNING"
    })
    .await;
    api.post_nothing(&format!("{subtask}/cancel")).await;
    api.until(&task, |task| task["status"] == "FAILED").await;

    agent.busy(false);
    let undone = api.post_nothing(&format!("{task}/rollback")).await.data();
    assert_eq!(undone["operation"], "ROLLBACK");
    let undone = api.until(&task, |task| task["status"] != "RUNNING").await;
    assert_eq!(undone["status"], "SUCCESSFUL", "{undone}");
    let cluster = undone["cluster"]["id"].as_i64().unwrap();
    assert_eq!(
        api.get(&format!("/api/v2/obproxy/clusters/{cluster}")).await.data()["obproxies"],
        json!([])
    );
}

#[tokio::test]
async fn lists_are_filtered_and_ordered() {
    let api = Api::start().await;
    let (one, two) = (api.cluster("one").await, api.cluster("two").await);
    let clusters = async |query: &str| -> Vec<i64> {
        let page = api.get(&format!("/api/v2/tasks/instances?{query}")).await.data();
        page["contents"]
            .as_array()
            .unwrap()
            .iter()
            .map(|task| task["cluster"]["id"].as_i64().unwrap())
            .collect()
    };
    assert_eq!(clusters("").await, [two, one], "the newest first");
    assert_eq!(clusters("sort=id,asc").await, [one, two]);
    assert_eq!(clusters(&format!("clusterId={one}")).await, [one]);
    assert_eq!(clusters("status=SUCCESSFUL,FAILED&name=install").await, [two, one]);
    assert_eq!(clusters("status=FAILED").await, [0; 0]);
    assert_eq!(clusters("name=upgrade").await, [0; 0]);
    assert_eq!(clusters("page=2&size=1").await, [one]);
    assert_eq!(clusters("cluterName=one").await, [one]);
    assert_eq!(clusters(&format!("clusterName=two&clusterId={two}")).await, [two]);
    assert_eq!(clusters(&format!("clusterName=two&clusterId={one}")).await, [0; 0]);
    assert_eq!(clusters("clusterName=three").await, [0; 0]);
    assert_eq!(clusters("tenantName=sys").await, [0; 0]);
}
