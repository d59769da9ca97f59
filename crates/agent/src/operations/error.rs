//! Why an operation failed: object, reason, next step.

use std::{io, time::Duration};

use obfleet_guard::WaitError;
use obfleet_obproxy::{
    admin::AdminError, binary::BinaryError, config_store::StoreError, launch::LaunchError, preflight::Obstacles,
    stop::StopError,
};

use crate::{durable::FileError, proxies::RegistryError, slots::SlotError, units::UnitError};

/// An operation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperationError {
    /// Something is in the way of a new proxy.
    #[error("{0}")]
    InTheWay(String),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Slot(#[from] SlotError),
    #[error(transparent)]
    File(#[from] FileError),
    /// The home was moved aside.
    #[error("proxy {0} was removed from this host: restore it first")]
    Removed(i64),
    /// An order for a proxy that is there with another one.
    #[error("proxy {0} exists here with another specification: remove it first, or use another id")]
    OtherSpec(i64),
    /// A guard owns the proxy.
    #[error("proxy {proxy_id} is being restarted ({restart}): wait for the end of that restart, or revert it")]
    Restarting { proxy_id: i64, restart: String },
    /// No process.
    #[error("proxy {0} does not run: start it first")]
    NotRunning(i64),
    /// Another process has taken over while it was asked.
    #[error("proxy {0} was restarted while its configuration was read: ask again")]
    Replaced(i64),
    /// It did not start.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The preflight found something in the way.
    #[error(transparent)]
    Obstacles(#[from] Obstacles),
    /// The proxy answered with a refusal, or not at all.
    #[error("proxy {proxy_id}: {what} failed")]
    Admin {
        proxy_id: i64,
        what: &'static str,
        #[source]
        source: AdminError,
    },
    /// It cannot be adopted.
    #[error(
        "proxy {proxy_id}, which is to be taken over on port {port}, cannot be: {obstacles}; the check of the take over says what to do"
    )]
    NotAdopted {
        proxy_id: i64,
        port: u16,
        obstacles: String,
    },
    /// What looks after an adopted proxy cannot be ended or begun.
    #[error("the watchdog of proxy {proxy_id} cannot be dealt with")]
    Watchdog {
        proxy_id: i64,
        #[source]
        source: io::Error,
    },
    /// A unit of systemd that ran an adopted proxy cannot be held or given back.
    #[error("proxy {proxy_id} cannot be taken from systemd, or given back to it")]
    Unit {
        proxy_id: i64,
        #[source]
        source: UnitError,
    },
    /// A parameter was refused; those before are put back.
    #[error("proxy {proxy_id} refuses {name}; the parameters set before are as they were")]
    Parameter {
        proxy_id: i64,
        name: String,
        #[source]
        source: AdminError,
    },
    /// A parameter was refused and another could not be put back.
    #[error("proxy {proxy_id} refuses {name} ({reason}), and {left} could not be put back: set it by hand")]
    ParameterStuck {
        proxy_id: i64,
        name: String,
        reason: String,
        left: String,
    },
    /// The config server was not asked, or told something else.
    #[error(
        "proxy {proxy_id} has configuration {has} after {seconds} s, not {wanted}, which {url} should tell it every \
         {interval}: see that this host reaches that address, and log/obproxy.log, then try again"
    )]
    NoConfig {
        proxy_id: i64,
        seconds: u64,
        url: String,
        wanted: String,
        has: String,
        interval: String,
    },
    /// The password is the agent's own way in.
    #[error("{0} is not changed as a parameter: the agent itself logs in with it")]
    OwnPassword(String),
    /// A command that acts at the next tick, and did not.
    #[error("proxy {proxy_id} did not go {wanted} within {} s of the command: see its log, then try again", after.as_secs())]
    NotObeyed {
        proxy_id: i64,
        wanted: &'static str,
        after: Duration,
    },
    #[error("proxy {proxy_id} cannot be stopped")]
    Stop {
        proxy_id: i64,
        #[source]
        source: StopError,
    },
    #[error("the configuration store of proxy {proxy_id} cannot be copied")]
    Store {
        proxy_id: i64,
        #[source]
        source: StoreError,
    },
    #[error(transparent)]
    Binary(#[from] BinaryError),
    #[error("cannot look at the processes of proxy {proxy_id}")]
    Processes {
        proxy_id: i64,
        #[source]
        source: io::Error,
    },
    /// A newer attempt decides now.
    #[error("a newer attempt took over while this one {0}")]
    Superseded(&'static str),
    /// Work on a thread of its own ended early.
    #[error("the agent is shutting down: ask again")]
    ShuttingDown,
    /// The guard gave up the new process and went back.
    #[error("{0}")]
    Reverted(String),
    /// A guard without a word.
    #[error("restart {0} has not come to a decision in time: see guard.log in its directory")]
    Undecided(String),
    #[error("restart {0} is not known on this host: start it first")]
    NoRestart(String),
    /// The guard's process or its files.
    #[error("the guard of proxy {proxy_id} cannot be started or read")]
    Guard {
        proxy_id: i64,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Follow(#[from] WaitError),
    /// A name that would lead out of its directory.
    #[error("'{0}' is not a restart id: letters, digits and '-' only")]
    RestartId(String),
}
