//! The kinds of clients: short connections, pools, idle ones, and transactions of all lengths and pauses.

use std::{ops::Range, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    ledger::Entry,
    traffic::{Connection, Lost, Target},
};

const SHORT_CLIENTS: usize = 2;
const SHORT_PAUSE: Duration = Duration::from_millis(80);
/// Pauses of the pooled clients, in milliseconds: two clients each. The short ones rest for less than a drain's two looks
/// take.
const POOLS: [Range<u64>; 2] = [150..200, 700..900];
const POOLED: usize = 2;
const IDLE: usize = 3;
const IDLE_PAUSE: Duration = Duration::from_secs(4);
/// Lengths of the transactions, and whether the client hurries on to the next: one client each.
const TRANSACTIONS: [(u64, bool); 7] = [
    (100, true),
    (300, false),
    (1_000, true),
    (3_000, false),
    (6_000, true),
    (12_000, false),
    (20_000, true),
];
/// Pauses between transactions, in milliseconds.
const HURRIED: Range<u64> = 200..300;
const UNHURRIED: Range<u64> = 900..1_100;
const STATEMENT_PAUSE: Duration = Duration::from_millis(500);
/// Before connecting again where it failed.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Starts all of them on one proxy.
pub(crate) fn start(target: &Arc<Target>, running: &mut JoinSet<()>) {
    for _ in 0..SHORT_CLIENTS {
        running.spawn(short(Arc::clone(target)));
    }
    for pauses in POOLS {
        for _ in 0..POOLED {
            running.spawn(pooled(Arc::clone(target), Duration::ZERO, pauses.clone()));
        }
    }
    for _ in 0..IDLE {
        running.spawn(idle(Arc::clone(target)));
    }
    for (length, hurried) in TRANSACTIONS {
        let pauses = if hurried { HURRIED } else { UNHURRIED };
        running.spawn(pooled(Arc::clone(target), Duration::from_millis(length), pauses));
    }
}

/// Connects, asks one thing, leaves.
async fn short(target: Arc<Target>) {
    loop {
        match target.connect().await {
            Some(mut connection) => {
                if connection.run("select 1").await.is_ok() {
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
async fn pooled(target: Arc<Target>, length: Duration, pauses: Range<u64>) {
    let mut place = None;
    let client = target.ledger.new_client();
    for number in 0.. {
        let entry = Entry { client, number };
        let mut connection = borrow(&target, &mut place).await;
        let begun = Instant::now();
        match transaction(&target, &mut connection, entry, length).await {
            Ok(()) => {
                target.committed(entry);
                place = Some(connection);
            }
            Err(lost) => target.broken(&connection, begun.elapsed(), &lost),
        }
        sleep(Duration::from_millis(rand::random_range(pauses.clone()))).await;
    }
}

/// As real pools do: the connection is tested before use, and replaced when it is gone.
async fn borrow(target: &Target, place: &mut Option<Connection>) -> Connection {
    if let Some(mut connection) = place.take() {
        if connection.run("select 1").await.is_ok() {
            return connection;
        }
        target.closed_at_boundary();
    }
    loop {
        match target.connect().await {
            Some(mut connection) => {
                target.identify(&mut connection).await;
                return connection;
            }
            None => sleep(RETRY_PAUSE).await,
        }
    }
}

/// From BEGIN to the answer to COMMIT.
async fn transaction(target: &Target, connection: &mut Connection, entry: Entry, length: Duration) -> Result<(), Lost> {
    let end = Instant::now() + length;
    let ledger = &target.ledger;
    connection.run("begin").await?;
    connection.run(&ledger.insert(entry)).await?;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            ledger.committing(entry);
            return connection.run("commit").await;
        }
        sleep(left.min(STATEMENT_PAUSE)).await;
        connection.run(&ledger.update(entry)).await?;
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
