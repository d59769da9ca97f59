//! Parameters: what clusters give their proxies, what proxies have, and what was changed.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use obfleet_engine::TaskId;
use obfleet_fleet::inventory::{
    InventoryError, ParameterChange, ParameterRecords, PastChange, ProxyConfig, SeenItems, WantedRow, WantedValue,
};
use obfleet_wire::time::Timestamp;
use serde::Serialize;
use sqlx::Error;

use super::{
    SqlInventory, failed,
    rows::{get, json, parsed, time},
};
use crate::{
    sql::{self, Query, Row, Target, Transaction, Value},
    tasks::ApplyError,
};

/// Stands for all of the cluster where a proxy could be.
const WHOLE_CLUSTER: i64 = 0;

/// Texts and numbers alone, so it never fails.
fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn wanted(row: &Row) -> Result<WantedValue, Error> {
    let proxy_id: i64 = get(row, "proxy_id")?;
    Ok(WantedValue {
        proxy_id: (proxy_id != WHOLE_CLUSTER).then_some(proxy_id),
        name: get(row, "name")?,
        value: get(row, "value")?,
        version: get(row, "version")?,
    })
}

fn config(row: &Row) -> Result<ProxyConfig, Error> {
    Ok(ProxyConfig {
        proxy_id: get(row, "proxy_id")?,
        digest: get(row, "digest")?,
        version: parsed(get(row, "version")?)?,
        read: time(row, "read_at")?,
        values: json(row, "config")?,
    })
}

fn past_change(row: &Row) -> Result<PastChange, Error> {
    Ok(PastChange {
        change: json(row, "details")?,
        task_id: get(row, "task_id")?,
        at: time(row, "changed_at")?,
    })
}

fn every<T>(rows: &[Row], read: impl Fn(&Row) -> Result<T, Error>) -> Result<Vec<T>, InventoryError> {
    rows.iter().map(read).collect::<Result<_, _>>().map_err(failed)
}

#[async_trait]
impl ParameterRecords for SqlInventory {
    async fn wanted(&self, cluster_id: i64) -> Result<Vec<WantedValue>, InventoryError> {
        let query = sql::query("SELECT * FROM wanted_parameter WHERE cluster_id = ? ORDER BY proxy_id, name");
        let rows = query.bind(cluster_id).fetch_all(&self.readers).await.map_err(failed)?;
        every(&rows, wanted)
    }

    async fn configs(&self, cluster_id: i64) -> Result<BTreeMap<i64, ProxyConfig>, InventoryError> {
        let query = sql::query(
            "SELECT c.* FROM proxy_config c JOIN obproxy_server s ON s.id = c.proxy_id \
             WHERE s.cluster_id = ? AND s.deleted = FALSE",
        );
        let rows = query.bind(cluster_id).fetch_all(&self.readers).await.map_err(failed)?;
        let configs = every(&rows, config)?.into_iter();
        Ok(configs.map(|config| (config.proxy_id, config)).collect())
    }

    async fn config(&self, proxy_id: i64) -> Result<Option<ProxyConfig>, InventoryError> {
        let query = sql::query("SELECT * FROM proxy_config WHERE proxy_id = ?").bind(proxy_id);
        let row = query.fetch_optional(&self.readers).await.map_err(failed)?;
        row.as_ref().map(config).transpose().map_err(failed)
    }

    async fn record_config(&self, config: &ProxyConfig, digest: Option<&str>) -> Result<bool, InventoryError> {
        match digest {
            Some(digest) => Ok(update_config(&self.writer, config, Some(digest))
                .await
                .map_err(failed)?
                == 1),
            None => match insert_config(&self.writer, config).await {
                Ok(()) => Ok(true),
                // Somebody was faster.
                Err(Error::Database(error)) if error.is_unique_violation() => Ok(false),
                Err(error) => Err(failed(error)),
            },
        }
    }

    async fn seen_versions(&self) -> Result<BTreeSet<String>, InventoryError> {
        let query = sql::query("SELECT version FROM proxy_item");
        let rows = query.fetch_all(&self.readers).await.map_err(failed)?;
        let versions = every(&rows, |row| get::<String>(row, "version"))?;
        Ok(versions.into_iter().collect())
    }

    async fn seen_items(&self, version: &str) -> Result<Option<SeenItems>, InventoryError> {
        let query = sql::query("SELECT items FROM proxy_item WHERE version = ?").bind(version);
        let row = query.fetch_optional(&self.readers).await.map_err(failed)?;
        let items = row.as_ref().map(|row| json(row, "items"));
        items.transpose().map_err(failed)
    }

