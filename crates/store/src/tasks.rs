//! Tasks in SQL: the engine's [`Store`].
//!
//! Writes go through one connection, each in a transaction that also carries the domain's changes; reads see snapshots on
//! connections of their own.

mod applier;
mod codec;
mod commit;
mod create;
mod list;
mod load;
mod logs;
mod rows;

use std::sync::Arc;

use async_trait::async_trait;
use obfleet_engine::core::Event;
use obfleet_engine::store::{Commit, Created, LogChunk, NewTask};
use obfleet_engine::{Owner, Page, Store, StoreError, SubtaskId, TaskFilter, TaskId, TaskState};
use sqlx::{Sqlite, SqlitePool, Transaction};

pub use applier::{ApplyError, ChangeApplier};

/// Takes the write lock at once rather than on the first write, where waiting for it is not possible any more.
const BEGIN: &str = "BEGIN IMMEDIATE";

/// The engine's store on SQLite. `C` is the domain's change type.
pub struct TaskStore<C> {
    writer: SqlitePool,
    readers: SqlitePool,
    logs: SqlitePool,
    applier: Arc<dyn ChangeApplier<C>>,
}

impl<C> TaskStore<C> {
    pub(crate) fn new(
        writer: SqlitePool,
        readers: SqlitePool,
        logs: SqlitePool,
        applier: Arc<dyn ChangeApplier<C>>,
    ) -> Self {
        Self {
            writer,
            readers,
            logs,
            applier,
        }
    }

    async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writer.begin_with(BEGIN).await.map_err(codec::unavailable)
    }

    async fn read(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.readers.begin().await.map_err(codec::unavailable)
    }
}

#[async_trait]
impl<C: Send + Sync + 'static> Store<C> for TaskStore<C> {
    async fn create(&self, new: NewTask<'_, C>) -> Result<Created, StoreError> {
        let mut tx = self.write().await?;
        let NewTask { draft, env, changes } = new;
        let created = create::create(&mut tx, draft, env).await?;
        if let Created::New(state, _) = &created {
            applier::apply_all(&*self.applier, &mut tx, state.task.id, changes).await?;
        }
        tx.commit().await.map_err(codec::unavailable)?;
        Ok(created)
    }

    async fn commit(&self, commit: Commit<'_, C>) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        commit::write(&mut tx, &commit).await?;
        applier::apply_all(&*self.applier, &mut tx, commit.task.id, commit.changes).await?;
        tx.commit().await.map_err(codec::unavailable)
    }

    async fn load(&self, task: TaskId) -> Result<Option<TaskState>, StoreError> {
        load::one(&mut *self.read().await?, task).await
    }

    async fn load_running(&self) -> Result<Vec<TaskState>, StoreError> {
        load::running(&mut *self.read().await?).await
    }

    async fn list(&self, filter: &TaskFilter) -> Result<Page<TaskState>, StoreError> {
        list::list(&mut *self.read().await?, filter).await
    }

    async fn events(&self, task: TaskId, after: i64, limit: u32) -> Result<Vec<Event>, StoreError> {
        load::events(&mut *self.read().await?, task, after, limit).await
    }

    async fn append_logs(&self, chunks: &[LogChunk]) -> Result<(), StoreError> {
        let mut tx = self.logs.begin_with(BEGIN).await.map_err(codec::unavailable)?;
        logs::append(&mut tx, chunks).await?;
        tx.commit().await.map_err(codec::unavailable)
    }

    async fn read_log(&self, subtask: SubtaskId) -> Result<String, StoreError> {
        logs::read(&mut *self.logs.acquire().await.map_err(codec::unavailable)?, subtask).await
    }

    async fn register_server(&self, owner: &Owner, now_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        commit::register_server(&mut tx, owner, now_ms).await?;
        tx.commit().await.map_err(codec::unavailable)
    }
}
