//! Servers' leases, by the database's clock, and what servers see of each other's work.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use obfleet_engine::state::MAX_WAIT_MS;
use obfleet_engine::store::{DueTask, HeldSubtask, LeaseRequest, Sighting};
use obfleet_engine::{Owner, StoreError, SubtaskId, SubtaskStatus, TaskId, TaskStatus};

use super::codec::{get, unavailable};
use crate::sql::{self, Dialect, Pool, Query, Transaction};

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Whether `server` and `incarnation`, the two values to bind, have a lease when the statement begins.
pub(super) fn is_leased(dialect: Dialect) -> String {
    let now = dialect.now_us();
    format!("EXISTS (SELECT 1 FROM engine_server WHERE server = ? AND incarnation = ? AND lease_expires_at > {now})")
}

/// Fails with [`StoreError::LeaseLost`] unless the owner has its lease.
pub(super) async fn test(tx: &mut Transaction, owner: &Owner) -> Result<(), StoreError> {
    let leased = sql::composed(format!(
        "SELECT server FROM engine_server WHERE server = ? AND incarnation = ? AND lease_expires_at > {}",
        tx.dialect().now_us()
    ));
    let leased = bind_owner(leased, owner)
        .fetch_optional(tx)
        .await
        .map_err(unavailable)?;
    leased.map(drop).ok_or(StoreError::LeaseLost)
}

pub(super) fn bind_owner<'q>(query: Query<'q>, owner: &'q Owner) -> Query<'q> {
    query.bind(&owner.server).bind(&owner.incarnation)
}

pub(super) async fn grant(tx: &mut Transaction, request: &LeaseRequest<'_>) -> Result<(), StoreError> {
    let LeaseRequest {
        owner,
        ttl,
        replaces,
        version,
        url,
    } = *request;
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let started_ms = i64::try_from(started.as_millis()).unwrap_or(i64::MAX);
    let (now, for_update) = (tx.dialect().now_us(), tx.dialect().for_update());
    let find = sql::composed(format!(
        "SELECT CASE WHEN lease_expires_at > {now} THEN 1 ELSE 0 END AS taken FROM engine_server WHERE server = ?{for_update}"
    ));
    let found = find
        .bind(&owner.server)
        .fetch_optional(&mut *tx)
        .await
        .map_err(unavailable)?;
    let Some(found) = found else {
        let insert = sql::composed(format!(
            "INSERT INTO engine_server (server, incarnation, started_at, lease_expires_at, version, draining, url) \
             VALUES (?, ?, ?, {now} + ?, ?, FALSE, ?)"
        ));
        let insert = bind_owner(insert, owner)
            .bind(started_ms)
            .bind(micros(ttl))
            .bind(version)
            .bind(url);
        return match insert.execute(tx).await {
            Ok(_) => Ok(()),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Err(held(owner)),
            Err(error) => Err(unavailable(error)),
        };
    };
    if get::<i64>(&found, "taken")? != 0 && !replaces {
        return Err(held(owner));
    }
    let update = sql::composed(format!(
        "UPDATE engine_server SET incarnation = ?, started_at = ?, lease_expires_at = {now} + ?, version = ?, \
         draining = FALSE, url = ? WHERE server = ?"
    ));
    let update = update
        .bind(&owner.incarnation)
        .bind(started_ms)
        .bind(micros(ttl))
        .bind(version);
    update
        .bind(url)
        .bind(&owner.server)
        .execute(tx)
        .await
        .map_err(unavailable)?;
    Ok(())
}

fn held(owner: &Owner) -> StoreError {
    let server = owner.server.clone();
    StoreError::LeaseHeld { server }
}

pub(super) async fn renew(pool: &Pool, owner: &Owner, ttl: Duration, draining: bool) -> Result<(), StoreError> {
    let now = pool.dialect().now_us();
    let renew = sql::composed(format!(
        "UPDATE engine_server SET lease_expires_at = {now} + ?, draining = ? \
         WHERE server = ? AND incarnation = ? AND lease_expires_at > {now}"
    ));
    let renew = bind_owner(renew.bind(micros(ttl)).bind(draining), owner);
    match renew.execute(pool).await.map_err(unavailable)? {
        0 => Err(StoreError::LeaseLost),
        _ => Ok(()),
    }
}

pub(super) async fn end(pool: &Pool, owner: &Owner) -> Result<(), StoreError> {
    let end = sql::query("UPDATE engine_server SET lease_expires_at = 0 WHERE server = ? AND incarnation = ?");
    bind_owner(end, owner).execute(pool).await.map_err(unavailable)?;
    Ok(())
}

/// One statement, because an idle server sends it several times a second.
pub(super) async fn look(pool: &Pool, now_ms: i64, limit: u32) -> Result<Sighting, StoreError> {
    let now = pool.dialect().now_us();
    let look = sql::composed(format!(
        "SELECT task_id, 0 AS subtask_id, rev AS epoch, ? AS state, '' AS server, '' AS incarnation, 0 AS alive FROM \
         (SELECT DISTINCT s.task_id, t.rev FROM subtask_instance s JOIN task_instance t ON t.id = s.task_id \
         WHERE s.state = ? AND (s.not_before IS NULL OR s.not_before <= ? OR s.not_before > ?) AND t.state = ? AND t.halt IS NULL LIMIT ?) AS due \
         UNION ALL \
         SELECT s.task_id, s.id, s.epoch, s.state, s.owner_server, s.owner_incarnation, \
         CASE WHEN e.server IS NULL THEN 0 ELSE 1 END FROM subtask_instance s LEFT JOIN engine_server e \
         ON e.server = s.owner_server AND e.incarnation = s.owner_incarnation AND e.lease_expires_at > {now} \
         WHERE s.state IN (?, ?)"
    ));
    let ready = SubtaskStatus::Ready.as_str();
    let look = look
        .bind(ready)
        .bind(ready)
        .bind(now_ms)
        .bind(now_ms.saturating_add(MAX_WAIT_MS))
        .bind(TaskStatus::Running.as_str())
        .bind(limit);
    let look = look
        .bind(SubtaskStatus::Running.as_str())
        .bind(SubtaskStatus::Canceling.as_str());
    let mut sighting = Sighting::default();
    for row in look.fetch_all(pool).await.map_err(unavailable)? {
        let task = TaskId(get(&row, "task_id")?);
        let state: &str = get(&row, "state")?;
        if state == ready {
            let rev = get(&row, "epoch")?;
            sighting.due.push(DueTask { task, rev });
            continue;
        }
        sighting.held.push(HeldSubtask {
            task,
            subtask: SubtaskId(get(&row, "subtask_id")?),
            epoch: get(&row, "epoch")?,
            canceling: state == SubtaskStatus::Canceling.as_str(),
            owner: Owner {
                server: get(&row, "server")?,
                incarnation: get(&row, "incarnation")?,
            },
            alive: get::<i64>(&row, "alive")? != 0,
        });
    }
    Ok(sighting)
}
