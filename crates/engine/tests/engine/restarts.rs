//! One process after another on the same store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use obfleet_engine::core::{Change, Event};
use obfleet_engine::testing::MemoryStore;
use obfleet_engine::{
    Action, ActionError, Attempt, Cause, EngineError, OnCrash, Output, Spec, Store as _, SubtaskStatus, TaskStatus,
};
use tokio::sync::Notify;

use crate::link::{Link, Way};
use crate::site::eventually;
use crate::support::{DEADLINE, Done, Journal, Step, World, chain, submission};

/// Hangs in its first process and works in the next.
struct Interrupted {
    calls: Arc<AtomicUsize>,
    on_crash: OnCrash,
}

#[async_trait]
impl Action<String> for Interrupted {
    fn spec(&self) -> Spec {
        Spec {
            on_crash: self.on_crash,
            ..Spec::new("interrupted", "Interrupted", 30)
        }
    }

    async fn run(&self, attempt: &Attempt) -> Done {
        if self.calls.fetch_add(1, Ordering::SeqCst) > 0 {
            return Ok(Output::changes(vec![
                attempt.checkpointed("token").unwrap_or("none").to_owned(),
            ]));
        }
        attempt.checkpoint("token", "17").await?;
        attempt.cancelled().cancelled().await;
        Err(ActionError::new("stopped"))
    }
}

async fn interrupted_once(on_crash: OnCrash) -> (World, Journal, obfleet_engine::TaskId) {
    let memory = Arc::new(MemoryStore::new());
    let journal = Journal::default();
    let calls = Arc::new(AtomicUsize::new(0));
    let actions = || -> Vec<Arc<dyn Action<String>>> {
        vec![
            Arc::new(Step::noting("before", &journal)),
            Arc::new(Interrupted {
                calls: Arc::clone(&calls),
                on_crash,
            }),
            Arc::new(Step::noting("after", &journal)),
        ]
    };
    let link = Link::new(&memory);
    let first = World::through(&memory, link.clone(), actions()).await;
    let task = first.submit(chain(&["before", "interrupted", "after"])).await;
    let noted = |event: &Event| matches!(event.change, Change::SubCheckpoint { .. });
    eventually(|| memory.all_events(task).iter().any(noted)).await;
    // From here on it is dead to the database.
    link.set(Way::Broken);
    first.engine.shutdown().await;
    let left = memory.load(task).await.unwrap().unwrap();
    assert_eq!(left.subtasks[1].status, SubtaskStatus::Running);
    (World::on(&memory, actions()).await, journal, task)
}

#[tokio::test]
async fn what_a_dead_process_had_under_way_is_resumed() {
    let (second, journal, task) = interrupted_once(OnCrash::Resume).await;
    let view = second.rest(task).await;
    assert_eq!((view.status, view.subtasks[1].run_time), (TaskStatus::Successful, 1));
    assert_eq!(
        journal.entries(),
        ["before", "after"],
        "what had succeeded does not run again"
    );
    assert_eq!(
        second.memory.changes(),
        [(task, "17".to_owned())],
        "its checkpoint was there"
    );
}

#[tokio::test]
async fn what_must_not_be_resumed_fails_as_interrupted() {
    let (second, journal, task) = interrupted_once(OnCrash::Fail).await;
    let view = second.rest(task).await;
    assert_eq!(view.subtasks[1].failure.as_ref().unwrap().cause, Cause::Interrupted);
    assert_eq!(journal.entries(), ["before"]);
    second.engine.retry(task, "admin").await.unwrap();
    assert_eq!(second.rest(task).await.status, TaskStatus::Successful);
}

#[tokio::test]
async fn a_retry_that_was_backing_off_is_made_by_the_next_process() {
    let memory = Arc::new(MemoryStore::new());
    let runs = Arc::new(AtomicUsize::new(0));
    let actions = || -> Vec<Arc<dyn Action<String>>> {
        let runs = Arc::clone(&runs);
        let step = Step::new("flaky", move |_| match runs.fetch_add(1, Ordering::SeqCst) {
            0 => Err(ActionError::new("not yet")),
            _ => Ok(Output::nothing()),
        });
        vec![Arc::new(step.spec(|spec| (spec.retries, spec.backoff_ms) = (1, 300)))]
    };
    let first = World::on(&memory, actions()).await;
    let task = first.submit(chain(&["flaky"])).await;
    first.until(task, 0, |subtask| subtask.run_time == 2).await;
    first.engine.shutdown().await;
    let second = World::on(&memory, actions()).await;
    let view = second.rest(task).await;
    assert_eq!((view.status, view.subtasks[0].run_time), (TaskStatus::Successful, 2));
}

/// Ends when it is told to, and fails when the engine makes it stop before.
struct Held {
    release: Arc<Notify>,
}

#[async_trait]
impl Action<String> for Held {
    fn spec(&self) -> Spec {
        Spec::new("held", "Held", 30)
    }

    async fn run(&self, attempt: &Attempt) -> Done {
        tokio::select! {
            () = self.release.notified() => Ok(Output::nothing()),
            () = attempt.cancelled().cancelled() => Err(ActionError::new("stopped")),
        }
    }
}

