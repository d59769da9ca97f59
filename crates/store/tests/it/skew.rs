//! What a later release wrote, read by this one: more in a record is passed over, a word it does not know leaves that task
//! alone, an event it does not know is shown by its kind. The other tasks go on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use obfleet_engine::core::Change;
use obfleet_engine::store::Store as _;
use obfleet_engine::{
    Action, ActionError, Attempt, Engine, Options, Output, Registry, Spec, Submission, TaskStatus, TemplateBuilder,
};
use obfleet_store::sql;
use serde_json::{Value, json};

use crate::on_every_database;
use crate::support::{Kind, Place};

struct Work;

#[async_trait]
impl Action<String> for Work {
    fn spec(&self) -> Spec {
        Spec::new("work", "Work", 300)
    }

    async fn run(&self, _: &Attempt) -> Result<Output<String>, ActionError> {
        Ok(Output::nothing())
    }
}

fn registry() -> Registry<String> {
    Registry::new([Arc::new(Work) as Arc<dyn Action<String>>]).unwrap()
}

on_every_database!(what_a_later_release_wrote_stops_no_other_task);

async fn what_a_later_release_wrote_stops_no_other_task(kind: Kind) {
    let place = Place::new(kind).await;
    let (database, store) = place.open().await;
    let store = Arc::new(store);
    let start = || Engine::start(store.clone(), registry(), Options::new("server"));
    let first = start().await.unwrap();
    first.drain(Duration::ZERO).await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let mut template = TemplateBuilder::new();
        let one = template.node("work", None);
        template.then(&[one], "work", None);
        let new = Submission::new("Work", "admin", template.build().unwrap());
        tasks.push(first.submit(new).await.unwrap().id);
    }
    first.shutdown().await;
    let [richer, strange, longer, usual] = tasks[..] else {
        panic!("four tasks")
    };

    for (read, write) in [
        (
            "SELECT spec AS text FROM subtask_instance WHERE task_id = ?",
            "UPDATE subtask_instance SET spec = ? WHERE task_id = ?",
        ),
        (
            "SELECT ctx_delta AS text FROM subtask_instance WHERE task_id = ?",
            "UPDATE subtask_instance SET ctx_delta = ? WHERE task_id = ?",
        ),
        (
            "SELECT context AS text FROM task_instance WHERE id = ?",
            "UPDATE task_instance SET context = ? WHERE id = ?",
        ),
    ] {
        let rows = sql::query(read).bind(richer.0).fetch_all(database.writer());
        let text: String = rows.await.unwrap()[0].get("text").unwrap();
        let mut value: Value = serde_json::from_str(&text).unwrap();
        value["of_a_later_release"] = json!([1]);
        let write = sql::query(write).bind(value.to_string()).bind(richer.0);
        write.execute(database.writer()).await.unwrap();
    }
    let word = sql::query("UPDATE subtask_instance SET state = ? WHERE task_id = ?");
    let word = word.bind("DREAMING").bind(strange.0);
    word.execute(database.writer()).await.unwrap();
    let seq = store.load(longer).await.unwrap().unwrap().task.rev + 1;
    let event = sql::query(
        "INSERT INTO task_event (task_id, seq, at, kind, server, incarnation, nonce, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    );
    let event = event.bind(longer.0).bind(seq).bind(0_i64).bind("TASK_DREAMT");
    let event = event.bind("later").bind("1").bind(1_i64);
    let event = event.bind(json!({"kind": "TASK_DREAMT", "of": ["sheep"]}).to_string());
    event.execute(database.writer()).await.unwrap();
    let rev = sql::query("UPDATE task_instance SET rev = ? WHERE id = ?");
    rev.bind(seq).bind(longer.0).execute(database.writer()).await.unwrap();

    let second = start().await.unwrap();
    for task in [richer, longer, usual] {
        let view = second.wait(task, Duration::from_secs(60)).await.unwrap();
        assert_eq!(view.status, TaskStatus::Successful);
    }
    let left_alone = second.unreadable();
    assert_eq!(left_alone.len(), 1, "{left_alone:?}");
    assert!(left_alone[&strange].contains("state"), "{left_alone:?}");
    let events = second.events(longer, 0, 1000).await.unwrap();
    assert!(
        events
            .iter()
            .map(|event| event.seq)
            .eq(1..=i64::try_from(events.len()).unwrap())
    );
    let unread = Change::Unreadable {
        kind: "TASK_DREAMT".into(),
        subtask: None,
    };
    assert_eq!(events.iter().filter(|event| event.change == unread).count(), 1);
    second.shutdown().await;
}
