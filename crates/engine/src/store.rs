//! What the engine needs of a database. Nothing else writes task state.
//!
//! One primitive changes a task: [`Store::commit`], guarded by a compare-and-set on the task's `rev`, carrying the
//! events, the changed rows and the domain's changes in one transaction. `obfleet-store` implements it on SQL.

mod lease;

use std::time::Duration;

use async_trait::async_trait;

use crate::core::{Decision, Draft, Env, Event};
use crate::state::{Owner, Subtask, SubtaskId, SubtaskOperation, Task, TaskId, TaskState, TaskStatus, TaskType};
use crate::submission::Lock;

pub use lease::{DueTask, HeldSubtask, LeaseRequest, Sighting};

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The task's `rev` is not the expected one: somebody else committed. Reload and decide again.
    #[error("the task has changed meanwhile")]
    Stale,
    /// A lock is held by another task. Nothing was written.
    #[error("{} {:?} is held by task {} ({task_name})", lock.kind, lock.name, task.0)]
    Locked {
        /// The lock asked for.
        lock: Lock,
        /// Who holds it.
        task: TaskId,
        /// Its name.
        task_name: String,
    },
    /// A domain change cannot be applied to what the database holds. Nothing was written; repeating will not help.
    #[error("a change was refused: {0}")]
    Refused(String),
    /// The process that wrote it holds no lease (any more): its time is over, or another has taken its place. Nothing was
    /// written.
    #[error("the server's lease is over")]
    LeaseLost,
    /// Another process has the lease of this server.
    #[error("another process has the lease of server {server}")]
    LeaseHeld {
        /// The server.
        server: String,
    },
    /// The database failed. Whether a commit happened is unknown: ask by [`Store::landed`] before repeating.
    #[error("the state database failed")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What the database holds cannot be understood.
    #[error("the state database holds something unreadable: {0}")]
    Corrupt(String),
}

/// A task to create.
#[derive(Debug)]
pub struct NewTask<'a, C> {
    /// All but the ids.
    pub draft: Draft,
    /// Who creates it, under its lease, and when.
    pub env: &'a Env,
    /// Domain changes of the same transaction.
    pub changes: &'a [C],
    /// Random, as [`Commit::nonce`].
    pub nonce: i64,
}

/// What became of a [`NewTask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is there now, with these first events.
    New(Box<TaskState>, Vec<Event>),
    /// Its client token named a task that exists; nothing was written.
    Existing(TaskId),
}

/// One step of one task.
#[derive(Debug)]
pub struct Commit<'a, C> {
    /// Who makes it, under its lease.
    pub by: &'a Owner,
    /// The `rev` the decision was made on.
    pub expected_rev: i64,
    /// The task row after it.
    pub task: &'a Task,
    /// Rows that changed.
    pub subtasks: Vec<&'a Subtask>,
    /// What happened; `seq` runs from `expected_rev + 1` to `task.rev`.
    pub events: &'a [Event],
    /// Domain changes of the same transaction.
    pub changes: &'a [C],
    /// Whether the task gives up its locks.
    pub release_locks: bool,
    /// Random; kept with the events, to tell by when the database's answer is lost.
    pub nonce: i64,
}

impl<'a, C> Commit<'a, C> {
    /// What takes a task from the rows before a decision to those after it.
    pub fn of(by: &'a Owner, before: &'a TaskState, decision: &'a Decision, changes: &'a [C]) -> Self {
        let after = &decision.state;
        Self {
            by,
            expected_rev: before.task.rev,
            task: &after.task,
            subtasks: after
                .changed_since(before)
                .map(|index| &*after.subtasks[index])
                .collect(),
            events: &decision.events,
            changes,
            release_locks: !before.task.locks.is_empty() && after.task.locks.is_empty(),
            nonce: nonce(),
        }
    }
}

/// The RUNNING tasks of a store.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RunningTasks {
    /// Those that can be read, oldest first.
    pub tasks: Vec<TaskState>,
    /// Those that cannot, with what is wrong.
    pub unreadable: Vec<(TaskId, String)>,
}

/// A number for one commit alone.
pub fn nonce() -> i64 {
    let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
    random.cast_signed()
}

/// A property to sort by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortKey {
    /// Id, which is also order of creation.
    #[default]
    Id,
    /// Name.
    Name,
    /// Status.
    Status,
    /// Time of submission.
    StartTime,
    /// Time of coming to rest.
    FinishTime,
}

/// Which tasks to list.
#[derive(Clone, Debug)]
pub struct TaskFilter {
    /// Part of the name, upper and lower case alike; `%` and `_` mean themselves.
    pub name: Option<String>,
    /// Any of these; empty is all.
    pub status: Vec<TaskStatus>,
    /// Only this type.
    pub task_type: Option<TaskType>,
    /// Only of this cluster.
    pub cluster_id: Option<i64>,
    /// Only of these clusters; of none where there are none.
    pub clusters: Option<Vec<i64>>,
    /// Only of this host.
    pub host_id: Option<i64>,
    /// Page, from 1.
    pub page: u32,
    /// Tasks per page.
    pub size: u32,
    /// Order.
    pub sort: SortKey,
    /// Lowest first.
    pub ascending: bool,
}

