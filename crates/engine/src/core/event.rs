//! What happened to a task, one event per move.

use serde::{Deserialize, Serialize};

use crate::context::ContextDelta;
use crate::state::{Failure, Outcome, Owner, Subtask, SubtaskId, SubtaskOperation, SubtaskStatus, Task};

/// One move of one task. Events are never changed; folded in order of `seq` they give the rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Dense per task, from 1.
    pub seq: i64,
    /// Milliseconds since the epoch.
    pub at: i64,
    /// The process that decided it.
    pub by: Owner,
    /// What changed.
    pub change: Change,
}

/// What a move changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Change {
    /// The task exists, its subtasks PENDING.
    TaskCreated {
        /// The task row.
        task: Box<Task>,
        /// The subtask rows.
        subtasks: Vec<Subtask>,
        /// The edges by index.
        edges: Vec<(usize, usize)>,
    },
    /// A subtask may be claimed: forward, or for its undo.
    SubReady {
        /// Which.
        subtask: SubtaskId,
        /// EXECUTE (or what it was) forward, ROLLBACK back.
        operation: SubtaskOperation,
    },
    /// An attempt begins.
    SubClaimed {
        /// Which.
        subtask: SubtaskId,
        /// Its fence.
        epoch: i64,
        /// Who claimed it.
        owner: Owner,
        /// The server as users know it.
        executor: String,
        /// When it will be given up.
        deadline_at: Option<i64>,
    },
    /// An attempt recorded a value before acting.
    SubCheckpoint {
        /// Which.
        subtask: SubtaskId,
        /// Key.
        key: String,
        /// Value.
        value: String,
    },
    /// A server cannot run a READY subtask: its release does not know the class. Nothing changes; another may claim it.
    SubUnknown {
        /// Which.
        subtask: SubtaskId,
        /// Its epoch: a server says so once for each.
        epoch: i64,
        /// The class.
        class_name: String,
    },
    /// A run succeeded.
    SubSucceeded {
        /// Which.
        subtask: SubtaskId,
        /// What it adds to the context.
        delta: ContextDelta,
    },
    /// An undo succeeded.
    SubUndone {
        /// Which.
        subtask: SubtaskId,
        /// What it adds to the context.
        delta: ContextDelta,
    },
    /// An attempt (run or undo) ended badly.
    SubFailed {
        /// Which.
        subtask: SubtaskId,
        /// One higher than the attempt's own if the end was forced on it.
        epoch: i64,
        /// Why.
        failure: Failure,
        /// What the attempt had found out.
        delta: ContextDelta,
    },
    /// A failed subtask gets another attempt, by itself or by an operator.
    SubRetry {
        /// Which.
        subtask: SubtaskId,
        /// RETRY, or ROLLBACK for an undo.
        operation: SubtaskOperation,
        /// Number of the attempt, as users see it.
        run_time: u32,
        /// Automatic undo retries so far.
        undo_tries: u32,
        /// Not to be claimed before.
        not_before: Option<i64>,
    },
    /// The server under an attempt died; the attempt will be repeated.
    SubOrphaned {
        /// Which.
        subtask: SubtaskId,
        /// The fence against the dead server.
        epoch: i64,
    },
    /// The server under an attempt was stopped in an orderly way and gave it back; it will be repeated.
    SubReleased {
        /// Which.
        subtask: SubtaskId,
        /// The fence against what may be left of the attempt.
        epoch: i64,
    },
    /// An operator asked an attempt to stop.
    SubCanceling {
        /// Which.
        subtask: SubtaskId,
        /// When it will be given up.
        deadline_at: i64,
        /// Login name of the operator; absent in events of releases that did not note it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        actor: Option<String>,
    },
    /// An operator passed over a failed subtask.
    SubSkipped {
        /// Which.
        subtask: SubtaskId,
        /// Login name of the operator; absent in events of releases that did not note it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        actor: Option<String>,
    },
    /// A READY subtask was taken back because the task is failing.
    SubParked {
        /// Which.
        subtask: SubtaskId,
        /// To which status.
        to: SubtaskStatus,
        /// Attempts that really began.
        run_time: u32,
    },
    /// An operator retried the whole task.
    TaskRetry {
        /// Login name of the operator; absent in events of releases that did not note it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        actor: Option<String>,
    },
    /// The task goes on after an operator retried or skipped one subtask.
    TaskResumed {
        /// Login name of the operator; absent in events of releases that did not note it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        actor: Option<String>,
    },
    /// An operator rolled the task back.
    TaskRollback {
        /// Login name of the operator; absent in events of releases that did not note it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        actor: Option<String>,
    },
    /// An operator paused the task: nothing begins until it is unpaused.
    TaskPaused {
        /// Login name of the operator.
        actor: String,
    },
    /// An operator let a paused task go on.
    TaskUnpaused {
        /// Login name of the operator.
        actor: String,
    },
    /// An operator cancelled the task: it will be FAILED once nothing of it runs.
    TaskCanceling {
        /// Login name of the operator.
        actor: String,
    },
    /// An operator gave a FAILED task up as it stood; its locks are free.
    TaskAbandoned {
        /// Login name of the operator.
        actor: String,
        /// Why, in the operator's words.
        reason: String,
    },
    /// The task stands still and needs an operator.
    TaskFailed {
        /// STUCK when an undo failed, CANCELLED when an operator wanted it.
        outcome: Option<Outcome>,
    },
    /// The task is over and gives up its locks.
    TaskDone {
        /// Completed or rolled back.
        outcome: Outcome,
    },
    /// What this release cannot read: a later one wrote it, or the record is damaged. Never written.
    #[serde(untagged)]
    Unreadable {
        /// As recorded.
        kind: String,
        /// As recorded.
        #[serde(default)]
        subtask: Option<SubtaskId>,
    },
}

