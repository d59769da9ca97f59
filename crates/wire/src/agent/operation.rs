//! What an agent can be asked to do.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::AttemptKey;
#[cfg(doc)]
use super::{AgentStatus, Outcome};
use crate::version::ProxyVersion;

/// Starts an operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OperationRequest {
    /// Its name.
    pub key: AttemptKey,
    /// The fence: the subtask's epoch.
    pub epoch: i64,
    /// What to do.
    pub operation: Operation,
}

/// What an agent can be asked to do. Every operation may be repeated: it looks first and does what is left to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Operation {
    /// Fails when anything is in the way of a new proxy: its home, its ports, a process in its home.
    CheckAbsent {
        /// The proxy to be.
        spec: ProxySpec,
    },
    /// Verifies the stored package and extracts it to a slot. → [`Outcome::Slot`]
    InstallPackage {
        /// SHA-256 of the package file, hexadecimal; the file must have been put before.
        sha256: String,
        /// The version it must have.
        version: ProxyVersion,
    },
    /// Removes a slot no proxy uses.
    RemoveSlot {
        /// Its version.
        version: ProxyVersion,
    },
    /// Makes the proxy's home from a slot, starts it and waits until root@proxysys can log in. → [`Outcome::Proxy`]
    CreateProxy {
        /// The proxy.
        spec: ProxySpec,
        /// The slot to run.
        version: ProxyVersion,
    },
    /// Starts the proxy if it does not run, and waits until it serves → [`Outcome::Proxy`]; or leaves that to the
    /// supervisor.
    StartProxy {
        /// The proxy.
        proxy_id: i64,
        /// Whether to wait. Otherwise it is only noted that the proxy ought to run.
        #[serde(default = "yes")]
        wait: bool,
    },
    /// Stops the proxy after draining it; it stays so until it is started.
    StopProxy {
        /// The proxy.
        proxy_id: i64,
        /// How.
        drain: DrainPolicy,
    },
    /// Ends the proxy's process, if there is one, after draining it, and starts another, also where it was down or does not
    /// answer. All attempts of one subtask together do so once. → [`Outcome::Proxy`]
    CycleProxy {
        /// The proxy.
        proxy_id: i64,
        /// How the process that goes is drained.
        drain: DrainPolicy,
    },
    /// Waits until root@proxysys can log in. → [`Outcome::Proxy`]
    AwaitServing {
        /// The proxy.
        proxy_id: i64,
        /// Milliseconds to wait at most.
        limit_ms: u64,
    },
    /// Tells load balancers, which ask `proxy_status()`, to send new connections or to keep away. Nobody is refused either
    /// way, and a new process is online.
    SetOnline {
        /// The proxy.
        proxy_id: i64,
        /// Whether they may come.
        online: bool,
        /// A proxy that cannot be asked is left as it is; otherwise that is a failure.
        #[serde(default)]
        best_effort: bool,
    },
    /// Stops the proxy and moves its home aside.
    RemoveProxy {
        /// The proxy.
        proxy_id: i64,
        /// How its sessions end.
        drain: DrainPolicy,
    },
    /// Undoes [`Operation::RemoveProxy`]: moves the home back, if it was moved, and starts the proxy → [`Outcome::Proxy`];
    /// or leaves that to others.
    RestoreProxy {
        /// The proxy.
        proxy_id: i64,
        /// Whether to start it.
        #[serde(default = "yes")]
        start: bool,
    },
    /// Deletes what [`Operation::CreateProxy`] made, whatever of it is there.
    DiscardProxy {
        /// The proxy.
        proxy_id: i64,
    },
    /// Makes a proxy that somebody else started one of the agent's, where it lies and as it runs: its home stays its home, and
    /// a slot is made of what it runs. It is not supervised yet. → [`Outcome::Proxy`]
    AdoptProxy {
        /// The proxy, by its SQL port.
        spec: ProxySpec,
        /// Passwords that root@proxysys may have, tried in this order.
        passwords: Vec<String>,
    },
    /// Gives a proxy up, which goes on as it is. [`Operation::RestoreProxy`] undoes it, unless it is for good.
    ReleaseProxy {
        /// The proxy.
        proxy_id: i64,
        /// Whether nothing is kept of it.
        for_good: bool,
    },
    /// Ends what would start an adopted proxy again, and supervises it from then on.
    RetireWatchdogs {
        /// The proxy.
        proxy_id: i64,
    },
    /// Undoes [`Operation::RetireWatchdogs`]: what looked after the proxy when it was adopted does so again.
    ReviveWatchdogs {
        /// The proxy.
        proxy_id: i64,
    },
    /// Gives root@proxysys the password that an adopted proxy came with.
    RestoreSysPassword {
        /// The proxy.
        proxy_id: i64,
    },
    /// Turns crash restart on or off.
    Supervise {
        /// The proxy.
        proxy_id: i64,
        /// Whether a proxy that dies is started again.
        on: bool,
    },
    /// Sets parameters by SQL; when one is refused, those set before are put back.
    SetParameters {
        /// The proxy.
        proxy_id: i64,
        /// Names and values.
        values: Vec<(String, String)>,
    },
    /// Gives a running proxy another password of root@proxysys, with which the agent logs in from then on.
    SetSysPassword {
        /// The proxy.
        proxy_id: i64,
        /// The password in clear text.
        password: String,
    },
    /// Reads what runs. → [`Outcome::Proxy`]
    Inspect {
        /// The proxy.
        proxy_id: i64,
    },
    /// Reads what the proxy has from its config server. → [`Outcome::Config`]
    InspectConfig {
        /// The proxy.
        proxy_id: i64,
    },
    /// Has the proxy ask its config server again, and waits until it holds this version and these clusters.
    /// → [`Outcome::Config`]
    RefreshConfig {
        /// The proxy.
        proxy_id: i64,
        /// The version it is to have.
        version: String,
        /// The OceanBase clusters it is to know, and no others.
        clusters: Vec<String>,
        /// Whether it asks for the root servers of the clusters as well.
        root_servers: bool,
    },
    /// Checks everything a restart onto the slot needs, running the new binary in the scrubbed environment. → [`Outcome::Preflight`]
    Preflight {
        /// The proxy.
        proxy_id: i64,
        /// The slot to go to.
        version: ProxyVersion,
        /// Hot, or drain and start.
        method: RestartMethod,
    },
    /// Copies the proxy's configuration store aside and makes it readable for the target version.
    BackupConfig {
        /// The proxy.
        proxy_id: i64,
        /// The version it is to run.
        version: ProxyVersion,
    },
    /// Swaps the binary and restarts the proxy, up to the verdict on the new process. A failure has been undone when
    /// it is reported. → [`Outcome::Restarted`]
    Restart {
        /// The proxy.
        proxy_id: i64,
        /// Names the restart for [`Operation::AwaitRestart`] and [`Operation::RevertRestart`]: letters, digits, `-`.
        restart_id: String,
        /// The slot to go to.
        version: ProxyVersion,
        /// Hot, or drain and start.
        method: RestartMethod,
        /// How the old process is drained.
        drain: DrainPolicy,
        /// Query to send through the new process before the old one is let go.
        probe: Option<ProbeQuery>,
    },
    /// Waits until the old process of a restart is gone. → [`Outcome::Drained`]
    AwaitRestart {
        /// The proxy.
        proxy_id: i64,
        /// The restart.
        restart_id: String,
    },
    /// Goes back to the binary that ran before the restart, from wherever the restart stands. → [`Outcome::Proxy`]
    RevertRestart {
        /// The proxy.
        proxy_id: i64,
        /// The restart.
        restart_id: String,
        /// How sessions of the process that goes are drained.
        drain: DrainPolicy,
        /// Query to send through the process that serves in the end, where the way back is a restart of its own.
        #[serde(default)]
        probe: Option<ProbeQuery>,
    },
}

