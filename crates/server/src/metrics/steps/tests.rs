use std::sync::{Arc, atomic::AtomicU32, atomic::Ordering};

use async_trait::async_trait;
use obfleet_engine::{
    Action, ActionError, Attempt, Engine, Options, Output, Registry, Spec, Submission, TaskView, TemplateBuilder,
    testing::MemoryStore,
};

use crate::metrics::{Metrics, store::MeasuredStore};

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(20);

/// Fails the first time, and is tried again after a pause.
struct Flaky {
    backoff_ms: u64,
    runs: AtomicU32,
}

#[async_trait]
impl Action<String> for Flaky {
    fn spec(&self) -> Spec {
        Spec {
            retries: 1,
            backoff_ms: self.backoff_ms,
            ..Spec::new("flaky", "Flaky", 30)
        }
    }

    async fn run(&self, _: &Attempt) -> Result<Output<String>, ActionError> {
        match self.runs.fetch_add(1, Ordering::SeqCst) {
            0 => Err(ActionError::new("not yet")),
            _ => Ok(Output::nothing()),
        }
    }
}

async fn submitted(backoff_ms: u64) -> (Arc<Metrics>, Engine<String>, TaskView) {
    let metrics = Arc::new(Metrics::default());
    let store = MeasuredStore::new(MemoryStore::new(), Arc::clone(&metrics));
    let flaky: Arc<dyn Action<String>> = Arc::new(Flaky {
        backoff_ms,
        runs: AtomicU32::new(0),
    });
    let registry = Registry::new([flaky]).unwrap();
    let engine = Engine::start(Arc::new(store), registry, Options::new("test"))
        .await
        .unwrap();
    let mut template = TemplateBuilder::new();
    template.node("flaky", None);
    let submission = Submission::new("Test", "admin", template.build().unwrap());
    let task = engine.submit(submission).await.unwrap();
    (metrics, engine, task)
}

/// Queue, backing off, running; and hops.
fn figures(metrics: &Metrics) -> ([i64; 3], bool) {
    let text = metrics.render().unwrap();
    let steps = &metrics.steps;
    let gauges = [&steps.queue, &steps.backing_off, &steps.running].map(|gauge| gauge.get());
    (gauges, text.contains("obfleet_hop_duration_seconds_count 2\n"))
}

#[tokio::test]
async fn a_step_that_backs_off_is_not_in_the_queue() {
    let (metrics, engine, task) = submitted(600_000).await;
    let mut notices = engine.subscribe();
    let again = async {
        while engine.task(task.id).await.unwrap().subtasks[0].run_time < 2 {
            drop(notices.recv().await);
        }
    };
    tokio::time::timeout(DEADLINE, again).await.unwrap();
    assert_eq!(figures(&metrics).0, [0, 1, 0]);
    engine.pause(task.id, "admin").await.unwrap();
    assert_eq!(figures(&metrics).0, [0, 0, 0], "what is paused waits for nobody's slot");
    engine.unpause(task.id, "admin").await.unwrap();
    assert_eq!(figures(&metrics).0, [0, 1, 0]);
    engine.shutdown().await;
}

#[tokio::test]
async fn every_end_of_a_task_is_counted() {
    let (metrics, engine, task) = submitted(600_000).await;
    engine.cancel_task(task.id, "admin").await.unwrap();
    engine.wait(task.id, DEADLINE).await.unwrap();
    engine.abandon(task.id, "admin", "test", &[]).await.unwrap();
    let text = metrics.render().unwrap();
    for outcome in ["CANCELLED", "ABANDONED"] {
        let line = format!("obfleet_tasks_ended_total{{outcome=\"{outcome}\"}} 1\n");
        assert!(text.contains(&line), "{line} is not in {text}");
    }
}

#[tokio::test]
async fn each_attempt_is_a_hop_and_leaves_nothing_behind() {
    let (metrics, engine, task) = submitted(1).await;
    engine.wait(task.id, DEADLINE).await.unwrap();
    assert_eq!(figures(&metrics), ([0, 0, 0], true));
    assert!(metrics.steps.active().is_empty());
}
