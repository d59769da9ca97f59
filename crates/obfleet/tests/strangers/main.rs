//! Who comes from outside, to a fleet of real processes: a client written from the documentation alone, and every command
//! of the command line.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod commands;
mod desk;
mod signer;

/// The executable.
const EXE: &str = env!("CARGO_BIN_EXE_obfleet");
/// Seconds that transactions on an old process get.
const DRAIN_WINDOW_S: u64 = 5;
