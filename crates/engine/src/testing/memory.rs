//! A store in memory, with the contract of the real one and nothing durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::core::Event;
use crate::state::{Outcome, Owner, SubtaskId, SubtaskStatus, Task, TaskId, TaskState, TaskStatus};
use crate::store::{
    Commit, Created, DueTask, HeldSubtask, LeaseRequest, LogChunk, NewTask, Page, RunningTasks, Sighting, SortKey,
    Store, StoreError, TaskFilter,
};
use crate::submission::Lock;

/// Tasks, events, logs and applied changes, all in maps.
pub struct MemoryStore<C> {
    inner: Mutex<Inner<C>>,
}

struct Inner<C> {
    tasks: BTreeMap<TaskId, TaskState>,
    events: BTreeMap<TaskId, Vec<Event>>,
    /// By the first event of each commit.
    nonces: BTreeMap<(TaskId, i64), i64>,
    logs: BTreeMap<SubtaskId, BTreeMap<(i64, i64), LogChunk>>,
    changes: Vec<(TaskId, C)>,
    last_subtask: i64,
    leases: BTreeMap<String, Lease>,
    /// Tasks whose rows are damaged.
    damaged: BTreeSet<TaskId>,
    /// How far the clock was moved.
    moved: Duration,
    begun: Instant,
}

/// The lease of a server, by the store's clock.
struct Lease {
    incarnation: String,
    until: Duration,
}

impl<C> Default for MemoryStore<C> {
    fn default() -> Self {
        let inner = Inner {
            tasks: BTreeMap::new(),
            events: BTreeMap::new(),
            nonces: BTreeMap::new(),
            logs: BTreeMap::new(),
            changes: Vec::new(),
            last_subtask: 0,
            leases: BTreeMap::new(),
            damaged: BTreeSet::new(),
            moved: Duration::ZERO,
            begun: Instant::now(),
        };
        Self {
            inner: Mutex::new(inner),
        }
    }
}

impl<C: Clone> MemoryStore<C> {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store with this task alone, and no lease granted.
    pub fn holding(state: TaskState) -> Self {
        let store = Self::new();
        store.lock().tasks.insert(state.task.id, state);
        store
    }

    /// Every domain change committed so far, in order, with the task that made it.
    pub fn changes(&self) -> Vec<(TaskId, C)> {
        self.lock().changes.clone()
    }

    /// Moves the store's clock, and nobody else's, forward: leases run out.
    pub fn move_clock(&self, by: Duration) {
        self.lock().moved += by;
    }

    /// Makes the rows of a task unreadable.
    pub fn damage(&self, task: TaskId) {
        self.lock().damaged.insert(task);
    }

    /// Makes them readable again.
    pub fn mend(&self, task: TaskId) {
        self.lock().damaged.remove(&task);
    }

    /// Every event of a task.
    pub fn all_events(&self, task: TaskId) -> Vec<Event> {
        self.lock().events.get(&task).cloned().unwrap_or_default()
    }
}

impl<C> MemoryStore<C> {
    fn lock(&self) -> MutexGuard<'_, Inner<C>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> Inner<C> {
    /// The clock of leases.
    fn now(&self) -> Duration {
        self.begun.elapsed() + self.moved
    }

    fn has_lease(&self, owner: &Owner) -> bool {
        let lease = self.leases.get(&owner.server);
        lease.is_some_and(|lease| lease.incarnation == owner.incarnation && lease.until > self.now())
    }

    fn test_lease(&self, owner: &Owner) -> Result<(), StoreError> {
        if self.has_lease(owner) {
            Ok(())
        } else {
            Err(StoreError::LeaseLost)
        }
    }

    fn test_readable(&self, task: TaskId) -> Result<(), StoreError> {
        if self.damaged.contains(&task) {
            Err(StoreError::Corrupt(format!("task {task} is damaged")))
        } else {
            Ok(())
        }
    }

    fn holder(&self, wanted: &Lock) -> Option<&Task> {
        let clashes =
            |held: &Lock| held.kind == wanted.kind && held.name == wanted.name && (held.exclusive || wanted.exclusive);
        self.tasks
            .values()
            .map(|state| &state.task)
            .find(|task| task.locks.iter().any(clashes))
    }
}

