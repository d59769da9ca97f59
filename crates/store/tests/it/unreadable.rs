//! A running task whose rows are damaged.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use obfleet_engine::store::Store as _;
use obfleet_engine::{
    Action, ActionError, Attempt, Engine, EngineError, Options, Output, Registry, Spec, StoreError, Submission,
    TaskFilter, TaskStatus, TemplateBuilder,
};
use obfleet_store::sql;

use crate::on_every_database;
use crate::support::{Kind, Place};

/// Does not end in the first process.
struct Lasting {
    lasts: bool,
}

#[async_trait]
impl Action<String> for Lasting {
    fn spec(&self) -> Spec {
        Spec::new("lasting", "Lasting", 300)
    }

    async fn run(&self, attempt: &Attempt) -> Result<Output<String>, ActionError> {
        if self.lasts {
            attempt.cancelled().cancelled().await;
            return Err(ActionError::new("stopped"));
        }
        Ok(Output::nothing())
    }
}

fn registry(lasts: bool) -> Registry<String> {
    Registry::new([Arc::new(Lasting { lasts }) as Arc<dyn Action<String>>]).unwrap()
}

on_every_database!(a_damaged_task_is_left_alone_and_the_others_go_on);

async fn a_damaged_task_is_left_alone_and_the_others_go_on(kind: Kind) {
    let place = Place::new(kind).await;
    let (database, store) = place.open().await;
    let store = Arc::new(store);
    let first = Engine::start(store.clone(), registry(true), Options::new("server"))
        .await
        .unwrap();
    let mut tasks = Vec::new();
    for _ in 0..2 {
        let mut template = TemplateBuilder::new();
        template.node("lasting", None);
        let new = Submission::new("Lasting", "admin", template.build().unwrap());
        tasks.push(first.submit(new).await.unwrap().id);
    }
    first.shutdown().await;
    let damage = sql::query("UPDATE subtask_instance SET spec = ? WHERE task_id = ?");
    damage
        .bind("{")
        .bind(tasks[0].0)
        .execute(database.writer())
        .await
        .unwrap();

    let second = Engine::start(store.clone(), registry(false), Options::new("server"))
        .await
        .unwrap();
    let view = second.wait(tasks[1], Duration::from_secs(60)).await.unwrap();
    assert_eq!(view.status, TaskStatus::Successful);
    assert!(
        second.unreadable()[&tasks[0]].contains("spec"),
        "{:?}",
        second.unreadable()
    );
    let shown = second.task(tasks[0]).await;
    assert!(
        matches!(shown, Err(EngineError::Store(StoreError::Corrupt(_)))),
        "{shown:?}"
    );
    let page = store.list(&TaskFilter::default()).await.unwrap();
    let listed: Vec<_> = page.items.iter().map(|state| state.task.id).collect();
    assert_eq!((listed, page.total), (vec![tasks[1]], 2));
    second.shutdown().await;
}
