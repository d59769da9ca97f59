//! Telling the other servers that there is work, so that they look at once instead of within 0.2 s.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use obfleet_engine::TaskId;
use obfleet_store::servers::OtherServer;
use reqwest::Method;
use tokio::{sync::Notify, time::sleep};

use super::{Peers, checked};

/// Where a nudge goes.
pub const PATH: &str = "/internal/nudge";
/// By then the other has looked by itself.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two rounds: whatever comes meanwhile goes with the next one, and who was nudged takes some time to look.
const PAUSE: Duration = Duration::from_millis(10);

/// Takes the engine's nudges. They all say the same, so those that come together are one.
#[derive(Debug, Default)]
pub struct Nudges {
    wanted: Notify,
}

impl obfleet_engine::Peers for Nudges {
    fn nudge(&self, _task: TaskId) {
        self.wanted.notify_one();
    }
}

impl Nudges {
    /// Hands on what comes, for as long as it is polled.
    pub async fn send(self: Arc<Self>, peers: Arc<Peers>) {
        loop {
            self.wanted.notified().await;
            peers.nudge_these(&peers.lately().await).await;
            sleep(PAUSE).await;
        }
    }
}

impl Peers {
    /// Has every other server look for work, those included that began a moment ago.
    pub async fn nudge(&self) {
        self.nudge_these(&self.others().await).await;
    }

    /// Who does not answer is counted, and looks by itself soon enough.
    async fn nudge_these(&self, others: &[OtherServer]) {
        join_all(others.iter().map(|other| self.nudge_one(other))).await;
    }

    async fn nudge_one(&self, other: &OtherServer) {
        let call = self.call(other, Method::POST, PATH).timeout(PATIENCE).send().await;
        let answered = call.map_err(|error| error.to_string());
        let answered = answered.and_then(|answer| checked(other, answer));
        self.metrics.peers.nudged(answered.is_ok());
        let mut deaf = self.deaf.lock().unwrap_or_else(PoisonError::into_inner);
        match answered {
            Ok(_) => drop(deaf.remove(&other.id)),
            // Once, not with every nudge; whoever has just died is not told of for long.
            Err(error) if deaf.insert(other.id.clone()) => {
                tracing::warn!(
                    server = other.id,
                    error,
                    "a server cannot be told of work and has to find it by itself"
                );
            }
            Err(_) => {}
        }
    }
}
