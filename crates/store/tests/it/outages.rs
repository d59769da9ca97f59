//! The database is killed and started again, and stopped for longer than a lease, under two engines that run tasks on it.
//! What was committed stays, what was not is done again, and everything goes on by itself.
//!
//! `OBFLEET_OUTAGES` says how often; seldom by default.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use obfleet_engine::{Engine, Options, Sharing, Store as _, StoreError, TaskFilter, TaskId, TaskStatus};
use obfleet_store::TaskStore;
use obfleet_testdb::{Database, folder, shared};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::history::{History, Recorded};
use crate::on_every_server;
use crate::support::{Kind, Place};
use crate::touch::{Resource, registry, submission};

const OUTAGES: &str = "OBFLEET_OUTAGES";
const FEW: usize = 2;

/// Longer than a lease.
const BEYOND_THE_LEASE: Duration = Duration::from_millis(3500);
/// When anything that waits for the database is over once that is back.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two tasks, and before anything is tried again.
const PAUSE: Duration = Duration::from_millis(300);

/// A server that submits one task after the other until it is told to stop.
struct Server {
    name: &'static str,
    engine: Engine<String>,
}

impl Server {
    async fn start(name: &'static str, place: &Place, resource: &Resource, history: &Arc<History>) -> Arc<Self> {
        let (_, store) = place.open().await;
        let history = Arc::clone(history);
        let store = Recorded { store, history };
        let options = Options {
            slots: 4,
            sharing: Some(Sharing::default()),
            ..Options::new(name)
        };
        let engine = Engine::start(Arc::new(store), registry(resource.address()), options);
        let engine = engine.await.unwrap();
        Arc::new(Self { name, engine })
    }

    /// As often as it takes: the token makes one task of it.
    async fn submit(&self, number: usize) -> TaskId {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.engine.submit(submission(self.name, number)).await {
                Ok(task) => return task.id,
                Err(error) => assert!(Instant::now() < deadline, "{error:?}"),
            }
            sleep(PAUSE).await;
        }
    }

    async fn submit_until(self: Arc<Self>, enough: Arc<AtomicBool>) -> TaskId {
        let mut number = 0;
        loop {
            let task = self.submit(number).await;
            if enough.load(Ordering::Relaxed) {
                return task;
            }
            number += 1;
            sleep(PAUSE).await;
        }
    }
}

on_every_server!(every_step_counts_once_whatever_becomes_of_the_database);

async fn every_step_counts_once_whatever_becomes_of_the_database(kind: Kind) {
    let outages = std::env::var(OUTAGES).map_or(FEW, |outages| outages.parse().unwrap());
    let home = folder().unwrap();
    let mut database = match kind {
        Kind::MariaDb => Database::mariadb(home.path()).await.unwrap(),
        _ => Database::seekdb(home.path()).await.unwrap(),
    };
    let place = Place::at(shared::schema(database.address()).await.unwrap());
    let (_, store) = place.open().await;
    let resource = Resource::serve().await;
    let history = Arc::new(History::default());
    let servers = [
        Server::start("a", &place, &resource, &history).await,
        Server::start("b", &place, &resource, &history).await,
    ];
    let enough = Arc::new(AtomicBool::new(false));
    let mut submitting = JoinSet::new();
    for server in &servers {
        submitting.spawn(Arc::clone(server).submit_until(Arc::clone(&enough)));
    }

    for number in 0..outages {
        goes_on(&store).await;
        match number % 3 {
            0 => {
                database.kill().unwrap();
                database.start_again().await.unwrap();
            }
            1 => {
                database.pause().unwrap();
                sleep(BEYOND_THE_LEASE).await;
                database.resume().unwrap();
            }
            _ => {
                database.kill().unwrap();
                sleep(BEYOND_THE_LEASE).await;
                database.start_again().await.unwrap();
            }
        }
    }
    goes_on(&store).await;
    enough.store(true, Ordering::Relaxed);
    submitting.join_all().await;
    eventually(async || {
        let running = first(&store, &[TaskStatus::Running], true).await;
        running.is_ok_and(|running| running.is_none()).then_some(())
    })
    .await;
    for server in &servers {
        server.engine.shutdown().await;
    }
    let (calls, tally) = (history.check(&store).await, resource.verify(&place).await);
    println!("{kind:?}: {outages} outages, {calls} calls, {tally:?}");
}

/// Waits until all tasks that are there now and some more have come to their end. So no step is hit by outage after outage:
/// one that loses its server again and again counts as one that kills servers.
async fn goes_on(store: &TaskStore<String>) {
    const MORE: i64 = 4;
    let mut goal = None;
    eventually(async || {
        let newest = first(store, &[], false).await.ok()?;
        let goal = *goal.get_or_insert(newest.map_or(0, |task| task.0) + MORE);
        let running = first(store, &[TaskStatus::Running], true).await.ok()?;
        running.or(newest).filter(|task| task.0 > goal)
    })
    .await;
}

/// Waits until there is something.
async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) {
    let deadline = Instant::now() + PATIENCE;
    while look().await.is_none() {
        assert!(Instant::now() < deadline, "it does not come to be");
        sleep(PAUSE).await;
    }
}

/// The oldest or the newest task with one of these statuses.
async fn first(
    store: &TaskStore<String>,
    status: &[TaskStatus],
    ascending: bool,
) -> Result<Option<TaskId>, StoreError> {
    let filter = TaskFilter {
        status: status.to_vec(),
        ascending,
        size: 1,
        ..TaskFilter::default()
    };
    Ok(store.list(&filter).await?.items.first().map(|state| state.task.id))
}
