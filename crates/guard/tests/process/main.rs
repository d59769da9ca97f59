//! Restarts of real processes: stand-in proxies, restarted by guards that are processes of their own.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod back;
mod cold;
mod forward;
mod itself;
mod lab;
mod proxy;
mod recovery;
