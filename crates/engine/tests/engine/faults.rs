//! A database that fails: before a commit, after it, or by refusing a change.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use obfleet_engine::core::Event;
use obfleet_engine::store::{Commit, Created, LeaseRequest, LogChunk, NewTask, RunningTasks, Sighting};
use obfleet_engine::testing::MemoryStore;
use obfleet_engine::{
    Action, Cause, Engine, Output, Owner, Page, Store, StoreError, SubtaskId, TaskFilter, TaskId, TaskState, TaskStatus,
};

use crate::support::{Step, World, chain, options, registry};

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
impl Store<String> for Faulty {
    async fn create(&self, new: NewTask<'_, String>) -> Result<Created, StoreError> {
        self.memory.create(new).await
    }

    async fn commit(&self, commit: Commit<'_, String>) -> Result<(), StoreError> {
        if commit.changes.iter().any(|change| change == "refuse me") {
            return Err(StoreError::Refused("there is no such proxy".into()));
        }
        let fault = self.faults.lock().unwrap().pop_front().unwrap_or(Fault::None);
        if fault == Fault::Before {
            return Err(away());
        }
        self.memory.commit(commit).await?;
        if fault == Fault::After { Err(away()) } else { Ok(()) }
    }

    async fn landed(&self, task: TaskId, seq: i64, nonce: i64) -> Result<bool, StoreError> {
        self.memory.landed(task, seq, nonce).await
    }

    async fn load(&self, task: TaskId) -> Result<Option<TaskState>, StoreError> {
        self.memory.load(task).await
    }

    async fn load_running(&self) -> Result<RunningTasks, StoreError> {
        self.memory.load_running().await
    }

    async fn list(&self, filter: &TaskFilter) -> Result<Page<TaskState>, StoreError> {
        self.memory.list(filter).await
    }

    async fn events(&self, task: TaskId, after: i64, limit: u32) -> Result<Vec<Event>, StoreError> {
        self.memory.events(task, after, limit).await
    }

    async fn append_logs(&self, _chunks: &[LogChunk]) -> Result<(), StoreError> {
        Err(away())
    }

    async fn read_log(&self, subtask: SubtaskId) -> Result<String, StoreError> {
        self.memory.read_log(subtask).await
    }

    async fn log_chunks(
        &self,
        subtask: SubtaskId,
        after: Option<(i64, i64)>,
        limit: u32,
    ) -> Result<Vec<LogChunk>, StoreError> {
        self.memory.log_chunks(subtask, after, limit).await
    }

    async fn find_by_token(&self, token: &str) -> Result<Option<TaskId>, StoreError> {
        self.memory.find_by_token(token).await
    }

    async fn prune(&self, before_ms: i64, limit: u32) -> Result<u32, StoreError> {
        self.memory.prune(before_ms, limit).await
    }

    async fn grant_lease(&self, request: &LeaseRequest<'_>) -> Result<(), StoreError> {
        self.memory.grant_lease(request).await
    }

    async fn renew_lease(&self, owner: &Owner, ttl: Duration, draining: bool) -> Result<(), StoreError> {
        self.memory.renew_lease(owner, ttl, draining).await
    }

    async fn end_lease(&self, owner: &Owner) -> Result<(), StoreError> {
        self.memory.end_lease(owner).await
    }

    async fn look(&self, now_ms: i64, limit: u32) -> Result<Sighting, StoreError> {
        self.memory.look(now_ms, limit).await
    }
}

async fn world(faults: &[Fault], steps: Vec<Step>) -> World {
    let memory = Arc::new(MemoryStore::new());
    let faulty = Faulty {
        memory: Arc::clone(&memory),
        faults: Mutex::new(faults.iter().copied().collect()),
    };
    let actions = steps
        .into_iter()
        .map(|step| Arc::new(step) as Arc<dyn Action<String>>)
        .collect();
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

#[tokio::test]
async fn a_refused_change_fails_the_step_with_its_reason() {
    let step = Step::new("step", |_| Ok(Output::changes(vec!["refuse me".to_owned()])));
    let world = world(&[], vec![step]).await;
    let view = world.rest(world.submit(chain(&["step"])).await).await;
    let failure = view.subtasks[0].failure.clone().unwrap();
    assert_eq!(failure.cause, Cause::Unrecorded);
    assert!(failure.message.contains("there is no such proxy"));
}
