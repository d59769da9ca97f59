//! The running engine on a store in memory, with actions in process.

mod faults;
mod flows;
mod restarts;
mod stopping;
mod support;
