//! The short history of what is measured of proxies.
//!
//! A row has all figures of one proxy at one moment, or of one hour: as many rows as figures would cost ten times as much.
//! Writing is idempotent, so several servers that hear the same from an agent keep it once.

mod figures;

use async_trait::async_trait;
use obfleet_fleet::monitor::{MetricStore, MetricStoreError, points::Hour};
use obfleet_wire::{agent::ProxySample, time::Timestamp};
use sqlx::Error;

use crate::sql::{self, Pool, Query, Row, Value, retried};

/// Rows of one statement.
const ROWS: usize = 32;
/// Rows of one transaction: nobody waits long behind it.
const BATCH: usize = 256;

/// The tables of metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    pool: Pool,
}

fn failed(error: Error) -> MetricStoreError {
    MetricStoreError(error.to_string())
}

impl Metrics {
    pub(crate) fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// Writes rows of a proxy, a number and figures.
    async fn replace(&self, into: &str, rows: &[(i64, i64, String)]) -> Result<(), MetricStoreError> {
        for batch in rows.chunks(BATCH) {
            let written = retried(|| async {
                let mut tx = self.pool.write().await?;
                tx.execute_all(statements(into, batch)).await?;
                tx.commit().await
            });
            written.await.map_err(failed)?;
        }
        Ok(())
    }

    /// Rows of some proxies whose number is from `from` on and before `to`.
    async fn rows(
        &self,
        (table, number): (&str, &str),
        proxies: &[i64],
        from: i64,
        to: i64,
    ) -> Result<Vec<Row>, MetricStoreError> {
        if proxies.is_empty() {
            return Ok(Vec::new());
        }
        let query = sql::composed(format!(
            "SELECT proxy_id, {number}, figures FROM {table} WHERE proxy_id IN ({}) AND {number} >= ? AND {number} < ? \
             ORDER BY proxy_id, {number}",
            sql::marks(proxies.len())
        ));
        let query = proxies.iter().fold(query.once(), Query::bind);
        query.bind(from).bind(to).fetch_all(&self.pool).await.map_err(failed)
    }
}

fn statements<'r>(into: &str, rows: &'r [(i64, i64, String)]) -> Vec<Query<'r>> {
    let statement = |rows: &'r [(i64, i64, String)]| {
        let marks = vec!["(?, ?, ?)"; rows.len()].join(", ");
        let query = sql::composed(format!("REPLACE INTO {into} VALUES {marks}"));
        rows.iter().fold(query, |query, (proxy, number, figures)| {
            let values: [Value<'r>; 3] = [proxy.into(), number.into(), figures.into()];
            values.into_iter().fold(query, Query::bind)
        })
    };
    rows.chunks(ROWS).map(statement).collect()
}

#[async_trait]
impl MetricStore for Metrics {
    async fn write(&self, samples: &[ProxySample]) -> Result<(), MetricStoreError> {
        let row = |sample: &ProxySample| (sample.proxy_id, sample.at.millis(), figures::of_sample(&sample.values));
        let rows: Vec<_> = samples.iter().map(row).collect();
        self.replace("metric_sample (proxy_id, at, figures)", &rows).await
    }

    async fn samples(&self, proxies: &[i64], from: i64, to: i64) -> Result<Vec<ProxySample>, MetricStoreError> {
        let rows = self.rows(("metric_sample", "at"), proxies, from, to).await?;
        let sample = |row: &Row| {
            Ok(ProxySample {
                proxy_id: row.get("proxy_id")?,
                at: Timestamp(row.get("at")?),
                values: figures::read(row.get("figures")?)?,
            })
        };
        rows.iter().map(sample).collect::<Result<_, Error>>().map_err(failed)
    }

    async fn write_hours(&self, hours: &[Hour]) -> Result<(), MetricStoreError> {
        let row = |hour: &Hour| (hour.proxy_id, hour.hour, figures::of_hour(&hour.minutes));
        let rows: Vec<_> = hours.iter().map(row).collect();
        self.replace("metric_hour (proxy_id, hour, figures)", &rows).await
    }

    async fn hours(&self, proxies: &[i64], from: i64, to: i64) -> Result<Vec<Hour>, MetricStoreError> {
        let rows = self.rows(("metric_hour", "hour"), proxies, from, to).await?;
        let hour = |row: &Row| {
            Ok(Hour {
                proxy_id: row.get("proxy_id")?,
                hour: row.get("hour")?,
                minutes: figures::read(row.get("figures")?)?,
            })
        };
        rows.iter().map(hour).collect::<Result<_, Error>>().map_err(failed)
    }

    async fn proxies(&self) -> Result<Vec<i64>, MetricStoreError> {
        let query =
            sql::query("SELECT proxy_id FROM metric_sample UNION SELECT proxy_id FROM metric_hour ORDER BY proxy_id");
        let rows = query.fetch_all(&self.pool).await.map_err(failed)?;
        let ids = rows.iter().map(|row| row.get("proxy_id"));
        ids.collect::<Result<_, Error>>().map_err(failed)
    }

    async fn forget(&self, proxy: i64, samples_before: i64, hours_before: i64) -> Result<(), MetricStoreError> {
        let samples = sql::query("DELETE FROM metric_sample WHERE proxy_id = ? AND at < ?");
        let samples = samples.bind(proxy).bind(samples_before).execute(&self.pool);
        samples.await.map_err(failed)?;
        let hours = sql::query("DELETE FROM metric_hour WHERE proxy_id = ? AND hour < ?");
        let hours = hours.bind(proxy).bind(hours_before).execute(&self.pool);
        hours.await.map_err(failed)?;
        Ok(())
    }
}
