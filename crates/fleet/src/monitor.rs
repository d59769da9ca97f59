//! The short history of what is measured of proxies: [`collect`](Monitor::collect)ed from their agents, kept as it came
//! for an hour or two and by the minute for some days, and [asked](Monitor::ask) for.
//!
//! Counters are kept as they come; what they grew by is found by comparing neighbours ([`points`]), so a proxy that began
//! anew is no gap and no leap.

pub mod points;
pub mod query;
mod text;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use futures::future::join_all;
use obfleet_wire::{
    agent::{AgentMetrics, ProxySample},
    time::Timestamp,
};

use self::{
    points::{HOUR, Hour},
    query::{Answer, Group, Query, Subject},
};
use crate::{
    host_agent::{HostAgent, HostAgentError},
    inventory::{Host, Inventory, InventoryError},
    plan::Snapshot,
};

/// Proxies whose history is in memory at a time.
const AT_ONCE: usize = 32;
/// An hour is summed up so long after its end: by then agents have told even a server that was away.
const SETTLED: i64 = 15 * 60 * 1000;
/// An agent's clock that is off by less is believed.
const SMALL_SKEW: i64 = 5_000;

/// The history cannot be read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the metrics database failed: {0}")]
pub struct MetricStoreError(pub String);

/// Keeps the history.
#[async_trait]
pub trait MetricStore: Send + Sync {
    /// Keeps samples; those that are there already change nothing.
    async fn write(&self, samples: &[ProxySample]) -> Result<(), MetricStoreError>;
    /// The samples of some proxies from `from` on and before `to`, by proxy and time.
    async fn samples(&self, proxies: &[i64], from: i64, to: i64) -> Result<Vec<ProxySample>, MetricStoreError>;
    /// Keeps hours; one that is there already is replaced.
    async fn write_hours(&self, hours: &[Hour]) -> Result<(), MetricStoreError>;
    /// The hours of some proxies, numbered from `from` on and before `to`.
    async fn hours(&self, proxies: &[i64], from: i64, to: i64) -> Result<Vec<Hour>, MetricStoreError>;
    /// The proxies of which there is anything.
    async fn proxies(&self) -> Result<Vec<i64>, MetricStoreError>;
    /// Deletes what is older of one proxy: samples before a time, hours before a number.
    async fn forget(&self, proxy: i64, samples_before: i64, hours_before: i64) -> Result<(), MetricStoreError>;
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The history.
    #[error(transparent)]
    Store(#[from] MetricStoreError),
    /// The inventory.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// An agent.
    #[error(transparent)]
    Agent(#[from] HostAgentError),
}

/// The history and where it comes from. Cheap to clone.
#[derive(Clone)]
pub struct Monitor {
    store: Arc<dyn MetricStore>,
    inventory: Arc<dyn Inventory>,
    agents: Arc<dyn HostAgent>,
}

impl Monitor {
    /// The history in this store, of the proxies in this inventory, told by these agents.
    pub fn new(store: Arc<dyn MetricStore>, inventory: Arc<dyn Inventory>, agents: Arc<dyn HostAgent>) -> Self {
        Self {
            store,
            inventory,
            agents,
        }
    }

    /// The hosts whose agents can be asked.
    ///
    /// # Errors
    /// When the inventory fails.
    pub async fn hosts(&self) -> Result<Vec<Host>, MonitorError> {
        let fleet = self.inventory.snapshot().await?;
        let hosts = fleet.hosts.values().filter(|host| host.online && host.has_agent());
        Ok(hosts.cloned().collect())
    }

    /// Asks an agent for what it measured after that moment by its clock, and keeps it. → the moment to go on from
    ///
    /// # Errors
    /// When the agent does not answer, or nothing can be kept.
    pub async fn collect(&self, host: &Host, after: Timestamp) -> Result<Timestamp, MonitorError> {
        let told = self.agents.metrics(host, after, false).await?;
        let (mut samples, skew) = (told.samples, skew(told.time, Timestamp::now()));
        let last = samples.iter().map(|sample| sample.at).max();
        for sample in &mut samples {
            sample.at = Timestamp(sample.at.millis() + skew);
        }
        self.store.write(&samples).await?;
        // A clock that was put back would hide what comes for as long.
        Ok(last.unwrap_or(after).min(told.time))
    }

    /// Sums up the hours that are over and forgets what is too old, of the proxies that are this server's.
    ///
    /// # Errors
    /// When the store fails; what is done stays done.
    pub async fn tidy(&self, now: Timestamp, keep_hours: i64, ours: impl Fn(i64) -> bool) -> Result<(), MonitorError> {
        let complete = (now.millis() - SETTLED).div_euclid(HOUR);
        for proxy in self.store.proxies().await? {
            if !ours(proxy) {
                continue;
            }
            let samples = self.store.samples(&[proxy], 0, complete * HOUR).await?;
            if let Some(first) = samples.first() {
                let first = first.at.millis().div_euclid(HOUR);
                let there = self.store.hours(&[proxy], first, complete).await?;
                let missing = (first..complete).filter(|hour| there.iter().all(|one| one.hour != *hour));
                let hours: Vec<Hour> = missing.filter_map(|hour| Hour::of(proxy, hour, &samples)).collect();
                self.store.write_hours(&hours).await?;
            }
            // The last hour that was summed up stays as it came: the next one begins with what its last sample was.
            self.store
                .forget(proxy, (complete - 1) * HOUR, complete - keep_hours)
                .await?;
        }
        Ok(())
    }

    /// Answers a question, one group for each combination of the labels that are asked for.
    ///
    /// # Errors
    /// When inventory or store fail.
    pub async fn ask(&self, query: &Query) -> Result<Vec<Group>, MonitorError> {
        let fleet = self.inventory.snapshot().await?;
        let subjects: Vec<Subject> = subjects(&fleet).filter(|subject| query.is_about(subject)).collect();
        let mut answer = Answer::new(query);
        let hours = (query.from.div_euclid(HOUR), query.to.div_euclid(HOUR) + 1);
        for some in subjects.chunks(AT_ONCE) {
            let ids: Vec<i64> = some.iter().map(|subject| subject.proxy_id).collect();
            let hours = self.store.hours(&ids, hours.0, hours.1).await?;
            let samples = self
                .store
                .samples(&ids, query.from - points::LONGEST_GAP, query.to)
                .await?;
            let (mut hours, mut samples) = (
                by_proxy(hours, |hour| hour.proxy_id),
                by_proxy(samples, |one| one.proxy_id),
            );
            for subject in some {
                let hours = hours.remove(&subject.proxy_id).unwrap_or_default();
                let samples = samples.remove(&subject.proxy_id).unwrap_or_default();
                answer.add(subject, &hours, &samples);
            }
        }
        Ok(answer.groups())
    }

    /// What all exporters said last, and what their processes are, as text for Prometheus. Asks the agents now.
    ///
    /// # Errors
    /// When the inventory fails; an agent that does not answer is told of in the text.
    pub async fn exposition(&self) -> Result<String, MonitorError> {
        let fleet = self.inventory.snapshot().await?;
        let registered = |host: &&Host| {
            fleet
                .proxies
                .values()
                .any(|proxy| proxy.host_id == host.id && proxy.exporter_registered)
        };
        let hosts: Vec<&Host> = fleet.hosts.values().filter(registered).collect();
        let told = join_all(hosts.iter().map(|host| self.exported(host))).await;
        let subjects: Vec<Subject> = subjects(&fleet)
            .filter(|subject| fleet.proxies[&subject.proxy_id].exporter_registered)
            .collect();
        Ok(text::of(&subjects, &hosts, &told, Timestamp::now()))
    }

    async fn exported(&self, host: &Host) -> Option<AgentMetrics> {
        if !host.online {
            return None;
        }
        // Of the samples the last ones are enough.
        let after = Timestamp(Timestamp::now().millis() - text::OLD);
        self.agents.metrics(host, after, true).await.ok()
    }
}

/// What is to be added to an agent's times so that they are this server's.
fn skew(theirs: Timestamp, ours: Timestamp) -> i64 {
    let skew = ours.millis() - theirs.millis();
    if skew.abs() < SMALL_SKEW { 0 } else { skew }
}

fn subjects(fleet: &Snapshot) -> impl Iterator<Item = Subject> {
    fleet.proxies.values().filter_map(|proxy| {
        let (cluster, host) = (fleet.clusters.get(&proxy.cluster_id)?, fleet.hosts.get(&proxy.host_id)?);
        Some(Subject::new(proxy, cluster, host))
    })
}

fn by_proxy<T>(all: Vec<T>, id: impl Fn(&T) -> i64) -> BTreeMap<i64, Vec<T>> {
    let mut sorted = BTreeMap::<i64, Vec<T>>::new();
    for one in all {
        sorted.entry(id(&one)).or_default().push(one);
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_far_off_is_put_right() {
        assert_eq!(skew(Timestamp(100_000), Timestamp(101_000)), 0);
        assert_eq!(skew(Timestamp(100_000), Timestamp(3_700_000)), 3_600_000);
        assert_eq!(skew(Timestamp(3_700_000), Timestamp(100_000)), -3_600_000);
    }
}
