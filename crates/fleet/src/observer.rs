//! Looks at every host at a steady pace and writes down what changed: which agents answer, which proxies serve. What agents
//! tell of configurations goes to [`readings`](crate::readings).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use obfleet_wire::{agent::AgentStatus, time::Timestamp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    flows::crew::Crew,
    inventory::{Host, HostSighting},
    readings::{self, Report, Reports},
};

/// Time between two looks. Short enough that a person who watches sees a dead proxy soon.
const PERIOD: Duration = Duration::from_secs(2);

/// Hosts written down in one transaction: few enough that no submission waits long behind it for the database's one
/// writer, many enough that a large fleet does not cost a commit for each host.
const BATCH: usize = 32;

/// A sighting without news is still written this often, in looks, so that `lastActiveTime` goes on.
const REFRESH: u64 = 15;

/// Observes until told to stop.
pub async fn observe(crew: Arc<Crew>, stop: CancellationToken) {
    let (reports, told) = watch::channel(Reports::new());
    tokio::join!(
        look_again(Arc::clone(&crew), reports, stop.clone()),
        readings::follow(crew, told, stop)
    );
}

async fn look_again(crew: Arc<Crew>, reports: watch::Sender<Reports>, stop: CancellationToken) {
    let mut known = BTreeMap::<i64, HostSighting>::new();
    for look in 0_u64.. {
        match crew.inventory.hosts().await {
            Ok(hosts) => {
                let looks = join_all(hosts.iter().map(|host| look_at(&crew, host))).await;
                let (mut news, configured): (Vec<_>, Vec<_>) = looks.into_iter().unzip();
                reports.send_replace(configured.into_iter().flatten().collect());
                let is_due = |seen: &HostSighting| known.get(&seen.host_id).is_none_or(|last| is_news(last, seen));
                news.retain(|seen| look % REFRESH == 0 || is_due(seen));
                for batch in news.chunks(BATCH) {
                    match crew.inventory.record_sightings(batch).await {
                        Ok(()) => known.extend(batch.iter().map(|seen| (seen.host_id, seen.clone()))),
                        // Still unknown, so still news at the next look.
                        Err(error) => tracing::warn!(%error, "what was seen of some hosts is not written down yet"),
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "the hosts could not be read; looking again soon"),
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn is_news(last: &HostSighting, now: &HostSighting) -> bool {
    (last.online, &last.agent_version, &last.serving) != (now.online, &now.agent_version, &now.serving)
}

async fn look_at(crew: &Crew, host: &Host) -> (HostSighting, Reports) {
    let status = crew.agents.status(host).await.ok();
    let proxies = status.iter().flat_map(|status| &status.proxies);
    let report = |digest: &String| Report {
        host: host.clone(),
        digest: digest.clone(),
    };
    let reports = proxies.filter_map(|proxy| Some((proxy.proxy_id, report(proxy.parameters.as_ref()?))));
    let reports = reports.collect();
    (sighting(host.id, status, Timestamp::now()), reports)
}

/// What the answer of a host's agent tells, or its silence. A proxy the agent has not looked at yet is in no state:
/// an agent that just started must not make its proxies look dead.
fn sighting(host_id: i64, status: Option<AgentStatus>, at: Timestamp) -> HostSighting {
    let proxies = status.iter().flat_map(|status| &status.proxies);
    HostSighting {
        host_id,
        online: status.is_some(),
        serving: proxies
            .filter_map(|proxy| Some((proxy.proxy_id, proxy.serving?)))
            .collect(),
        agent_version: status.as_ref().map(|status| status.version.clone()),
        at,
    }
}

#[cfg(test)]
mod tests {
    use obfleet_wire::agent::{HostFacts, ProxyReport};

    use super::*;

    #[test]
    fn a_proxy_nobody_has_looked_at_yet_is_not_dead() {
        let report = |proxy_id, serving| ProxyReport {
            proxy_id,
            serving,
            pid: None,
            version: None,
            restarts: 0,
            parameters: None,
        };
        let status = AgentStatus {
            version: "0.1.0".into(),
            host: HostFacts {
                host_uid: "u".into(),
                name: "n".into(),
                architecture: "x86_64".into(),
                kernel: "6.1".into(),
                release: "el7".into(),
            },
            operations: Vec::new(),
            proxies: vec![report(1, Some(true)), report(2, Some(false)), report(3, None)],
            time: Timestamp(0),
            certificate: None,
        };
        let seen = sighting(100, Some(status), Timestamp(7));
        assert_eq!(seen.serving, BTreeMap::from([(1, true), (2, false)]));
        assert!(seen.online);
        assert!(!sighting(100, None, Timestamp(8)).online);
    }
}
