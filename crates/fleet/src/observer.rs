//! Looks at every host at a steady pace and writes down what changed: which agents answer, which proxies serve.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use obfleet_wire::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::{
    flows::crew::Crew,
    inventory::{Host, HostSighting},
};

/// Time between two looks. Short enough that a person who watches sees a dead proxy soon.
const PERIOD: Duration = Duration::from_secs(2);

/// A sighting without news is still written this often, in looks, so that `lastActiveTime` goes on.
const REFRESH: u64 = 15;

/// Observes until told to stop.
pub async fn observe(crew: Arc<Crew>, stop: CancellationToken) {
    let mut known = BTreeMap::<i64, HostSighting>::new();
    for look in 0_u64.. {
        match crew.inventory.hosts().await {
            Ok(hosts) => {
                let sightings = join_all(hosts.iter().map(|host| look_at(&crew, host))).await;
                for sighting in sightings {
                    let news = known.get(&sighting.host_id).is_none_or(|last| is_news(last, &sighting));
                    if (news || look % REFRESH == 0)
                        && let Err(error) = crew.inventory.record_sighting(&sighting).await
                    {
                        tracing::warn!(host = sighting.host_id, %error, "the sighting of a host was not written down");
                    }
                    known.insert(sighting.host_id, sighting);
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

async fn look_at(crew: &Crew, host: &Host) -> HostSighting {
    let status = crew.agents.status(host).await;
    let proxies = status.iter().flat_map(|status| &status.proxies);
    HostSighting {
        host_id: host.id,
        online: status.is_ok(),
        serving: proxies.map(|proxy| (proxy.proxy_id, proxy.serving)).collect(),
        agent_version: status.as_ref().ok().map(|status| status.version.clone()),
        at: Timestamp::now(),
    }
}
