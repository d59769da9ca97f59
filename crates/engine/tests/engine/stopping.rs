//! Cancel, deadlines, panics: attempts that end because somebody else wants it, or by accident.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use obfleet_engine::{
    Action, ActionError, Attempt, Cause, CheckpointError, Output, Spec, SubtaskOperation, SubtaskStatus, TaskStatus,
    TaskView,
};
use tokio::sync::mpsc;

use crate::support::{DEADLINE, Done, Journal, Step, World, chain, fail};

/// Waits to be stopped, and then ends, goes on writing, or does not end at all.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Obedient,
    WritesOn,
    Deaf,
    /// Has done all of it before it notices.
    Done,
}

struct Waiting {
    timeout_s: u32,
    manner: Manner,
    told: mpsc::UnboundedSender<String>,
}

#[async_trait]
impl Action<String> for Waiting {
    fn spec(&self) -> Spec {
        Spec::new("waiting", "Waiting", self.timeout_s)
    }

    async fn run(&self, attempt: &Attempt) -> Done {
        attempt.checkpoint("begun", "yes").await?;
        if self.manner == Manner::Deaf {
            std::future::pending::<()>().await;
        }
        attempt.cancelled().cancelled().await;
        if self.manner == Manner::Done {
            return Ok(Output::changes(vec!["done".to_owned()]));
        }
        if self.manner == Manner::WritesOn {
            let late = match attempt.checkpoint("late", "yes").await {
                Err(CheckpointError::Fenced) => "fenced".to_owned(),
                other => format!("{other:?}"),
            };
            self.told.send(late).unwrap();
            return Ok(Output::changes(vec!["too late".to_owned()]));
        }
        Err(ActionError::new("stopped"))
    }

    async fn cancel(&self, _attempt: &Attempt) -> Result<(), ActionError> {
        self.told.send("cancel".to_owned()).unwrap();
        Ok(())
    }
}

async fn waiting(timeout_s: u32, manner: Manner) -> (World, mpsc::UnboundedReceiver<String>) {
    let (told, heard) = mpsc::unbounded_channel();
    (
        World::of(vec![Arc::new(Waiting {
            timeout_s,
            manner,
            told,
        })])
        .await,
        heard,
    )
}

async fn hear(heard: &mut mpsc::UnboundedReceiver<String>) -> String {
    tokio::time::timeout(DEADLINE, heard.recv())
        .await
        .expect("heard in time")
        .expect("the action is there")
}

/// A task whose step is cancelled while it runs, at rest.
async fn cancelled(world: &World) -> TaskView {
    let task = world.submit(chain(&["waiting"])).await;
    let running = world
        .until(task, 0, |subtask| subtask.status == SubtaskStatus::Running)
        .await;
    world.engine.cancel_subtask(task, running.id, "admin").await.unwrap();
    world.rest(task).await
}

#[tokio::test]
async fn a_running_step_is_cancelled() {
    let (world, mut heard) = waiting(30, Manner::Obedient).await;
    let view = cancelled(&world).await;
    assert_eq!(view.status, TaskStatus::Failed);
    let subtask = &view.subtasks[0];
    assert_eq!(
        (subtask.status, subtask.operation),
        (SubtaskStatus::Failed, SubtaskOperation::Cancel)
    );
    assert_eq!(subtask.failure.as_ref().unwrap().cause, Cause::Cancelled);
    assert_eq!(hear(&mut heard).await, "cancel", "the action was asked to tell others");
}

#[tokio::test]
async fn what_a_cancelled_step_would_have_changed_is_left_undone() {
    let (world, _heard) = waiting(30, Manner::Done).await;
    let view = cancelled(&world).await;
    assert_eq!(view.subtasks[0].failure.as_ref().unwrap().cause, Cause::Cancelled);
    // It is FAILED: its undo, or a retry, finds it as after a crash, not half of it in the database.
    assert!(world.memory.changes().is_empty(), "{:?}", world.memory.changes());
}

#[tokio::test]
async fn a_step_that_does_not_listen_is_given_up() {
    let (world, _heard) = waiting(30, Manner::Deaf).await;
    let view = cancelled(&world).await;
    assert_eq!(view.subtasks[0].failure.as_ref().unwrap().cause, Cause::Cancelled);
    // The slot is free again and the step can be retried: nothing of the old attempt is left.
    world.engine.retry(view.id, "admin").await.unwrap();
    world
        .until(view.id, 0, |subtask| {
            subtask.status == SubtaskStatus::Running && subtask.run_time == 2
        })
        .await;
}

