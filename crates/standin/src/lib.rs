//! A stand-in OBProxy process, so that a fleet can be upgraded for real where no OBProxy is at hand.
//!
//! A copy of an executable that calls [`is_standin`] first, with a [`Trailer`] appended by [`pack`], behaves like the `obproxy` of
//! the trailer's version: command line, files, admin SQL, signals and above all the hot restart. Sessions of ordinary users are
//! relayed to the MySQL-protocol server of `rootservice_list`, or, where a config server tells of clusters, of the one they name.
//! It signals nobody but its parent and its child.
//!
//! One process, read from the top: `start` → `proxy` (what everything shares) → `lifecycle` (ticks and signals, deciding with
//! `hot_restart`) and `session` (one client: `admin`, `relay` or `fake_backend`).
//!
//! [`foreign`] starts a stand-in the way other tools start a proxy, watchdogs and all.
//!
//! One rule of the real proxy is left out on purpose: it refuses to start on a host that has only a loopback address.

mod admin;
mod config;
mod config_server;
mod fake_backend;
mod faults;
pub mod foreign;
mod home;
mod hot_restart;
mod inherited;
mod lifecycle;
mod listen;
mod log;
mod metrics;
mod moment;
mod options;
pub mod ports;
mod proxy;
mod relay;
mod session;
mod sessions;
mod start;
mod store;
mod trailer;

pub use faults::Faults;
pub use start::main;
pub use trailer::{Trailer, is_standin, pack};
