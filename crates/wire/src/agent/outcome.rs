//! What becomes of an operation.

use serde::{Deserialize, Serialize};

use crate::version::ProxyVersion;

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
    /// What a proxy has from its config server.
    Config(ConfigFacts),
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

/// What a proxy has from its config server, as it says itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigFacts {
    /// Version of the configuration; `None` while it has none.
    pub version: Option<String>,
    /// The OceanBase clusters in it, by name.
    pub clusters: Vec<String>,
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
