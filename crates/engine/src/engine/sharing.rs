//! How several servers share one database.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::state::TaskId;

/// The pace of a server that shares its database with others.
#[derive(Clone, Debug)]
pub struct Sharing {
    /// How long a lease lasts unless it is renewed: a dead server's work is taken over after that.
    pub ttl: Duration,
    /// Time between renewals.
    pub renewal: Duration,
    /// How much earlier than the database a server takes its own lease for over.
    pub margin: Duration,
    /// Time between looks for work that nobody told of.
    pub look: Duration,
    /// The others.
    pub peers: Arc<dyn Peers>,
}

impl Default for Sharing {
    /// Leases of 3 s, renewed each second, trusted for 2.5 s; a look every 200 ms; nobody to tell.
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(3),
            renewal: Duration::from_secs(1),
            margin: Duration::from_millis(500),
            look: Duration::from_millis(200),
            peers: Arc::new(NoPeers),
        }
    }
}

impl Sharing {
    /// How long a server trusts its lease, counted from before it asked for it.
    pub(super) fn trust(&self) -> Duration {
        self.ttl.saturating_sub(self.margin)
    }
}

/// The other servers on the database. What they are told only saves them a wait: they find everything by looking, too.
pub trait Peers: Debug + Send + Sync + 'static {
    /// Tells them that a task has something for them: a step that is due and has no free slot here, or an attempt of theirs
    /// that is to stop. Must not wait. They call [`Engine::nudge`](super::Engine::nudge).
    fn nudge(&self, task: TaskId);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl Peers for NoPeers {
    fn nudge(&self, _task: TaskId) {}
}
