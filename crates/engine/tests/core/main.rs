//! The pure core: searched exhaustively in small graphs, compared with a naive model in random ones.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod actors;
mod against_model;
mod halting;
mod hand;
mod model;
mod rules;
mod small_scope;
mod support;
mod two_servers;
