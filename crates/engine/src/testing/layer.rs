//! A store on top of another, for tests that come between the engine and its database.

use std::time::Duration;

use async_trait::async_trait;

use crate::core::Event;
use crate::state::{Owner, SubtaskId, TaskId, TaskState};
use crate::store::{
    Commit, Created, LeaseRequest, LogChunk, NewTask, Page, RunningTasks, Sighting, Store, StoreError, TaskFilter,
};

/// What is between the engine and a store. Whatever implements this is a [`Store`] itself, which passes every request on;
/// it says only what is different.
#[async_trait]
pub trait StoreLayer: Send + Sync + 'static {
    /// The domain's change type.
    type Change: Send + Sync + 'static;

    /// What is below.
    type Below: Store<Self::Change>;

    /// The store below, for one request of any kind: here it can be held up, or fail.
    async fn below(&self) -> Result<&Self::Below, StoreError>;

    /// Comes in the place of [`Store::create`].
    async fn on_create(&self, below: &Self::Below, new: NewTask<'_, Self::Change>) -> Result<Created, StoreError> {
        below.create(new).await
    }

    /// Comes in the place of [`Store::commit`].
    async fn on_commit(&self, below: &Self::Below, commit: Commit<'_, Self::Change>) -> Result<(), StoreError> {
        below.commit(commit).await
    }

    /// Comes in the place of [`Store::load`].
    async fn on_load(&self, below: &Self::Below, task: TaskId) -> Result<Option<TaskState>, StoreError> {
        below.load(task).await
    }

    /// Comes in the place of [`Store::append_logs`].
    async fn on_append_logs(&self, below: &Self::Below, chunks: &[LogChunk]) -> Result<(), StoreError> {
        below.append_logs(chunks).await
    }
}

#[async_trait]
impl<L: StoreLayer> Store<L::Change> for L {
    async fn create(&self, new: NewTask<'_, L::Change>) -> Result<Created, StoreError> {
        self.on_create(self.below().await?, new).await
    }

    async fn commit(&self, commit: Commit<'_, L::Change>) -> Result<(), StoreError> {
        self.on_commit(self.below().await?, commit).await
    }

    async fn landed(&self, task: TaskId, seq: i64, nonce: i64) -> Result<bool, StoreError> {
        self.below().await?.landed(task, seq, nonce).await
    }

    async fn load(&self, task: TaskId) -> Result<Option<TaskState>, StoreError> {
        self.on_load(self.below().await?, task).await
    }

    async fn load_running(&self) -> Result<RunningTasks, StoreError> {
        self.below().await?.load_running().await
    }

    async fn list(&self, filter: &TaskFilter) -> Result<Page<TaskState>, StoreError> {
        self.below().await?.list(filter).await
    }

    async fn events(&self, task: TaskId, after: i64, limit: u32) -> Result<Vec<Event>, StoreError> {
        self.below().await?.events(task, after, limit).await
    }

    async fn append_logs(&self, chunks: &[LogChunk]) -> Result<(), StoreError> {
        self.on_append_logs(self.below().await?, chunks).await
    }

    async fn read_log(&self, subtask: SubtaskId) -> Result<String, StoreError> {
        self.below().await?.read_log(subtask).await
    }

    async fn log_chunks(
        &self,
        subtask: SubtaskId,
        after: Option<(i64, i64)>,
        limit: u32,
    ) -> Result<Vec<LogChunk>, StoreError> {
        self.below().await?.log_chunks(subtask, after, limit).await
    }

    async fn find_by_token(&self, token: &str) -> Result<Option<TaskId>, StoreError> {
        self.below().await?.find_by_token(token).await
    }

    async fn prune(&self, before_ms: i64, limit: u32) -> Result<u32, StoreError> {
        self.below().await?.prune(before_ms, limit).await
    }

    async fn grant_lease(&self, request: &LeaseRequest<'_>) -> Result<(), StoreError> {
        self.below().await?.grant_lease(request).await
    }

    async fn renew_lease(&self, owner: &Owner, ttl: Duration, draining: bool) -> Result<(), StoreError> {
        self.below().await?.renew_lease(owner, ttl, draining).await
    }

    async fn end_lease(&self, owner: &Owner) -> Result<(), StoreError> {
        self.below().await?.end_lease(owner).await
    }

    async fn look(&self, now_ms: i64, limit: u32) -> Result<Sighting, StoreError> {
        self.below().await?.look(now_ms, limit).await
    }
}
