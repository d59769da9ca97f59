//! What may be asked of a task, and why it may be refused.

use std::collections::BTreeSet;

use super::classes::Classes;
use crate::context::ContextDelta;
use crate::state::{Failure, Halt, Owner, SubtaskId, SubtaskStatus, TaskOperation, TaskStatus};

/// Who decides, when, and with how much room: everything a decision needs from outside the rows.
#[derive(Clone, Debug)]
pub struct Env {
    /// Wall time, in milliseconds since the epoch: when things are said to happen.
    pub wall_ms: i64,
    /// Steady time, in milliseconds since the epoch: what waits go by. It does not jump while something waits.
    pub steady_ms: i64,
    /// The deciding process: owner of the claims it makes.
    pub owner: Owner,
    /// The server as users know it.
    pub executor: String,
    /// How many READY subtasks the decision may claim besides what the command asks for.
    pub slots: usize,
    /// The classes of step the deciding process can run.
    pub classes: Classes,
    /// How long a cancelled attempt may take to end, in milliseconds.
    pub cancel_grace_ms: i64,
}

/// A request for a move. E1…E22 are the moves of `docs/engine.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Begin an attempt (E3); a READY barrier passes at once (E4b).
    Claim {
        /// Which.
        subtask: SubtaskId,
    },
    /// An attempt succeeded (E4, E5; the end of a CANCELING one is E10).
    Finish {
        /// Which.
        subtask: SubtaskId,
        /// The attempt's fence.
        epoch: i64,
        /// What it adds to the context.
        delta: ContextDelta,
    },
    /// An attempt failed (E6, E9, E10, E17).
    Fail {
        /// Which.
        subtask: SubtaskId,
        /// The attempt's fence.
        epoch: i64,
        /// Why.
        failure: Failure,
        /// What it had found out.
        delta: ContextDelta,
    },
    /// An attempt is given up: its deadline or its cancel grace has passed (E6, E10).
    Expire {
        /// Which.
        subtask: SubtaskId,
        /// The attempt's fence.
        epoch: i64,
    },
    /// An attempt records a value.
    Checkpoint {
        /// Which.
        subtask: SubtaskId,
        /// The attempt's fence.
        epoch: i64,
        /// Key.
        key: String,
        /// Value.
        value: String,
    },
    /// Say that the deciding process cannot run READY subtasks, whose classes it does not know, and leaves them to another.
    Disclaim {
        /// Which; those that are not READY any more are passed over.
        subtasks: BTreeSet<SubtaskId>,
    },
    /// Take over what dead processes had claimed (E7, E8). That they are dead is the caller's knowledge.
    Orphan {
        /// Their incarnations.
        dead: BTreeSet<String>,
    },
    /// Give back what the deciding server holds, under whichever of its leases, because it stops or had lost the lease (E7b,
    /// E8). That its attempts have ended is the caller's knowledge.
    Release,
    /// Ask a running attempt to stop (E10).
    Cancel {
        /// Which.
        subtask: SubtaskId,
        /// Login name of the operator.
        actor: String,
    },
    /// Retry every failed subtask (E11).
    RetryTask {
        /// Login name of the operator.
        actor: String,
    },
    /// Retry one failed subtask (E11).
    RetrySubtask {
        /// Which.
        subtask: SubtaskId,
        /// Login name of the operator.
        actor: String,
    },
    /// Pass over a failed subtask (E12).
    Skip {
        /// Which.
        subtask: SubtaskId,
        /// Login name of the operator.
        actor: String,
    },
    /// Undo everything (E15).
    Rollback {
        /// Login name of the operator.
        actor: String,
    },
    /// Let nothing new begin until [`Command::Unpause`] (E19).
    Pause {
        /// Login name of the operator.
        actor: String,
    },
    /// Let a paused task go on (E20).
    Unpause {
        /// Login name of the operator.
        actor: String,
    },
    /// Ask everything that runs to stop, and begin nothing more: the task will be FAILED (E21).
    CancelTask {
        /// Login name of the operator.
        actor: String,
    },
    /// Give a FAILED task up as it stands, and free its locks (E22).
    Abandon {
        /// Login name of the operator.
        actor: String,
        /// Why, in the operator's words.
        reason: String,
    },
}

/// Why a command was refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// The subtask belongs to another task, or to none.
    #[error("the task has no subtask {0}")]
    NoSuchSubtask(SubtaskId),
    /// The attempt no longer holds its epoch.
    #[error("the attempt no longer holds its epoch")]
    Fenced,
    /// The task's state does not admit it.
    #[error("the task is {status} in operation {operation}")]
    TaskState {
        /// Where it stands.
        status: TaskStatus,
        /// What it is being made to do.
        operation: TaskOperation,
    },
    /// The task is paused or being cancelled.
    #[error("the task is {0}")]
    Halted(Halt),
    /// The task was given up for good.
    #[error("the task is abandoned")]
    Abandoned,
    /// The task went back by itself, and nothing is left of it.
    #[error("the task is rolled back")]
    RolledBack,
    /// The subtask's state does not admit it.
    #[error("the subtask is {status}")]
    SubtaskState {
        /// Where it stands.
        status: SubtaskStatus,
    },
    /// The deciding process does not know the subtask's class.
    #[error("this server does not know the class {0}")]
    UnknownClass(String),
    /// READY, but still backing off.
    #[error("the subtask is not due yet")]
    NotDue,
    /// A step that has begun rules rolling back out.
    #[error("the task must not be rolled back")]
    RollbackProhibited,
    /// The context would outgrow its limit.
    #[error("the context would outgrow its limit")]
    TooLarge,
    /// The rules contradict each other here: a fault of the engine.
    #[error("the engine's rules are at fault")]
    Broken(#[from] super::apply::Broken),
}
