//! The rows of one task: what a store keeps, what [`crate::core`] decides on, what a [`crate::TaskView`] shows.
//!
//! Spellings of states and operations are OCP's. A [`TaskState`] is cheap to clone: rows are shared until one changes,
//! so a decision costs a few reference counts even in a graph of thousands of nodes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::action::{OnCrash, RetryMode};
use crate::context::{Context, ContextDelta};
use crate::submission::Lock;

macro_rules! id {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}
id!(TaskId, "Id of a task: positive, ascending, never used twice.");
id!(
    SubtaskId,
    "Id of a subtask: positive, unique over all tasks, ascending in topological order within one."
);

/// Declares an enum whose wire and database spelling is SCREAMING_SNAKE_CASE, with the text conversions both need.
macro_rules! spelled {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// The spelling on the wire and in the database.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownSpelling;

            fn from_str(text: &str) -> Result<Self, UnknownSpelling> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(UnknownSpelling { kind: stringify!($name), text: text.to_owned() }),
                }
            }
        }
    };
}

/// A text that is none of an enum's spellings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}")]
pub struct UnknownSpelling {
    kind: &'static str,
    text: String,
}

spelled! {
    /// Where a task stands.
    TaskStatus {
        /// The engine is at work on it, forward or back.
        Running = "RUNNING",
        /// It stands still and needs an operator: retry, rollback or skip.
        Failed = "FAILED",
        /// It is over: completed, or rolled back whole (then its operation is `ROLLBACK`).
        Successful = "SUCCESSFUL",
    }
}

spelled! {
    /// Where a subtask stands.
    SubtaskStatus {
        /// Not started, or undone.
        Pending = "PENDING",
        /// May be claimed.
        Ready = "READY",
        /// Claimed: an attempt is under way.
        Running = "RUNNING",
        /// An operator asked the attempt to stop and it has not ended yet.
        Canceling = "CANCELING",
        /// The last attempt failed.
        Failed = "FAILED",
        /// Done (or skipped).
        Successful = "SUCCESSFUL",
    }
}

impl SubtaskStatus {
    /// READY, RUNNING or CANCELING: the task cannot come to rest while a subtask is in one of these.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Ready | Self::Running | Self::Canceling)
    }
}

spelled! {
    /// What a task is being made to do.
    TaskOperation {
        /// The first way through.
        Execute = "EXECUTE",
        /// Forward again after a failure.
        Retry = "RETRY",
        /// Back to where it came from.
        Rollback = "ROLLBACK",
    }
}

spelled! {
    /// What a subtask's current or last attempt does.
    SubtaskOperation {
        /// Run for the first time.
        Execute = "EXECUTE",
        /// Run again.
        Retry = "RETRY",
        /// Undo.
        Rollback = "ROLLBACK",
        /// Passed over by an operator.
        Skip = "SKIP",
        /// Its undo was passed over by an operator.
        RollbackSkip = "ROLLBACK_SKIP",
        /// Stopped by an operator.
        Cancel = "CANCEL",
    }
}

spelled! {
    /// Who starts tasks of this kind.
    TaskType {
        /// A person or an API client.
        Manual = "MANUAL",
        /// A schedule made by a user.
        Scheduled = "SCHEDULED",
        /// A schedule of the system's own.
        SysScheduled = "SYS_SCHEDULED",
    }
}

spelled! {
    /// How a task came to rest; ours, not on OCP's wire.
    Outcome {
        /// Every subtask succeeded.
        Completed = "COMPLETED",
        /// Every subtask was undone.
        RolledBack = "ROLLED_BACK",
        /// An undo failed and needs an operator.
        Stuck = "STUCK",
        /// An operator stopped it; it can be retried, rolled back or abandoned.
        Cancelled = "CANCELLED",
        /// An operator gave it up as it stood. Its locks are free, and it cannot be taken up again.
        Abandoned = "ABANDONED",
    }
}

impl Outcome {
    /// Whether no move leads out of it; the task then holds no locks.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::RolledBack | Self::Abandoned)
    }
}

spelled! {
    /// What keeps a RUNNING task from beginning anything; ours, not on OCP's wire.
    Halt {
        /// An operator paused it: attempts under way end, none begins.
        Paused = "PAUSED",
        /// An operator cancels it: attempts under way are asked to stop, then it is FAILED.
        Canceling = "CANCELING",
    }
}

spelled! {
    /// What an operator may do about a FAILED task.
    WayOut {
        /// Try again what failed.
        Retry = "RETRY",
        /// Undo everything; in a rollback, go on undoing.
        Rollback = "ROLLBACK",
        /// Pass over a FAILED subtask, or over its undo.
        Skip = "SKIP",
        /// Give the task up as it stands.
        Abandon = "ABANDON",
    }
}

spelled! {
    /// Why an attempt ended badly.
    Cause {
        /// The action returned an error.
        Error = "ERROR",
        /// The action panicked.
        Panic = "PANIC",
        /// The deadline passed.
        Timeout = "TIMEOUT",
        /// An operator cancelled it.
        Cancelled = "CANCELLED",
        /// Its server died under it.
        Interrupted = "INTERRUPTED",
        /// The context could not be merged or outgrew its limit.
        Context = "CONTEXT",
        /// No action is registered under its class name.
        UnknownClass = "UNKNOWN_CLASS",
        /// Its result could not be recorded.
        Unrecorded = "UNRECORDED",
    }
}