fn yes() -> bool {
    true
}

impl Operation {
    /// The names of all operations, as an agent lists them in [`AgentStatus::operations`].
    pub const NAMES: [&'static str; 28] = [
        "checkAbsent",
        "installPackage",
        "removeSlot",
        "createProxy",
        "startProxy",
        "stopProxy",
        "cycleProxy",
        "awaitServing",
        "setOnline",
        "removeProxy",
        "restoreProxy",
        "discardProxy",
        "adoptProxy",
        "releaseProxy",
        "retireWatchdogs",
        "reviveWatchdogs",
        "restoreSysPassword",
        "supervise",
        "setParameters",
        "setSysPassword",
        "inspect",
        "inspectConfig",
        "refreshConfig",
        "preflight",
        "backupConfig",
        "restart",
        "awaitRestart",
        "revertRestart",
    ];

    /// Its name: the `kind` of its JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CheckAbsent { .. } => "checkAbsent",
            Self::InstallPackage { .. } => "installPackage",
            Self::RemoveSlot { .. } => "removeSlot",
            Self::CreateProxy { .. } => "createProxy",
            Self::StartProxy { .. } => "startProxy",
            Self::StopProxy { .. } => "stopProxy",
            Self::CycleProxy { .. } => "cycleProxy",
            Self::AwaitServing { .. } => "awaitServing",
            Self::SetOnline { .. } => "setOnline",
            Self::RemoveProxy { .. } => "removeProxy",
            Self::RestoreProxy { .. } => "restoreProxy",
            Self::DiscardProxy { .. } => "discardProxy",
            Self::AdoptProxy { .. } => "adoptProxy",
            Self::ReleaseProxy { .. } => "releaseProxy",
            Self::RetireWatchdogs { .. } => "retireWatchdogs",
            Self::ReviveWatchdogs { .. } => "reviveWatchdogs",
            Self::RestoreSysPassword { .. } => "restoreSysPassword",
            Self::Supervise { .. } => "supervise",
            Self::SetParameters { .. } => "setParameters",
            Self::SetSysPassword { .. } => "setSysPassword",
            Self::Inspect { .. } => "inspect",
            Self::InspectConfig { .. } => "inspectConfig",
            Self::RefreshConfig { .. } => "refreshConfig",
            Self::Preflight { .. } => "preflight",
            Self::BackupConfig { .. } => "backupConfig",
            Self::Restart { .. } => "restart",
            Self::AwaitRestart { .. } => "awaitRestart",
            Self::RevertRestart { .. } => "revertRestart",
        }
    }
}

