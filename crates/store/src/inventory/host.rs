//! Hosts that go.

use obfleet_fleet::inventory::HostsDeleted;
use obfleet_wire::time::Timestamp;
use sqlx::Error;

use crate::sql::{self, Query, Transaction};

/// Whether the host was deleted; it stays as it is until the transaction ends.
pub(super) async fn is_deleted(tx: &mut Transaction, id: i64) -> Result<bool, Error> {
    let for_update = tx.dialect().for_update();
    let query = sql::composed(format!("SELECT deleted FROM host WHERE id = ?{for_update}"));
    let row = query.bind(id).fetch_optional(tx).await?;
    row.map_or(Ok(false), |row| row.get("deleted"))
}

/// Deletes all of them, unless one is not there or carries a proxy.
pub(super) async fn delete(tx: &mut Transaction, ids: &[i64], at: Timestamp) -> Result<HostsDeleted, Error> {
    if ids.is_empty() {
        return Ok(HostsDeleted::Gone);
    }
    let marks = sql::marks(ids.len());
    let bound = |text: String| ids.iter().fold(sql::composed(text).once(), Query::bind);
    // Whoever puts a proxy on one of them waits.
    let for_update = tx.dialect().for_update();
    let there = bound(format!(
        "SELECT id FROM host WHERE id IN ({marks}) AND deleted = FALSE ORDER BY id{for_update}"
    ));
    let there = there.fetch_all(&mut *tx).await?;
    let there: Vec<i64> = there.iter().map(|row| row.get("id")).collect::<Result<_, _>>()?;
    if let Some(missing) = ids.iter().find(|id| !there.contains(id)) {
        return Ok(HostsDeleted::Missing(*missing));
    }
    let carried = bound(format!(
        "SELECT id, host_id FROM obproxy_server WHERE host_id IN ({marks}) AND deleted = FALSE ORDER BY id"
    ));
    let carried = carried.fetch_all(&mut *tx).await?;
    let carried: Vec<(i64, i64)> = carried
        .iter()
        .map(|row| Ok((row.get("host_id")?, row.get("id")?)))
        .collect::<Result<_, Error>>()?;
    if let Some((host, _)) = carried.first() {
        let proxies = carried.iter().filter(|(on, _)| on == host).map(|(_, proxy)| *proxy);
        return Ok(HostsDeleted::Carries(*host, proxies.collect()));
    }
    let delete = sql::composed(format!(
        "UPDATE host SET deleted = TRUE, online = FALSE, updated_at = ? WHERE id IN ({marks})"
    ));
    let delete = ids.iter().fold(delete.once().bind(at.millis()), Query::bind);
    delete.execute(tx).await?;
    Ok(HostsDeleted::Gone)
}
