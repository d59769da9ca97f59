//! What obfleet lets operators do to whole tasks beyond OCP.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    fake_agent::FakeAgent,
    shape::differences,
    support::{Api, Reply},
    tasks::{hanging, step},
};

const STEP: &str = "Check if process not exist";

/// The sentences of a refusal, English and Chinese.
async fn told(api: &Api, path: &str) -> (String, String) {
    let ask = async |language: &str| {
        let request = api.request(Method::POST, path).header("accept-language", language);
        let json = Reply::of(request).await.json();
        json["error"]["message"].as_str().unwrap().to_owned()
    };
    (ask("en-US").await, ask("zh-CN").await)
}

#[tokio::test]
async fn cancel_and_abandon_the_whole() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let (task, _) = hanging(&api, &agent).await;
    let reason = json!({"reason": "the host burnt down"});
    let refused = api.post(&format!("{task}/abandon"), reason.clone()).await.refusal();
    assert_eq!(
        (refused.0, refused.1.as_str()),
        (400, "TSK10007"),
        "something still runs"
    );

    let cancelling = api.post_nothing(&format!("{task}/cancel")).await.data();
    assert_eq!(differences(&cancelling, "task-wrapped"), [""; 0]);
    assert_eq!(
        (&cancelling["status"], &cancelling["halt"]),
        (&json!("RUNNING"), &json!("CANCELING"))
    );
    let failed = api.until(&task, |task| task["status"] != "RUNNING").await;
    assert_eq!(
        (&failed["status"], &failed["outcome"]),
        (&json!("FAILED"), &json!("CANCELLED"))
    );
    assert_eq!(failed["waysOut"], json!(["RETRY", "ROLLBACK", "SKIP", "ABANDON"]));
    assert_eq!(step(&failed, STEP)["failure"]["cause"], "CANCELLED");
    assert_eq!(differences(&failed, "task-wrapped"), [""; 0]);

    for (wrong, field) in [(json!({}), "reason"), (json!({"reason": " "}), "reason")] {
        let refusal = api.post(&format!("{task}/abandon"), wrong).await.refusal();
        assert_eq!((refusal.0, refusal.2.as_str()), (400, field));
    }
    let abandoned = api.post(&format!("{task}/abandon"), reason).await.data();
    assert_eq!(
        (&abandoned["status"], &abandoned["outcome"]),
        (&json!("FAILED"), &json!("ABANDONED"))
    );
    assert!(abandoned.get("waysOut").is_none());
    for late in ["retry", "rollback", "cancel", "pause", "resume"] {
        let refusal = api.post_nothing(&format!("{task}/{late}")).await.refusal();
        assert_eq!((refusal.0, refusal.1.as_str()), (400, "TSK10007"), "{late}");
    }
    let (english, chinese) = told(&api, &format!("{task}/retry")).await;
    assert!(
        english.contains("abandoned for good") && chinese.contains("已放弃"),
        "{english} {chinese}"
    );

    let cluster = abandoned["cluster"]["id"].as_i64().unwrap();
    let cluster = format!("/api/v2/obproxy/clusters/{cluster}");
    let proxy = &api.get(&cluster).await.data()["obproxies"][0];
    assert_eq!(
        proxy["operateStatus"], "NORMAL",
        "nothing holds the proxy any more: {proxy}"
    );
    agent.busy(false);
    let removed = api.delete(&format!("{cluster}/obproxies/{}", proxy["id"])).await.data();
    let removed = api.rest(removed["id"].as_i64().unwrap()).await;
    assert_eq!(removed["status"], "SUCCESSFUL", "{removed}");
}

