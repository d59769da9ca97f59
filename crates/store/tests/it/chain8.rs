//! How long a chain of eight instant steps takes, for whoever changes the way of a commit: a figure, not a verdict.
//!
//! `cargo test -p obfleet-store --test it -- --ignored --nocapture chain8`

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use obfleet_engine::{
    Action, ActionError, Attempt, Engine, Options, Output, Registry, Spec, Submission, TaskStatus, TemplateBuilder,
};

use crate::support::{Kind, Place};

const CHAINS: usize = 200;

struct Instantly;

#[async_trait]
impl Action<String> for Instantly {
    fn spec(&self) -> Spec {
        Spec::new("instantly", "Instantly", 30)
    }

    async fn run(&self, _: &Attempt) -> Result<Output<String>, ActionError> {
        Ok(Output::nothing())
    }
}

fn submission() -> Submission<String> {
    let mut template = TemplateBuilder::new();
    let mut last = Vec::new();
    for _ in 0..8 {
        last = vec![template.then(&last, "instantly", None)];
    }
    Submission::new("Chain", "admin", template.build().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn chain8() {
    for kind in [Kind::Sqlite, Kind::MariaDb, Kind::OceanBase] {
        measure(kind).await;
    }
}

async fn measure(kind: Kind) {
    let (_database, store) = Place::new(kind).await.open().await;
    let registry = Registry::new([Arc::new(Instantly) as Arc<dyn Action<String>>]).unwrap();
    let engine = Engine::start(Arc::new(store), registry, Options::new("server"))
        .await
        .unwrap();
    let mut took = Vec::new();
    for _ in 0..CHAINS {
        let begun = Instant::now();
        let task = engine.submit(submission()).await.unwrap().id;
        let view = engine.wait(task, Duration::from_secs(20)).await.unwrap();
        took.push(begun.elapsed());
        assert_eq!(view.status, TaskStatus::Successful);
    }
    engine.shutdown().await;
    took.sort_unstable();
    println!(
        "{kind:?} chain8: p50 {:?}, p99 {:?}",
        took[CHAINS / 2],
        took[CHAINS * 99 / 100]
    );
}
