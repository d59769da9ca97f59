//! Forward, back, and what an operator does between.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use obfleet_engine::testing::{MemoryStore, StoreLayer};
use obfleet_engine::{
    Action, ActionError, Attempt, Cause, Context, ContextDelta, EngineError, Lock, Outcome, Output, RetryMode, Spec,
    Store as _, StoreError, SubtaskId, SubtaskOperation, SubtaskStatus, TaskFilter, TaskId, TaskOperation, TaskState,
    TaskStatus, TemplateBuilder, barrier,
};

use crate::support::{DEADLINE, Done, Journal, Step, World, chain, fail, submission};

#[tokio::test]
async fn a_chain_runs_through() {
    let journal = Journal::default();
    let read = journal.clone();
    let world = World::of_steps(vec![
        Step::new("write", |attempt| {
            attempt.log("first line\nsecond line");
            let changes = vec!["installed".to_owned()];
            Ok(Output {
                delta: ContextDelta::new().with("port", "2883"),
                changes,
            })
        }),
        Step::new("read", move |attempt| {
            read.note(format!(
                "{} {} {}",
                attempt.string("port")?,
                attempt.string("given")?,
                attempt.key()
            ));
            Ok(Output::nothing())
        }),
    ])
    .await;
    let template = chain(&[
        barrier::START_NODE,
        "write",
        barrier::WAIT_NODE,
        "read",
        barrier::FINISH_TASK,
    ]);
    let mut wanted = submission(template);
    wanted.context = Context::new().with("given", "yes");
    let new = world.engine.submit(wanted).await.unwrap();
    assert_eq!(new.subtasks[0].status, SubtaskStatus::Ready);
    assert!(
        new.subtasks[1..]
            .iter()
            .all(|subtask| subtask.status == SubtaskStatus::Pending)
    );
    assert_eq!(
        (new.task_definition_id, new.finish_time, new.executor.as_str()),
        (-1, None, "server-1")
    );

    let view = world.rest(new.id).await;
    assert_eq!(
        (view.status, view.operation),
        (TaskStatus::Successful, TaskOperation::Execute)
    );
    assert_eq!(view.outcome, Some(Outcome::Completed));
    assert!(view.finish_time.is_some());
    assert_eq!(view.context.string_map["port"], "2883");
    for subtask in &view.subtasks {
        assert_eq!(subtask.status, SubtaskStatus::Successful);
        assert_eq!((subtask.executor.as_deref(), subtask.run_time), (Some("server-1"), 1));
        assert!(subtask.start_time.is_some() && subtask.finish_time.is_some());
    }
    assert_eq!(view.subtasks[1].downstreams, [view.subtasks[2].id]);
    assert_eq!(view.subtasks[2].upstreams, [view.subtasks[1].id]);
    assert_eq!(
        journal.entries(),
        [format!(
            "2883 yes task/{}/sub/{}/EXECUTE/1",
            view.id, view.subtasks[3].id
        )]
    );
    assert_eq!(world.memory.changes(), [(view.id, "installed".to_owned())]);

    let log = world.log(&view, 1).await;
    let lines: Vec<_> = log.lines().collect();
    assert!(
        lines[0].starts_with("############{EXECUTE}{20") && lines[0].ends_with("}############"),
        "{log}"
    );
    assert_eq!(lines[1..3], ["first line", "second line"]);
    assert!(
        world.log(&view, 0).await.starts_with("############{EXECUTE}{"),
        "barriers have their header too"
    );
}

/// Counts how many run at once.
struct Crowd {
    inside: AtomicUsize,
    most: Arc<AtomicUsize>,
}

#[async_trait]
impl Action<String> for Crowd {
    fn spec(&self) -> Spec {
        Spec::new("crowd", "Crowd", 30)
    }

    async fn run(&self, attempt: &Attempt) -> Done {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.inside.fetch_sub(1, Ordering::SeqCst);
        Ok(Output::delta(
            ContextDelta::new().with_items("seen", [attempt.item("hosts")?]),
        ))
    }
}

