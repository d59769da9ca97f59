//! Live clients on every proxy, and what they see.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::bail;
use obfleet_mysqlwire::{Client, ClientError};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    clients,
    ledger::{Entry, Ledger},
    peer::{Executable, executable_behind},
};

/// Logins each proxy must have seen before a restart: a proxy that has just been started is slower.
const WARM: u64 = 400;
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
    /// Logins denied while a restart was under way: the processes that are meant to serve deny none.
    pub rejected_by_new: u64,
    /// Transactions broken that had begun on a process with another executable than the one before the restart.
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
    pub(crate) ledger: Arc<Ledger>,
    address: SocketAddr,
    user: String,
    restarting: AtomicBool,
    /// What the process before the restart executes: the one identified first.
    before_restart: OnceLock<Executable>,
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
    /// What serves it, once that was asked for.
    executable: Option<Executable>,
}

/// A statement that was not answered with success.
#[derive(Debug, thiserror::Error)]
#[error("{statement}: {reason}")]
pub(crate) struct Lost {
    statement: String,
    reason: String,
}

impl Connection {
    /// Runs a statement.
    pub(crate) async fn run(&mut self, statement: &str) -> Result<(), Lost> {
        let reason = match timeout(STATEMENT_PATIENCE, self.client.query(statement)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(ClientError::Lost(error))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer for {} s", STATEMENT_PATIENCE.as_secs()),
        };
        Err(Lost {
            statement: statement.to_owned(),
            reason,
        })
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
    fn new(address: SocketAddr, user: &str, ledger: Arc<Ledger>) -> Self {
        Self {
            ledger,
            address,
            user: user.to_owned(),
            restarting: AtomicBool::new(false),
            before_restart: OnceLock::new(),
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
        let restarting_before = self.restarting.load(Ordering::SeqCst);
        let started = Instant::now();
        let answer = Client::connect(self.address, &self.user, "", started + GREETING_PATIENCE).await;
        let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match answer {
            Ok(client) => {
                add(&self.connects);
                self.stall_ms_max.fetch_max(took, Ordering::Relaxed);
                Some(Connection {
                    client,
                    executable: None,
                })
            }
            Err(error) => {
                let restarting = restarting_before || self.restarting.load(Ordering::SeqCst);
                match error {
                    ClientError::LoginRefused(refusal) if refusal.code == ACCESS_DENIED && restarting => {
                        add(&self.rejected_by_new);
                    }
                    // Greeted, and closed before it had begun anything.
                    ClientError::Lost(_) => add(&self.closed_at_boundary),
                    error => {
                        eprintln!("refused: {} after {took} ms: {error}", self.address);
                        add(&self.refused);
                    }
                }
                None
            }
        }
    }

    /// Finds out what serves the connection.
    pub(crate) async fn identify(&self, connection: &mut Connection) {
        let Ok(client) = connection.client.local_addr() else {
            return;
        };
        let proxy = self.address;
        let found = tokio::task::spawn_blocking(move || executable_behind(client, proxy)).await;
        connection.executable = found.ok().flatten();
        if let Some(executable) = connection.executable {
            self.before_restart.get_or_init(|| executable);
        }
    }

    /// A connection was found closed between transactions.
    pub(crate) fn closed_at_boundary(&self) {
        add(&self.closed_at_boundary);
    }

    /// A transaction was committed.
    pub(crate) fn committed(&self, entry: Entry) {
        self.ledger.committed(entry);
        add(&self.committed);
    }

    /// The connection went within a transaction, so long after its BEGIN was sent.
    pub(crate) fn broken(&self, connection: &Connection, age: Duration, lost: &Lost) {
        let on_new = match (connection.executable, self.before_restart.get()) {
            (Some(serving), Some(before)) => serving != *before,
            // Nobody is excused by not being known.
            _ => false,
        };
        eprintln!(
            "broken: a transaction on {} (executable {}), connection {}, {} ms after BEGIN, at {lost}",
            self.address,
            if on_new { "of the upgrade" } else { "from before" },
            connection.client.greeting().connection_id,
            age.as_millis()
        );
        add(if on_new {
            &self.broken_on_new
        } else {
            &self.broken_transactions
        });
    }

    /// Whether it has seen logins enough.
    pub(crate) fn is_warm(&self) -> bool {
        self.connects.load(Ordering::Relaxed) >= WARM
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
    /// Starts clients of every kind on each proxy.
    pub fn start(proxies: &[SocketAddr], user: &str, ledger: &Arc<Ledger>) -> Self {
        let targets: Vec<_> = proxies
            .iter()
            .map(|address| Arc::new(Target::new(*address, user, Arc::clone(ledger))))
            .collect();
        let mut running = JoinSet::new();
        for target in &targets {
            clients::start(target, &mut running);
        }
        Self {
            targets,
            _clients: running,
        }
    }

    /// Waits until each proxy has seen some traffic.
    pub async fn warm_up(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + WARM_PATIENCE;
        while !self.targets.iter().all(|target| target.is_warm()) {
            if Instant::now() > deadline {
                bail!("the proxies did not get warm: {:?}", self.per_proxy());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// From now on, logins may be denied by a bad process.
    pub fn restart_begins(&self) {
        for target in &self.targets {
            target.restarting.store(true, Ordering::SeqCst);
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
        let backend = Backend::start(&BackendChoice::Builtin, Path::new(".")).await.unwrap();
        let ledger = Arc::new(Ledger::create(&backend).await.unwrap());
        let traffic = Traffic::start(&[backend.address], "root", &ledger);
        traffic.warm_up().await.unwrap();
        let total = traffic.total();
        assert!(total.connects >= WARM, "{total:?}");
        assert_eq!(
            (total.refused, total.closed_at_boundary, total.broken_transactions),
            (0, 0, 0)
        );
    }

    #[tokio::test]
    async fn what_goes_wrong_is_told_apart() {
        let ledger = || Arc::new(Ledger::new("demo"));
        let nobody = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let target = Target::new(nobody, "root", ledger());
        assert!(target.connect().await.is_none());
        assert_eq!(target.counts().refused, 1);

        let backend = Backend::start(&BackendChoice::Builtin, Path::new(".")).await.unwrap();
        let target = Target::new(backend.address, "root", ledger());
        let mut connection = target.connect().await.unwrap();
        let lost = || Lost {
            statement: "commit".into(),
            reason: "gone".into(),
        };
        target.broken(&connection, Duration::ZERO, &lost());
        let [before, upgrade] = [Path::new("/proc/self/exe"), Path::new("/")].map(Executable::of_file);
        target.before_restart.set(before.unwrap()).unwrap();
        connection.executable = before;
        target.broken(&connection, Duration::ZERO, &lost());
        connection.executable = upgrade;
        target.broken(&connection, Duration::ZERO, &lost());
        let counts = target.counts();
        assert_eq!((counts.broken_transactions, counts.broken_on_new), (2, 1));
    }
}