async fn held(memory: &Arc<MemoryStore<String>>, journal: &Journal) -> (World, Arc<Notify>) {
    let release = Arc::new(Notify::new());
    let actions: Vec<Arc<dyn Action<String>>> = vec![
        Arc::new(Held {
            release: Arc::clone(&release),
        }),
        Arc::new(Step::noting("after", journal)),
    ];
    (World::on(memory, actions).await, release)
}

#[tokio::test]
async fn a_draining_engine_lets_attempts_end_and_begins_nothing() {
    let (memory, journal) = (Arc::new(MemoryStore::new()), Journal::default());
    let (first, release) = held(&memory, &journal).await;
    let task = first.submit(chain(&["held", "after"])).await;
    first
        .until(task, 0, |subtask| subtask.status == SubtaskStatus::Running)
        .await;
    let draining = tokio::spawn({
        let engine = first.engine.clone();
        async move { engine.drain(DEADLINE).await }
    });
    tokio::time::timeout(DEADLINE, async {
        while first.engine.is_claiming() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the engine drains");
    let late = first.submit(chain(&["after"])).await;
    release.notify_one();
    assert_eq!(draining.await.unwrap(), 0, "nothing is left under way");
    first.engine.shutdown().await;

    let left = first.engine.task(task).await.unwrap();
    let statuses: Vec<_> = left.subtasks.iter().map(|subtask| subtask.status).collect();
    assert_eq!(statuses, [SubtaskStatus::Successful, SubtaskStatus::Ready]);
    assert!(journal.entries().is_empty(), "a draining engine claimed a step");

    let (second, _) = held(&memory, &journal).await;
    for task in [task, late] {
        let view = second.rest(task).await;
        assert_eq!(view.status, TaskStatus::Successful);
        assert!(view.subtasks.iter().all(|subtask| subtask.run_time == 1));
    }
    assert_eq!(journal.entries(), ["after", "after"]);
}

#[tokio::test]
async fn what_outlasts_the_drain_is_given_back() {
    let (memory, journal) = (Arc::new(MemoryStore::new()), Journal::default());
    let (first, _) = held(&memory, &journal).await;
    let task = first.submit(chain(&["held", "after"])).await;
    first
        .until(task, 0, |subtask| subtask.status == SubtaskStatus::Running)
        .await;
    assert_eq!(first.engine.drain(Duration::from_millis(1)).await, 1);
    assert_eq!(
        first.engine.task(task).await.unwrap().subtasks[0].status,
        SubtaskStatus::Running,
        "it goes on until the engine shuts down"
    );
    first.engine.shutdown().await;
    let left = memory.load(task).await.unwrap().unwrap();
    let row = &left.subtasks[0];
    assert_eq!((row.status, row.epoch, row.crash_count), (SubtaskStatus::Ready, 2, 0));
    assert!(matches!(
        first.engine.submit(submission(chain(&["after"]))).await,
        Err(EngineError::ShuttingDown)
    ));

    let (second, release) = held(&memory, &journal).await;
    release.notify_one();
    let view = second.rest(task).await;
    assert_eq!((view.status, view.subtasks[0].run_time), (TaskStatus::Successful, 1));
    assert_eq!(journal.entries(), ["after"]);
}

#[tokio::test]
async fn ten_restarts_of_the_server_do_not_fail_a_long_step() {
    let (memory, journal) = (Arc::new(MemoryStore::new()), Journal::default());
    let mut task = None;
    for _ in 0..10 {
        let (world, _) = held(&memory, &journal).await;
        let task = match task {
            Some(task) => task,
            None => *task.insert(world.submit(chain(&["held"])).await),
        };
        world
            .until(task, 0, |subtask| subtask.status == SubtaskStatus::Running)
            .await;
        world.engine.shutdown().await;
    }
    let (last, release) = held(&memory, &journal).await;
    release.notify_one();
    let view = last.rest(task.unwrap()).await;
    assert_eq!((view.status, view.subtasks[0].run_time), (TaskStatus::Successful, 1));
}

#[tokio::test]
async fn what_must_not_be_repeated_fails_at_the_end_of_the_stop() {
    let memory = Arc::new(MemoryStore::new());
    let once: Arc<dyn Action<String>> = Arc::new(Interrupted {
        calls: Arc::default(),
        on_crash: OnCrash::Fail,
    });
    let first = World::on(&memory, vec![once]).await;
    let task = first.submit(chain(&["interrupted"])).await;
    first
        .until(task, 0, |subtask| subtask.status == SubtaskStatus::Running)
        .await;
    assert_eq!(first.engine.drain(Duration::from_millis(1)).await, 1);
    let view = first.engine.task(task).await.unwrap();
    assert_eq!(
        view.subtasks[0].status,
        SubtaskStatus::Running,
        "it has the whole drain to end"
    );
    first.engine.shutdown().await;
    let left = memory.load(task).await.unwrap().unwrap();
    let failure = left.subtasks[0].failure.clone().unwrap();
    assert_eq!(
        (left.task.status, failure.cause),
        (TaskStatus::Failed, Cause::Interrupted)
    );
    assert!(failure.message.contains("was stopped"), "{}", failure.message);
}
