//! Writing down what the observer saw, and what befell according to that. Rows change only where there is news, so that their
//! times tell of it; and whoever changes one writes the event, so that of several servers one does.

use obfleet_fleet::inventory::{HostSighting, Incident, ProxySighting, Restarts};
use obfleet_wire::obproxy::{OperateStatus, ProxyStatus};
use sqlx::Error;

use super::{
    event,
    ids::{IDS, among, bind_all},
    news::{self, News},
    rows::word,
};
use crate::sql::{self, Transaction};

/// Of why a proxy does not start, the characters that are kept.
const LONGEST_TROUBLE: usize = 2000;

pub(super) async fn record(tx: &mut Transaction, sighting: &HostSighting) -> Result<(), Error> {
    news::tell(tx, News::Seen(sighting.host_id));
    let query = sql::query("UPDATE host SET online = ?, updated_at = ? WHERE id = ? AND online <> ?");
    let query = query.bind(sighting.online).bind(sighting.at.millis());
    let changed = query
        .bind(sighting.host_id)
        .bind(sighting.online)
        .execute(&mut *tx)
        .await?;
    if changed == 1 {
        let incident = match sighting.online {
            true => Incident::AgentOnline,
            false => Incident::AgentOffline,
        };
        event::write(tx, sighting.at, sighting.host_id, None, &incident).await?;
    }
    if let Some(version) = &sighting.agent_version {
        let query = sql::query("UPDATE host SET agent_version = ?, updated_at = ? WHERE id = ? AND agent_version <> ?");
        let query = query.bind(version).bind(sighting.at.millis());
        query.bind(sighting.host_id).bind(version).execute(&mut *tx).await?;
    }
    for (proxy_id, restarts) in &sighting.restarts {
        set_restarts(tx, sighting, *proxy_id, restarts).await?;
    }
    // Away agents say nothing of their proxies: those keep their status, and their last active time grows old. What is as it
    // was, as nearly everything is at nearly every look, is passed over by one statement for all proxies of a host.
    let serving = chosen(sighting, |seen| seen.serving);
    for ids in serving.chunks(IDS) {
        let query = among(
            "UPDATE obproxy_server SET last_active_at = ? WHERE host_id = ? AND id",
            ids.len(),
        );
        let query = query.bind(sighting.at.millis()).bind(sighting.host_id);
        bind_all(query, ids).execute(&mut *tx).await?;
    }
    for offline in [false, true] {
        let these = chosen(sighting, |seen| seen.offline == offline);
        for ids in these.chunks(IDS) {
            set_offline(tx, sighting, ids, offline).await?;
        }
    }
    for (proxy_id, seen) in of_another_status(tx, sighting).await? {
        set_status(tx, sighting, proxy_id, seen).await?;
    }
    Ok(())
}

fn chosen(sighting: &HostSighting, is_one: impl Fn(&ProxySighting) -> bool) -> Vec<i64> {
    let these = sighting.proxies.iter().filter(|(_, seen)| is_one(seen));
    these.map(|(id, _)| *id).collect()
}

/// Proxies whose status may have to change.
async fn of_another_status(tx: &mut Transaction, sighting: &HostSighting) -> Result<Vec<(i64, ProxySighting)>, Error> {
    let mut found = Vec::new();
    for status in [ProxyStatus::Running, ProxyStatus::Stopped, ProxyStatus::Unavailable] {
        let these = chosen(sighting, |seen| seen.status() == status);
        for ids in these.chunks(IDS) {
            let query = among(
                "SELECT id FROM obproxy_server WHERE host_id = ? AND status <> ? AND id",
                ids.len(),
            );
            let query = query.bind(sighting.host_id).bind(word(&status));
            for row in bind_all(query, ids).fetch_all(&mut *tx).await? {
                let id: i64 = row.get("id")?;
                found.extend(sighting.proxies.get(&id).map(|seen| (id, *seen)));
            }
        }
    }
    Ok(found)
}

