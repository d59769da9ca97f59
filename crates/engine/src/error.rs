//! Why the engine refused an operation; the server turns these into OCP's codes.

use crate::core::{Broken, Reject};
use crate::state::{Halt, SubtaskId, SubtaskStatus, TaskId, TaskOperation, TaskStatus};
use crate::store::StoreError;
use crate::submission::Lock;

/// Why an operation was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No such task.
    #[error("there is no task {0}")]
    TaskNotFound(TaskId),
    /// The task has no such subtask.
    #[error("task {task} has no subtask {subtask}")]
    SubtaskNotFound {
        /// The task.
        task: TaskId,
        /// The subtask.
        subtask: SubtaskId,
    },
    /// The task's state does not admit the operation.
    #[error("task {task} is {status} in operation {operation}")]
    WrongTaskState {
        /// The task.
        task: TaskId,
        /// Where it stands.
        status: TaskStatus,
        /// What it is being made to do.
        operation: TaskOperation,
    },
    /// The task is paused or being cancelled.
    #[error("task {task} is {halt}")]
    Halted {
        /// The task.
        task: TaskId,
        /// What halts it.
        halt: Halt,
    },
    /// The task was given up for good.
    #[error("task {0} was abandoned")]
    Abandoned(TaskId),
    /// The task failed and went back by itself, for good.
    #[error("task {0} was rolled back")]
    RolledBack(TaskId),
    /// The client token was used before, for another request: the one that made this task.
    #[error("the client token made task {0} for another request")]
    TokenReused(TaskId),
    /// The subtask's state does not admit the operation.
    #[error("subtask {subtask} of task {task} is {status}")]
    WrongSubtaskState {
        /// The task.
        task: TaskId,
        /// The subtask.
        subtask: SubtaskId,
        /// Where it stands.
        status: SubtaskStatus,
    },
    /// A step that has begun, or the submission, rules rolling back out.
    #[error("task {0} must not be rolled back")]
    RollbackProhibited(TaskId),
    /// Another task holds what the submission needs; it keeps it until it is over, also while FAILED.
    #[error("{} {:?} is held by task {} ({by_name})", lock.kind, lock.name, by.0)]
    Locked {
        /// The lock.
        lock: Lock,
        /// Who holds it.
        by: TaskId,
        /// Its name.
        by_name: String,
    },
    /// The submission names an action nobody has registered.
    #[error("no action is registered for class {0}")]
    UnknownClass(String),
    /// Two registered actions have one class name.
    #[error("two actions are registered for class {0}")]
    DuplicateClass(String),
    /// The submission's context is over the limit.
    #[error("the context has {size} bytes, more than the {limit} a task may have")]
    ContextTooLarge {
        /// Bytes it has.
        size: usize,
        /// Bytes it may have.
        limit: usize,
    },
    /// A domain change of the submission cannot be applied.
    #[error("a change was refused: {0}")]
    ChangeRefused(String),
    /// The attempt no longer holds its epoch; told to attempts only.
    #[error("the attempt no longer holds its epoch")]
    Fenced,
    /// The task's context would outgrow its limit; told to attempts only.
    #[error("the context would outgrow its limit")]
    ContextFull,
    /// The wait's deadline passed; the task has not come to rest.
    #[error("task {0} did not come to rest in time")]
    WaitTimedOut(TaskId),
    /// The engine is shutting down.
    #[error("the engine is shutting down")]
    ShuttingDown,
    /// The database.
    #[error("the task store failed")]
    Store(#[source] StoreError),
    /// A rule of the engine is at fault.
    #[error("the engine's rules are at fault")]
    Broken(#[from] Broken),
}

impl EngineError {
    /// A refusal of an operator's command on a task.
    pub(crate) fn rejected(task: TaskId, subtask: Option<SubtaskId>, reject: Reject) -> Self {
        match (reject, subtask) {
            (Reject::NoSuchSubtask(subtask), _) => Self::SubtaskNotFound { task, subtask },
            (Reject::TaskState { status, operation }, _) => Self::WrongTaskState {
                task,
                status,
                operation,
            },
            (Reject::SubtaskState { status }, Some(subtask)) => Self::WrongSubtaskState { task, subtask, status },
            (Reject::Halted(halt), _) => Self::Halted { task, halt },
            (Reject::Abandoned, _) => Self::Abandoned(task),
            (Reject::RolledBack, _) => Self::RolledBack(task),
            (Reject::RollbackProhibited, _) => Self::RollbackProhibited(task),
            (Reject::UnknownClass(class_name), _) => Self::UnknownClass(class_name),
            (Reject::Broken(broken), _) => Self::Broken(broken),
            (Reject::TooLarge, _) => Self::ContextFull,
            (Reject::Fenced | Reject::NotDue | Reject::SubtaskState { .. }, _) => Self::Fenced,
        }
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Locked { lock, task, task_name } => Self::Locked {
                lock,
                by: task,
                by_name: task_name,
            },
            StoreError::Refused(reason) => Self::ChangeRefused(reason),
            other => Self::Store(other),
        }
    }
}
