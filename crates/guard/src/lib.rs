//! One restart of a proxy onto another binary, run to its end by a small detached process of its own, the *guard*.
//!
//! During a hot restart one admin session to the old process, the *keeper*, holds the way back open: when it closes,
//! the old process leaves within a second. It must outlive the agent, so it lives in a process nobody ends. The guard
//! swaps the file, orders the restart, judges the new process, empties the old one, and commits or goes back, all
//! alone; the agent starts it, attaches to it again at any time, and may call it back.
//!
//! ```text
//! run ── prepare ── hot ── judge ── conclude ── release      the way there
//!           └────────┴───────┴─────────┴──► back ── settle   the way back, from every step
//! recover ──────────────────────────► conclude or back       another guard died
//! ```
//!
//! All that a restart leaves on disk is in its directory: `plan.json`, `state.json` (replaced before each step),
//! `log`, `control.sock`, `lock`, `guard.log` (what should never be written).

mod back;
mod conclude;
mod control;
mod daemon;
mod durable;
mod files;
mod handle;
mod hot;
mod judge;
mod knobs;
mod log;
mod plan;
mod prepare;
mod recover;
mod release;
mod restart;
mod run;
mod settle;
mod state;

pub use daemon::{main, main_observed};
pub use handle::{Handle, RevertError, WaitError, owns, recover, start};
pub use plan::Plan;
pub use state::{Before, Phase, State, Verdict};