/// A proxy that does not start is tried again and again: that is one crash.
async fn set_restarts(
    tx: &mut Transaction,
    sighting: &HostSighting,
    proxy_id: i64,
    restarts: &Restarts,
) -> Result<(), Error> {
    let count = |condition: &'static str| {
        let query = sql::query(condition).bind(restarts.count).bind(proxy_id);
        query.bind(sighting.host_id).bind(restarts.count)
    };
    let crashed = count(
        "UPDATE obproxy_server SET restarts = ? WHERE id = ? AND host_id = ? AND restarts < ? AND start_trouble IS NULL",
    );
    if crashed.execute(&mut *tx).await? == 1 {
        let incident = Incident::ProxyCrashed {
            restarts: restarts.count,
        };
        event::write(tx, sighting.at, sighting.host_id, Some(proxy_id), &incident).await?;
    }
    let tried = count("UPDATE obproxy_server SET restarts = ? WHERE id = ? AND host_id = ? AND restarts < ?");
    tried.execute(&mut *tx).await?;
    match &restarts.trouble {
        Some(reason) => {
            let reason: String = reason.chars().take(LONGEST_TROUBLE).collect();
            let query = sql::query(
                "UPDATE obproxy_server SET start_trouble = ? WHERE id = ? AND host_id = ? AND start_trouble IS NULL",
            );
            let query = query.bind(&reason).bind(proxy_id).bind(sighting.host_id);
            if query.execute(&mut *tx).await? == 1 {
                let incident = Incident::ProxyStartFailed { reason };
                event::write(tx, sighting.at, sighting.host_id, Some(proxy_id), &incident).await?;
            }
        }
        None => {
            let query = sql::query(
                "UPDATE obproxy_server SET start_trouble = NULL WHERE id = ? AND host_id = ? AND start_trouble IS NOT NULL",
            );
            query.bind(proxy_id).bind(sighting.host_id).execute(tx).await?;
        }
    }
    Ok(())
}

async fn set_offline(tx: &mut Transaction, sighting: &HostSighting, ids: &[i64], offline: bool) -> Result<(), Error> {
    let query = "UPDATE obproxy_server SET offline = ? WHERE host_id = ? AND status_at <= ? AND offline <> ? AND id";
    let query = among(query, ids.len()).bind(offline).bind(sighting.host_id);
    let query = query.bind(sighting.asked.millis()).bind(offline);
    bind_all(query, ids).execute(tx).await?;
    Ok(())
}

/// A proxy that a task holds keeps its status: the task says what it is. One that is stopped on purpose and does not serve
/// is as it should be. A look that began before a task said how the proxy is, and is told of only now, changes nothing.
async fn set_status(
    tx: &mut Transaction,
    sighting: &HostSighting,
    proxy_id: i64,
    seen: ProxySighting,
) -> Result<(), Error> {
    let status = seen.status();
    let query = sql::query(
        "UPDATE obproxy_server SET status = ? WHERE id = ? AND host_id = ? AND operate_status = ? AND status_at <= ? \
         AND status NOT IN (?, ?)",
    );
    let query = query.bind(word(&status)).bind(proxy_id).bind(sighting.host_id);
    let as_it_should_be = if seen.serving { status } else { ProxyStatus::Stopped };
    let query = query.bind(word(&OperateStatus::Normal)).bind(sighting.asked.millis());
    let query = query.bind(word(&status)).bind(word(&as_it_should_be));
    if query.execute(&mut *tx).await? == 1 {
        let incident = match status {
            ProxyStatus::Running => Some(Incident::ProxyAvailable),
            ProxyStatus::Unavailable => Some(Incident::ProxyUnavailable),
            // On purpose.
            _ => None,
        };
        if let Some(incident) = &incident {
            event::write(tx, sighting.at, sighting.host_id, Some(proxy_id), incident).await?;
        }
        let query = sql::query(
            "UPDATE obproxy_cluster SET updated_at = ? WHERE id = (SELECT cluster_id FROM obproxy_server WHERE id = ?)",
        );
        query.bind(sighting.at.millis()).bind(proxy_id).execute(tx).await?;
    }
    Ok(())
}
