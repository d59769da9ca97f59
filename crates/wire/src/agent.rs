//! The contract between server and host agent: HTTPS with mutual TLS, JSON bodies, served by the agent.
//!
//! | route | does |
//! |---|---|
//! | `GET /v1/status` | [`AgentStatus`] |
//! | `HEAD, PUT /v1/packages/{sha256}` | asks for, or stores, a package file |
//! | `POST /v1/operations` | starts an [`OperationRequest`], or attaches to it when its key is known |
//! | `GET /v1/operations/{key}?from=N&waitMs=M` | [`OperationReport`]: log lines from line N on, and the state; waits up to M ms for news |
//! | `POST /v1/fence` | [`Fence`]: refuses every lower epoch from now on, breaks off or waits out what earlier attempts began |
//!
//! An operation is named by its [`AttemptKey`]: what was done under a key is never done twice, its stored result is
//! answered instead. Only a failure is no answer to a higher epoch: an undo that is tried again keeps its name. A request
//! with a lower epoch than the subtask's highest is refused with 409 and [`AgentError::Fenced`].
//!
//! The one call the other way is the enrolment, `POST /api/v2/compute/agents/enrol` on the server: [`EnrolRequest`].

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{time::Timestamp, version::ProxyVersion};

/// Names one attempt of one subtask for ever, within one installation and era.
///
/// Written as `installation.era.task.subtask.OPERATION.run`; none of the parts contains a dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AttemptKey {
    /// Random id of the server's database.
    pub installation: String,
    /// Raised when the database is restored from a backup.
    pub era: u64,
    /// The task.
    pub task: i64,
    /// The subtask.
    pub subtask: i64,
    /// EXECUTE, RETRY, ROLLBACK; one attempt may send several operations, told apart by a suffix such as `EXECUTE-2`.
    pub operation: String,
    /// The subtask's run_time.
    pub run: i64,
}

/// The text is not an attempt key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an attempt key")]
pub struct AttemptKeyError(pub String);

impl fmt::Display for AttemptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            installation,
            era,
            task,
            subtask,
            operation,
            run,
        } = self;
        write!(f, "{installation}.{era}.{task}.{subtask}.{operation}.{run}")
    }
}

impl FromStr for AttemptKey {
    type Err = AttemptKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut parts = text.split('.');
            let word = |part: &str| {
                let ok = !part.is_empty()
                    && part
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
                ok.then(|| part.to_owned())
            };
            let key = Self {
                installation: word(parts.next()?)?,
                era: parts.next()?.parse().ok()?,
                task: parts.next()?.parse().ok()?,
                subtask: parts.next()?.parse().ok()?,
                operation: word(parts.next()?)?,
                run: parts.next()?.parse().ok()?,
            };
            parts.next().is_none().then_some(key)
        };
        parse().ok_or_else(|| AttemptKeyError(text.to_owned()))
    }
}

impl TryFrom<String> for AttemptKey {
    type Error = AttemptKeyError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<AttemptKey> for String {
    fn from(key: AttemptKey) -> Self {
        key.to_string()
    }
}

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

/// A new attempt of a subtask takes over, before it touches anything: epochs below its own are refused, and what earlier
/// attempts began is broken off or waited out. What the attempt itself began under a lower epoch goes on: its server was
/// replaced, or it is an undo that is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// Installation and era of the caller.
    pub installation: String,
    /// See [`AttemptKey::era`].
    pub era: u64,
    /// The task.
    pub task: i64,
    /// The subtask.
    pub subtask: i64,
    /// EXECUTE, RETRY or ROLLBACK: the first word of the [`AttemptKey::operation`] of all that the attempt asks for.
    pub attempt: String,
    /// See [`AttemptKey::run`].
    pub run: i64,
    /// The lowest epoch still let in.
    pub epoch: i64,
}

