//! Renewing agents' certificates: once two thirds of a certificate's time are over, the server asks its agent for a
//! signing request and gives it a new one, over the channel that the old one still protects.
//!
//! An agent that is away for the last third as well has to be enrolled again, with a token.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use obfleet_fleet::{
    host_agent::HostAgentError,
    inventory::{Host, Inventory},
};
use obfleet_wire::{agent::Validity, time::Timestamp};
use tokio_util::sync::CancellationToken;

use crate::{
    agents::Agents,
    metrics::Metrics,
    pki::{Authority, PkiError},
};

/// Time between two looks. What is looked at is in memory: the observer hears it from the agents anyway.
const PERIOD: Duration = Duration::from_secs(1);
/// Pause after an agent did not take a new certificate. There is a third of its time left.
const RETRY: Duration = Duration::from_secs(300);

/// What renewing takes.
pub struct Renewal {
    /// Knows the certificates, and brings the new ones.
    pub agents: Arc<Agents>,
    /// Knows the hosts.
    pub inventory: Arc<dyn Inventory>,
    /// Signs.
    pub authority: Authority,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// An agent keeps its old certificate for now.
#[derive(Debug, thiserror::Error)]
enum RenewalError {
    #[error(transparent)]
    Agent(#[from] HostAgentError),
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// Whether it is time for a new one.
fn is_due(validity: Validity, now: Timestamp) -> bool {
    let (from, to) = (validity.not_before.millis(), validity.not_after.millis());
    now.millis() >= from + (to - from) / 3 * 2
}

impl Renewal {
    /// Renews what is due until told to stop.
    pub async fn keep_up(self, stop: CancellationToken) {
        let mut not_before = BTreeMap::<i64, Instant>::new();
        loop {
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = stop.cancelled() => return,
            }
            let known = self.agents.certificates();
            self.metrics
                .agents
                .earliest_expiry(known.values().map(|validity| validity.not_after).min());
            let (now, wall) = (Instant::now(), Timestamp::now());
            let mut due = known;
            due.retain(|host, validity| {
                is_due(*validity, wall) && not_before.get(host).is_none_or(|pause| *pause <= now)
            });
            if due.is_empty() {
                continue;
            }
            let fleet = match self.inventory.snapshot().await {
                Ok(fleet) => fleet,
                Err(error) => {
                    tracing::warn!(%error, "the hosts could not be read; certificates are renewed later");
                    continue;
                }
            };
            for host in fleet
                .hosts
                .values()
                .filter(|host| host.online && due.contains_key(&host.id))
            {
                let name = &host.facts.name;
                let renewed = self.renew(host).await;
                self.metrics.agents.renewed(renewed.is_ok());
                match renewed {
                    Ok(validity) => {
                        not_before.remove(&host.id);
                        tracing::info!(host = name, expires = %validity.not_after, "agent's certificate renewed");
                    }
                    Err(error) => {
                        not_before.insert(host.id, Instant::now() + RETRY);
                        let expires = due.get(&host.id).map(|validity| validity.not_after.to_string());
                        tracing::warn!(host = name, expires, %error, "agent's certificate not renewed; trying again");
                    }
                }
            }
        }
    }

    async fn renew(&self, host: &Host) -> Result<Validity, RenewalError> {
        let request = self.agents.certificate_request(host).await?;
        let certificate = self.authority.agent_certificate(&request, &host.facts.host_uid)?;
        Ok(self.agents.replace_certificate(host, certificate).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_due_after_two_thirds_of_its_time() {
        let validity = Validity {
            not_before: Timestamp(1000),
            not_after: Timestamp(4000),
        };
        for (now, due) in [(0, false), (2999, false), (3000, true), (5000, true)] {
            assert_eq!(is_due(validity, Timestamp(now)), due, "{now}");
        }
    }
}