#[async_trait]
impl<C: Clone + Send + Sync + 'static> Store<C> for MemoryStore<C> {
    async fn create(&self, new: NewTask<'_, C>) -> Result<Created, StoreError> {
        let mut inner = self.lock();
        inner.test_lease(&new.env.owner)?;
        let token = &new.draft.client_token;
        let same = |state: &&TaskState| token.is_some() && state.task.client_token == *token;
        if let Some(existing) = inner.tasks.values().find(same) {
            return Ok(Created::Existing(existing.task.id));
        }
        for lock in &new.draft.locks {
            if let Some(task) = inner.holder(lock) {
                let (lock, task, task_name) = (lock.clone(), task.id, task.name.clone());
                return Err(StoreError::Locked { lock, task, task_name });
            }
        }
        let id = TaskId(inner.tasks.last_key_value().map_or(1, |(last, _)| last.0 + 1));
        let first = SubtaskId(inner.last_subtask + 1);
        let (state, events) = new
            .draft
            .into_state(id, first, new.env)
            .map_err(|broken| StoreError::Corrupt(broken.to_string()))?;
        inner.last_subtask = state.subtasks.last().map_or(inner.last_subtask, |last| last.id.0);
        inner
            .changes
            .extend(new.changes.iter().map(|change| (id, change.clone())));
        inner.tasks.insert(id, state.clone());
        inner.nonces.insert((id, 1), new.nonce);
        inner.events.insert(id, events.clone());
        Ok(Created::New(Box::new(state), events))
    }

    async fn commit(&self, commit: Commit<'_, C>) -> Result<(), StoreError> {
        let mut inner = self.lock();
        inner.test_lease(commit.by)?;
        let id = commit.task.id;
        let state = inner.tasks.get_mut(&id).ok_or(StoreError::Stale)?;
        if state.task.rev != commit.expected_rev {
            return Err(StoreError::Stale);
        }
        let locks = if commit.release_locks {
            Vec::new()
        } else {
            state.task.locks.clone()
        };
        state.task = Task {
            locks,
            ..commit.task.clone()
        };
        for row in commit.subtasks {
            state.subtasks[row.series_id as usize] = Arc::new(row.clone());
        }
        inner.nonces.insert((id, commit.expected_rev + 1), commit.nonce);
        inner.events.entry(id).or_default().extend_from_slice(commit.events);
        inner
            .changes
            .extend(commit.changes.iter().map(|change| (id, change.clone())));
        Ok(())
    }

    async fn landed(&self, task: TaskId, seq: i64, nonce: i64) -> Result<bool, StoreError> {
        Ok(self.lock().nonces.get(&(task, seq)) == Some(&nonce))
    }

    async fn load(&self, task: TaskId) -> Result<Option<TaskState>, StoreError> {
        let inner = self.lock();
        inner.test_readable(task)?;
        Ok(inner.tasks.get(&task).cloned())
    }

    async fn load_running(&self) -> Result<RunningTasks, StoreError> {
        let inner = self.lock();
        let mut running = RunningTasks::default();
        for state in inner.tasks.values() {
            match inner.test_readable(state.task.id) {
                Err(error) => running.unreadable.push((state.task.id, error.to_string())),
                Ok(()) if state.task.status == TaskStatus::Running => running.tasks.push(state.clone()),
                Ok(()) => {}
            }
        }
        Ok(running)
    }

    async fn list(&self, filter: &TaskFilter) -> Result<Page<TaskState>, StoreError> {
        let inner = self.lock();
        let name = filter.name.as_ref().map(|name| name.to_lowercase());
        let fits = |task: &Task| {
            name.as_ref().is_none_or(|part| task.name.to_lowercase().contains(part))
                && (filter.status.is_empty() || filter.status.contains(&task.status))
                && filter.task_type.is_none_or(|wanted| wanted == task.task_type)
                && (filter.cluster_id.is_none() || filter.cluster_id == task.cluster_id)
                && (filter.clusters.as_ref())
                    .is_none_or(|clusters| task.cluster_id.is_some_and(|id| clusters.contains(&id)))
                && (filter.host_id.is_none() || filter.host_id == task.host_id)
        };
        let mut found: Vec<_> = inner.tasks.values().filter(|state| fits(&state.task)).collect();
        found.sort_by(|a, b| {
            let (a, b) = (&a.task, &b.task);
            let order = match filter.sort {
                SortKey::Id => a.id.cmp(&b.id),
                SortKey::Name => a.name.cmp(&b.name),
                SortKey::Status => a.status.as_str().cmp(b.status.as_str()),
                SortKey::StartTime => a.create_time.cmp(&b.create_time),
                SortKey::FinishTime => a.end_time.cmp(&b.end_time),
            };
            let order = order.then(a.id.cmp(&b.id));
            if filter.ascending { order } else { order.reverse() }
        });
        let total = found.len() as u64;
        let skipped = (filter.page.saturating_sub(1) as usize).saturating_mul(filter.size as usize);
        let items = found
            .into_iter()
            .skip(skipped)
            .take(filter.size as usize)
            .cloned()
            .collect();
        Ok(Page { items, total })
    }

    async fn events(&self, task: TaskId, after: i64, limit: u32) -> Result<Vec<Event>, StoreError> {
        let inner = self.lock();
        let all = inner.events.get(&task).map(Vec::as_slice).unwrap_or_default();
        Ok(all
            .iter()
            .filter(|event| event.seq > after)
            .take(limit as usize)
            .cloned()
            .collect())
    }

    async fn append_logs(&self, chunks: &[LogChunk]) -> Result<(), StoreError> {
        let mut inner = self.lock();
        for chunk in chunks {
            let log = inner.logs.entry(chunk.subtask).or_default();
            log.insert((chunk.epoch, chunk.seq), chunk.clone());
        }
        Ok(())
    }

    async fn read_log(&self, subtask: SubtaskId) -> Result<String, StoreError> {
        let inner = self.lock();
        let chunks: Vec<_> = inner
            .logs
            .get(&subtask)
            .into_iter()
            .flat_map(BTreeMap::values)
            .map(|chunk| chunk.text.as_str())
            .collect();
        Ok(chunks.join("\n"))
    }

    async fn log_chunks(
        &self,
        subtask: SubtaskId,
        after: Option<(i64, i64)>,
        limit: u32,
    ) -> Result<Vec<LogChunk>, StoreError> {
        let inner = self.lock();
        let chunks = inner.logs.get(&subtask).into_iter().flatten();
        let later = chunks.filter(|(place, _)| Some(**place) > after);
        Ok(later.map(|(_, chunk)| chunk.clone()).take(limit as usize).collect())
    }

    async fn find_by_token(&self, token: &str) -> Result<Option<TaskId>, StoreError> {
        let inner = self.lock();
        let mut tasks = inner.tasks.values();
        let found = tasks.find(|state| state.task.client_token.as_deref() == Some(token));
        Ok(found.map(|state| state.task.id))
    }

    async fn prune(&self, before_ms: i64, limit: u32) -> Result<u32, StoreError> {
        let mut inner = self.lock();
        let over = |task: &Task| task.outcome.is_some_and(Outcome::is_final);
        let due = |task: &Task| over(task) && task.end_time.is_some_and(|end| end < before_ms);
        let tasks = inner.tasks.values().filter(|state| due(&state.task));
        let pruned: Vec<_> = tasks.take(limit as usize).cloned().collect();
        for state in &pruned {
            inner.tasks.remove(&state.task.id);
            inner.events.remove(&state.task.id);
            for row in &state.subtasks {
                inner.logs.remove(&row.id);
            }
        }
        Ok(u32::try_from(pruned.len()).unwrap_or(u32::MAX))
    }

    async fn grant_lease(&self, request: &LeaseRequest<'_>) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let now = inner.now();
        let LeaseRequest { owner, ttl, .. } = *request;
        let taken = inner.leases.get(&owner.server).is_some_and(|lease| lease.until > now);
        if taken && !request.replaces {
            let server = owner.server.clone();
            return Err(StoreError::LeaseHeld { server });
        }
        let lease = Lease {
            incarnation: owner.incarnation.clone(),
            until: now + ttl,
        };
        inner.leases.insert(owner.server.clone(), lease);
        Ok(())
    }

    async fn renew_lease(&self, owner: &Owner, ttl: Duration, _draining: bool) -> Result<(), StoreError> {
        let mut inner = self.lock();
        inner.test_lease(owner)?;
        let until = inner.now() + ttl;
        inner
            .leases
            .entry(owner.server.clone())
            .and_modify(|lease| lease.until = until);
        Ok(())
    }

    async fn end_lease(&self, owner: &Owner) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if inner.has_lease(owner) {
            inner.leases.remove(&owner.server);
        }
        Ok(())
    }

    async fn look(&self, now_ms: i64, limit: u32) -> Result<Sighting, StoreError> {
        let inner = self.lock();
        let due = inner
            .tasks
            .values()
            .filter(|state| state.claimable(now_ms).next().is_some());
        let due = due.map(|state| DueTask {
            task: state.task.id,
            rev: state.task.rev,
        });
        let due = due.take(limit as usize).collect();
        let held = inner.tasks.values().flat_map(|state| {
            state.subtasks.iter().filter_map(|row| {
                let owner = row.owner.clone()?;
                Some(HeldSubtask {
                    task: state.task.id,
                    subtask: row.id,
                    epoch: row.epoch,
                    canceling: row.status == SubtaskStatus::Canceling,
                    alive: inner.has_lease(&owner),
                    owner,
                })
            })
        });
        Ok(Sighting {
            due,
            held: held.collect(),
        })
    }
}