#[tokio::test]
async fn pause_and_resume() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let (task, _) = hanging(&api, &agent).await;
    let paused = api.post_nothing(&format!("{task}/pause")).await.data();
    assert_eq!(
        (&paused["status"], &paused["halt"]),
        (&json!("RUNNING"), &json!("PAUSED"))
    );
    let again = api.post_nothing(&format!("{task}/pause")).await.refusal();
    assert_eq!((again.0, again.1.as_str()), (400, "TSK10007"));
    let (english, chinese) = told(&api, &format!("{task}/pause")).await;
    assert!(
        english.contains("resume it first") && chinese.contains("已暂停"),
        "{english} {chinese}"
    );
    agent.busy(false);
    let statuses = |task: &Value| {
        let rows = task["subtasks"].as_array().unwrap();
        rows.iter()
            .map(|row| row["status"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let halted = api
        .until(&task, |task| step(task, STEP)["status"] == "SUCCESSFUL")
        .await;
    assert!(statuses(&halted).contains(&"READY".to_owned()), "{halted}");
    assert!(!statuses(&halted).contains(&"RUNNING".to_owned()), "{halted}");
    let resumed = api.post_nothing(&format!("{task}/resume")).await.data();
    assert!(resumed.get("halt").is_none(), "{resumed}");
    let done = api.until(&task, |task| task["status"] != "RUNNING").await;
    assert_eq!(
        (&done["status"], &done["outcome"]),
        (&json!("SUCCESSFUL"), &json!("COMPLETED"))
    );
}

#[tokio::test]
async fn a_rollback_that_cannot_undo_a_step_says_why_and_what_can_be_done() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    agent.refuse(true);
    let (task, _) = hanging(&api, &agent).await;
    agent.busy(false);
    api.until(&task, |task| task["status"] == "FAILED").await;
    api.post_nothing(&format!("{task}/rollback")).await.data();
    let stuck = api.until(&task, |task| task["status"] != "RUNNING").await;
    assert_eq!(
        (&stuck["status"], &stuck["operation"], &stuck["outcome"]),
        (&json!("FAILED"), &json!("ROLLBACK"), &json!("STUCK")),
        "{stuck}"
    );
    assert_eq!(stuck["waysOut"], json!(["ROLLBACK", "SKIP", "ABANDON"]));
    let rows = stuck["subtasks"].as_array().unwrap();
    let failed = rows.iter().find(|row| row["status"] == "FAILED").unwrap();
    assert_eq!(failed["operation"], "ROLLBACK");
    let why = failed["failure"]["message"].as_str().unwrap();
    assert!(why.contains("the disk is full"), "{failed}");

    let (english, chinese) = told(&api, &format!("{task}/retry")).await;
    assert!(
        english.contains("roll it back again") && english.contains("skip the step"),
        "{english}"
    );
    assert!(chinese.contains("再次回滚") && chinese.contains("跳过"), "{chinese}");

    let skipped = api
        .post_nothing(&format!("{task}/subtasks/{}/skip", failed["id"]))
        .await;
    assert_eq!(skipped.status, 200, "{}", skipped.text);
    let undone = api.until(&task, |task| task["status"] != "RUNNING").await;
    assert_eq!(undone["outcome"], "ROLLED_BACK", "{undone}");
}

#[tokio::test]
async fn who_steered_a_task_is_in_its_events() {
    let api = Api::start().await;
    let agent = FakeAgent::start(&api, "a").await;
    let (task, subtask) = hanging(&api, &agent).await;
    for route in ["cancel", "retry", "cancel"] {
        api.until(&task, |task| {
            step(task, STEP)["status"] == "RUNNING" || route == "retry"
        })
        .await;
        let reply = api.post_nothing(&format!("{subtask}/{route}")).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let ended = route == "cancel";
        api.until(&task, |task| (task["status"] == "FAILED") == ended).await;
    }
    api.post_nothing(&format!("{task}/retry")).await.data();
    api.post_nothing(&format!("{subtask}/cancel")).await;
    api.until(&task, |task| task["status"] == "FAILED").await;
    agent.refuse(true);
    agent.busy(false);
    assert_eq!(api.post_nothing(&format!("{subtask}/skip")).await.status, 200);
    api.until(&task, |task| task["status"] == "FAILED").await;
    api.post_nothing(&format!("{task}/rollback")).await.data();

    let events = api.get(&format!("{task}/events?size=1000")).await.data();
    let named: BTreeSet<_> = events["contents"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["actor"] == "admin")
        .map(|event| event["kind"].as_str().unwrap())
        .collect();
    let expected = [
        "SUB_CANCELING",
        "SUB_SKIPPED",
        "TASK_CREATED",
        "TASK_RESUMED",
        "TASK_RETRY",
        "TASK_ROLLBACK",
    ];
    assert_eq!(named, expected.into());
}
