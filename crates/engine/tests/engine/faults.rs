//! A database that fails: before a commit, after it, or by refusing a change.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use obfleet_engine::store::{Commit, LogChunk};
use obfleet_engine::testing::{MemoryStore, StoreLayer};
use obfleet_engine::{Action, Attempt, Cause, Engine, Output, Spec, Store as _, StoreError, TaskStatus};

use crate::support::{Done, Step, World, chain, options, registry};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// Fails and does nothing.
    Before,
    /// Does it and says it failed.
    After,
}

/// Gives each commit the next fault of a list; refuses the change `refuse me`.
struct Faulty {
    memory: Arc<MemoryStore<String>>,
    faults: Mutex<VecDeque<Fault>>,
}

fn away() -> StoreError {
    StoreError::Unavailable("connection lost".into())
}

#[async_trait]
impl StoreLayer for Faulty {
    type Change = String;
    type Below = MemoryStore<String>;

    async fn below(&self) -> Result<&Self::Below, StoreError> {
        Ok(&self.memory)
    }

    async fn on_commit(&self, below: &Self::Below, commit: Commit<'_, String>) -> Result<(), StoreError> {
        if commit.changes.iter().any(|change| change == "refuse me") {
            return Err(StoreError::Refused("there is no such proxy".into()));
        }
        let fault = self.faults.lock().unwrap().pop_front().unwrap_or(Fault::None);
        if fault == Fault::Before {
            return Err(away());
        }
        below.commit(commit).await?;
        if fault == Fault::After { Err(away()) } else { Ok(()) }
    }

    async fn on_append_logs(&self, _: &Self::Below, _: &[LogChunk]) -> Result<(), StoreError> {
        Err(away())
    }
}

async fn world(faults: &[Fault], steps: Vec<Step>) -> World {
    let actions = steps.into_iter().map(|step| Arc::new(step) as Arc<dyn Action<String>>);
    world_of(faults, actions.collect()).await
}

async fn world_of(faults: &[Fault], actions: Vec<Arc<dyn Action<String>>>) -> World {
    let memory = Arc::new(MemoryStore::new());
    let faulty = Faulty {
        memory: Arc::clone(&memory),
        faults: Mutex::new(faults.iter().copied().collect()),
    };
    let engine = Engine::start(Arc::new(faulty), registry(actions), options())
        .await
        .unwrap();
    World { engine, memory }
}

#[tokio::test]
async fn every_pair_of_failing_commits_is_survived_without_running_twice() {
    for first in [Fault::None, Fault::Before, Fault::After] {
        for second in [Fault::None, Fault::Before, Fault::After] {
            for third in [Fault::Before, Fault::After] {
                let runs = Arc::new(AtomicUsize::new(0));
                let counted = Arc::clone(&runs);
                let step = Step::new("step", move |_| {
                    counted.fetch_add(1, Ordering::SeqCst);
                    Ok(Output::changes(vec!["done".to_owned()]))
                });
                let world = world(&[first, second, third], vec![step]).await;
                let view = world.rest(world.submit(chain(&["step", "step"])).await).await;
                assert_eq!(view.status, TaskStatus::Successful, "{first:?} {second:?} {third:?}");
                assert_eq!(runs.load(Ordering::SeqCst), 2, "{first:?} {second:?} {third:?}");
                assert_eq!(world.memory.changes().len(), 2, "{first:?} {second:?} {third:?}");
            }
        }
    }
}

/// Notes something, and goes on only if it is noted.
struct Noting {
    runs: Arc<AtomicUsize>,
}

#[async_trait]
impl Action<String> for Noting {
    fn spec(&self) -> Spec {
        Spec::new("noting", "Noting", 30)
    }

    async fn run(&self, attempt: &Attempt) -> Done {
        self.runs.fetch_add(1, Ordering::SeqCst);
        attempt.checkpoint("restart", "17").await?;
        Ok(Output::nothing())
    }
}

#[tokio::test]
async fn a_checkpoint_waits_for_the_database() {
    for fault in [Fault::Before, Fault::After] {
        let runs = Arc::new(AtomicUsize::new(0));
        let noting = Noting {
            runs: Arc::clone(&runs),
        };
        // The first commit claims it.
        let world = world_of(&[Fault::None, fault, fault], vec![Arc::new(noting)]).await;
        let task = world.submit(chain(&["noting"])).await;
        let view = world.rest(task).await;
        assert_eq!(view.status, TaskStatus::Successful, "{fault:?}: {view:?}");
        assert_eq!(runs.load(Ordering::SeqCst), 1, "{fault:?}");
        let state = world.memory.load(task).await.unwrap().unwrap();
        assert_eq!(state.subtasks[0].checkpoint["restart"], "17", "{fault:?}");
    }
}

#[tokio::test]
async fn a_refused_change_fails_the_step_with_its_reason() {
    let step = Step::new("step", |_| Ok(Output::changes(vec!["refuse me".to_owned()])));
    let world = world(&[], vec![step]).await;
    let view = world.rest(world.submit(chain(&["step"])).await).await;
    let failure = view.subtasks[0].failure.clone().unwrap();
    assert_eq!(failure.cause, Cause::Unrecorded);
    assert!(failure.message.contains("there is no such proxy"));
}
