//! Calls to the other servers on the database.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Instruments of calls to other servers.
pub struct PeerMetrics {
    nudges: Family<Calls, Counter>,
    fetches: Family<Calls, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Calls {
    result: &'static str,
}

impl PeerMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            nudges: Family::default(),
            fetches: Family::default(),
        };
        registry.register(
            "peer_nudges",
            "Servers told of work, by whether they answered; who does not looks by itself",
            metrics.nudges.clone(),
        );
        registry.register(
            "peer_package_fetches",
            "Package files asked for at other servers",
            metrics.fetches.clone(),
        );
        metrics
    }

    /// Counts a nudge.
    pub fn nudged(&self, answered: bool) {
        count(&self.nudges, answered);
    }

    /// Counts a package file that was asked for.
    pub fn fetched(&self, got: bool) {
        count(&self.fetches, got);
    }
}

fn count(calls: &Family<Calls, Counter>, good: bool) {
    let result = if good { "ok" } else { "failed" };
    calls.get_or_create(&Calls { result }).inc();
}
