//! Live clients on every proxy, and what they see.
//!
//! Which process of a proxy a connection came to is told by the id in its greeting, which each process counts from one:
//! when a restart begins, the highest id so far is remembered ([`Traffic::restart_begins`]). The old process gives only
//! higher ids from then on, so a later connection with a lower one came to another process. The warm-up makes the
//! remembered id higher than a bad process gets in its few seconds.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::bail;
use obfleet_mysqlwire::{Client, ClientError};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::clients;

/// Connections each proxy must have seen before a restart, several times what a bad process can get.
const WARM: u32 = 400;
const WARM_PATIENCE: Duration = Duration::from_secs(60);
/// A connection that was not greeted by then was refused.
const GREETING_PATIENCE: Duration = Duration::from_secs(40);
/// No statement of the clients takes long.
const STATEMENT_PATIENCE: Duration = Duration::from_secs(60);
/// ER_ACCESS_DENIED_ERROR.
const ACCESS_DENIED: u16 = 1045;

/// What the clients of one proxy, or of all, have seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Logins done.
    pub connects: u64,
    /// Connections refused, or reset, closed or left waiting for 40 s before the greeting; and logins that failed other
    /// than by a bad process's denial.
    pub refused: u64,
    /// Longest time to greeting and login, in milliseconds.
    pub stall_ms_max: u64,
    /// Connections found closed between transactions.
    pub closed_at_boundary: u64,
    /// Transactions whose connection went between BEGIN and the answer to COMMIT.
    pub broken_transactions: u64,
    /// Transactions committed.
    pub committed: u64,
    /// Logins denied while a restart was under way.
    pub rejected_by_new: u64,
    /// Transactions broken that had begun on another process than the one before the restart.
    pub broken_on_new: u64,
}

impl Counts {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            connects: self.connects + other.connects,
            refused: self.refused + other.refused,
            stall_ms_max: self.stall_ms_max.max(other.stall_ms_max),
            closed_at_boundary: self.closed_at_boundary + other.closed_at_boundary,
            broken_transactions: self.broken_transactions + other.broken_transactions,
            committed: self.committed + other.committed,
            rejected_by_new: self.rejected_by_new + other.rejected_by_new,
            broken_on_new: self.broken_on_new + other.broken_on_new,
        }
    }
}

/// One proxy as its clients see it.
#[derive(Debug)]
pub(crate) struct Target {
    address: SocketAddr,
    user: String,
    highest_id: AtomicU32,
    /// The highest id when the restart began; 0 while there is none.
    before_restart: AtomicU32,
    connects: AtomicU64,
    refused: AtomicU64,
    stall_ms_max: AtomicU64,
    closed_at_boundary: AtomicU64,
    broken_transactions: AtomicU64,
    committed: AtomicU64,
    rejected_by_new: AtomicU64,
    broken_on_new: AtomicU64,
}

/// A connection of a client's.
pub(crate) struct Connection {
    client: Client,
    on_new: bool,
}

impl Connection {
    /// Whether the statement was answered.
    pub(crate) async fn answers(&mut self, sql: &str) -> bool {
        matches!(timeout(STATEMENT_PATIENCE, self.client.query(sql)).await, Ok(Ok(_)))
    }

