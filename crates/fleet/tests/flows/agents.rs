//! The way to the hosts: the trait the flows know, with connections that break.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use obfleet_fleet::{
    host_agent::{HostAgent, HostAgentError, LogLine},
    inventory::Host,
};
use obfleet_wire::{
    agent::{
        AgentMetrics, AgentStatus, Examination, ExamineRequest, Fence, FoundProxy, Operation, OperationRequest,
        Outcome, ProxyParameters,
    },
    time::Timestamp,
};

use crate::{
    host::{Extent, Hosts, Machine},
    machines::Machines,
    trouble::{ATTEMPT, Consequence, Moment, REASON, Troubles},
};

pub struct Agents {
    pub hosts: Arc<Hosts>,
    pub machines: Arc<Machines>,
    pub troubles: Arc<Troubles>,
}

impl Agents {
    /// Makes a call in trouble where the case says so. `call` is told how much of it is done.
    async fn call<T>(
        &self,
        host: &Host,
        what: &'static str,
        call: impl FnOnce(Extent) -> Result<T, HostAgentError> + Send,
    ) -> Result<T, HostAgentError> {
        let under = ATTEMPT.with(Clone::clone);
        let number = under.calls(&self.troubles, what);
        let strikes = |moment| self.troubles.strike(&under.place, moment);
        if let Some(consequence) = strikes(Moment::Late(number)) {
            let unanswered = call(Extent::Later);
            if consequence == Consequence::Crash {
                self.troubles.die().await;
            }
            return unanswered;
        }
        let halfway = strikes(Moment::Halfway(number)).is_some();
        let answer = call(if halfway { Extent::Part } else { Extent::Whole })?;
        match strikes(Moment::After(number)) {
            // One that does not answer is waited for by who only looks.
            Some(_) if matches!(what, "parameters" | "examine") => Err(HostAgentError::Failed(REASON.into())),
            Some(_) => Err(lost(host)),
            None => Ok(answer),
        }
    }
}

fn lost(host: &Host) -> HostAgentError {
    HostAgentError::Unreachable {
        host: host.facts.name.clone(),
        reason: REASON.into(),
    }
}

#[async_trait]
impl HostAgent for Agents {
    async fn status(&self, host: &Host) -> Result<AgentStatus, HostAgentError> {
        self.call(host, "status", |_| {
            if host.bootstrap.is_some() && !self.machines.answers(host) {
                return Err(lost(host));
            }
            let proxies = self.hosts.at(host, Machine::reports);
            Ok(AgentStatus {
                version: "0.1.0".into(),
                host: host.facts.clone(),
                operations: Operation::NAMES.map(str::to_owned).to_vec(),
                proxies,
                time: Timestamp(0),
                certificate: None,
            })
        })
        .await
    }

    /// No flow asks for it.
    async fn metrics(&self, _: &Host, _: Timestamp, _: bool) -> Result<AgentMetrics, HostAgentError> {
        Ok(AgentMetrics {
            time: Timestamp(0),
            samples: Vec::new(),
            exported: Vec::new(),
        })
    }

    async fn parameters(&self, host: &Host, proxy_id: i64, _: Duration) -> Result<ProxyParameters, HostAgentError> {
        let read = |_| {
            let read = self.hosts.at(host, |machine| machine.parameters(proxy_id));
            read.map_err(HostAgentError::Failed)
        };
        self.call(host, "parameters", read).await
    }

    /// No flow asks for all of them.
    async fn obproxies(&self, _: &Host) -> Result<Vec<FoundProxy>, HostAgentError> {
        Ok(Vec::new())
    }

    async fn examine(&self, host: &Host, request: &ExamineRequest) -> Result<Examination, HostAgentError> {
        let examine = |_| Ok(self.hosts.at(host, |machine| machine.examine(request)));
        // Asked before there is a task as well.
        match ATTEMPT.try_with(|_| ()) {
            Ok(()) => self.call(host, "examine", examine).await,
            Err(_) => examine(Extent::Whole),
        }
    }

    async fn put_package(&self, host: &Host, sha256: &str, _: &Path) -> Result<u64, HostAgentError> {
        let put = |_| {
            self.hosts.at(host, |machine| machine.put_package(sha256));
            Ok(1)
        };
        self.call(host, "put_package", put).await
    }

    async fn perform(&self, host: &Host, request: OperationRequest, _: LogLine<'_>) -> Result<Outcome, HostAgentError> {
        let name = request.operation.name();
        let perform = |extent| match extent {
            Extent::Later => {
                self.hosts.keep_for_later(host, &request);
                Err(lost(host))
            }
            extent => self.hosts.at(host, |machine| machine.perform(&request, extent)),
        };
        self.call(host, name, perform).await
    }

    /// Never in trouble: only undoing and trying again begin with a fence, and it would move the number of every call
    /// after it.
    async fn fence(&self, host: &Host, fence: Fence) -> Result<(), HostAgentError> {
        self.hosts.at(host, |machine| machine.fence(&fence))
    }
}
