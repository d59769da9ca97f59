//! The fleet's way to its hosts: calls to their agents over mutual TLS.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use axum::body::Body;
use obfleet_agent::client::{AgentClient, CallError, Endpoint};
use obfleet_fleet::{
    host_agent::{HostAgent, HostAgentError, LogLine},
    inventory::Host,
};
use obfleet_wire::{
    agent::{
        AgentError, AgentMetrics, AgentStatus, Examination, ExamineRequest, Fence, FoundProxy, OperationRequest,
        Outcome, ProxyLog, ProxyParameters, Validity,
    },
    time::Timestamp,
};
use tokio::{net::lookup_host, time::timeout};

/// What [`HostAgent::status`] promises.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// What was measured is more to send.
const METRICS_TIMEOUT: Duration = Duration::from_secs(5);
/// An agent that is away is waited for; the step's own timeout ends the wait.
const PATIENCE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The agents of all hosts, called with this server's certificate.
pub struct Agents {
    client: AgentClient,
    /// By host, as the agents last told.
    certificates: Mutex<BTreeMap<i64, Validity>>,
}

impl Agents {
    /// Calls through this client.
    pub fn new(client: AgentClient) -> Self {
        Self {
            client,
            certificates: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<i64, Validity>> {
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the certificates of the agents are good that have told since this server began, by host.
    pub fn certificates(&self) -> BTreeMap<i64, Validity> {
        self.known().clone()
    }

    /// A signing request for the key of a host's agent, PEM.
    pub async fn certificate_request(&self, host: &Host) -> Result<String, HostAgentError> {
        let endpoint = self.endpoint(host).await?;
        endpoint.certificate_request().await.map_err(failed(host))
    }

    /// Gives a host's agent another certificate, PEM. → when it is good
    pub async fn replace_certificate(&self, host: &Host, certificate: String) -> Result<Validity, HostAgentError> {
        let endpoint = self.endpoint(host).await?;
        let validity = endpoint.replace_certificate(certificate).await.map_err(failed(host))?;
        self.known().insert(host.id, validity);
        Ok(validity)
    }

    /// The log files of a proxy on a host.
    pub async fn proxy_logs(&self, host: &Host, proxy_id: i64) -> Result<Vec<ProxyLog>, HostAgentError> {
        let endpoint = self.endpoint(host).await?;
        endpoint.proxy_logs(proxy_id).await.map_err(failed(host))
    }

    /// The last `tail` bytes of a log file of a proxy on a host; `None` when there is no such file.
    pub async fn proxy_log(
        &self,
        host: &Host,
        proxy_id: i64,
        name: &str,
        tail: u64,
    ) -> Result<Option<Body>, HostAgentError> {
        let endpoint = self.endpoint(host).await?;
        match endpoint.proxy_log(proxy_id, name, tail).await {
            Ok(bytes) => Ok(Some(Body::from_stream(bytes))),
            Err(CallError::Refused {
                error: AgentError::Unknown { .. },
                ..
            }) => Ok(None),
            Err(error) => Err(failed(host)(error)),
        }
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

/// The answer, unless it takes longer.
async fn within<T>(
    limit: Duration,
    host: &Host,
    call: impl Future<Output = Result<T, HostAgentError>>,
) -> Result<T, HostAgentError> {
    timeout(limit, call).await.unwrap_or_else(|_| {
        Err(HostAgentError::Unreachable {
            host: host.facts.name.clone(),
            reason: format!("no answer within {} s", limit.as_secs()),
        })
    })
}

#[async_trait]
impl HostAgent for Agents {
    async fn status(&self, host: &Host) -> Result<AgentStatus, HostAgentError> {
        let call = async { self.endpoint(host).await?.status().await.map_err(failed(host)) };
        let status = within(STATUS_TIMEOUT, host, call).await?;
        if let Some(validity) = status.certificate {
            self.known().insert(host.id, validity);
        }
        Ok(status)
    }

    async fn metrics(&self, host: &Host, after: Timestamp, exported: bool) -> Result<AgentMetrics, HostAgentError> {
        let call = async {
            let endpoint = self.endpoint(host).await?;
            endpoint.metrics(after, exported).await.map_err(failed(host))
        };
        within(METRICS_TIMEOUT, host, call).await
    }

    async fn parameters(
        &self,
        host: &Host,
        proxy_id: i64,
        patience: Duration,
    ) -> Result<ProxyParameters, HostAgentError> {
        let endpoint = self.endpoint(host).await?;
        endpoint.parameters(proxy_id, patience).await.map_err(failed(host))
    }

    async fn obproxies(&self, host: &Host) -> Result<Vec<FoundProxy>, HostAgentError> {
        self.endpoint(host).await?.obproxies().await.map_err(failed(host))
    }

    async fn examine(&self, host: &Host, request: &ExamineRequest) -> Result<Examination, HostAgentError> {
        self.endpoint(host).await?.examine(request).await.map_err(failed(host))
    }

    async fn put_package(&self, host: &Host, sha256: &str, file: &Path) -> Result<u64, HostAgentError> {
        self.endpoint(host)
            .await?
            .put_package(sha256, file, PATIENCE)
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
