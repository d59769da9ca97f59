//! Many submissions at once.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use obfleet_engine::{Engine, Options, Registry, Submission, TemplateBuilder, barrier};
use tokio::time::timeout;

use crate::on_every_server;
use crate::support::{Kind, Place};

/// Long enough for a busy machine; submissions that hold each other up take longer than any patience.
const DEADLINE: Duration = Duration::from_secs(60);

on_every_server!(submissions_at_once_do_not_hold_each_other_up);

async fn submissions_at_once_do_not_hold_each_other_up(kind: Kind) {
    let place = Place::new(kind).await;
    let (database, store) = place.open().await;
    let engine = Engine::start(Arc::new(store), Registry::new([]).unwrap(), Options::new("a"));
    let engine = engine.await.unwrap();
    let submissions = (0..200).map(|number| {
        let engine = engine.clone();
        async move {
            let mut template = TemplateBuilder::new();
            template.node(barrier::START_NODE, None);
            let template = template.build().unwrap();
            engine
                .submit(Submission::new(format!("Task {number}"), "bench", template))
                .await
        }
    });
    let views = timeout(DEADLINE, try_join_all(submissions)).await;
    assert_eq!(views.unwrap().unwrap().len(), 200);
    engine.shutdown().await;
    database.close().await;
}
