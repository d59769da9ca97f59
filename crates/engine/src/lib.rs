//! The durable engine that runs tasks: graphs of steps that survive the death of the process at any instruction, can be
//! retried, skipped, cancelled and rolled back, and look on the wire like OCP's.
//!
//! Rooms, in the order of a task's life: a [`template`] and a [`submission`] describe it; [`core`] holds every rule, pure;
//! [`store`] is what a database must do; [`engine`] claims subtasks and runs [`action`]s, each of which sees an
//! [`attempt`]; [`view`] is what users get to see. The domain's change type `C` is opaque here: actions return changes,
//! the store applies them in the transaction that records the step.

pub mod action;
pub mod attempt;
pub mod barrier;
pub mod context;
pub mod core;
pub mod engine;
pub mod error;
pub mod registry;
pub mod state;
pub mod store;
pub mod submission;
pub mod template;
#[cfg(feature = "testing")]
pub mod testing;
pub mod view;

pub use action::{Action, ActionError, OnCrash, Output, RetryMode, Spec};
pub use attempt::{Attempt, AttemptFacts, AttemptKey, AttemptSink, CheckpointError};
pub use context::{Context, ContextDelta};
pub use engine::{Engine, NoPeers, Notice, Options, Peers, Sharing, WallClock};
pub use error::EngineError;
pub use registry::Registry;
pub use state::{
    Cause, Failure, Halt, Outcome, Owner, SubtaskId, SubtaskOperation, SubtaskStatus, TaskId, TaskOperation, TaskState,
    TaskStatus, TaskType, WayOut,
};
pub use store::{Page, SortKey, Store, StoreError, TaskFilter};
pub use submission::{Lock, Submission};
pub use template::{NodeRef, Template, TemplateBuilder, TemplateError};
pub use view::{SubtaskView, TaskView};
