//! Packages from end to end: built, read, verified, extracted; damaged, hostile and random ones refused.

#![allow(clippy::unwrap_used, reason = "the helpers of tests unwrap as tests do")]

mod craft;
mod damage;
mod hostile;
mod layouts;
mod older;
mod random;
mod round_trip;
mod rpm_tool;
mod signed;
mod slots;
