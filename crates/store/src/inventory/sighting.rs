//! Writing down what the observer saw. Rows change only where there is news, so that their times tell of it.

use obfleet_fleet::inventory::{HostSighting, ProxySighting};
use obfleet_wire::obproxy::{OperateStatus, ProxyStatus};
use sqlx::Error;

use super::rows::word;
use crate::sql::{self, Transaction};

pub(super) async fn record(tx: &mut Transaction, sighting: &HostSighting) -> Result<(), Error> {
    let query = sql::query(
        "UPDATE host SET online = ?, agent_version = COALESCE(?, agent_version), updated_at = ? \
         WHERE id = ? AND (online <> ? OR agent_version <> COALESCE(?, agent_version))",
    );
    let query = query
        .bind(sighting.online)
        .bind(&sighting.agent_version)
        .bind(sighting.at.millis())
        .bind(sighting.host_id)
        .bind(sighting.online)
        .bind(&sighting.agent_version);
    query.execute(&mut *tx).await?;
    // Away agents say nothing of their proxies: those keep their status, and their last active time grows old.
    for (proxy_id, seen) in &sighting.proxies {
        if seen.serving {
            let query = sql::query("UPDATE obproxy_server SET last_active_at = ? WHERE id = ? AND host_id = ?");
            let query = query.bind(sighting.at.millis()).bind(proxy_id).bind(sighting.host_id);
            query.execute(&mut *tx).await?;
        }
        set_offline(tx, sighting, *proxy_id, seen.offline).await?;
        set_status(tx, sighting, *proxy_id, *seen).await?;
    }
    Ok(())
}

async fn set_offline(tx: &mut Transaction, sighting: &HostSighting, proxy_id: i64, offline: bool) -> Result<(), Error> {
    let query = sql::query(
        "UPDATE obproxy_server SET offline = ? WHERE id = ? AND host_id = ? AND status_at <= ? AND offline <> ?",
    );
    let query = query.bind(offline).bind(proxy_id).bind(sighting.host_id);
    query.bind(sighting.asked.millis()).bind(offline).execute(tx).await?;
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
        let query = sql::query(
            "UPDATE obproxy_cluster SET updated_at = ? WHERE id = (SELECT cluster_id FROM obproxy_server WHERE id = ?)",
        );
        query.bind(sighting.at.millis()).bind(proxy_id).execute(tx).await?;
    }
    Ok(())
}
