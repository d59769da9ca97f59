//! Hosts that get their agents over SSH: machines on which root's agents are run by a systemd or by a script of their own.

#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

mod bare;
mod lab;
mod systemd;
