//! Checking a database, on every kind.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use obfleet_engine::{
    Action, ActionError, Attempt, Engine, Lock, Options, Output, Registry, Spec, Submission, TaskId, TemplateBuilder,
};
use obfleet_store::fsck::{Checked, Finding, FsckError, check};
use obfleet_store::sql;
use obfleet_store::{Database, schema};

use crate::on_every_database;
use crate::support::{Kind, Place};

const DEADLINE: Duration = Duration::from_secs(60);

struct Step;

#[async_trait]
impl Action<String> for Step {
    fn spec(&self) -> Spec {
        Spec::new("step", "Step", 30)
    }

    async fn run(&self, attempt: &Attempt) -> Result<Output<String>, ActionError> {
        attempt
            .checkpoint("seen", "yes")
            .await
            .map_err(|error| ActionError::new(error.to_string()))?;
        Ok(Output::nothing())
    }
}

fn submission(name: &str) -> Submission<String> {
    let mut template = TemplateBuilder::new();
    let mut last = template.node("step", None);
    for _ in 0..3 {
        last = template.then(&[last], "step", None);
    }
    let mut new = Submission::new(name, "admin", template.build().unwrap());
    new.locks.push(Lock::exclusive("thing", name));
    new
}

async fn look(place: &Place) -> (Checked, Vec<Finding>) {
    let mut findings = Vec::new();
    let checked = check(&place.location(), |finding| findings.push(finding))
        .await
        .unwrap();
    assert_eq!(checked.findings, findings.len() as u64);
    (checked, findings)
}

/// What is wrong after these statements, with what object and why.
async fn found_after(place: &Place, database: &Database, damage: &'static str) -> Vec<(String, String)> {
    assert_eq!(
        sql::query(damage).execute(database.writer()).await.unwrap(),
        1,
        "{damage}"
    );
    let (_, findings) = look(place).await;
    assert!(findings.iter().all(|finding| !finding.next_step.is_empty()));
    findings
        .into_iter()
        .map(|finding| (finding.object, finding.reason))
        .collect()
}

on_every_database!(what_the_engine_wrote_is_clean_and_what_a_hand_changed_is_found);

async fn what_the_engine_wrote_is_clean_and_what_a_hand_changed_is_found(kind: Kind) {
    let place = Place::new(kind).await;
    let (database, store) = place.open().await;
    assert_eq!(look(&place).await, (Checked::default(), Vec::new()));
    let registry = Registry::new([Arc::new(Step) as Arc<dyn Action<String>>]).unwrap();
    let engine = Engine::start(Arc::new(store), registry, Options::new("server"))
        .await
        .unwrap();
    let mut tasks = Vec::new();
    for number in 0..4 {
        tasks.push(engine.submit(submission(&format!("task {number}"))).await.unwrap().id);
    }
    // The engine writes meanwhile.
    let waiting = tokio::spawn({
        let engine = engine.clone();
        async move {
            for task in tasks {
                engine.wait(task, DEADLINE).await.unwrap();
            }
        }
    });
    while !waiting.is_finished() {
        assert_eq!(look(&place).await.1, []);
    }
    waiting.await.unwrap();
    engine.shutdown().await;
    assert_eq!(look(&place).await.0, Checked { tasks: 4, findings: 0 });

    let id = TaskId(1);
    let found = found_after(
        &place,
        &database,
        "UPDATE task_instance SET creator = 'eve' WHERE id = 1",
    )
    .await;
    let reason = "the task's row is not what its events lead to: creator is \"eve\", by the events \"admin\"";
    assert_eq!(found, [(format!("task {id}"), reason.to_owned())]);
    found_after(
        &place,
        &database,
        "UPDATE task_instance SET creator = 'admin' WHERE id = 1",
    )
    .await;

    let damage = "UPDATE subtask_instance SET state = 'FAILED' WHERE task_id = 2 AND series_id = 1";
    let found = found_after(&place, &database, damage).await;
    let reasons: Vec<_> = found.iter().map(|(_, reason)| reason.as_str()).collect();
    assert_eq!(reasons.len(), 2, "{found:?}");
    assert!(
        reasons[0].contains("status is \"FAILED\", by the events \"SUCCESSFUL\""),
        "{found:?}"
    );
    assert!(reasons[1].contains("FAILED without a reason"), "{found:?}");
    let undo = "UPDATE subtask_instance SET state = 'SUCCESSFUL' WHERE task_id = 2 AND series_id = 1";
    assert_eq!(found_after(&place, &database, undo).await, []);

    let damage = "UPDATE id_sequence SET next_id = next_id + 1 WHERE name = 'pruned_task'";
    let found = found_after(&place, &database, damage).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "the number of tasks");
    let undo = "UPDATE id_sequence SET next_id = next_id - 1 WHERE name = 'pruned_task'";
    assert_eq!(found_after(&place, &database, undo).await, []);

    let damage = "INSERT INTO resource_lock (kind, name, task_id, exclusive) VALUES ('thing', 'x', 99, 1)";
    let found = found_after(&place, &database, damage).await;
    assert_eq!(
        found,
        [("the locks of task 99".to_owned(), "there is no such task".to_owned())]
    );
    assert_eq!(
        found_after(&place, &database, "DELETE FROM resource_lock WHERE task_id = 99").await,
        []
    );

    let found = found_after(
        &place,
        &database,
        "DELETE FROM task_event WHERE task_id = 3 AND seq = 4",
    )
    .await;
    assert!(
        found[0].0 == "task 3" && found[0].1.contains("cannot follow: it comes after 3"),
        "{found:?}"
    );
    let damage = "INSERT INTO resource_lock (kind, name, task_id, exclusive) VALUES ('thing', 'x', 4, 1)";
    let found = found_after(&place, &database, damage).await;
    assert!(
        found
            .iter()
            .any(|(_, reason)| reason.contains("a finished task holds locks")),
        "{found:?}"
    );
    let found = found_after(&place, &database, "UPDATE subtask_instance SET spec = '{' WHERE id = 5").await;
    assert!(
        found.iter().any(|(_, reason)| reason.contains("it cannot be read")),
        "{found:?}"
    );
    let found = found_after(
        &place,
        &database,
        "UPDATE id_sequence SET next_id = 4 WHERE name = 'task'",
    )
    .await;
    assert!(
        found.iter().any(|(object, _)| object == "the ids of tasks"),
        "{found:?}"
    );
    let tasks = found.iter().filter(|(object, _)| object.starts_with("task "));
    assert!(tasks.count() >= 3, "{found:?}");
}

on_every_database!(a_schema_that_is_not_complete_is_not_checked);

async fn a_schema_that_is_not_complete_is_not_checked(kind: Kind) {
    let place = Place::new(kind).await;
    schema::up(&place.location()).await.unwrap();
    let database = place.try_open().await.unwrap();
    let later = "INSERT INTO schema_migration (part, version, statements, complete) VALUES ('state', 999, 1, TRUE)";
    sql::query(later).execute(database.writer()).await.unwrap();
    let refused = check(&place.location(), |finding| panic!("{finding:?}")).await;
    assert!(matches!(refused, Err(FsckError::Schema(_))));
}
