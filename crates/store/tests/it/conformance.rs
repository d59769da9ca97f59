//! The suite every store must pass, on every database.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use obfleet_engine::core::fsck;
use obfleet_engine::testing::conformance;
use obfleet_engine::{
    Action, ActionError, Attempt, Cause, Engine, Options, Output, Registry, Spec, Store as _, Submission, TaskStatus,
    TemplateBuilder,
};
use obfleet_store::{Database, DatabaseError};

use crate::on_every_database;
use crate::support::{Kind, Place, notes};

on_every_database!(conforms);

async fn conforms(kind: Kind) {
    let place = Place::new(kind).await;
    let (database, store) = place.open().await;
    conformance(&store, "created".to_owned()).await.unwrap();
    assert_eq!(
        notes(&database).await,
        ["created"],
        "the change of the creating transaction is there"
    );
}

on_every_database!(everything_is_there_after_opening_again);

async fn everything_is_there_after_opening_again(kind: Kind) {
    let place = Place::new(kind).await;
    let (database, store) = place.open().await;
    conformance(&store, "kept".to_owned()).await.unwrap();
    let before = store.load_running().await.unwrap();
    drop(store);
    database.close().await;
    let (database, store) = place.open().await;
    assert_eq!(store.load_running().await.unwrap(), before);
    assert_eq!(notes(&database).await, ["kept"]);
}

#[tokio::test]
async fn what_is_no_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    std::fs::write(&path, "this is not a database, and it is long enough to tell").unwrap();
    assert!(matches!(Database::open(&path).await, Err(DatabaseError::Open { place, .. }) if Path::new(&place) == path));
}

/// Notes the same thing on every run.
struct NotesTwice;

#[async_trait]
impl Action<String> for NotesTwice {
    fn spec(&self) -> Spec {
        Spec::new("notes", "Notes", 30)
    }

    async fn run(&self, attempt: &Attempt) -> Result<Output<String>, ActionError> {
        let delta = obfleet_engine::ContextDelta::new().with(format!("of {}", attempt.key().subtask), "x");
        Ok(Output {
            delta,
            changes: vec!["once".to_owned()],
        })
    }
}

on_every_database!(a_refused_change_takes_the_whole_commit_with_it);

async fn a_refused_change_takes_the_whole_commit_with_it(kind: Kind) {
    let place = Place::new(kind).await;
    let (database, store) = place.open().await;
    let store = Arc::new(store);
    let registry = Registry::new([Arc::new(NotesTwice) as Arc<dyn Action<String>>]).unwrap();
    let engine = Engine::start(store.clone(), registry, Options::new("server"))
        .await
        .unwrap();
    let mut template = TemplateBuilder::new();
    let first = template.node("notes", None);
    template.then(&[first], "notes", None);
    let new = Submission::new("Notes", "admin", template.build().unwrap());
    let task = engine.submit(new).await.unwrap().id;
    let view = engine.wait(task, Duration::from_secs(20)).await.unwrap();
    assert_eq!(view.status, TaskStatus::Failed);
    let failure = view.subtasks[1].failure.clone().unwrap();
    assert_eq!(failure.cause, Cause::Unrecorded);
    assert!(failure.message.contains("noted already"), "{}", failure.message);
    assert_eq!(
        view.context.string_map.len(),
        1,
        "the refused result left no context behind"
    );
    assert_eq!(notes(&database).await, ["once"]);
    let state = store.load(task).await.unwrap().unwrap();
    assert_eq!(fsck(&state, &store.events(task, 0, u32::MAX).await.unwrap()), Ok(()));
    let log = engine.log(task, view.subtasks[1].id).await.unwrap();
    assert!(log.contains("noted already"), "{log}");
    engine.shutdown().await;
}