impl Default for TaskFilter {
    /// The newest ten of all.
    fn default() -> Self {
        Self {
            name: None,
            status: Vec::new(),
            task_type: None,
            cluster_id: None,
            clusters: None,
            host_id: None,
            page: 1,
            size: 10,
            sort: SortKey::Id,
            ascending: false,
        }
    }
}

/// One page of items, and how many there are over all pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The page.
    pub items: Vec<T>,
    /// Over all pages.
    pub total: u64,
}

/// Lines of one attempt's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChunk {
    /// The task.
    pub task: TaskId,
    /// The subtask.
    pub subtask: SubtaskId,
    /// The attempt: logs of a subtask are read in order of epoch.
    pub epoch: i64,
    /// What the attempt did.
    pub operation: SubtaskOperation,
    /// Number of the attempt as users see it.
    pub run_time: u32,
    /// Position within the attempt, from 0.
    pub seq: i64,
    /// Milliseconds since the epoch.
    pub at: i64,
    /// Whole lines, the last without its newline.
    pub text: String,
}

/// The engine's database. `C` is the domain's change type.
#[async_trait]
pub trait Store<C>: Send + Sync + 'static {
    /// Allocates ids, takes the locks and writes the first rows and events, in one transaction, under the lease of
    /// `new.env.owner`.
    async fn create(&self, new: NewTask<'_, C>) -> Result<Created, StoreError>;

    /// Makes one step durable; fails with [`StoreError::LeaseLost`] if its author holds no lease at the database's clock, and
    /// with [`StoreError::Stale`] if `expected_rev` is not the task's. Both are tested in the transaction that writes.
    async fn commit(&self, commit: Commit<'_, C>) -> Result<(), StoreError>;

    /// Whether the commit with this nonce is durable, whose first event is `seq`; waits for the end of one that is still
    /// under way.
    async fn landed(&self, task: TaskId, seq: i64, nonce: i64) -> Result<bool, StoreError>;

    /// The rows of a task.
    async fn load(&self, task: TaskId) -> Result<Option<TaskState>, StoreError>;

    /// Every RUNNING task.
    async fn load_running(&self) -> Result<RunningTasks, StoreError>;

    /// A page of tasks. One that cannot be read is missing from it, but counted.
    async fn list(&self, filter: &TaskFilter) -> Result<Page<TaskState>, StoreError>;

    /// Events of a task with `seq > after`, in order, at most `limit`.
    async fn events(&self, task: TaskId, after: i64, limit: u32) -> Result<Vec<Event>, StoreError>;

    /// Adds to attempts' logs. Need not be as durable as the rest.
    async fn append_logs(&self, chunks: &[LogChunk]) -> Result<(), StoreError>;

    /// A subtask's log: all attempts in order, chunks joined by newlines.
    async fn read_log(&self, subtask: SubtaskId) -> Result<String, StoreError>;

    /// A subtask's log in the order of [`Self::read_log`], from after the chunk with this epoch and seq; at most `limit`.
    async fn log_chunks(
        &self,
        subtask: SubtaskId,
        after: Option<(i64, i64)>,
        limit: u32,
    ) -> Result<Vec<LogChunk>, StoreError>;

    /// The task made with a client token.
    async fn find_by_token(&self, token: &str) -> Result<Option<TaskId>, StoreError>;

    /// Deletes tasks that are over for good, SUCCESSFUL or abandoned, and ended before `before_ms`, with everything that
    /// belongs to them: the oldest first, at most `limit`. → how many
    async fn prune(&self, before_ms: i64, limit: u32) -> Result<u32, StoreError>;

    /// Grants a process the lease of its server, which ends a predecessor's. [`StoreError::LeaseHeld`] while another process
    /// has it and the request does not replace that.
    async fn grant_lease(&self, request: &LeaseRequest<'_>) -> Result<(), StoreError>;

    /// Makes a lease last `ttl` from now by the database's clock. `draining` is told to whoever looks at the servers.
    /// [`StoreError::LeaseLost`] once it is over: it does not come back.
    async fn renew_lease(&self, owner: &Owner, ttl: Duration, draining: bool) -> Result<(), StoreError>;

    /// Ends a lease now, if it still lasts.
    async fn end_lease(&self, owner: &Owner) -> Result<(), StoreError>;

    /// Looks for work, in one cheap query: at most `limit` tasks that have something due at `now_ms`
    /// ([`Subtask::waits_until`](crate::state::Subtask::waits_until)), and every attempt that is under way.
    async fn look(&self, now_ms: i64, limit: u32) -> Result<Sighting, StoreError>;
}
