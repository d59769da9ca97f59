//! The engine's store on a real SQLite file.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod chain8;
mod conformance;
mod kill_at_every_commit;
mod support;
