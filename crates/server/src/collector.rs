//! Gathering what agents measure of their proxies, and keeping its history short.
//!
//! Of servers on one database each asks the agents of its share of the hosts; when one dies, the others take its share over
//! at their next look, and agents still have what was measured meanwhile.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use obfleet_fleet::monitor::{Monitor, MonitorError};
use obfleet_wire::time::Timestamp;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::peers::Peers;

/// Time between two rounds, and so the most that a figure is late.
const PERIOD: Duration = Duration::from_secs(10);
/// Agents that are asked at the same time.
const AT_ONCE: usize = 32;
/// Time between two looks for hours that are over.
const TIDY: Duration = Duration::from_secs(600);

/// What collecting takes.
pub struct Collector {
    /// Asks and keeps.
    pub monitor: Monitor,
    /// The other servers, if there may be any.
    pub peers: Option<Arc<Peers>>,
    /// How long minutes are kept.
    pub keep: Duration,
}

/// One of so many equal shares.
#[derive(Debug, Clone, Copy)]
struct Share {
    number: i64,
    of: i64,
}

impl Share {
    fn has(self, id: i64) -> bool {
        id.rem_euclid(self.of) == self.number
    }
}

impl Collector {
    /// Collects until told to stop.
    pub async fn keep_up(self, stop: CancellationToken) {
        // By host, as far as its agent has told.
        let mut told = BTreeMap::<i64, Timestamp>::new();
        let mut tidied = None::<Instant>;
        let mut trouble = None;
        loop {
            let began = Instant::now();
            let round = async {
                let share = self.share().await;
                self.collect(share, &mut told).await?;
                if tidied.is_none_or(|last| last.elapsed() >= TIDY) {
                    self.tidy(share).await?;
                    tidied = Some(Instant::now());
                }
                Ok::<_, MonitorError>(())
            };
            // What is cut off is done again: nothing waits for an agent when the server stops.
            let round = tokio::select! {
                round = round => round,
                () = stop.cancelled() => return,
            };
            // Once for each trouble, not every ten seconds.
            let now = round.err().map(|error| error.to_string());
            if let Some(error) = now.as_ref().filter(|now| trouble.as_ref() != Some(*now)) {
                tracing::warn!(error, "the history of metrics has a gap; trying again");
            }
            trouble = now;
            tokio::select! {
                () = sleep(PERIOD.saturating_sub(began.elapsed())) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn share(&self) -> Share {
        match &self.peers {
            None => Share { number: 0, of: 1 },
            Some(peers) => {
                let (number, of) = peers.place().await;
                Share { number, of }
            }
        }
    }

    /// One round. An agent that does not answer holds nobody up and is no trouble of ours.
    async fn collect(&self, share: Share, told: &mut BTreeMap<i64, Timestamp>) -> Result<(), MonitorError> {
        let mut hosts = self.monitor.hosts().await?;
        hosts.retain(|host| share.has(host.id));
        told.retain(|id, _| hosts.iter().any(|host| host.id == *id));
        let asked = hosts.into_iter().map(|host| {
            let after = told.get(&host.id).copied().unwrap_or(Timestamp(0));
            let monitor = self.monitor.clone();
            async move {
                let answer = monitor.collect(&host, after).await;
                (host, answer)
            }
        });
        let answers: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
        let mut failed = None;
        for (host, answer) in answers {
            match answer {
                Ok(last) => {
                    told.insert(host.id, last);
                }
                Err(MonitorError::Agent(error)) => {
                    tracing::debug!(host = host.facts.name, %error, "the agent tells no metrics");
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn tidy(&self, share: Share) -> Result<(), MonitorError> {
        let hours = i64::try_from(self.keep.as_secs() / 3600).unwrap_or(i64::MAX);
        self.monitor
            .tidy(Timestamp::now(), hours, |proxy| share.has(proxy))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_everything_once() {
        for of in 1..5 {
            for id in 0..50 {
                let having = (0..of).filter(|number| Share { number: *number, of }.has(id)).count();
                assert_eq!(having, 1, "{id} of {of}");
            }
        }
    }
}
