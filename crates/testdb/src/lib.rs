//! Real databases in processes of their own: under the state of servers in tests, and behind a fleet's proxies where more
//! than a built-in database is wanted.
//!
//! A database ends with its value, and with the process that started it however that ends. Tests of one executable share
//! one by [`shared`], each with a schema of its own. Both give the user `root` with an empty password over TCP, which is
//! what a stand-in proxy logs in with. Neither is part of obfleet: a program that is missing is an error that says who
//! installs it.
//!
//! What a database has on disk outlives its process: it can be killed and started again, and stopped for a while.

mod database;
mod keeper;
mod programs;
pub mod shared;

pub use database::{Database, folder};
pub use programs::SEEKDB_VARIABLE;
