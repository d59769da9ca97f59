//! The kinds of clients: short connections, a pool, idle ones, and transactions of all lengths.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::traffic::{Connection, Target};

const SHORT_CLIENTS: usize = 2;
const SHORT_PAUSE: Duration = Duration::from_millis(80);
const POOLED: usize = 4;
const POOL_PAUSE: Duration = Duration::from_millis(800);
const IDLE: usize = 3;
const IDLE_PAUSE: Duration = Duration::from_secs(4);
/// Lengths of the transactions, in milliseconds: one client each.
const TRANSACTIONS: [u64; 7] = [100, 300, 1_000, 3_000, 6_000, 12_000, 20_000];
/// Long enough to be seen between transactions: who never rests is cut at the end of the drain window.
const TRANSACTION_PAUSE: Duration = Duration::from_millis(1_000);
const STATEMENT_PAUSE: Duration = Duration::from_millis(500);
/// Before connecting again where it failed.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Starts all of them on one proxy.
pub(crate) fn start(target: &Arc<Target>, running: &mut JoinSet<()>) {
    for _ in 0..SHORT_CLIENTS {
        running.spawn(short(Arc::clone(target)));
    }
    for _ in 0..POOLED {
        running.spawn(pooled(Arc::clone(target), Duration::ZERO, POOL_PAUSE));
    }
    for _ in 0..IDLE {
        running.spawn(idle(Arc::clone(target)));
    }
    for length in TRANSACTIONS.map(Duration::from_millis) {
        running.spawn(pooled(Arc::clone(target), length, TRANSACTION_PAUSE));
    }
}

/// Connects, asks one thing, leaves.
async fn short(target: Arc<Target>) {
    loop {
        match target.connect().await {
            Some(mut connection) => {
                if connection.answers("select 1").await {
                    connection.close().await;
                } else {
                    target.closed_at_boundary();
                }
                // At full speed until the proxy is warm.
                if target.is_warm() {
                    sleep(SHORT_PAUSE).await;
                }
            }
            None => sleep(RETRY_PAUSE).await,
        }
    }
}

/// One place in a pool: a transaction of some length, a pause, and so on, over one connection as long as it lasts.
async fn pooled(target: Arc<Target>, length: Duration, pause: Duration) {
    let mut place = None;
    loop {
        let mut connection = borrow(&target, &mut place).await;
        let begun = Instant::now();
        if transaction(&mut connection, length).await {
            target.committed();
            place = Some(connection);
        } else {
            target.broken(&connection, begun.elapsed());
        }
        sleep(pause).await;
    }
}

/// As real pools do: the connection is tested before use, and replaced when it is gone.
async fn borrow(target: &Target, place: &mut Option<Connection>) -> Connection {
    if let Some(mut connection) = place.take() {
        if connection.answers("select 1").await {
            return connection;
        }
        target.closed_at_boundary();
    }
    loop {
        match target.connect().await {
            Some(connection) => return connection,
            None => sleep(RETRY_PAUSE).await,
        }
    }
}

/// From BEGIN to the answer to COMMIT. → whether all was answered
async fn transaction(connection: &mut Connection, length: Duration) -> bool {
    let end = Instant::now() + length;
    if !connection.answers("begin").await {
        return false;
    }
    loop {
        if !connection.answers("select 1").await {
            return false;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return connection.answers("commit").await;
        }
        sleep(left.min(STATEMENT_PAUSE)).await;
    }
}

/// Holds a connection and seldom uses it.
async fn idle(target: Arc<Target>) {
    let mut place = None;
    loop {
        let connection = borrow(&target, &mut place).await;
        place = Some(connection);
        sleep(IDLE_PAUSE).await;
    }
}