#[tokio::test]
async fn a_fan_out_gives_each_its_item_and_stays_within_the_slots() {
    let most = Arc::new(AtomicUsize::new(0));
    let crowd = Crowd {
        inside: AtomicUsize::new(0),
        most: Arc::clone(&most),
    };
    let memory = Arc::new(MemoryStore::new());
    let options = obfleet_engine::Options {
        slots: 3,
        ..crate::support::options()
    };
    let registry = crate::support::registry(vec![Arc::new(crowd)]);
    let engine = obfleet_engine::Engine::start(memory.clone(), registry, options)
        .await
        .unwrap();
    let world = World { engine, memory };

    let mut template = TemplateBuilder::new();
    let start = template.node(barrier::START_NODE, None);
    let crowd = template.fan_out(&[start], 40, "crowd");
    template.then(&crowd, barrier::FINISH_TASK, None);
    let mut wanted = submission(template.build().unwrap());
    let hosts: Vec<String> = (100..140).map(|host| host.to_string()).collect();
    wanted.context = Context::new().with_list("hosts", hosts.clone());
    let task = world.engine.submit(wanted).await.unwrap().id;
    let view = world.rest(task).await;
    assert_eq!(view.status, TaskStatus::Successful);
    assert_eq!(
        view.context.list_map["seen"], hosts,
        "in series order, whoever was first"
    );
    assert_eq!(view.subtasks[7].parallel_idx, 6);
    assert_eq!(view.subtasks[0].parallel_idx, -1);
    let most = most.load(Ordering::SeqCst);
    assert!((2..=3).contains(&most), "{most} ran at once");
}

/// Counts how often all rows of a task are read.
struct Reads {
    memory: Arc<MemoryStore<String>>,
    count: AtomicUsize,
}

#[async_trait]
impl StoreLayer for Reads {
    type Change = String;
    type Below = MemoryStore<String>;

    async fn below(&self) -> Result<&Self::Below, StoreError> {
        Ok(&self.memory)
    }

    async fn on_load(&self, below: &Self::Below, task: TaskId) -> Result<Option<TaskState>, StoreError> {
        self.count.fetch_add(1, Ordering::SeqCst);
        below.load(task).await
    }
}

#[tokio::test]
async fn a_large_task_is_not_read_again_for_all_that_woke_it() {
    let memory = Arc::new(MemoryStore::new());
    let reads = Arc::new(Reads {
        memory: Arc::clone(&memory),
        count: AtomicUsize::new(0),
    });
    let step = Step::new("step", |_| Ok(Output::nothing()));
    let registry = crate::support::registry(vec![Arc::new(step)]);
    let options = obfleet_engine::Options {
        slots: 2,
        ..crate::support::options()
    };
    let engine = obfleet_engine::Engine::start(reads.clone(), registry, options)
        .await
        .unwrap();
    let world = World { engine, memory };
    let mut template = TemplateBuilder::new();
    let start = template.node(barrier::START_NODE, None);
    let many = template.fan_out(&[start], 100, "step");
    template.then(&many, barrier::FINISH_TASK, None);
    let task = world.submit(template.build().unwrap()).await;
    assert_eq!(world.rest(task).await.status, TaskStatus::Successful);
    world.engine.shutdown().await;
    let count = reads.count.load(Ordering::SeqCst);
    assert!(count < 10, "it was read {count} times");
}

/// Fails the first `times` runs.
fn flaky(class: &'static str, times: usize, journal: &Journal) -> Step {
    let (journal, runs) = (journal.clone(), AtomicUsize::new(0));
    Step::new(class, move |attempt| {
        attempt.log("trying");
        if runs.fetch_add(1, Ordering::SeqCst) < times {
            return Err(ActionError::new("not yet").with_delta(ContextDelta::new().with("found", "half")));
        }
        journal.note(format!("{class} {}", attempt.find_string("found").unwrap_or("nothing")));
        Ok(Output::nothing())
    })
}

