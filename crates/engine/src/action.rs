//! What the domain implements: one [`Action`] per class of step.
//!
//! An action may be run any number of times for one subtask (a crash repeats it), so running and undoing are
//! idempotent, and undo accepts every state: never started, partly done, done, already undone. Its only way to the
//! database is what it returns: the engine commits that together with the move, if the attempt still holds its epoch.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::attempt::Attempt;
use crate::context::ContextDelta;

/// What an operator's or an automatic retry does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RetryMode {
    /// Runs it again; right for idempotent actions.
    #[default]
    RunAgain,
    /// Undoes it first, as OCP does.
    UndoThenRun,
}

/// What happens to an attempt whose server died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OnCrash {
    /// It is run again at once, up to three times in a row.
    #[default]
    Resume,
    /// It fails as INTERRUPTED.
    Fail,
}

/// What an action is; frozen into the subtask at submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Key in the registry and `className` on the wire.
    pub class_name: &'static str,
    /// Name users see.
    pub name: &'static str,
    /// Seconds per attempt; 0 is none.
    pub timeout_s: u32,
    /// Once it has begun, the task may not be rolled back.
    pub prohibit_rollback: bool,
    /// Automatic retries after a failed run (so `retries + 1` runs).
    pub retries: u32,
    /// Automatic retries after a failed undo.
    pub undo_retries: u32,
    /// Wait before the first automatic retry in milliseconds; doubles each time, up to 30 s.
    pub backoff_ms: u64,
    /// What a retry does.
    pub retry: RetryMode,
    /// What happens to an attempt whose server died.
    pub on_crash: OnCrash,
}

impl Spec {
    /// No automatic retry of the run, three of the undo, 1 s apart at first; resumed after a crash.
    pub const fn new(class_name: &'static str, name: &'static str, timeout_s: u32) -> Self {
        Self {
            class_name,
            name,
            timeout_s,
            prohibit_rollback: false,
            retries: 0,
            undo_retries: 3,
            backoff_ms: 1000,
            retry: RetryMode::RunAgain,
            on_crash: OnCrash::Resume,
        }
    }
}

/// What a successful attempt leaves behind. `C` is the domain's change type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output<C> {
    /// Context for later subtasks.
    pub delta: ContextDelta,
    /// Domain changes, committed in the same transaction as the move.
    pub changes: Vec<C>,
}

impl<C> Output<C> {
    /// Nothing to tell.
    pub fn nothing() -> Self {
        Self {
            delta: ContextDelta::new(),
            changes: Vec::new(),
        }
    }

    /// Only context.
    pub fn delta(delta: ContextDelta) -> Self {
        Self {
            delta,
            changes: Vec::new(),
        }
    }

    /// Only domain changes.
    pub fn changes(changes: Vec<C>) -> Self {
        Self {
            delta: ContextDelta::new(),
            changes,
        }
    }
}

/// Why an attempt failed, with what it had found out by then (undo and the next attempt see it).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ActionError {
    /// Object, reason and next step, for the operator.
    pub message: String,
    /// Context found out before the failure.
    pub delta: ContextDelta,
}

impl ActionError {
    /// A failure with nothing found out.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            delta: ContextDelta::new(),
        }
    }

    /// With context found out before the failure.
    #[must_use]
    pub fn with_delta(mut self, delta: ContextDelta) -> Self {
        self.delta = delta;
        self
    }
}

/// One class of step.
#[async_trait]
pub trait Action<C>: Send + Sync + 'static {
    /// What it is.
    fn spec(&self) -> Spec;

    /// Does it. Stops soon after [`Attempt::cancelled`] fires.
    async fn run(&self, attempt: &Attempt) -> Result<Output<C>, ActionError>;

    /// Takes it back, from whatever state `run` left it in.
    async fn undo(&self, _attempt: &Attempt) -> Result<Output<C>, ActionError> {
        Ok(Output::nothing())
    }

    /// Called beside a running attempt when an operator cancels it, for actions that must tell somebody else to stop.
    async fn cancel(&self, _attempt: &Attempt) -> Result<(), ActionError> {
        Ok(())
    }
}
