//! The running engine on a store in memory, with actions in process.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod clock;
mod faults;
mod flows;
mod halting;
mod link;
mod restarts;
mod servers;
mod site;
mod skew;
mod stopping;
mod support;