#[tokio::test]
async fn a_failed_step_is_retried_by_an_operator() {
    let journal = Journal::default();
    let world = World::of_steps(vec![flaky("flaky", 1, &journal), Step::noting("after", &journal)]).await;
    let task = world.submit(chain(&["flaky", "after"])).await;
    let view = world.rest(task).await;
    assert_eq!((view.status, view.outcome), (TaskStatus::Failed, None));
    let failure = view.subtasks[0].failure.clone().unwrap();
    assert_eq!((failure.cause, failure.message.as_str()), (Cause::Error, "not yet"));

    let retried = world.engine.retry(task, "admin").await.unwrap();
    assert_eq!(
        (retried.status, retried.operation),
        (TaskStatus::Running, TaskOperation::Retry)
    );
    let view = world.rest(task).await;
    assert_eq!(view.status, TaskStatus::Successful);
    assert_eq!(
        (view.subtasks[0].run_time, view.subtasks[0].operation),
        (2, SubtaskOperation::Retry)
    );
    assert_eq!(
        journal.entries(),
        ["flaky half", "after"],
        "the next attempt sees what the first had found"
    );
    assert_eq!(view.subtasks[0].failure, None, "a success leaves no failure behind");
    let log = world.log(&view, 0).await;
    assert_eq!(log.matches("trying").count(), 2);
    assert!(
        log.contains("{EXECUTE}") && log.contains("{RETRY}") && log.contains("not yet"),
        "{log}"
    );
}

#[tokio::test]
async fn a_flaky_step_is_retried_by_itself() {
    let journal = Journal::default();
    let step = flaky("flaky", 2, &journal).spec(|spec| spec.retries = 2);
    let world = World::of_steps(vec![step]).await;
    let view = world.rest(world.submit(chain(&["flaky"])).await).await;
    assert_eq!((view.status, view.subtasks[0].run_time), (TaskStatus::Successful, 3));
    assert_eq!(view.operation, TaskOperation::Execute);
}

#[tokio::test]
async fn a_retry_may_undo_first() {
    let journal = Journal::default();
    let (runs, undos) = (journal.clone(), journal.clone());
    let count = AtomicUsize::new(0);
    let step = Step::new("step", move |_| {
        runs.note("run");
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            fail("no")
        } else {
            Ok(Output::nothing())
        }
    });
    let step = step.undo(move |_| {
        undos.note("undo");
        Ok(Output::nothing())
    });
    let world = World::of_steps(vec![step.spec(|spec| spec.retry = RetryMode::UndoThenRun)]).await;
    let task = world.submit(chain(&["step"])).await;
    let view = world.rest(task).await;
    world
        .engine
        .retry_subtask(task, view.subtasks[0].id, "admin")
        .await
        .unwrap();
    assert_eq!(world.rest(task).await.status, TaskStatus::Successful);
    assert_eq!(journal.entries(), ["run", "undo", "run"]);
}

#[tokio::test]
async fn a_failed_task_is_rolled_back_in_reverse() {
    let journal = Journal::default();
    let undone = journal.clone();
    let broken = Step::new("broken", |_| fail("no")).undo(move |attempt| {
        undone.note(format!(
            "-broken {}",
            attempt.checkpointed("token").unwrap_or("no token")
        ));
        Ok(Output::changes(vec!["undone".to_owned()]))
    });
    let world = World::of_steps(vec![
        Step::noting("first", &journal),
        Step::noting("second", &journal),
        broken,
    ])
    .await;
    let task = world.submit(chain(&["first", "second", "broken"])).await;
    world.rest(task).await;
    let back = world.engine.rollback(task, "admin").await.unwrap();
    assert_eq!(
        (back.status, back.operation),
        (TaskStatus::Running, TaskOperation::Rollback)
    );
    let view = world.rest(task).await;
    assert_eq!(
        (view.status, view.operation),
        (TaskStatus::Successful, TaskOperation::Rollback)
    );
    assert!(
        view.subtasks
            .iter()
            .all(|subtask| subtask.status == SubtaskStatus::Pending)
    );
    assert_eq!(
        journal.entries(),
        ["first", "second", "-broken no token", "-second", "-first"]
    );
    assert_eq!(world.memory.changes(), [(task, "undone".to_owned())]);
    assert!(world.log(&view, 0).await.contains("{ROLLBACK}"));
}

