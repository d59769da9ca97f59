//! How the fleet reaches a host: through its agent, and only so.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use obfleet_wire::{
    agent::{
        AgentMetrics, AgentStatus, Examination, ExamineRequest, Fence, FoundProxy, OperationRequest, Outcome,
        ProxyParameters,
    },
    time::Timestamp,
};

use crate::inventory::Host;

/// Why a call to an agent brought no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostAgentError {
    /// The operation ran and failed; the message names object, reason and next step.
    #[error("{0}")]
    Failed(String),
    /// A later attempt of the same subtask has taken over.
    #[error("the agent of host {host} refused the call: {reason}")]
    Fenced {
        /// The host's name.
        host: String,
        /// What the agent said.
        reason: String,
    },
    /// The agent does not answer.
    #[error("the agent of host {host} does not answer: {reason}; check that it runs, then retry")]
    Unreachable {
        /// The host's name.
        host: String,
        /// What the connection said.
        reason: String,
    },
    /// The agent answered with an error of its own.
    #[error("the agent of host {host} refused the call: {reason}")]
    Refused {
        /// The host's name.
        host: String,
        /// What the agent said.
        reason: String,
    },
}

/// Takes the lines an operation logs while it runs.
pub type LogLine<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// The agents of all hosts.
#[async_trait]
pub trait HostAgent: Send + Sync {
    /// What the host runs; answers within two seconds.
    async fn status(&self, host: &Host) -> Result<AgentStatus, HostAgentError>;

    /// What was measured of its proxies after that moment by its clock, and, if wanted, what their exporters said last;
    /// answers within some seconds.
    async fn metrics(&self, host: &Host, after: Timestamp, exported: bool) -> Result<AgentMetrics, HostAgentError>;

    /// The whole configuration of a proxy of the host, read now. An agent that is away, or cannot read it yet, is asked again
    /// for as long as `patience`.
    async fn parameters(
        &self,
        host: &Host,
        proxy_id: i64,
        patience: Duration,
    ) -> Result<ProxyParameters, HostAgentError>;

    /// Every proxy that runs on the host, whoever started it; answers within half a minute.
    async fn obproxies(&self, host: &Host) -> Result<Vec<FoundProxy>, HostAgentError>;

    /// Looks closely at the proxy that serves on a port; answers within half a minute.
    async fn examine(&self, host: &Host, request: &ExamineRequest) -> Result<Examination, HostAgentError>;

    /// Gives the host the package file with this digest, unless it has it. → bytes that had to be sent
    async fn put_package(&self, host: &Host, sha256: &str, file: &Path) -> Result<u64, HostAgentError>;

    /// Performs an operation to its end, or attaches to it when it is under way or done. Returns only with a result: an
    /// agent that is away is waited for; the caller drops the future when its time is up.
    async fn perform(
        &self,
        host: &Host,
        request: OperationRequest,
        log: LogLine<'_>,
    ) -> Result<Outcome, HostAgentError>;

    /// Keeps earlier attempts of a subtask from touching the host again, and returns when what they began there has
    /// ended. An agent that is away is waited for, as in [`Self::perform`].
    async fn fence(&self, host: &Host, fence: Fence) -> Result<(), HostAgentError>;
}