    /// Takes leave.
    pub(crate) async fn close(self) {
        self.client.close().await;
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

impl Target {
    fn new(address: SocketAddr, user: &str) -> Self {
        Self {
            address,
            user: user.to_owned(),
            highest_id: AtomicU32::new(0),
            before_restart: AtomicU32::new(0),
            connects: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            stall_ms_max: AtomicU64::new(0),
            closed_at_boundary: AtomicU64::new(0),
            broken_transactions: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            rejected_by_new: AtomicU64::new(0),
            broken_on_new: AtomicU64::new(0),
        }
    }

    /// Connects and logs in; what comes of it is counted.
    pub(crate) async fn connect(&self) -> Option<Connection> {
        let before_restart = self.before_restart.load(Ordering::SeqCst);
        let started = Instant::now();
        let answer = Client::connect(self.address, &self.user, "", started + GREETING_PATIENCE).await;
        let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match answer {
            Ok(client) => {
                add(&self.connects);
                self.stall_ms_max.fetch_max(took, Ordering::Relaxed);
                let id = client.greeting().connection_id;
                self.highest_id.fetch_max(id, Ordering::SeqCst);
                Some(Connection {
                    client,
                    on_new: id <= before_restart,
                })
            }
            Err(error) => {
                let restarting = before_restart > 0 || self.before_restart.load(Ordering::SeqCst) > 0;
                add(match error {
                    ClientError::LoginRefused(refusal) if refusal.code == ACCESS_DENIED && restarting => {
                        &self.rejected_by_new
                    }
                    // Greeted, and closed before it had begun anything.
                    ClientError::Lost(_) => &self.closed_at_boundary,
                    _ => &self.refused,
                });
                None
            }
        }
    }

    /// A connection was found closed between transactions.
    pub(crate) fn closed_at_boundary(&self) {
        add(&self.closed_at_boundary);
    }

    /// A transaction was committed.
    pub(crate) fn committed(&self) {
        add(&self.committed);
    }

    /// The connection went within a transaction, so long after its BEGIN was sent.
    pub(crate) fn broken(&self, connection: &Connection, age: Duration) {
        eprintln!(
            "broken: a transaction on {} ({}), connection {}, {} ms after BEGIN",
            self.address,
            if connection.on_new {
                "a new process"
            } else {
                "the process before, or no restart"
            },
            connection.client.greeting().connection_id,
            age.as_millis()
        );
        add(if connection.on_new {
            &self.broken_on_new
        } else {
            &self.broken_transactions
        });
    }

    /// Whether it has seen connections enough.
    pub(crate) fn is_warm(&self) -> bool {
        self.highest_id.load(Ordering::SeqCst) >= WARM
    }

    fn counts(&self) -> Counts {
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            connects: value(&self.connects),
            refused: value(&self.refused),
            stall_ms_max: value(&self.stall_ms_max),
            closed_at_boundary: value(&self.closed_at_boundary),
            broken_transactions: value(&self.broken_transactions),
            committed: value(&self.committed),
            rejected_by_new: value(&self.rejected_by_new),
            broken_on_new: value(&self.broken_on_new),
        }
    }
}

/// The clients of all proxies; they end with this.
#[derive(Debug)]
pub struct Traffic {
    targets: Vec<Arc<Target>>,
    _clients: JoinSet<()>,
}

impl Traffic {
    /// Starts clients of every kind on each proxy, and waits until each has seen some traffic.
    pub async fn start(proxies: &[SocketAddr], user: &str) -> anyhow::Result<Self> {
        let targets: Vec<_> = proxies
            .iter()
            .map(|address| Arc::new(Target::new(*address, user)))
            .collect();
        let mut running = JoinSet::new();
        for target in &targets {
            clients::start(target, &mut running);
        }
        let traffic = Self {
            targets,
            _clients: running,
        };
        let deadline = Instant::now() + WARM_PATIENCE;
        while !traffic.targets.iter().all(|target| target.is_warm()) {
            if Instant::now() > deadline {
                bail!("the proxies did not get warm: {:?}", traffic.per_proxy());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(traffic)
    }

    /// From now on, connections to another process than today's are told apart.
    pub fn restart_begins(&self) {
        for target in &self.targets {
            let highest = target.highest_id.load(Ordering::SeqCst);
            target.before_restart.store(highest, Ordering::SeqCst);
        }
    }

    /// From now on, the processes that serve are the ones that are meant to.
    pub fn restart_is_over(&self) {
        for target in &self.targets {
            target.before_restart.store(0, Ordering::SeqCst);
        }
    }

    /// What was seen, proxy by proxy.
    pub fn per_proxy(&self) -> Vec<Counts> {
        self.targets.iter().map(|target| target.counts()).collect()
    }

    /// What was seen altogether.
    pub fn total(&self) -> Counts {
        self.per_proxy().into_iter().fold(Counts::default(), Counts::and)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::backend::{Backend, BackendChoice};

    #[tokio::test]
    async fn a_healthy_server_is_seen_as_one() {
        let backend = Backend::start(BackendChoice::Builtin, Path::new(".")).await.unwrap();
        let traffic = Traffic::start(&[backend.address], "root").await.unwrap();
        let total = traffic.total();
        assert!(total.connects >= 1, "{total:?}");
        assert_eq!(
            (total.refused, total.closed_at_boundary, total.broken_transactions),
            (0, 0, 0)
        );
    }

    #[tokio::test]
    async fn what_goes_wrong_is_told_apart() {
        let nobody = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let target = Target::new(nobody, "root");
        assert!(target.connect().await.is_none());
        assert_eq!(target.counts().refused, 1);

        let backend = Backend::start(BackendChoice::Builtin, Path::new(".")).await.unwrap();
        let target = Target::new(backend.address, "root");
        let old = target.connect().await.unwrap();
        target.broken(&old, Duration::ZERO);
        target.before_restart.store(u32::MAX, Ordering::SeqCst);
        let new = target.connect().await.unwrap();
        target.broken(&new, Duration::ZERO);
        let counts = target.counts();
        assert_eq!((counts.broken_transactions, counts.broken_on_new), (1, 1));
    }
}