#[tokio::test]
async fn an_undo_that_keeps_failing_is_stuck_and_can_be_skipped() {
    let step = Step::new("step", |_| fail("no")).undo(|_| fail("cannot undo"));
    let world = World::of_steps(vec![step]).await;
    let task = world.submit(chain(&["step"])).await;
    world.rest(task).await;
    world.engine.rollback(task, "admin").await.unwrap();
    let stuck = world.rest(task).await;
    assert_eq!(
        (stuck.status, stuck.outcome),
        (TaskStatus::Failed, Some(Outcome::Stuck))
    );
    let subtask = &stuck.subtasks[0];
    assert_eq!(
        (subtask.status, subtask.operation),
        (SubtaskStatus::Failed, SubtaskOperation::Rollback)
    );
    assert_eq!(
        world.log(&stuck, 0).await.matches("{ROLLBACK}").count(),
        4,
        "once and three times by itself"
    );
    assert!(matches!(
        world.engine.retry(task, "admin").await,
        Err(EngineError::WrongTaskState { .. })
    ));
    world.engine.skip(task, subtask.id, "admin").await.unwrap();
    assert_eq!(world.rest(task).await.outcome, Some(Outcome::RolledBack));
}

#[tokio::test]
async fn a_failed_step_is_skipped() {
    let journal = Journal::default();
    let world = World::of_steps(vec![
        Step::new("broken", |_| fail("no")),
        Step::noting("after", &journal),
    ])
    .await;
    let task = world.submit(chain(&["broken", "after"])).await;
    let view = world.rest(task).await;
    world.engine.skip(task, view.subtasks[0].id, "admin").await.unwrap();
    let view = world.rest(task).await;
    assert_eq!(view.status, TaskStatus::Successful);
    assert_eq!(view.subtasks[0].operation, SubtaskOperation::Skip);
    assert_eq!(journal.entries(), ["after"]);
}

#[tokio::test]
async fn a_step_that_prohibits_rollback() {
    let step = Step::new("final", |_| fail("no")).spec(|spec| spec.prohibit_rollback = true);
    let world = World::of_steps(vec![step]).await;
    let task = world.submit(chain(&["final"])).await;
    assert!(world.rest(task).await.prohibit_rollback);
    assert!(
        matches!(world.engine.rollback(task, "admin").await, Err(EngineError::RollbackProhibited(id)) if id == task)
    );
}

#[tokio::test]
async fn a_merge_conflict_fails_the_step_and_its_task_can_still_go_back() {
    let journal = Journal::default();
    let put = |class: &'static str| {
        Step::new(class, move |_| {
            Ok(Output::delta(ContextDelta::new().with("port", class)))
        })
    };
    let world = World::of_steps(vec![put("left"), put("right"), Step::noting("join", &journal)]).await;
    let mut template = TemplateBuilder::new();
    let left = template.node("left", None);
    let right = template.node("right", None);
    template.then(&[left, right], "join", None);
    let task = world.submit(template.build().unwrap()).await;
    let view = world.rest(task).await;
    let failure = view.subtasks[2].failure.clone().unwrap();
    assert_eq!(failure.cause, Cause::Context);
    assert!(failure.message.contains("port") && failure.message.contains("left") && failure.message.contains("right"));
    assert!(world.log(&view, 2).await.contains(&failure.message));
    world.engine.rollback(task, "admin").await.unwrap();
    assert_eq!(world.rest(task).await.outcome, Some(Outcome::RolledBack));
    assert!(journal.entries().is_empty(), "what never ran is not undone either");
}