impl Cause {
    /// Whether trying again by itself could help.
    pub fn is_transient(self) -> bool {
        !matches!(self, Self::Cancelled | Self::Context | Self::UnknownClass)
    }
}

/// The process that holds a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Name of the server, kept over restarts; shown as `executor`.
    pub server: String,
    /// Random per process start: tells this process from its dead predecessors.
    pub incarnation: String,
}

/// The task row. Times are milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Id.
    pub id: TaskId,
    /// Grows by one per event; commits compare and set it. It equals the `seq` of the task's last event.
    pub rev: i64,
    /// What users see, such as `Upgrade obproxy`.
    pub name: String,
    /// Who starts tasks of this kind.
    pub task_type: TaskType,
    /// Login name of the submitter.
    pub creator: String,
    /// The server that took the submission.
    pub executor: String,
    /// The OBProxy cluster it is about.
    pub cluster_id: Option<i64>,
    /// The host it is about.
    pub host_id: Option<i64>,
    /// The submitter's idempotency key.
    pub client_token: Option<String>,
    /// Digest of the request that came with the key, to tell a repetition from another request.
    #[serde(default)]
    pub request_digest: Option<String>,
    /// Context as submitted; what subtasks add is in [`Subtask::delta`].
    pub context: Context,
    /// Where it stands.
    pub status: TaskStatus,
    /// What it is being made to do.
    pub operation: TaskOperation,
    /// How it came to rest, once it has.
    pub outcome: Option<Outcome>,
    /// What keeps it from beginning anything; only while RUNNING.
    #[serde(default)]
    pub halt: Option<Halt>,
    /// Locks it holds now.
    pub locks: Vec<Lock>,
    /// Goes back by itself when a step fails; having gone back it is FAILED, not SUCCESSFUL.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undo_on_failure: bool,
    /// When it was submitted.
    pub create_time: i64,
    /// When it came to rest.
    pub end_time: Option<i64>,
}

/// What a subtask is, frozen at submit: a later release's other spec does not change a task under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskSpec {
    /// Name users see.
    pub name: String,
    /// Key into the registry of actions.
    pub class_name: String,
    /// Seconds per attempt; 0 is none.
    pub timeout_s: u32,
    /// Once it has begun, the task may not be rolled back.
    pub prohibit_rollback: bool,
    /// Automatic retries after a failed run.
    pub retries: u32,
    /// Automatic retries after a failed undo.
    pub undo_retries: u32,
    /// Wait before the first automatic retry in milliseconds; doubles each time, up to 30 s.
    pub backoff_ms: u64,
    /// What a retry does.
    pub retry_mode: RetryMode,
    /// What happens to an attempt whose server died.
    pub on_crash: OnCrash,
    /// Does nothing but join edges: passes within a commit.
    pub barrier: bool,
    /// Which element of the lists it works on.
    pub parallel_idx: Option<u32>,
    /// That element of each list of the submitted context, by list key: it can never dangle.
    pub items: BTreeMap<String, String>,
}

/// The subtask row. Times are milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subtask {
    /// Id.
    pub id: SubtaskId,
    /// Position in topological order, from 0.
    pub series_id: u32,
    /// What never changes.
    pub spec: SubtaskSpec,
    /// Where it stands.
    pub status: SubtaskStatus,
    /// What the current or last attempt does.
    pub operation: SubtaskOperation,
    /// Attempts users know of, from 1.
    pub run_time: u32,
    /// The fence: grows on every claim and on every end that was forced on an attempt.
    pub epoch: i64,
    /// Times in a row that a server died under this attempt.
    pub crash_count: u32,
    /// Automatic retries of the undo so far.
    pub undo_tries: u32,
    /// Who holds the claim while RUNNING or CANCELING.
    pub owner: Option<Owner>,
    /// The server that claimed it last.
    pub executor: Option<String>,
    /// When the attempt will be given up, to be shown: its server counts the time itself.
    pub deadline_at: Option<i64>,
    /// READY, but not to be claimed before; see [`Self::waits_until`].
    pub not_before: Option<i64>,
    /// The status before READY: where parking takes it back to.
    pub ready_from: Option<SubtaskStatus>,
    /// First claim ever.
    pub start_time: Option<i64>,
    /// End of the last attempt.
    pub end_time: Option<i64>,
    /// What its attempts added to the context.
    pub delta: ContextDelta,
    /// What its attempts recorded before acting; kept over attempts, visible to undo.
    pub checkpoint: BTreeMap<String, String>,
    /// Why the last attempt ended badly.
    pub failure: Option<Failure>,
}

/// Longest wait before an automatic retry, in milliseconds.
pub const MAX_BACKOFF_MS: i64 = 30_000;