impl Fence {
    /// Whether the operation belongs to the attempt that fences.
    pub fn is_own(&self, key: &AttemptKey) -> bool {
        let first_word = key.operation.split('-').next();
        let same_subtask = (key.installation.as_str(), key.era, key.task, key.subtask)
            == (self.installation.as_str(), self.era, self.task, self.subtask);
        same_subtask && first_word == Some(self.attempt.as_str()) && key.run == self.run
    }
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
    /// Starts the proxy if it does not run. → [`Outcome::Proxy`]
    StartProxy {
        /// The proxy.
        proxy_id: i64,
    },
    /// Stops the proxy after draining it; supervision is suspended.
    StopProxy {
        /// The proxy.
        proxy_id: i64,
        /// How.
        drain: DrainPolicy,
    },
    /// Stops the proxy and moves its home aside.
    RemoveProxy {
        /// The proxy.
        proxy_id: i64,
        /// How its sessions end.
        drain: DrainPolicy,
    },
    /// Undoes [`Operation::RemoveProxy`]: moves the home back and starts the proxy.
    RestoreProxy {
        /// The proxy.
        proxy_id: i64,
    },
    /// Deletes what [`Operation::CreateProxy`] made, whatever of it is there.
    DiscardProxy {
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
    /// Reads what runs. → [`Outcome::Proxy`]
    Inspect {
        /// The proxy.
        proxy_id: i64,
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

impl Operation {
    /// The names of all operations, as an agent lists them in [`AgentStatus::operations`].
    pub const NAMES: [&'static str; 17] = [
        "checkAbsent",
        "installPackage",
        "removeSlot",
        "createProxy",
        "startProxy",
        "stopProxy",
        "removeProxy",
        "restoreProxy",
        "discardProxy",
        "supervise",
        "setParameters",
        "inspect",
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
            Self::RemoveProxy { .. } => "removeProxy",
            Self::RestoreProxy { .. } => "restoreProxy",
            Self::DiscardProxy { .. } => "discardProxy",
            Self::Supervise { .. } => "supervise",
            Self::SetParameters { .. } => "setParameters",
            Self::Inspect { .. } => "inspect",
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

/// Where an operation stands, and what it said since.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OperationReport {
    /// Log lines from the asked one on.
    pub lines: Vec<String>,
    /// Number of the next line.
    pub next: u64,
    /// Where it stands.
    pub state: OperationState,
}

/// Where an operation stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum OperationState {
    /// Still at work.
    Running,
    /// Done, for good.
    Done {
        /// Its result.
        outcome: Outcome,
    },
    /// Failed, for good; whatever it had changed is as its description promises.
    Failed {
        /// Object, reason and next step.
        message: String,
    },
}

/// The result of an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// Nothing to tell.
    Done,
    /// A slot is there.
    Slot {
        /// Its version.
        version: ProxyVersion,
        /// SHA-256 of `bin/obproxy`.
        binary_sha256: String,
        /// Whether this operation made it.
        created: bool,
    },
    /// What runs.
    Proxy(ProxyFacts),
    /// What a restart will do.
    Preflight(PreflightReport),
    /// The new process was judged good.
    Restarted(RestartReport),
    /// The old process is gone.
    Drained(DrainReport),
}

/// A running proxy, as read from /proc and by SQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyFacts {
    /// Process id.
    pub pid: i32,
    /// Version and build that answered.
    pub version: ProxyVersion,
    /// SHA-256 of the executable that runs.
    pub binary_sha256: String,
}

/// What the preflight found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreflightReport {
    /// What runs now.
    pub running: ProxyFacts,
    /// Client sessions now.
    pub sessions: u64,
    /// What to know beforehand, such as that the proxy is too old for a hot restart.
    pub warnings: Vec<String>,
}

/// The verdict on a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartReport {
    /// What ran before.
    pub before: ProxyFacts,
    /// What runs now.
    pub after: ProxyFacts,
    /// Whether a query went through the new process; without a probe the verdict says *not probed*.
    pub probed: bool,
    /// Milliseconds from the command to the first answer of the new process.
    pub answered_after_ms: u64,
}

/// How the old process ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainReport {
    /// Sessions closed between transactions.
    pub closed_at_boundary: u64,
    /// Sessions that were still inside a transaction at the deadline.
    pub cut: Vec<Straggler>,
    /// Milliseconds from the verdict to the end of the old process.
    pub took_ms: u64,
}

/// A session that was cut inside a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Straggler {
    /// User, as the client gave it.
    pub user: String,
    /// Client address.
    pub client: String,
    /// Milliseconds it had been seen in this transaction.
    pub age_ms: u64,
}