#[tokio::test]
async fn a_deadline_ends_the_attempt_and_fences_it() {
    let (world, mut heard) = waiting(1, Manner::WritesOn).await;
    let task = world.submit(chain(&["waiting"])).await;
    let view = world.rest(task).await;
    assert_eq!(view.status, TaskStatus::Failed);
    assert_eq!(view.subtasks[0].failure.as_ref().unwrap().cause, Cause::Timeout);
    assert_eq!(hear(&mut heard).await, "fenced");
    assert!(world.memory.changes().is_empty(), "a late result changes nothing");
    assert_eq!(world.engine.task(task).await.unwrap().status, TaskStatus::Failed);
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt() {
    let journal = Journal::default();
    let world = World::of_steps(vec![
        Step::new("panics", |_| panic!("index out of range")),
        Step::noting("other", &journal),
    ])
    .await;
    let task = world.submit(chain(&["panics"])).await;
    let failure = world.rest(task).await.subtasks[0].failure.clone().unwrap();
    assert_eq!(failure.cause, Cause::Panic);
    assert!(failure.message.contains("index out of range"));
    let next = world.submit(chain(&["other"])).await;
    assert_eq!(
        world.rest(next).await.status,
        TaskStatus::Successful,
        "the engine goes on"
    );
}

#[tokio::test]
async fn a_wait_has_a_deadline() {
    let (world, _heard) = waiting(30, Manner::Deaf).await;
    let task = world.submit(chain(&["waiting"])).await;
    let waited = world.engine.wait(task, Duration::from_millis(20)).await;
    assert!(matches!(waited, Err(obfleet_engine::EngineError::WaitTimedOut(id)) if id == task));
}

#[tokio::test]
async fn a_failing_sibling_does_not_stop_a_running_one() {
    let (told, _heard) = mpsc::unbounded_channel();
    let world = World::of(vec![
        Arc::new(Waiting {
            timeout_s: 30,
            manner: Manner::Obedient,
            told,
        }),
        Arc::new(Step::new("broken", |_| fail("no"))),
    ])
    .await;
    let mut template = obfleet_engine::TemplateBuilder::new();
    template.node("waiting", None);
    template.node("broken", None);
    let task = world.submit(template.build().unwrap()).await;
    world
        .until(task, 1, |subtask| subtask.status == SubtaskStatus::Failed)
        .await;
    let running = world
        .until(task, 0, |subtask| subtask.status == SubtaskStatus::Running)
        .await;
    assert_eq!(
        world.engine.task(task).await.unwrap().status,
        TaskStatus::Running,
        "FAILED only once quiet"
    );
    world.engine.cancel_subtask(task, running.id, "admin").await.unwrap();
    assert_eq!(world.rest(task).await.status, TaskStatus::Failed);
}

/// Counts how many of its attempts run at once; each stays a while after it was told to stop.
struct Lingering {
    inside: AtomicUsize,
    most: Arc<AtomicUsize>,
}

#[async_trait]
impl Action<String> for Lingering {
    fn spec(&self) -> Spec {
        Spec {
            retries: 1,
            backoff_ms: 1,
            ..Spec::new("lingering", "Lingering", 1)
        }
    }

    async fn run(&self, attempt: &Attempt) -> Done {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        if attempt.key().run_time == 1 {
            attempt.cancelled().cancelled().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
        Ok(Output::nothing())
    }
}

#[tokio::test]
async fn a_successor_waits_for_the_attempt_it_replaces() {
    let most = Arc::new(AtomicUsize::new(0));
    let world = World::of(vec![Arc::new(Lingering {
        inside: AtomicUsize::new(0),
        most: Arc::clone(&most),
    })])
    .await;
    let task = world.submit(chain(&["lingering"])).await;
    let view = world.rest(task).await;
    assert_eq!((view.status, view.subtasks[0].run_time), (TaskStatus::Successful, 2));
    assert_eq!(
        most.load(Ordering::SeqCst),
        1,
        "two attempts at one subtask ran at once"
    );
}
