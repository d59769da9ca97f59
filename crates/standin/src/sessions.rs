//! Client connections: who is there, and who is between two transactions.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio_util::sync::CancellationToken;

/// Who logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User name without tenant and cluster.
    pub user: String,
    /// Tenant; `proxysys` for the proxy's own users.
    pub tenant: String,
    /// Cluster.
    pub cluster: String,
    /// Default database.
    pub database: Option<String>,
}

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activity {
    /// A command was not answered to its end yet.
    pub busy: bool,
    /// The server says a transaction is open.
    pub in_transaction: bool,
    /// Transactions ended so far; a statement that commits by itself is one.
    pub transactions: u64,
    /// Connections to servers this session holds.
    pub server_sessions: u32,
}

impl Activity {
    /// Nothing asked and no transaction open: nobody notices if the session is closed now.
    pub fn is_between_transactions(self) -> bool {
        !self.busy && !self.in_transaction
    }
}

/// One client connection, counted from its acceptance on.
#[derive(Debug)]
pub struct Session {
    /// The connection id of the greeting.
    pub id: u32,
    /// The client's address.
    pub peer: SocketAddr,
    /// Cancelled, it ends the session, though not at once.
    pub closing: CancellationToken,
    identity: OnceLock<Identity>,
    activity: Mutex<Activity>,
    requests: AtomicU64,
}

impl Session {
    /// Who logged in; `None` before the login.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.get()
    }

    /// Notes who logged in, once.
    pub fn identify(&self, identity: Identity) {
        // A second login on one connection does not happen: COM_CHANGE_USER keeps the first name here.
        let _ = self.identity.set(identity);
    }

    /// What the session is doing.
    pub fn activity(&self) -> Activity {
        *lock(&self.activity)
    }

    /// Notes what the session is doing. One that becomes busy was asked something.
    pub fn set_activity(&self, activity: Activity) {
        let mut now = lock(&self.activity);
        if activity.busy && !now.busy {
            self.requests.fetch_add(1, Ordering::Relaxed);
        }
        *now = activity;
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// All client connections of this process.
#[derive(Debug, Default)]
pub struct Sessions {
    last_id: AtomicU32,
    opened: AtomicU64,
    transactions_of_closed: AtomicU64,
    requests_of_closed: AtomicU64,
    open: Mutex<BTreeMap<u32, Arc<Session>>>,
}

impl Sessions {
    /// Adds a connection; it is taken out when the guard is dropped.
    pub fn open(self: &Arc<Self>, peer: SocketAddr) -> SessionGuard {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        self.opened.fetch_add(1, Ordering::Relaxed);
        let session = Arc::new(Session {
            id,
            peer,
            closing: CancellationToken::new(),
            identity: OnceLock::new(),
            activity: Mutex::default(),
            requests: AtomicU64::new(0),
        });
        lock(&self.open).insert(id, Arc::clone(&session));
        SessionGuard {
            sessions: Arc::clone(self),
            session,
        }
    }

    /// Connections open now.
    pub fn count(&self) -> usize {
        lock(&self.open).len()
    }

    /// Connections opened since the start.
    pub fn total(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Transactions ended since the start.
    pub fn transactions(&self) -> u64 {
        let open: u64 = self.list().iter().map(|session| session.activity().transactions).sum();
        open + self.transactions_of_closed.load(Ordering::Relaxed)
    }

    /// Commands since the start.
    pub fn requests(&self) -> u64 {
        let open: u64 = self.list().iter().map(|session| session.requests()).sum();
        open + self.requests_of_closed.load(Ordering::Relaxed)
    }

    /// The sessions that logged in, in the order of their ids.
    pub fn list(&self) -> Vec<Arc<Session>> {
        lock(&self.open)
            .values()
            .filter(|session| session.identity().is_some())
            .cloned()
            .collect()
    }

    /// Tells the session with this id to close; false if there is none.
    pub fn kill(&self, id: u32) -> bool {
        lock(&self.open)
            .get(&id)
            .map(|session| session.closing.cancel())
            .is_some()
    }
}

/// Keeps a connection among the open ones.
#[derive(Debug)]
pub struct SessionGuard {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
}

impl SessionGuard {
    /// The session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        lock(&self.sessions.open).remove(&self.session.id);
        self.sessions
            .transactions_of_closed
            .fetch_add(self.session.activity().transactions, Ordering::Relaxed);
        self.sessions
            .requests_of_closed
            .fetch_add(self.session.requests(), Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
