//! The way from one server to the database, which can fail while others' holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use obfleet_engine::StoreError;
use obfleet_engine::testing::{MemoryStore, StoreLayer};
use tokio::sync::watch;

/// How the database can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As usual.
    Open,
    /// Requests stay under way until it is open again, and arrive then: what others see of a server that is stopped.
    Frozen,
    /// Requests fail.
    Broken,
}

/// A server's own connection to the store of all.
pub struct Link {
    memory: Arc<MemoryStore<String>>,
    way: watch::Sender<Way>,
    requests: AtomicUsize,
}

impl Link {
    pub fn new(memory: &Arc<MemoryStore<String>>) -> Arc<Self> {
        Arc::new(Self {
            memory: Arc::clone(memory),
            way: watch::Sender::new(Way::Open),
            requests: AtomicUsize::new(0),
        })
    }

    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// How often the store was asked so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl StoreLayer for Link {
    type Change = String;
    type Below = MemoryStore<String>;

    /// The store, once the request has got there.
    async fn below(&self) -> Result<&Self::Below, StoreError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut way = self.way.subscribe();
        let way = *way
            .wait_for(|way| *way != Way::Frozen)
            .await
            .expect("the link is there");
        if way == Way::Broken {
            return Err(StoreError::Unavailable("connection refused".into()));
        }
        Ok(&self.memory)
    }
}
