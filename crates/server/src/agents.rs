//! The fleet's way to its hosts: calls to their agents over mutual TLS.

use std::{net::SocketAddr, path::Path, time::Duration};

use async_trait::async_trait;
use obfleet_agent::client::{AgentClient, CallError, Endpoint};
use obfleet_fleet::{
    host_agent::{HostAgent, HostAgentError, LogLine},
    inventory::Host,
};
use obfleet_wire::agent::{AgentStatus, Fence, OperationRequest, Outcome};
use tokio::{net::lookup_host, time::timeout};

/// What [`HostAgent::status`] promises.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// An agent that is away is waited for; the step's own timeout ends the wait.
const PATIENCE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The agents of all hosts, called with this server's certificate.
pub struct Agents {
    client: AgentClient,
}

impl Agents {
    /// Calls through this client.
    pub fn new(client: AgentClient) -> Self {
        Self { client }
    }

    async fn endpoint(&self, host: &Host) -> Result<Endpoint, HostAgentError> {
        let address = resolve(&host.address, host.agent_port)
            .await
            .map_err(|reason| HostAgentError::Unreachable {
                host: host.facts.name.clone(),
                reason,
            })?;
        Ok(self.client.endpoint(&host.facts.host_uid, address))
    }
}

async fn resolve(address: &str, port: u16) -> Result<SocketAddr, String> {
    if let Ok(ip) = address.parse() {
        return Ok(SocketAddr::new(ip, port));
    }
    let found = lookup_host((address, port))
        .await
        .map_err(|error| error.to_string())?
        .next();
    found.ok_or_else(|| format!("{address} has no address"))
}

fn failed(host: &Host) -> impl FnOnce(CallError) -> HostAgentError {
    let host = host.facts.name.clone();
    move |error| match error {
        CallError::Fenced { .. } => HostAgentError::Fenced {
            host,
            reason: error.to_string(),
        },
        CallError::Failed { message } => HostAgentError::Failed(message),
        CallError::Unreachable { reason, .. } => HostAgentError::Unreachable { host, reason },
        CallError::Refused { error, .. } => HostAgentError::Refused {
            host,
            reason: error.to_string(),
        },
        CallError::Package(source) => HostAgentError::Failed(format!(
            "the package for host {host} cannot be read: {source}; upload it again, then retry"
        )),
    }
}

#[async_trait]
impl HostAgent for Agents {
    async fn status(&self, host: &Host) -> Result<AgentStatus, HostAgentError> {
        let call = async { self.endpoint(host).await?.status().await.map_err(failed(host)) };
        timeout(STATUS_TIMEOUT, call).await.unwrap_or_else(|_| {
            let reason = format!("no answer within {} s", STATUS_TIMEOUT.as_secs());
            Err(HostAgentError::Unreachable {
                host: host.facts.name.clone(),
                reason,
            })
        })
    }

    async fn put_package(&self, host: &Host, sha256: &str, file: &Path) -> Result<(), HostAgentError> {
        self.endpoint(host)
            .await?
            .put_package(sha256, file)
            .await
            .map_err(failed(host))
    }

    async fn perform(
        &self,
        host: &Host,
        request: OperationRequest,
        log: LogLine<'_>,
    ) -> Result<Outcome, HostAgentError> {
        self.endpoint(host)
            .await?
            .perform(&request, PATIENCE, |line| log(line))
            .await
            .map_err(failed(host))
    }

    async fn fence(&self, host: &Host, fence: Fence) -> Result<(), HostAgentError> {
        self.endpoint(host)
            .await?
            .fence(&fence, PATIENCE)
            .await
            .map_err(failed(host))
    }
}
