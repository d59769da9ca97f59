//! Pausing, cancelling and abandoning whole tasks of a running engine.

use std::sync::Arc;

use obfleet_engine::testing::MemoryStore;
use obfleet_engine::{
    Action, ActionError, Attempt, EngineError, Halt, Lock, Outcome, Output, Spec, SubtaskStatus, TaskStatus, WayOut,
};
use tokio::sync::Semaphore;

use async_trait::async_trait;

use crate::support::{Done, Journal, Step, World, chain, fail, submission};

/// Runs until it is let go or stopped.
struct Gate(Arc<Semaphore>);

#[async_trait]
impl Action<String> for Gate {
    fn spec(&self) -> Spec {
        Spec::new("gate", "Gate", 30)
    }

    async fn run(&self, attempt: &Attempt) -> Done {
        tokio::select! {
            _ = self.0.acquire() => Ok(Output::nothing()),
            () = attempt.cancelled().cancelled() => Err(ActionError::new("stopped")),
        }
    }
}

async fn gated(memory: &Arc<MemoryStore<String>>, gate: &Arc<Semaphore>, journal: &Journal) -> World {
    let after: Arc<dyn Action<String>> = Arc::new(Step::noting("after", journal));
    World::on(memory, vec![Arc::new(Gate(Arc::clone(gate))), after]).await
}

#[tokio::test]
async fn a_pause_survives_a_restart_and_ends_on_demand() {
    let (memory, gate, journal) = (Arc::default(), Arc::new(Semaphore::new(0)), Journal::default());
    let first = gated(&memory, &gate, &journal).await;
    let task = first.submit(chain(&["gate", "after"])).await;
    first.until(task, 0, |row| row.status == SubtaskStatus::Running).await;
    let paused = first.engine.pause(task, "ann").await.unwrap();
    assert_eq!(paused.halt, Some(Halt::Paused));
    gate.add_permits(9);
    first.until(task, 1, |row| row.status == SubtaskStatus::Ready).await;
    first.engine.shutdown().await;

    let second = gated(&memory, &gate, &journal).await;
    let other = second.submit(chain(&["after"])).await;
    second.rest(other).await;
    let still = second.engine.task(task).await.unwrap();
    assert_eq!(
        (still.halt, still.subtasks[1].status),
        (Some(Halt::Paused), SubtaskStatus::Ready)
    );
    assert!(matches!(
        second.engine.pause(task, "ann").await,
        Err(EngineError::Halted { halt: Halt::Paused, .. })
    ));
    second.engine.unpause(task, "ann").await.unwrap();
    assert_eq!(second.rest(task).await.status, TaskStatus::Successful);
    assert_eq!(journal.entries(), ["after", "after"]);
}

#[tokio::test]
async fn a_cancelled_task_stops_what_runs_and_can_be_retried() {
    let (memory, gate, journal) = (Arc::default(), Arc::new(Semaphore::new(0)), Journal::default());
    let world = gated(&memory, &gate, &journal).await;
    let task = world.submit(chain(&["gate", "after"])).await;
    world.until(task, 0, |row| row.status == SubtaskStatus::Running).await;
    world.engine.cancel_task(task, "ann").await.unwrap();
    let failed = world.rest(task).await;
    assert_eq!(
        (failed.status, failed.outcome),
        (TaskStatus::Failed, Some(Outcome::Cancelled))
    );
    assert_eq!(
        failed.ways_out,
        [WayOut::Retry, WayOut::Rollback, WayOut::Skip, WayOut::Abandon]
    );
    gate.add_permits(9);
    world.engine.retry(task, "admin").await.unwrap();
    assert_eq!(world.rest(task).await.outcome, Some(Outcome::Completed));
}

#[tokio::test]
async fn an_abandoned_task_frees_its_locks_with_the_changes_that_go_with_it() {
    let world = World::of_steps(vec![Step::new("broken", |_| fail("no"))]).await;
    let wanted = || {
        let mut wanted = submission(chain(&["broken"]));
        wanted.locks = vec![Lock::exclusive("obproxy", 7)];
        wanted
    };
    let first = world.engine.submit(wanted()).await.unwrap().id;
    assert_eq!(world.rest(first).await.locks, [Lock::exclusive("obproxy", 7)]);
    assert!(world.engine.submit(wanted()).await.is_err());
    let freed = ["proxy 7 is free".to_owned()];
    let view = world.engine.abandon(first, "ann", "lost", &freed).await.unwrap();
    assert_eq!(
        (view.status, view.outcome),
        (TaskStatus::Failed, Some(Outcome::Abandoned))
    );
    assert!(view.locks.is_empty());
    world.rest(first).await;
    assert_eq!(world.memory.changes(), [(first, freed[0].clone())]);
    assert!(matches!(
        world.engine.retry(first, "admin").await,
        Err(EngineError::Abandoned(_))
    ));
    let second = world.engine.submit(wanted()).await.unwrap().id;
    world.rest(second).await;
}

#[tokio::test]
async fn a_token_stands_for_one_request() {
    let world = World::of_steps(vec![Step::new("work", |_| Ok(Output::nothing()))]).await;
    let with = |digest: &str| {
        let mut wanted = submission(chain(&["work"]));
        wanted.client_token = Some("t".to_owned());
        wanted.request_digest = Some(digest.to_owned());
        wanted
    };
    assert_eq!(world.engine.find("t", "d1").await.unwrap(), None);
    let first = world.engine.submit(with("d1")).await.unwrap().id;
    world.rest(first).await;
    assert_eq!(world.engine.submit(with("d1")).await.unwrap().id, first);
    assert_eq!(world.engine.find("t", "d1").await.unwrap().unwrap().id, first);
    for reused in [
        world.engine.submit(with("d2")).await.map(Some),
        world.engine.find("t", "d2").await,
    ] {
        assert!(
            matches!(reused, Err(EngineError::TokenReused(task)) if task == first),
            "{reused:?}"
        );
    }
}
