//! The agent as a process of its own, with stand-in proxies, called as the server calls it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod authority;
mod certificate;
mod foreign;
mod host;

mod discovery;
mod enrolment;
mod health;
mod lifecycle;
mod logs;
mod metrics;
mod operate;
mod packages;
mod parameters;
mod preflight;
mod restart;
mod restart_papers;
mod sys_password;
mod take_over;
