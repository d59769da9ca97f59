//! What an agent tells of its host.

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::Operation;
#[cfg(doc)]
use super::ProxyParameters;
use super::Validity;
use crate::{time::Timestamp, version::ProxyVersion};

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
    /// When its certificate is good; agents that cannot be given another one do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Validity>,
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
    /// Whether it was stopped on purpose: nobody starts it then.
    #[serde(default)]
    pub stopped: bool,
    /// Whether load balancers were told to keep away from the process that runs.
    #[serde(default)]
    pub offline: bool,
    /// Its process, if there is one.
    pub pid: Option<i32>,
    /// Version and build of what runs, when it was last asked.
    pub version: Option<ProxyVersion>,
    /// Times the supervisor had to start it again.
    pub restarts: u64,
    /// [`ProxyParameters::digest`] of its configuration when that was last read; agents that do not read it do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<String>,
    /// Why the last of these starts failed; absent when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}