/// What an agent is and what it runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// Version of the agent.
    pub version: String,
    /// The host.
    pub host: HostFacts,
    /// Operations it knows, see [`Operation::NAMES`].
    pub operations: Vec<String>,
    /// The proxies it owns.
    pub proxies: Vec<ProxyReport>,
    /// The agent's clock.
    pub time: Timestamp,
}

/// A host, as its agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostFacts {
    /// Random id made at the agent's first start: a host that enrols again is the same host.
    pub host_uid: String,
    /// Host name.
    pub name: String,
    /// `x86_64` or `aarch64`.
    pub architecture: String,
    /// Kernel release.
    pub kernel: String,
    /// Distribution tag, `el7`, `debian12`.
    pub release: String,
}

/// A proxy an agent owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyReport {
    /// The server's id of it.
    pub proxy_id: i64,
    /// Whether its SQL port answers; `None` until the agent has looked for the first time.
    pub serving: Option<bool>,
    /// Its process, if there is one.
    pub pid: Option<i32>,
    /// Version and build of what runs, when it was last asked.
    pub version: Option<ProxyVersion>,
    /// Times the supervisor had to start it again.
    pub restarts: u64,
}

/// Body of an agent's enrolment.
///
/// The token, printed once by the server, is `id.secret.ca-sha256`. The secret is not sent: `proof` is the hexadecimal
/// HMAC-SHA256 of `csr_pem` with SHA-256(secret) as its key. The agent accepts the answer only if the certificate
/// authority in it has the token's fingerprint.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrolRequest {
    /// First part of the token.
    pub token_id: String,
    /// See above.
    pub proof: String,
    /// Certificate signing request.
    pub csr_pem: String,
    /// Where the server reaches the agent.
    pub address: String,
    /// Port of the agent's API.
    pub port: u16,
    /// The host.
    pub host: HostFacts,
    /// Version of the agent.
    pub agent_version: String,
}

/// Answer to an enrolment, in the envelope.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrolResponse {
    /// The host's id.
    pub host_id: i64,
    /// The server's installation.
    pub installation: String,
    /// The agent's certificate; its DNS name is `{host_uid}.agent.obfleet`.
    pub certificate_pem: String,
    /// The certificate authority; clients must show a certificate of it with the DNS name `server.obfleet`.
    pub ca_pem: String,
}

/// DNS name in the server's client certificate.
pub const SERVER_NAME: &str = "server.obfleet";

/// DNS name in the certificate of the agent of a host.
pub fn agent_name(host_uid: &str) -> String {
    format!("{host_uid}.agent.obfleet")
}

/// Why an agent refused a call: body of its 4xx and 5xx answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum AgentError {
    /// 409: a higher epoch of the subtask has been seen.
    #[error("epoch {epoch} is fenced: epoch {highest} of the same subtask has been seen")]
    Fenced {
        /// The epoch of the call.
        epoch: i64,
        /// The highest one seen.
        highest: i64,
    },
    /// 404: no such operation, package or route.
    #[error("{what} is not known here")]
    Unknown {
        /// What was asked for.
        what: String,
    },
    /// 400: the call is malformed.
    #[error("{reason}")]
    Invalid {
        /// Why.
        reason: String,
    },
    /// 500: the agent itself failed.
    #[error("{reason}")]
    Internal {
        /// Why.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempt_keys_round_trip() {
        let key = AttemptKey {
            installation: "ab12".into(),
            era: 1,
            task: 5,
            subtask: 7,
            operation: "EXECUTE-2".into(),
            run: 1,
        };
        assert_eq!(key.to_string(), "ab12.1.5.7.EXECUTE-2.1");
        assert_eq!(key.to_string().parse(), Ok(key));
        for text in ["", "a.1.2.3.E", "a.1.2.3.E.1.1", "../x.1.2.3.E.1", "a.x.2.3.E.1"] {
            assert!(text.parse::<AttemptKey>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_those_of_the_json() {
        let drain = DrainPolicy {
            window_ms: 0,
            closes_per_second: 1,
        };
        for operation in [
            Operation::Inspect { proxy_id: 1 },
            Operation::RemoveProxy { proxy_id: 1, drain },
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
}
