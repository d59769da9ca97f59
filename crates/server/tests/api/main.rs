//! The API of a running server: a real database, engine and fleet, with agents that only say yes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access_keys;
mod audit;
mod chains;
mod clusters;
mod config_server;
mod contract;
mod credentials;
mod diagnosis;
mod enrolment;
mod errors;
mod events;
mod fake_agent;
mod full_disk;
mod hosts;
mod idempotency;
mod limits;
mod links;
mod load_balance;
mod login;
mod monitor;
mod ob_clusters;
mod operations;
mod packages;
mod parameters;
mod passwords;
mod proxy_logs;
mod renewal;
mod restart;
mod rights;
mod secrets;
mod servers;
mod sessions;
mod shape;
mod shared;
mod signing;
mod sites;
mod skew;
mod support;
mod take_over;
mod task_events;
mod task_operations;
mod tasks;
mod tls;
mod users;
