//! The engine's store, measured: how long each operation takes and why it fails. What passes it is shown to
//! [`super::steps`].

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use obfleet_engine::{
    Owner, Page, Store, StoreError, SubtaskId, TaskFilter, TaskId, TaskState,
    core::Event,
    store::{Commit, Created, LeaseRequest, LogChunk, NewTask, RunningTasks, Sighting},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{Metrics, short_times};

/// Instruments of the task store.
pub struct StoreMetrics {
    durations: Family<Operation, Histogram, fn() -> Histogram>,
    failures: Family<Failure, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    operation: &'static str,
    reason: &'static str,
}

fn reason(error: &StoreError) -> &'static str {
    match error {
        StoreError::Stale => "stale",
        StoreError::Locked { .. } => "locked",
        StoreError::Refused(_) => "refused",
        StoreError::LeaseLost => "lease_lost",
        StoreError::LeaseHeld { .. } => "lease_held",
        StoreError::Unavailable(_) => "unavailable",
        StoreError::Corrupt(_) => "corrupt",
    }
}

impl StoreMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            durations: Family::new_with_constructor(short_times),
            failures: Family::default(),
        };
        registry.register_with_unit(
            "store_operation_duration",
            "Time of operations on the task store; 'commit' and 'create' are durable transactions",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register(
            "store_operation_failures",
            "Operations the task store did not do; 'stale' and 'locked' are everyday refusals",
            metrics.failures.clone(),
        );
        metrics
    }

    async fn time<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let result = work.await;
        self.durations
            .get_or_create(&Operation { operation })
            .observe(started.elapsed().as_secs_f64());
        if let Err(error) = &result {
            let reason = reason(error);
            self.failures.get_or_create(&Failure { operation, reason }).inc();
        }
        result
    }
}

/// The store behind it, measured.
pub struct MeasuredStore<S> {
    store: S,
    metrics: Arc<Metrics>,
}

impl<S> MeasuredStore<S> {
    /// Measures this store.
    pub fn new(store: S, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics }
    }
}

#[async_trait]
impl<C: Send + Sync + 'static, S: Store<C>> Store<C> for MeasuredStore<S> {
    async fn create(&self, new: NewTask<'_, C>) -> Result<Created, StoreError> {
        let begun = Instant::now();
        let created = self.metrics.store.time("create", self.store.create(new)).await?;
        if let Created::New(state, events) = &created {
            let rows = state.subtasks.iter().map(AsRef::as_ref);
            self.metrics.steps.committed(&state.task, rows, events, begun);
        }
        Ok(created)
    }

    async fn commit(&self, commit: Commit<'_, C>) -> Result<(), StoreError> {
        let begun = Instant::now();
        let (task, subtasks, events) = (commit.task, commit.subtasks.clone(), commit.events);
        self.metrics.store.time("commit", self.store.commit(commit)).await?;
        self.metrics.steps.committed(task, subtasks, events, begun);
        Ok(())
    }

    async fn landed(&self, task: TaskId, seq: i64, nonce: i64) -> Result<bool, StoreError> {
        let work = self.store.landed(task, seq, nonce);
        self.metrics.store.time("landed", work).await
    }

    async fn load(&self, task: TaskId) -> Result<Option<TaskState>, StoreError> {
        let state = self.metrics.store.time("load", self.store.load(task)).await?;
        if let Some(state) = &state {
            self.metrics.steps.loaded(state);
        }
        Ok(state)
    }

    async fn load_running(&self) -> Result<RunningTasks, StoreError> {
        let work = self.store.load_running();
        let states = self.metrics.store.time("load_running", work).await?;
        states.tasks.iter().for_each(|state| self.metrics.steps.loaded(state));
        Ok(states)
    }

    async fn list(&self, filter: &TaskFilter) -> Result<Page<TaskState>, StoreError> {
        self.metrics.store.time("list", self.store.list(filter)).await
    }

    async fn events(&self, task: TaskId, after: i64, limit: u32) -> Result<Vec<Event>, StoreError> {
        let work = self.store.events(task, after, limit);
        self.metrics.store.time("events", work).await
    }

    async fn append_logs(&self, chunks: &[LogChunk]) -> Result<(), StoreError> {
        let work = self.store.append_logs(chunks);
        self.metrics.store.time("append_logs", work).await
    }

    async fn read_log(&self, subtask: SubtaskId) -> Result<String, StoreError> {
        self.metrics.store.time("read_log", self.store.read_log(subtask)).await
    }

    async fn log_chunks(
        &self,
        subtask: SubtaskId,
        after: Option<(i64, i64)>,
        limit: u32,
    ) -> Result<Vec<LogChunk>, StoreError> {
        let work = self.store.log_chunks(subtask, after, limit);
        self.metrics.store.time("log_chunks", work).await
    }

    async fn find_by_token(&self, token: &str) -> Result<Option<TaskId>, StoreError> {
        let work = self.store.find_by_token(token);
        self.metrics.store.time("find_by_token", work).await
    }

    async fn prune(&self, before_ms: i64, limit: u32) -> Result<u32, StoreError> {
        let work = self.store.prune(before_ms, limit);
        self.metrics.store.time("prune", work).await
    }

    async fn grant_lease(&self, request: &LeaseRequest<'_>) -> Result<(), StoreError> {
        let work = self.store.grant_lease(request);
        self.metrics.store.time("grant_lease", work).await?;
        self.metrics.steps.begin_as(request.owner);
        Ok(())
    }

    async fn renew_lease(&self, owner: &Owner, ttl: Duration, draining: bool) -> Result<(), StoreError> {
        let asked = Instant::now();
        let work = self.store.renew_lease(owner, ttl, draining);
        self.metrics.store.time("renew_lease", work).await?;
        self.metrics.lease.renewed(asked);
        Ok(())
    }

    async fn end_lease(&self, owner: &Owner) -> Result<(), StoreError> {
        self.metrics.store.time("end_lease", self.store.end_lease(owner)).await
    }

    async fn look(&self, now_ms: i64, limit: u32) -> Result<Sighting, StoreError> {
        self.metrics.store.time("look", self.store.look(now_ms, limit)).await
    }
}