    async fn keep_seen_items(&self, version: &str, items: &SeenItems) -> Result<(), InventoryError> {
        let query = sql::query("INSERT INTO proxy_item (version, items) VALUES (?, ?)");
        match query.bind(version).bind(to_json(items)).execute(&self.writer).await {
            Ok(_) => Ok(()),
            // All proxies of a version say the same.
            Err(Error::Database(error)) if error.is_unique_violation() => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    async fn past_changes(
        &self,
        cluster_id: i64,
        name: Option<&str>,
        page: u64,
        size: u64,
    ) -> Result<(Vec<PastChange>, u64), InventoryError> {
        let mut condition = "cluster_id = ?".to_owned();
        let mut values = vec![Value::from(cluster_id)];
        if let Some(name) = name {
            condition.push_str(" AND name = ?");
            values.push(name.to_ascii_lowercase().into());
        }
        let mut tx = self.readers.read().await.map_err(failed)?;
        let count = sql::composed(format!(
            "SELECT COUNT(*) AS total FROM parameter_change WHERE {condition}"
        ));
        let count = values.iter().cloned().fold(count, Query::bind);
        let total: i64 = get(&count.fetch_one(&mut tx).await.map_err(failed)?, "total").map_err(failed)?;
        let changes = sql::composed(format!(
            "SELECT * FROM parameter_change WHERE {condition} ORDER BY task_id DESC, number LIMIT ? OFFSET ?"
        ));
        let (size, before) = (bounded(size), bounded(page.saturating_sub(1).saturating_mul(size)));
        let changes = values.into_iter().fold(changes, Query::bind).bind(size).bind(before);
        let rows = changes.fetch_all(&mut tx).await.map_err(failed)?;
        Ok((every(&rows, past_change)?, total.unsigned_abs()))
    }
}

fn bounded(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

async fn insert_config(db: impl Into<Target<'_>>, config: &ProxyConfig) -> Result<(), Error> {
    let query =
        sql::query("INSERT INTO proxy_config (digest, version, read_at, config, proxy_id) VALUES (?, ?, ?, ?, ?)");
    let query = query.bind(&config.digest).bind(config.version.to_string());
    let query = query.bind(config.read.millis()).bind(to_json(&config.values));
    query.bind(config.proxy_id).execute(db).await?;
    Ok(())
}

/// Only where `digest` is the one that is there, if any is named. → how many rows
async fn update_config(db: impl Into<Target<'_>>, config: &ProxyConfig, digest: Option<&str>) -> Result<u64, Error> {
    let condition = if digest.is_some() { " AND digest = ?" } else { "" };
    let query = sql::composed(format!(
        "UPDATE proxy_config SET digest = ?, version = ?, read_at = ?, config = ? WHERE proxy_id = ?{condition}"
    ));
    let query = query.bind(&config.digest).bind(config.version.to_string());
    let query = query.bind(config.read.millis()).bind(to_json(&config.values));
    let query = query.bind(config.proxy_id);
    let query = match digest {
        Some(digest) => query.bind(digest),
        None => query,
    };
    query.execute(db).await
}

/// The configuration as it is known from now on, whatever was known before.
pub(super) async fn set_config(tx: &mut Transaction, config: &ProxyConfig) -> Result<(), ApplyError> {
    if update_config(&mut *tx, config, None).await? == 0 {
        insert_config(tx, config).await?;
    }
    Ok(())
}

/// Whoever changes the set holds the cluster's lock; what was planned for another version of it is refused.
pub(super) async fn expect_version(tx: &mut Transaction, cluster_id: i64, version: i64) -> Result<(), ApplyError> {
    let for_update = tx.dialect().for_update();
    let query = sql::composed(format!(
        "SELECT parameter_version FROM obproxy_cluster WHERE id = ?{for_update}"
    ));
    let row = query.bind(cluster_id).fetch_optional(tx).await?;
    let found: Option<i64> = row.map(|row| get(&row, "parameter_version")).transpose()?;
    if found == Some(version) {
        return Ok(());
    }
    let found = found.map_or("none".to_owned(), |found| found.to_string());
    Err(ApplyError::Refused(format!(
        "the parameters of cluster {cluster_id} have version {found} by now, not {version}"
    )))
}

pub(super) async fn set_wanted(
    tx: &mut Transaction,
    cluster_id: i64,
    version: i64,
    rows: &[WantedRow],
) -> Result<(), ApplyError> {
    for row in rows {
        let proxy_id = row.proxy_id.unwrap_or(WHOLE_CLUSTER);
        let delete = sql::query("DELETE FROM wanted_parameter WHERE cluster_id = ? AND proxy_id = ? AND name = ?");
        let delete = delete.bind(cluster_id).bind(proxy_id).bind(&row.name);
        delete.execute(&mut *tx).await?;
        if let Some((value, version)) = &row.value {
            let insert = sql::query(
                "INSERT INTO wanted_parameter (cluster_id, proxy_id, name, value, version) VALUES (?, ?, ?, ?, ?)",
            );
            let insert = insert.bind(cluster_id).bind(proxy_id).bind(&row.name);
            insert.bind(value).bind(version).execute(&mut *tx).await?;
        }
    }
    let query = sql::query("UPDATE obproxy_cluster SET parameter_version = ? WHERE id = ?");
    query.bind(version).bind(cluster_id).execute(tx).await?;
    Ok(())
}

/// The time is that of the task's last event: the one this is committed with.
pub(super) async fn set_changes(
    tx: &mut Transaction,
    task: TaskId,
    cluster_id: i64,
    changes: &[ParameterChange],
) -> Result<(), ApplyError> {
    let delete = sql::query("DELETE FROM parameter_change WHERE task_id = ?");
    delete.bind(task.0).execute(&mut *tx).await?;
    if changes.is_empty() {
        return Ok(());
    }
    let at = sql::query("SELECT at FROM task_event WHERE task_id = ? ORDER BY seq DESC LIMIT 1");
    let at = at.bind(task.0).fetch_optional(&mut *tx).await?;
    let at = at.map(|row| time(&row, "at")).transpose()?.unwrap_or(Timestamp(0));
    for (number, change) in (1_i64..).zip(changes) {
        let insert = sql::query(
            "INSERT INTO parameter_change (task_id, number, cluster_id, name, changed_at, details) \
             VALUES (?, ?, ?, ?, ?, ?)",
        );
        let insert = insert.bind(task.0).bind(number).bind(cluster_id).bind(&change.name);
        insert.bind(at.millis()).bind(to_json(change)).execute(&mut *tx).await?;
    }
    Ok(())
}
