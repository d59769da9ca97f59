//! The rules of the engine, pure: no I/O, no clock, no randomness, no runtime.
//!
//! [`decide`] takes a [`TaskState`](crate::TaskState) and a [`Command`] and answers with the events that follow and the
//! state after them, or a [`Reject`]. [`apply`] is the only code that changes a state, one [`Event`] at a time, so that
//! the fold of a task's events always equals its rows; [`fsck`] checks just that, and [`check_invariants`] what holds of
//! rows by themselves. Whatever follows from a move without
//! anybody's doing (successors READY, barriers passing, claims, the task coming to rest) is decided in the same step.

mod apply;
mod classes;
mod command;
mod create;
mod decide;
mod event;
mod fsck;
mod halt;
mod invariants;
mod ledger;
mod settle;
mod ways_out;

pub use apply::{Broken, apply};
pub use classes::Classes;
pub use command::{Command, Env, Reject};
pub use create::{Draft, DraftNode};
pub use decide::{Decision, MAX_CRASHES, decide};
pub use event::{Change, Event};
pub use fsck::{Finding, fsck};
pub use invariants::check_invariants;
pub use ways_out::ways_out;