impl Change {
    /// Its kind as stored and shown; [`Change::Unreadable`] has its own.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TaskCreated { .. } => "TASK_CREATED",
            Self::SubReady { .. } => "SUB_READY",
            Self::SubClaimed { .. } => "SUB_CLAIMED",
            Self::SubCheckpoint { .. } => "SUB_CHECKPOINT",
            Self::SubUnknown { .. } => "SUB_UNKNOWN",
            Self::SubSucceeded { .. } => "SUB_SUCCEEDED",
            Self::SubUndone { .. } => "SUB_UNDONE",
            Self::SubFailed { .. } => "SUB_FAILED",
            Self::SubRetry { .. } => "SUB_RETRY",
            Self::SubOrphaned { .. } => "SUB_ORPHANED",
            Self::SubReleased { .. } => "SUB_RELEASED",
            Self::SubCanceling { .. } => "SUB_CANCELING",
            Self::SubSkipped { .. } => "SUB_SKIPPED",
            Self::SubParked { .. } => "SUB_PARKED",
            Self::TaskRetry { .. } => "TASK_RETRY",
            Self::TaskResumed { .. } => "TASK_RESUMED",
            Self::TaskRollback { .. } => "TASK_ROLLBACK",
            Self::TaskPaused { .. } => "TASK_PAUSED",
            Self::TaskUnpaused { .. } => "TASK_UNPAUSED",
            Self::TaskCanceling { .. } => "TASK_CANCELING",
            Self::TaskAbandoned { .. } => "TASK_ABANDONED",
            Self::TaskFailed { .. } => "TASK_FAILED",
            Self::TaskDone { .. } => "TASK_DONE",
            Self::Unreadable { .. } => "UNREADABLE",
        }
    }

    /// The subtask it is about; `None` for the task itself.
    pub fn subtask(&self) -> Option<SubtaskId> {
        match self {
            Self::SubReady { subtask, .. }
            | Self::SubClaimed { subtask, .. }
            | Self::SubCheckpoint { subtask, .. }
            | Self::SubUnknown { subtask, .. }
            | Self::SubSucceeded { subtask, .. }
            | Self::SubUndone { subtask, .. }
            | Self::SubFailed { subtask, .. }
            | Self::SubRetry { subtask, .. }
            | Self::SubOrphaned { subtask, .. }
            | Self::SubReleased { subtask, .. }
            | Self::SubCanceling { subtask, .. }
            | Self::SubSkipped { subtask, .. }
            | Self::SubParked { subtask, .. } => Some(*subtask),
            Self::Unreadable { subtask, .. } => *subtask,
            Self::TaskCreated { .. }
            | Self::TaskRetry { .. }
            | Self::TaskResumed { .. }
            | Self::TaskRollback { .. }
            | Self::TaskPaused { .. }
            | Self::TaskUnpaused { .. }
            | Self::TaskCanceling { .. }
            | Self::TaskAbandoned { .. }
            | Self::TaskFailed { .. }
            | Self::TaskDone { .. } => None,
        }
    }
}