#[tokio::test]
async fn refusals_name_their_reason() {
    let world = World::of_steps(vec![Step::new("ok", |_| Ok(Output::nothing()))]).await;
    assert!(matches!(
        world.engine.task(TaskId(99)).await,
        Err(EngineError::TaskNotFound(TaskId(99)))
    ));
    assert!(matches!(
        world.engine.retry(TaskId(99), "admin").await,
        Err(EngineError::TaskNotFound(_))
    ));
    let unknown = world.engine.submit(submission(chain(&["nobody knows"]))).await;
    assert!(matches!(unknown, Err(EngineError::UnknownClass(class)) if class == "nobody knows"));

    let task = world.submit(chain(&["ok"])).await;
    let view = world.rest(task).await;
    let subtask = view.subtasks[0].id;
    assert!(matches!(
        world.engine.retry(task, "admin").await,
        Err(EngineError::WrongTaskState { .. })
    ));
    assert!(matches!(
        world.engine.rollback(task, "admin").await,
        Err(EngineError::WrongTaskState { .. })
    ));
    assert!(matches!(
        world.engine.cancel_subtask(task, subtask, "admin").await,
        Err(EngineError::WrongSubtaskState { .. })
    ));
    assert!(matches!(
        world.engine.skip(task, subtask, "admin").await,
        Err(EngineError::WrongSubtaskState { .. })
    ));
    let foreign = SubtaskId(subtask.0 + 100);
    assert!(matches!(
        world.engine.skip(task, foreign, "admin").await,
        Err(EngineError::SubtaskNotFound { .. })
    ));
    assert!(matches!(
        world.engine.log(task, foreign).await,
        Err(EngineError::SubtaskNotFound { .. })
    ));
    let mut large = submission(chain(&["ok"]));
    large.context = Context::new().with("k", "x".repeat(300 * 1024));
    assert!(matches!(
        world.engine.submit(large).await,
        Err(EngineError::ContextTooLarge { .. })
    ));
}

#[tokio::test]
async fn locks_and_tokens_keep_tasks_apart() {
    let world = World::of_steps(vec![Step::new("broken", |_| fail("no"))]).await;
    let wanted = |token: Option<&str>| {
        let mut wanted = submission(chain(&["broken"]));
        wanted.locks = vec![Lock::exclusive("obproxy", 7)];
        wanted.client_token = token.map(str::to_owned);
        wanted
    };
    let first = world.engine.submit(wanted(Some("t"))).await.unwrap();
    world.rest(first.id).await;
    assert_eq!(world.engine.submit(wanted(Some("t"))).await.unwrap().id, first.id);
    match world.engine.submit(wanted(None)).await {
        Err(EngineError::Locked { lock, by, by_name }) => {
            assert_eq!((lock.name.as_str(), by, by_name.as_str()), ("7", first.id, "Test"));
        }
        other => panic!("a FAILED task keeps its locks: {other:?}"),
    }
    world.engine.rollback(first.id, "admin").await.unwrap();
    world.rest(first.id).await;
    let second = world.engine.submit(wanted(None)).await.unwrap();
    world.rest(second.id).await;
    let page = world
        .engine
        .list(&TaskFilter {
            status: vec![TaskStatus::Failed],
            ..TaskFilter::default()
        })
        .await;
    assert_eq!(
        page.unwrap().items.iter().map(|view| view.id).collect::<Vec<_>>(),
        [second.id]
    );
}

#[tokio::test]
async fn subscribers_see_every_event_once_in_order() {
    let journal = Journal::default();
    let world = World::of_steps(vec![Step::noting("a", &journal), Step::noting("b", &journal)]).await;
    let mut notices = world.engine.subscribe();
    let task = world.submit(chain(&["a", "b"])).await;
    world.engine.wait(task, DEADLINE).await.unwrap();
    let mut seen = Vec::new();
    while let Ok(notice) = notices.try_recv() {
        assert_eq!(notice.task, task);
        seen.extend(notice.events.iter().cloned());
    }
    assert_eq!(seen, world.memory.all_events(task));
    assert_eq!(world.engine.events(task, 2, 1).await.unwrap(), seen[2..3]);
}
