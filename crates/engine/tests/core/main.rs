//! The pure core: searched exhaustively in small graphs, compared with a naive model in random ones.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod actors;
mod against_model;
mod creating;
mod fsck;
mod halting;
mod hand;
mod handover;
mod invariants;
mod limits;
mod model;
mod moves;
mod reasons;
mod refusals;
mod rules;
mod small_scope;
mod state;
mod support;
mod two_servers;
mod undoing_itself;
mod unknown;
