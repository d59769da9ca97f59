//! Proxies that run on a host, whoever installed and started them.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::version::ProxyVersion;

/// What runs in one home: one proxy, or two of its processes while it restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundProxy {
    /// Where tables of cron speak of it.
    pub cron_entries: Vec<CronEntry>,
    /// Metrics port, if the proxy listens on the one it is configured for.
    pub exporter_port: Option<u16>,
    /// Its working directory; `None` when the agent may not look at it.
    pub home: Option<String>,
    /// Whether the agent owns it.
    pub managed: bool,
    /// Name of the OceanBase cluster it is configured for, where root servers are listed.
    pub ob_cluster: Option<String>,
    /// The server's id of it, if it is managed.
    pub obproxy_server_id: Option<i64>,
    /// Where its executable came from, by its path.
    pub package_layout: PackageLayout,
    /// Its processes, the oldest first.
    pub processes: Vec<FoundProcess>,
    /// Whether its processes are parent and child: a hot restart, or the drain after one.
    pub restarting: bool,
    /// OBKV port, if it listens on the one it is configured for.
    pub rpc_port: Option<u16>,
    /// SQL port.
    pub sql_port: Option<u16>,
    /// Who started it, as far as that left traces.
    pub start_method: StartMethod,
    /// Login name of the user it runs as, or the number of one without a name.
    pub user: String,
    /// What the executable that runs says of itself; `None` when it cannot be run here.
    pub version: Option<ProxyVersion>,
    /// What would start it again.
    pub watchdogs: Vec<FoundWatchdog>,
}

/// A process of a proxy. Of its command line only the first word is told: options may hold password hashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundProcess {
    /// How it was called.
    pub argv0: String,
    /// Whether it has its own pids or mounts: it lives in a container.
    pub container: bool,
    /// Its executable when it started; `None` when the agent may not look at it.
    pub executable: Option<String>,
    /// Whether that path holds another file now, or none.
    pub executable_replaced: bool,
    /// Where it listens.
    pub listening: Vec<SocketAddr>,
    /// Its parent.
    pub parent_pid: i32,
    /// Its pid.
    pub pid: i32,
    /// `OBPROXY_ROOT`, where it is set to another directory than the working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
}

/// A line of a table of cron. It is not quoted: it may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CronEntry {
    /// The table.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

/// Who started a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StartMethod {
    /// This agent.
    Obfleet,
    /// A unit of systemd.
    Systemd,
    /// OceanBase Deployer: it leaves `run/obproxy-<ip>-<port>.pid`.
    Obd,
    /// obshell: it leaves `run/obproxy.pid`.
    Obshell,
    /// The script of the package.
    Obproxyd,
    /// A person, or something that leaves no trace.
    ByHand,
}

/// Where an executable lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PackageLayout {
    /// `/home/admin/obproxy-<version>`, as packages have it.
    RpmAdmin,
    /// `/opt/taobao/install/obproxy-<version>`, as older packages have it.
    RpmTaobao,
    /// `bin/obproxy` is a link out of the home, to a repository of versions.
    Linked,
    /// `bin/obproxy` in the home.
    Plain,
}

/// The drop-in that keeps a unit of systemd from starting or ending its proxy: by its name the last of all.
pub const HOLDING_DROP_IN: &str = "zz-obfleet.conf";

/// Something that would start a proxy again when it dies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    into = "ToldWatchdog",
    rename_all = "SCREAMING_SNAKE_CASE",
    rename_all_fields = "camelCase"
)]
pub enum FoundWatchdog {
    /// The loop that OceanBase Deployer leaves: `obproxyd.sh <home> <ip> <port>`.
    Obd {
        /// Its pid.
        pid: i32,
        /// The script.
        script: String,
    },
    /// The loop of the package's script.
    Obproxyd {
        /// Its pid.
        pid: i32,
        /// The script.
        script: String,
    },
    /// A unit whose main process the proxy is, or that starts it.
    Systemd {
        /// The unit.
        unit: String,
        /// Whether systemd starts it again when it fails.
        restarts: bool,
        /// Whether it is started at boot.
        enabled: bool,
    },
    /// A process that speaks of the home, or the parent that the proxy did not leave: it may be one.
    Unknown {
        /// Its pid.
        pid: i32,
        /// The program and the script it runs.
        command: String,
    },
}

/// Members in alphabetical order, which a tag that comes first would not leave them in.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldWatchdog {
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restarts: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    script: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
}

impl From<FoundWatchdog> for ToldWatchdog {
    fn from(found: FoundWatchdog) -> Self {
        let of_loop = |kind, pid, script| Self {
            kind,
            pid: Some(pid),
            script: Some(script),
            ..Self::default()
        };
        match found {
            FoundWatchdog::Obd { pid, script } => of_loop("OBD", pid, script),
            FoundWatchdog::Obproxyd { pid, script } => of_loop("OBPROXYD", pid, script),
            FoundWatchdog::Systemd {
                unit,
                restarts,
                enabled,
            } => Self {
                enabled: Some(enabled),
                kind: "SYSTEMD",
                restarts: Some(restarts),
                unit: Some(unit),
                ..Self::default()
            },
            FoundWatchdog::Unknown { pid, command } => Self {
                command: Some(command),
                kind: "UNKNOWN",
                pid: Some(pid),
                ..Self::default()
            },
        }
    }
}

impl FoundWatchdog {
    /// Its process, if it has one.
    pub fn pid(&self) -> Option<i32> {
        match self {
            Self::Obd { pid, .. } | Self::Obproxyd { pid, .. } | Self::Unknown { pid, .. } => Some(*pid),
            Self::Systemd { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchdogs_are_read_as_they_are_told_with_their_members_in_order() {
        let text = || "x".to_owned();
        for (found, told) in [
            (
                FoundWatchdog::Obd { pid: 7, script: text() },
                r#"{"kind":"OBD","pid":7,"script":"x"}"#,
            ),
            (
                FoundWatchdog::Obproxyd { pid: 7, script: text() },
                r#"{"kind":"OBPROXYD","pid":7,"script":"x"}"#,
            ),
            (
                FoundWatchdog::Systemd {
                    unit: text(),
                    restarts: true,
                    enabled: false,
                },
                r#"{"enabled":false,"kind":"SYSTEMD","restarts":true,"unit":"x"}"#,
            ),
            (
                FoundWatchdog::Unknown {
                    pid: 7,
                    command: text(),
                },
                r#"{"command":"x","kind":"UNKNOWN","pid":7}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&found).unwrap(), told);
            assert_eq!(serde_json::from_str::<FoundWatchdog>(told).unwrap(), found);
        }
    }
}
