//! The way from one server to the database, which can fail while others' holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use obfleet_engine::core::Event;
use obfleet_engine::store::{Commit, Created, LeaseRequest, LogChunk, NewTask, RunningTasks, Sighting};
use obfleet_engine::testing::MemoryStore;
use obfleet_engine::{Owner, Page, Store, StoreError, SubtaskId, TaskFilter, TaskId, TaskState};
use tokio::sync::watch;

/// How the database can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As usual.
    Open,
    /// Requests stay under way until it is open again, and arrive then: what others see of a server that is stopped.
    Frozen,
    /// Requests fail.
    Broken,
}

/// A server's own connection to the store of all.
pub struct Link {
    memory: Arc<MemoryStore<String>>,
    way: watch::Sender<Way>,
    requests: AtomicUsize,
}

impl Link {
    pub fn new(memory: &Arc<MemoryStore<String>>) -> Arc<Self> {
        Arc::new(Self {
            memory: Arc::clone(memory),
            way: watch::Sender::new(Way::Open),
            requests: AtomicUsize::new(0),
        })
    }

    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// How often the store was asked so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// The store, once the request has got there.
    async fn store(&self) -> Result<&MemoryStore<String>, StoreError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut way = self.way.subscribe();
        let way = *way
            .wait_for(|way| *way != Way::Frozen)
            .await
            .expect("the link is there");
        if way == Way::Broken {
            return Err(StoreError::Unavailable("connection refused".into()));
        }
        Ok(&self.memory)
    }
}

#[async_trait]
impl Store<String> for Link {
    async fn create(&self, new: NewTask<'_, String>) -> Result<Created, StoreError> {
        self.store().await?.create(new).await
    }

    async fn commit(&self, commit: Commit<'_, String>) -> Result<(), StoreError> {
        self.store().await?.commit(commit).await
    }

    async fn landed(&self, task: TaskId, seq: i64, nonce: i64) -> Result<bool, StoreError> {
        self.store().await?.landed(task, seq, nonce).await
    }

    async fn load(&self, task: TaskId) -> Result<Option<TaskState>, StoreError> {
        self.store().await?.load(task).await
    }

    async fn load_running(&self) -> Result<RunningTasks, StoreError> {
        self.store().await?.load_running().await
    }

    async fn list(&self, filter: &TaskFilter) -> Result<Page<TaskState>, StoreError> {
        self.store().await?.list(filter).await
    }

    async fn events(&self, task: TaskId, after: i64, limit: u32) -> Result<Vec<Event>, StoreError> {
        self.store().await?.events(task, after, limit).await
    }

    async fn append_logs(&self, chunks: &[LogChunk]) -> Result<(), StoreError> {
        self.store().await?.append_logs(chunks).await
    }

    async fn read_log(&self, subtask: SubtaskId) -> Result<String, StoreError> {
        self.store().await?.read_log(subtask).await
    }

    async fn log_chunks(
        &self,
        subtask: SubtaskId,
        after: Option<(i64, i64)>,
        limit: u32,
    ) -> Result<Vec<LogChunk>, StoreError> {
        self.store().await?.log_chunks(subtask, after, limit).await
    }

    async fn find_by_token(&self, token: &str) -> Result<Option<TaskId>, StoreError> {
        self.store().await?.find_by_token(token).await
    }

    async fn prune(&self, before_ms: i64, limit: u32) -> Result<u32, StoreError> {
        self.store().await?.prune(before_ms, limit).await
    }

    async fn grant_lease(&self, request: &LeaseRequest<'_>) -> Result<(), StoreError> {
        self.store().await?.grant_lease(request).await
    }

    async fn renew_lease(&self, owner: &Owner, ttl: Duration, draining: bool) -> Result<(), StoreError> {
        self.store().await?.renew_lease(owner, ttl, draining).await
    }

    async fn end_lease(&self, owner: &Owner) -> Result<(), StoreError> {
        self.store().await?.end_lease(owner).await
    }

    async fn look(&self, now_ms: i64, limit: u32) -> Result<Sighting, StoreError> {
        self.store().await?.look(now_ms, limit).await
    }
}
