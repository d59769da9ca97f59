//! Keeps owned proxies running: one that dies is back within seconds, with growing pauses if it keeps dying.
//!
//! The agent is not the parent of a proxy: it finds it by its home and holds a pidfd. Its own restart is therefore
//! nothing a proxy could notice. While a guard restarts a proxy, or an operation is at work on it, the supervisor
//! keeps its hands off.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use obfleet_obproxy::process::{Process, ProcessHandle};
use tokio::{sync::watch, time::sleep};

use crate::{
    describe,
    each_proxy::each_proxy,
    operations::{Node, OperationError, Thing},
    proxies::{Owned, Phase},
};

/// How long a death may go unnoticed where no pidfd tells, and how often a busy proxy is looked at again.
const LOOK: Duration = Duration::from_millis(500);
/// A proxy that lived this long did not die of its start.
const SETTLED: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Watches every owned proxy, until dropped.
pub(crate) async fn supervise(node: Arc<Node>) {
    each_proxy(&node.registry, |proxy_id| Watch::new(Arc::clone(&node), proxy_id).run()).await;
}

/// The watch over one proxy.
struct Watch {
    node: Arc<Node>,
    proxy_id: i64,
    changes: watch::Receiver<()>,
    pause: Pause,
}

impl Watch {
    fn new(node: Arc<Node>, proxy_id: i64) -> Self {
        let changes = node.registry.changes();
        Self {
            node,
            proxy_id,
            changes,
            pause: Pause::default(),
        }
    }

    /// Ends when the proxy is no longer owned.
    async fn run(mut self) {
        while let Some(owned) = self.node.registry.find(self.proxy_id) {
            self.node.mend_restart(&owned).await;
            if self.node.guarded(&owned).is_some() {
                self.change_within(LOOK).await;
            } else if !is_due(&owned) {
                self.node.set_trouble(self.proxy_id, None);
                self.change_within(SETTLED).await;
            } else if let Some(process) = self.newest(&owned) {
                // Whoever started it.
                self.node.set_trouble(self.proxy_id, None);
                self.end_of(&process).await;
            } else {
                self.start_again().await;
            }
        }
        self.node.set_trouble(self.proxy_id, None);
    }

    fn newest(&self, owned: &Owned) -> Option<Process> {
        match self.node.processes(owned) {
            Ok(mut found) => found.pop(),
            Err(e) => {
                tracing::warn!(proxy = self.proxy_id, error = %describe(&e), "cannot look for the proxy");
                None
            }
        }
    }

    async fn change_within(&mut self, time: Duration) {
        tokio::select! {
            // The registry outlives its watches.
            _ = self.changes.changed() => {}
            () = sleep(time) => {}
        }
    }

    /// Returns when the process ended, or something else about the proxy changed.
    async fn end_of(&mut self, process: &Process) {
        match ProcessHandle::open(process.id) {
            Ok(Some(handle)) => {
                tokio::select! {
                    _ = handle.wait(SETTLED) => {}
                    _ = self.changes.changed() => {}
                }
            }
            Ok(None) => {}
            Err(e) => {
                tracing::debug!(proxy = self.proxy_id, error = %e, "no pidfd, looking instead");
                sleep(LOOK).await;
            }
        }
    }

    async fn start_again(&mut self) {
        sleep(self.pause.before_start()).await;
        let Some(_turn) = self.node.things.try_lock(Thing::Proxy(self.proxy_id)) else {
            // An operation is at work on it, and knows what it is doing.
            return sleep(LOOK).await;
        };
        let Some(owned) = self.node.registry.find(self.proxy_id).filter(is_due) else {
            return;
        };
        if self.node.guarded(&owned).is_some() || self.newest(&owned).is_some() {
            return;
        }
        tracing::warn!(proxy = self.proxy_id, home = %owned.home.display(), "the proxy is gone, it is started again");
        let started = self.count(&owned);
        let started = match started {
            Ok(()) => Box::pin(self.node.ensure_running(&owned)).await.map(drop),
            Err(e) => Err(e),
        };
        if let Err(e) = &started {
            tracing::error!(proxy = self.proxy_id, error = %describe(e), "the proxy does not start");
        }
        self.node
            .set_trouble(self.proxy_id, started.err().map(|e| describe(&e)));
        // The change of the count is our own.
        self.changes.mark_unchanged();
    }

    fn count(&self, owned: &Owned) -> Result<(), OperationError> {
        self.node.registry.update(owned.spec.proxy_id, |o| o.restarts += 1)?;
        Ok(())
    }
}

fn is_due(owned: &Owned) -> bool {
    owned.phase == Phase::Installed && owned.wanted && owned.supervised
}

/// None before the first start, growing while starts follow each other.
#[derive(Default)]
struct Pause {
    last: Option<(Instant, Duration)>,
}

impl Pause {
    /// Notes a start and tells how long to wait before it.
    fn before_start(&mut self) -> Duration {
        let now = Instant::now();
        let pause = match self.last {
            Some((at, pause)) if now.duration_since(at) < SETTLED + pause => (pause * 2).clamp(FIRST_PAUSE, LAST_PAUSE),
            _ => Duration::ZERO,
        };
        self.last = Some((now, pause));
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_while_the_proxy_keeps_dying() {
        let mut pause = Pause::default();
        let pauses: Vec<_> = (0..10).map(|_| pause.before_start().as_millis()).collect();
        assert_eq!(pauses, [0, 500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
        pause.last = pause
            .last
            .map(|(at, pause)| (at.checked_sub(2 * SETTLED).unwrap(), pause));
        assert_eq!(pause.before_start(), Duration::ZERO, "it had settled");
    }
}