/// How far ahead [`Subtask::not_before`] can be, in milliseconds. What is further ahead was written by a clock that has been
/// set back since, or by another server's that is wrong: it counts as due, or the retry might wait for hours. Clocks of
/// servers may differ by the 5 s over the longest backoff without that.
pub const MAX_WAIT_MS: i64 = MAX_BACKOFF_MS + 5_000;

impl Subtask {
    /// When it may be claimed, in milliseconds since the epoch, if it has to wait for that.
    pub fn waits_until(&self, now_ms: i64) -> Option<i64> {
        let still = now_ms.saturating_add(1)..=now_ms.saturating_add(MAX_WAIT_MS);
        self.not_before.filter(|at| still.contains(at))
    }
}

/// Why an attempt ended badly, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Kind.
    pub cause: Cause,
    /// Sentence for the operator.
    pub message: String,
}

/// Edges between subtasks, by index (= series id). Never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    upstreams: Vec<Vec<usize>>,
    downstreams: Vec<Vec<usize>>,
}

impl Graph {
    /// A graph of `nodes` nodes with edges from earlier to later indexes. `None` if an edge points back, to itself or outside.
    pub fn new(nodes: usize, edges: &[(usize, usize)]) -> Option<Self> {
        let mut graph = Self {
            upstreams: vec![Vec::new(); nodes],
            downstreams: vec![Vec::new(); nodes],
        };
        for &(from, to) in edges {
            if from >= to || to >= nodes {
                return None;
            }
            graph.downstreams[from].push(to);
            graph.upstreams[to].push(from);
        }
        for list in graph.upstreams.iter_mut().chain(&mut graph.downstreams) {
            list.sort_unstable();
            list.dedup();
        }
        Some(graph)
    }

    /// Nodes that `index` waits for.
    pub fn upstreams(&self, index: usize) -> &[usize] {
        &self.upstreams[index]
    }

    /// Nodes that wait for `index`.
    pub fn downstreams(&self, index: usize) -> &[usize] {
        &self.downstreams[index]
    }

    /// All edges, from and to, ascending.
    pub fn edges(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.downstreams
            .iter()
            .enumerate()
            .flat_map(|(from, tos)| tos.iter().map(move |&to| (from, to)))
    }

    /// Every node that must end before `index` starts, as a membership list by index.
    pub fn ancestors(&self, index: usize) -> Vec<bool> {
        let mut found = vec![false; index + 1];
        let mut open = vec![index];
        while let Some(node) = open.pop() {
            for &up in &self.upstreams[node] {
                if !std::mem::replace(&mut found[up], true) {
                    open.push(up);
                }
            }
        }
        found
    }
}

/// One task with its subtasks (by series id) and edges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskState {
    /// The task row.
    pub task: Task,
    /// The subtask rows, indexed by series id; ids ascend with it.
    pub subtasks: Vec<Arc<Subtask>>,
    /// The edges.
    pub graph: Arc<Graph>,
}

impl TaskState {
    /// Index of a subtask, or `None` if it belongs to another task.
    pub fn index_of(&self, id: SubtaskId) -> Option<usize> {
        self.subtasks.binary_search_by_key(&id, |subtask| subtask.id).ok()
    }

    /// Whether rolling back is ruled out: by a subtask that has begun and whose action says so, or by the submitted context.
    pub fn prohibits_rollback(&self) -> bool {
        let begun = |subtask: &Subtask| !matches!(subtask.status, SubtaskStatus::Pending | SubtaskStatus::Ready);
        self.subtasks
            .iter()
            .any(|subtask| subtask.spec.prohibit_rollback && begun(subtask))
            || self.task.context.prohibits_rollback()
    }

    /// Whether it turns back by itself here, once it is quiet: a step of it has failed, nobody has halted it, and nothing
    /// forbids it. On its way back a failure leaves it to an operator, as any other task.
    pub fn undoes_itself(&self) -> bool {
        let task = &self.task;
        task.undo_on_failure
            && task.status == TaskStatus::Running
            && task.operation != TaskOperation::Rollback
            && task.halt.is_none()
            && self.is_failing()
            && !self.prohibits_rollback()
    }

    /// Whether any subtask stands FAILED: then nothing new becomes READY.
    pub fn is_failing(&self) -> bool {
        self.subtasks
            .iter()
            .any(|subtask| subtask.status == SubtaskStatus::Failed)
    }

    /// READY subtasks that may be claimed at `now_ms`, in series order.
    pub fn claimable(&self, now_ms: i64) -> impl Iterator<Item = usize> + '_ {
        let running = self.task.status == TaskStatus::Running && self.task.halt.is_none();
        let due =
            move |subtask: &Subtask| subtask.status == SubtaskStatus::Ready && subtask.waits_until(now_ms).is_none();
        let all = self.subtasks.iter().enumerate();
        all.filter(move |(_, subtask)| running && due(subtask))
            .map(|(index, _)| index)
    }

    /// Indexes of the rows that differ from an earlier state of the same task.
    pub fn changed_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = usize> + 'a {
        let pairs = self.subtasks.iter().zip(&before.subtasks).enumerate();
        pairs
            .filter(|(_, (now, then))| !Arc::ptr_eq(now, then))
            .map(|(index, _)| index)
    }
}
