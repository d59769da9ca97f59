//! A machine without an agent: what is on it, an agent put on it, and taken away again, over SSH.
//!
//! [`ssh`] logs in; it is the only place that knows how SSH is spoken, behind the trait [`Remote`]. [`Machine`] is what is
//! done through it: each act is one short script, sent to a shell on its standard input ([`script`]), so that nothing of it
//! is on a command line. An act looks first and does what is left, and ends what earlier ones for the same host still do.
//!
//! This crate makes no decisions about a fleet, and keeps nothing.

mod machine;
mod remote;
pub mod script;
pub mod ssh;

pub use machine::{Agent, Inspection, Machine, MachineError, Mark, is_place};
pub use remote::{Exit, Remote, RemoteError};
