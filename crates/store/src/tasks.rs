//! Tasks in SQL: the engine's [`Store`].
//!
//! Each write is a transaction that also carries the domain's changes; reads see snapshots on connections of their own.
//! Steps without such changes that come together share a transaction ([`group`]).

mod applier;
mod codec;
mod commit;
mod create;
mod group;
mod lease;
mod list;
mod load;
mod logs;
mod prune;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use obfleet_engine::core::Event;
use obfleet_engine::store::{Commit, Created, LeaseRequest, LogChunk, NewTask, RunningTasks, Sighting};
use obfleet_engine::{Owner, Page, Store, StoreError, SubtaskId, TaskFilter, TaskId, TaskState};

pub use applier::{ApplyError, ChangeApplier};
use group::{Groups, Verdict};
pub(crate) use list::TOTAL;
pub(crate) use load::with_events;

use crate::sql::{Pool, Transaction, retried};

/// The engine's store in SQL. `C` is the domain's change type.
pub struct TaskStore<C> {
    writer: Pool,
    readers: Pool,
    logs: Pool,
    applier: Arc<dyn ChangeApplier<C>>,
    groups: Groups,
}

impl<C> TaskStore<C> {
    pub(crate) fn new(writer: Pool, readers: Pool, logs: Pool, applier: Arc<dyn ChangeApplier<C>>) -> Self {
        Self {
            groups: Groups::start(writer.clone()),
            writer,
            readers,
            logs,
            applier,
        }
    }

    async fn write(&self) -> Result<Transaction, StoreError> {
        self.writer.write().await.map_err(codec::unavailable)
    }

    async fn read(&self) -> Result<Transaction, StoreError> {
        self.readers.read().await.map_err(codec::unavailable)
    }
}

impl<C: Send + Sync + 'static> TaskStore<C> {
    async fn try_create(&self, new: &NewTask<'_, C>) -> Result<Created, StoreError> {
        let mut tx = self.write().await?;
        let created = create::create(&mut tx, new.draft.clone(), new.env, new.nonce).await?;
        let Created::New(state, _) = &created else {
            return Ok(created);
        };
        applier::apply(&*self.applier, &mut tx, state.task.id, new.changes).await?;
        let Err(error) = tx.commit().await else {
            return Ok(created);
        };
        // Nobody but us knows the new id: whoever asked could not find out whether it happened.
        match self.landed(state.task.id, 1, new.nonce).await {
            Ok(true) => Ok(created),
            _ => Err(codec::unavailable(error)),
        }
    }

    async fn try_commit(&self, commit: &Commit<'_, C>) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        commit::write(&mut tx, commit).await?;
        applier::apply(&*self.applier, &mut tx, commit.task.id, commit.changes).await?;
        tx.commit().await.map_err(codec::unavailable)
    }

    async fn try_prune(&self, before_ms: i64, limit: u32) -> Result<prune::Pruned, StoreError> {
        let mut tx = self.write().await?;
        let pruned = prune::prune(&mut tx, before_ms, limit).await?;
        tx.commit().await.map_err(codec::unavailable)?;
        Ok(pruned)
    }
}

#[async_trait]
impl<C: Send + Sync + 'static> Store<C> for TaskStore<C> {
    async fn create(&self, new: NewTask<'_, C>) -> Result<Created, StoreError> {
        retried(|| self.try_create(&new)).await
    }

    async fn commit(&self, commit: Commit<'_, C>) -> Result<(), StoreError> {
        if commit.changes.is_empty() {
            match self
                .groups
                .join(commit::statements(self.writer.dialect(), &commit)?)
                .await
            {
                Verdict::Done => return Ok(()),
                Verdict::Alone => {}
                Verdict::Unknown(error) => return Err(error),
            }
        }
        retried(|| self.try_commit(&commit)).await
    }

    async fn landed(&self, task: TaskId, seq: i64, nonce: i64) -> Result<bool, StoreError> {
        retried(|| async { commit::landed(&mut self.write().await?, task, seq, nonce).await }).await
    }

    async fn load(&self, task: TaskId) -> Result<Option<TaskState>, StoreError> {
        load::one(&mut self.read().await?, task).await
    }

    async fn load_running(&self) -> Result<RunningTasks, StoreError> {
        load::running(&mut self.read().await?).await
    }

    async fn list(&self, filter: &TaskFilter) -> Result<Page<TaskState>, StoreError> {
        list::list(&mut self.read().await?, filter).await
    }

    async fn events(&self, task: TaskId, after: i64, limit: u32) -> Result<Vec<Event>, StoreError> {
        load::events(&mut self.read().await?, task, after, limit).await
    }

    async fn append_logs(&self, chunks: &[LogChunk]) -> Result<(), StoreError> {
        retried(|| async {
            let mut tx = self.logs.write().await.map_err(codec::unavailable)?;
            logs::append(&mut tx, chunks).await?;
            tx.commit().await.map_err(codec::unavailable)
        })
        .await
    }

    async fn read_log(&self, subtask: SubtaskId) -> Result<String, StoreError> {
        logs::read(&self.logs, subtask).await
    }

    async fn log_chunks(
        &self,
        subtask: SubtaskId,
        after: Option<(i64, i64)>,
        limit: u32,
    ) -> Result<Vec<LogChunk>, StoreError> {
        logs::chunks(&self.logs, subtask, after, limit).await
    }

    async fn find_by_token(&self, token: &str) -> Result<Option<TaskId>, StoreError> {
        create::find_by_token(&mut self.read().await?, token).await
    }

    async fn prune(&self, before_ms: i64, limit: u32) -> Result<u32, StoreError> {
        let pruned = retried(|| self.try_prune(before_ms, limit)).await?;
        // Logs that a crash leaves behind here belong to ids that are never given again.
        retried(|| async {
            let mut tx = self.logs.write().await.map_err(codec::unavailable)?;
            logs::delete(&mut tx, &pruned.subtasks).await?;
            tx.commit().await.map_err(codec::unavailable)
        })
        .await?;
        Ok(pruned.tasks)
    }

    async fn grant_lease(&self, request: &LeaseRequest<'_>) -> Result<(), StoreError> {
        retried(|| async {
            let mut tx = self.write().await?;
            lease::grant(&mut tx, request).await?;
            tx.commit().await.map_err(codec::unavailable)
        })
        .await
    }

    async fn renew_lease(&self, owner: &Owner, ttl: Duration, draining: bool) -> Result<(), StoreError> {
        lease::renew(&self.writer, owner, ttl, draining).await
    }

    async fn end_lease(&self, owner: &Owner) -> Result<(), StoreError> {
        lease::end(&self.writer, owner).await
    }

    async fn look(&self, now_ms: i64, limit: u32) -> Result<Sighting, StoreError> {
        lease::look(&self.readers, now_ms, limit).await
    }
}
