//! What may not be done twice at a time.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// One queue per name. A name is kept as long as somebody holds or waits for it.
pub(crate) struct Locks<N> {
    queues: Mutex<HashMap<N, Arc<AsyncMutex<()>>>>,
}

impl<N> Default for Locks<N> {
    fn default() -> Self {
        Self {
            queues: Mutex::default(),
        }
    }
}

impl<N: Eq + Hash> Locks<N> {
    fn queue(&self, name: N) -> Arc<AsyncMutex<()>> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|_, queue| Arc::strong_count(queue) > 1);
        Arc::clone(queues.entry(name).or_default())
    }

    /// Waits for its turn.
    pub(crate) async fn lock(&self, name: N) -> OwnedMutexGuard<()> {
        self.queue(name).lock_owned().await
    }

    /// Takes the name if nobody has it.
    pub(crate) fn try_lock(&self, name: N) -> Option<OwnedMutexGuard<()>> {
        self.queue(name).try_lock_owned().ok()
    }
}