/// A proxy as its host must run it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxySpec {
    /// The server's id of the proxy.
    pub proxy_id: i64,
    /// Name of its proxy cluster.
    pub cluster_name: String,
    /// SQL port.
    pub sql_port: u16,
    /// Metrics port.
    pub exporter_port: u16,
    /// OBKV port.
    pub rpc_port: Option<u16>,
    /// Name of the OceanBase cluster behind.
    pub ob_cluster: Option<String>,
    /// Root servers, `ip:sqlport`.
    pub root_servers: Vec<String>,
    /// Parameters of the first start.
    pub parameters: Vec<(String, String)>,
    /// Password of root@proxysys in clear text; the agent keeps it in a file only it can read.
    pub sys_password: String,
}

/// How a binary is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RestartMethod {
    /// By OBProxy's hot restart: no connection is refused.
    Hot,
    /// Drain, stop, start: for versions before 3.2.1.
    Cold,
}

/// How sessions of a process that is to go are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainPolicy {
    /// Milliseconds a transaction may take: one that has lasted longer when this time is over is listed and cut.
    pub window_ms: u64,
    /// Sessions between transactions that are closed per second, at most, until the window is over.
    pub closes_per_second: u32,
}

/// A query through a proxy.
#[derive(Clone, Serialize, Deserialize)]
pub struct ProbeQuery {
    /// User as a client gives it.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The query.
    pub sql: String,
}

impl fmt::Debug for ProbeQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeQuery")
            .field("user", &self.user)
            .field("sql", &self.sql)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_json() {
        let drain = DrainPolicy {
            window_ms: 0,
            closes_per_second: 1,
        };
        for operation in [
            Operation::Inspect { proxy_id: 1 },
            Operation::RemoveProxy { proxy_id: 1, drain },
            Operation::CycleProxy { proxy_id: 1, drain },
            Operation::AwaitServing {
                proxy_id: 1,
                limit_ms: 1,
            },
            Operation::SetOnline {
                proxy_id: 1,
                online: true,
                best_effort: false,
            },
            Operation::RevertRestart {
                proxy_id: 1,
                restart_id: "r".into(),
                drain,
                probe: None,
            },
        ] {
            assert!(Operation::NAMES.contains(&operation.name()));
            assert_eq!(serde_json::to_value(&operation).unwrap()["kind"], operation.name());
        }
    }

    #[test]
    fn a_server_of_an_earlier_release_means_what_it_meant() {
        let read = |json| serde_json::from_value::<Operation>(json).unwrap();
        let start = read(serde_json::json!({"kind": "startProxy", "proxyId": 1}));
        assert!(matches!(start, Operation::StartProxy { wait: true, .. }));
        let restore = read(serde_json::json!({"kind": "restoreProxy", "proxyId": 1}));
        assert!(matches!(restore, Operation::RestoreProxy { start: true, .. }));
    }
}
