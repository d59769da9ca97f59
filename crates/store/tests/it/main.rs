//! The engine's store on real databases.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;
mod touch;

mod access_keys;
mod added_hosts;
mod audit;
mod conformance;
mod contention;
mod credentials;
mod events;
mod fsck;
mod full_disk;
mod history;
mod inventory;
mod kill_at_every_commit;
mod logs;
mod lost_answers;
mod metrics;
mod migrations;
mod ob_clusters;
mod outages;
mod parameters;
mod replica;
mod servers;
mod sessions;
mod silence;
mod sites;
mod skew;
mod take_over;
mod unreadable;
mod users;
