//! A proxy that somebody else installed, looked at closely before it is taken over.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{FoundProxy, ProxyParameters, StartMethod};
use crate::{obproxy::WorkMode, version::ProxyVersion};

/// Body of `POST /v1/obproxies/examination`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExamineRequest {
    /// The SQL port it serves on.
    pub sql_port: u16,
    /// Passwords that root@proxysys may have, tried in this order.
    pub passwords: Vec<String>,
}

impl fmt::Debug for ExamineRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExamineRequest")
            .field("sql_port", &self.sql_port)
            .finish_non_exhaustive()
    }
}

/// What was found on the port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Examination {
    /// The proxy, if there is exactly one.
    pub proxy: Option<FoundProxy>,
    /// What it is configured with, if root@proxysys was let in.
    pub parameters: Option<ProxyParameters>,
    /// What stands in the way, as far as the host can tell.
    pub obstacles: Vec<Obstacle>,
}

/// Something that keeps a proxy from being taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
pub enum Obstacle {
    /// No proxy serves on the port.
    NotRunning {
        /// The port.
        port: u16,
    },
    /// Proxies of several homes serve on the port, on different addresses.
    SeveralCandidates {
        /// The port.
        port: u16,
        /// Their pids.
        pids: Vec<i32>,
    },
    /// The agent has it already.
    Managed {
        /// The server's id of it.
        proxy_id: i64,
    },
    /// It runs as a user whose processes the agent may not look at and signal.
    AnotherUser {
        /// The user.
        user: String,
        /// Its pid.
        pid: i32,
    },
    /// The agent cannot write to its home.
    NotWritable {
        /// The directory.
        path: String,
    },
    /// Its configuration belongs to another user than it runs as: started again, it would run as that one.
    OtherOwner {
        /// The user of the process.
        user: String,
        /// The file.
        path: String,
    },
    /// It lives in a container.
    Container {
        /// Its pid.
        pid: i32,
    },
    /// It keeps its files elsewhere than in its working directory.
    OtherRoot {
        /// Where.
        root: String,
    },
    /// It was not called as `bin/obproxy` of its home, which is what a hot restart runs.
    CalledElsewhere {
        /// How it was called.
        argv0: String,
    },
    /// A hot restart, or the drain after one, is under way.
    Restarting {
        /// Its processes.
        pids: Vec<i32>,
    },
    /// A process that may start it again is none that is known.
    UnknownWatchdog {
        /// Its pid.
        pid: i32,
        /// The program and the script it runs.
        command: String,
    },
    /// A unit of systemd runs it, which only an agent of root's could keep from it.
    SystemdUnit {
        /// The unit.
        unit: String,
    },
    /// A file system lacks the room for a second executable.
    NoRoom {
        /// Where.
        path: String,
        /// MiB that are needed.
        needed: u64,
        /// MiB that are free.
        free: u64,
    },
    /// It sees the agent come from an address it lets no root@proxysys in from.
    SourceNotLetIn {
        /// The address.
        source: String,
    },
    /// It turned root@proxysys away.
    WrongPassword,
    /// It does not answer as a proxy does.
    NoAnswer {
        /// What happened.
        reason: String,
    },
    /// Its executable does not tell its version.
    VersionUnknown,
    /// It is too old.
    VersionTooLow {
        /// Its version.
        version: ProxyVersion,
        /// The least.
        least: String,
    },
    /// It is of another major version than the cluster.
    OtherFamily {
        /// Its version.
        version: ProxyVersion,
        /// A version of the cluster.
        cluster: ProxyVersion,
    },
    /// It finds its OceanBase servers another way than the cluster's proxies.
    OtherWorkMode {
        /// The way of the cluster.
        cluster: WorkMode,
    },
    /// It serves an OceanBase cluster that its proxy cluster is not linked to.
    OtherObCluster {
        /// The OceanBase cluster's name.
        serves: String,
    },
    /// It has its metrics on another port, or on none that is known.
    ExporterPort {
        /// The port it has.
        has: Option<u16>,
        /// The port that was asked for.
        asked: Option<u16>,
    },
    /// It has its OBKV service on another port.
    RpcPort {
        /// The port it has.
        has: Option<u16>,
        /// The port that was asked for.
        asked: u16,
    },
    /// The fleet has another proxy on a port of this one.
    PortInUse {
        /// The port.
        port: u16,
        /// The server's id of the other one.
        proxy_id: i64,
    },
}

/// Something to know before a proxy is taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
pub enum Caution {
    /// A table of cron speaks of it.
    Cron {
        /// The table.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// The tool that started it goes on thinking that it has it.
    StartedBy {
        /// The tool.
        tool: StartMethod,
    },
    /// The file at its path is another one than it runs.
    ExecutableReplaced {
        /// The path.
        path: String,
    },
    /// It cannot be restarted hot.
    NoHotRestart {
        /// Its version.
        version: ProxyVersion,
    },
}
