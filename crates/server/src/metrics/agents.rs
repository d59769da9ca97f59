//! Calls to agents: how long they take, and why they fail.

use std::{
    future::Future,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use obfleet_fleet::{
    host_agent::{HostAgent, HostAgentError, LogLine},
    inventory::Host,
};
use obfleet_wire::{
    agent::{
        AgentMetrics as Measured, AgentStatus, Examination, ExamineRequest, Fence, FoundProxy, OperationRequest,
        Outcome, ProxyParameters,
    },
    time::Timestamp,
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{Metrics, long_times};

/// Instruments of calls to agents.
pub struct AgentMetrics {
    durations: Family<Call, Histogram, fn() -> Histogram>,
    failures: Family<Failure, Counter>,
    renewals: Family<Renewals, Counter>,
    earliest_expiry: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    call: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    call: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Renewals {
    result: &'static str,
}

fn reason(error: &HostAgentError) -> &'static str {
    match error {
        HostAgentError::Failed(_) => "failed",
        HostAgentError::Fenced { .. } => "fenced",
        HostAgentError::Unreachable { .. } => "unreachable",
        HostAgentError::Refused { .. } => "refused",
    }
}

impl AgentMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            durations: Family::new_with_constructor(long_times),
            failures: Family::default(),
            renewals: Family::default(),
            earliest_expiry: Gauge::default(),
        };
        registry.register_with_unit(
            "agent_call_duration",
            "Time of calls to agents; 'perform' lasts until the operation is over, an agent that is away included",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register(
            "agent_call_failures",
            "Calls to agents without the result asked for",
            metrics.failures.clone(),
        );
        registry.register(
            "agent_certificate_renewals",
            "Certificates that agents were to be given",
            metrics.renewals.clone(),
        );
        registry.register_with_unit(
            "agent_certificate_earliest_expiry_timestamp",
            "When the first certificate of an agent expires, in Unix time; 0 while none is known",
            Unit::Seconds,
            metrics.earliest_expiry.clone(),
        );
        metrics
    }

    /// An agent was to be given a new certificate.
    pub fn renewed(&self, taken: bool) {
        let result = if taken { "renewed" } else { "failed" };
        self.renewals.get_or_create(&Renewals { result }).inc();
    }

    /// The first certificate of an agent expires then.
    pub fn earliest_expiry(&self, at: Option<Timestamp>) {
        self.earliest_expiry.set(at.map_or(0, |at| at.millis() / 1000));
    }

    async fn time<T>(
        &self,
        call: &'static str,
        work: impl Future<Output = Result<T, HostAgentError>>,
    ) -> Result<T, HostAgentError> {
        let started = Instant::now();
        let result = work.await;
        self.durations
            .get_or_create(&Call { call })
            .observe(started.elapsed().as_secs_f64());
        if let Err(error) = &result {
            let reason = reason(error);
            self.failures.get_or_create(&Failure { call, reason }).inc();
        }
        result
    }
}

/// The agents behind it, measured.
pub struct MeasuredAgents<A> {
    agents: Arc<A>,
    metrics: Arc<Metrics>,
}

impl<A> MeasuredAgents<A> {
    /// Measures calls to these agents.
    pub fn new(agents: Arc<A>, metrics: Arc<Metrics>) -> Self {
        Self { agents, metrics }
    }
}

#[async_trait]
impl<A: HostAgent> HostAgent for MeasuredAgents<A> {
    async fn status(&self, host: &Host) -> Result<AgentStatus, HostAgentError> {
        self.metrics.agents.time("status", self.agents.status(host)).await
    }

    async fn metrics(&self, host: &Host, after: Timestamp, exported: bool) -> Result<Measured, HostAgentError> {
        let work = self.agents.metrics(host, after, exported);
        self.metrics.agents.time("metrics", work).await
    }

    async fn parameters(
        &self,
        host: &Host,
        proxy_id: i64,
        patience: Duration,
    ) -> Result<ProxyParameters, HostAgentError> {
        let work = self.agents.parameters(host, proxy_id, patience);
        self.metrics.agents.time("parameters", work).await
    }

    async fn obproxies(&self, host: &Host) -> Result<Vec<FoundProxy>, HostAgentError> {
        self.metrics.agents.time("obproxies", self.agents.obproxies(host)).await
    }

    async fn examine(&self, host: &Host, request: &ExamineRequest) -> Result<Examination, HostAgentError> {
        self.metrics
            .agents
            .time("examine", self.agents.examine(host, request))
            .await
    }

    async fn put_package(&self, host: &Host, sha256: &str, file: &Path) -> Result<u64, HostAgentError> {
        let work = self.agents.put_package(host, sha256, file);
        self.metrics.agents.time("put_package", work).await
    }

    async fn perform(
        &self,
        host: &Host,
        request: OperationRequest,
        log: LogLine<'_>,
    ) -> Result<Outcome, HostAgentError> {
        let work = self.agents.perform(host, request, log);
        self.metrics.agents.time("perform", work).await
    }

    async fn fence(&self, host: &Host, fence: Fence) -> Result<(), HostAgentError> {
        self.metrics.agents.time("fence", self.agents.fence(host, fence)).await
    }
}
