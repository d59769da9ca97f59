//! Looks at every host at a steady pace and writes down what changed: which agents answer, which proxies serve. What agents
//! tell of configurations goes to [`readings`](crate::readings).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use obfleet_wire::{
    agent::{AgentStatus, ProxyReport},
    obproxy::OperateStatus,
    time::Timestamp,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    flows::crew::Crew,
    inventory::{Host, HostSighting, Proxy, ProxySighting, Restarts},
    plan::Table,
    readings::{self, Report, Reports},
};

/// Time from one look to the next; a look at an agent that is away takes as long. Short enough that a person who watches
/// sees a dead proxy soon.
const PERIOD: Duration = Duration::from_secs(2);

/// Between two looks at the least.
const BREATH: Duration = Duration::from_millis(250);

/// Hosts written down in one transaction: few enough that no submission waits long behind it for the database's one
/// writer, many enough that a large fleet does not cost a commit for each host.
const BATCH: usize = 8;

/// A sighting without news is still written this often, in looks, so that `lastActiveTime` goes on. Each look has its part
/// of the hosts: what is written is read again by whoever looks at the fleet next.
const REFRESH: i64 = 15;

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
    for look in 0_i64.. {
        let began = Instant::now();
        match crew.inventory.snapshot().await {
            Ok(fleet) => {
                // One that is being added has nobody to ask yet.
                let hosts = fleet.hosts.values().filter(|host| host.has_agent());
                let looks = join_all(hosts.map(|host| look_at(&crew, host))).await;
                let (mut news, configured): (Vec<_>, Vec<_>) = looks.into_iter().unzip();
                reports.send_replace(configured.into_iter().flatten().collect());
                let is_due = |seen: &HostSighting| {
                    known.get(&seen.host_id).is_none_or(|last| is_news(last, seen)) || contradicts(seen, &fleet.proxies)
                };
                news.retain(|seen| (look + seen.host_id) % REFRESH == 0 || is_due(seen));
                for batch in news.chunks(BATCH) {
                    let told: Vec<_> = batch
                        .iter()
                        .map(|seen| without_what_is_known(known.get(&seen.host_id), seen))
                        .collect();
                    match crew.inventory.record_sightings(&told).await {
                        Ok(()) => known.extend(batch.iter().map(|seen| (seen.host_id, seen.clone()))),
                        // Still unknown, so still news at the next look.
                        Err(error) => tracing::warn!(%error, "what was seen of some hosts is not written down yet"),
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "the hosts could not be read; looking again soon"),
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD.saturating_sub(began.elapsed()).max(BREATH)) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn is_news(last: &HostSighting, now: &HostSighting) -> bool {
    (last.online, &last.agent_version, &last.proxies, &last.restarts)
        != (now.online, &now.agent_version, &now.proxies, &now.restarts)
}

/// Whether the inventory says otherwise of a proxy that no task holds: what was seen is no news, but when it was told the
/// proxy was still held, or its status has been set since.
fn contradicts(seen: &HostSighting, proxies: &Table<Proxy>) -> bool {
    let told = |(id, sighting): (&i64, &ProxySighting)| Some((proxies.get(id)?, *sighting));
    let free = |(proxy, _): &(&Proxy, _)| proxy.operate_status == OperateStatus::Normal;
    let mut told = seen.proxies.iter().filter_map(told).filter(free);
    told.any(|(proxy, sighting)| sighting.changes(proxy.status) || sighting.offline != proxy.offline)
}

/// A proxy that was started again no more often than before is not written about.
fn without_what_is_known(last: Option<&HostSighting>, now: &HostSighting) -> HostSighting {
    let mut told = now.clone();
    if let Some(last) = last {
        told.restarts
            .retain(|proxy, restarts| last.restarts.get(proxy) != Some(restarts));
    }
    told
}

async fn look_at(crew: &Crew, host: &Host) -> (HostSighting, Reports) {
    let asked = Timestamp::now();
    let status = crew.agents.status(host).await.ok();
    let proxies = status.iter().flat_map(|status| &status.proxies);
    let report = |digest: &String| Report {
        host: host.clone(),
        digest: digest.clone(),
    };
    let reports = proxies.filter_map(|proxy| Some((proxy.proxy_id, report(proxy.parameters.as_ref()?))));
    let reports = reports.collect();
    (sighting(host.id, status, asked), reports)
}

/// What the answer of a host's agent tells, or its silence. A proxy the agent has not looked at yet is in no state:
/// an agent that just started must not make its proxies look dead.
fn sighting(host_id: i64, status: Option<AgentStatus>, asked: Timestamp) -> HostSighting {
    let seen = |proxy: &ProxyReport| {
        let sighting = ProxySighting {
            serving: proxy.serving?,
            stopped: proxy.stopped,
            offline: proxy.offline,
        };
        Some((proxy.proxy_id, sighting))
    };
    let restarts = |proxy: &ProxyReport| Restarts {
        count: i64::try_from(proxy.restarts).unwrap_or(i64::MAX),
        trouble: proxy.trouble.clone(),
    };
    let proxies = || status.iter().flat_map(|status| &status.proxies);
    HostSighting {
        host_id,
        online: status.is_some(),
        proxies: proxies().filter_map(seen).collect(),
        restarts: proxies().map(|proxy| (proxy.proxy_id, restarts(proxy))).collect(),
        agent_version: status.as_ref().map(|status| status.version.clone()),
        asked,
        at: Timestamp::now(),
    }
}

#[cfg(test)]
mod tests {
    use obfleet_wire::{agent::HostFacts, obproxy::ProxyStatus};

    use super::*;
    use crate::testing;

    #[test]
    fn a_proxy_nobody_has_looked_at_yet_is_not_dead() {
        let report = |proxy_id, serving| ProxyReport {
            proxy_id,
            serving,
            stopped: proxy_id == 2,
            offline: false,
            pid: None,
            version: None,
            restarts: 3,
            parameters: None,
            trouble: None,
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
        let proxy = |serving, stopped| ProxySighting {
            serving,
            stopped,
            offline: false,
        };
        assert_eq!(
            seen.proxies,
            BTreeMap::from([(1, proxy(true, false)), (2, proxy(false, true))])
        );
        assert_eq!(seen.asked, Timestamp(7));
        assert!(seen.online);
        assert_eq!(seen.restarts[&3].count, 3);
        let again = without_what_is_known(Some(&seen), &seen);
        assert!(again.restarts.is_empty() && again.proxies == seen.proxies);
        assert!(!is_news(&seen, &seen));
        assert!(!sighting(100, None, Timestamp(8)).online);
    }

    #[test]
    fn what_the_inventory_says_otherwise_is_told_again_unless_a_task_holds_the_proxy() {
        let fleet = testing::fleet_of(1, "4.2.1.0-11");
        let seen = |serving| {
            let sighting = ProxySighting {
                serving,
                stopped: false,
                offline: false,
            };
            HostSighting {
                proxies: BTreeMap::from([(10, sighting), (99, sighting)]),
                ..sighting_of_nothing()
            }
        };
        let mut proxies = fleet.proxies;
        assert!(!contradicts(&seen(true), &proxies));
        assert!(contradicts(&seen(false), &proxies));
        let proxy = proxies.get_mut(&10).unwrap();
        (proxy.status, proxy.operate_status) = (ProxyStatus::Upgrading, OperateStatus::Operating);
        assert!(!contradicts(&seen(true), &proxies) && !contradicts(&seen(false), &proxies));
        let proxy = proxies.get_mut(&10).unwrap();
        (proxy.status, proxy.operate_status) = (ProxyStatus::Stopped, OperateStatus::Normal);
        assert!(contradicts(&seen(true), &proxies));
        assert!(!contradicts(&seen(false), &proxies), "it is as it should be");
        proxies.get_mut(&10).unwrap().offline = true;
        assert!(contradicts(&seen(false), &proxies));
    }

    fn sighting_of_nothing() -> HostSighting {
        sighting(100, None, Timestamp(0))
    }
}
