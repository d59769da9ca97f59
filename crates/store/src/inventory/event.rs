//! What befell hosts and proxies.

use obfleet_fleet::inventory::{EventFilter, FleetEvent, Incident};
use obfleet_wire::time::Timestamp;
use sqlx::Error;

use crate::sql::{self, Pool, Query, Row, Transaction};

/// Deleted in one statement.
const BATCH: i64 = 500;

/// Writes down what befell a host, or a proxy on it.
pub(super) async fn write(
    tx: &mut Transaction,
    at: Timestamp,
    host_id: i64,
    proxy_id: Option<i64>,
    incident: &Incident,
) -> Result<(), Error> {
    // 53 bits, so that no reader of JSON rounds it.
    let id = i64::try_from(rand::random::<u64>() >> 11).unwrap_or_default();
    let detail = serde_json::to_string(incident).map_err(|error| Error::Encode(error.into()))?;
    let cluster_id: Option<i64> = match proxy_id {
        None => None,
        Some(proxy) => {
            let query = sql::query("SELECT cluster_id FROM obproxy_server WHERE id = ?");
            let row = query.bind(proxy).fetch_optional(&mut *tx).await?;
            row.map(|row| row.get("cluster_id")).transpose()?
        }
    };
    let query = sql::query(
        "INSERT INTO fleet_event (id, at, kind, host_id, proxy_id, cluster_id, detail) VALUES (?, ?, ?, ?, ?, ?, ?)",
    );
    let query = query.bind(id).bind(at.millis()).bind(incident.kind()).bind(host_id);
    query.bind(proxy_id).bind(cluster_id).bind(detail).execute(tx).await?;
    Ok(())
}

/// A condition for each part of the filter.
fn conditions(filter: &EventFilter) -> String {
    let ids = [
        ("cluster_id", filter.cluster_id),
        ("proxy_id", filter.proxy_id),
        ("host_id", filter.host_id),
    ];
    let mut all: Vec<String> = ids
        .into_iter()
        .filter(|(_, id)| id.is_some())
        .map(|(column, _)| format!("{column} = ?"))
        .collect();
    match &filter.within {
        None => {}
        Some(none) if none.is_empty() => all.push("1 = 0".to_owned()),
        Some(clusters) => all.push(format!("cluster_id IN ({})", sql::marks(clusters.len()))),
    }
    if !filter.kinds.is_empty() {
        all.push(format!("kind IN ({})", sql::marks(filter.kinds.len())));
    }
    match all.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", all.join(" AND ")),
    }
}

fn bound<'q>(query: Query<'q>, filter: &'q EventFilter) -> Query<'q> {
    let ids = [filter.cluster_id, filter.proxy_id, filter.host_id];
    let query = ids.into_iter().flatten().fold(query, Query::bind);
    let query = filter.within.iter().flatten().fold(query, Query::bind);
    filter.kinds.iter().fold(query, Query::bind)
}

pub(super) async fn list(
    tx: &mut Transaction,
    filter: &EventFilter,
    skip: i64,
    most: i64,
) -> Result<(Vec<FleetEvent>, i64), Error> {
    let conditions = conditions(filter);
    let count = sql::composed(format!("SELECT COUNT(*) AS total FROM fleet_event{conditions}"));
    let total = bound(count, filter).fetch_one(&mut *tx).await?.get("total")?;
    let page = sql::composed(format!(
        "SELECT * FROM fleet_event{conditions} ORDER BY at DESC, id DESC LIMIT ? OFFSET ?"
    ));
    let page = bound(page, filter).bind(most).bind(skip).fetch_all(tx).await?;
    Ok((page.iter().map(read).collect::<Result<_, _>>()?, total))
}

fn read(row: &Row) -> Result<FleetEvent, Error> {
    let detail: &str = row.get("detail")?;
    Ok(FleetEvent {
        id: row.get("id")?,
        at: Timestamp(row.get("at")?),
        incident: serde_json::from_str(detail).map_err(|error| Error::Decode(error.into()))?,
        host_id: row.get("host_id")?,
        proxy_id: row.get("proxy_id")?,
        cluster_id: row.get("cluster_id")?,
    })
}

/// Deletes some of what is too old or too much. → how many
pub(super) async fn prune(pool: &Pool, before: i64, most: i64) -> Result<u64, Error> {
    let newest = sql::query("SELECT at FROM fleet_event ORDER BY at DESC, id DESC LIMIT 1 OFFSET ?");
    let newest = newest.bind(most).fetch_optional(pool).await?;
    // All of one moment go together.
    let too_many: i64 = newest.map_or(Ok(i64::MIN), |row| row.get("at"))?;
    let old = sql::query("SELECT id FROM fleet_event WHERE at < ? OR at <= ? ORDER BY at LIMIT ?");
    let old = old.bind(before).bind(too_many).bind(BATCH).fetch_all(pool).await?;
    let ids: Vec<i64> = old.iter().map(|row| row.get("id")).collect::<Result<_, _>>()?;
    if ids.is_empty() {
        return Ok(0);
    }
    let delete = sql::composed(format!(
        "DELETE FROM fleet_event WHERE id IN ({})",
        sql::marks(ids.len())
    ));
    ids.iter().fold(delete.once(), Query::bind).execute(pool).await
}
