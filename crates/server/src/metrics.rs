//! What a server tells Prometheus about itself, in OpenMetrics text.
//!
//! Each part measures at one place and holds its own instruments; [`Metrics`] puts them into one registry. Nothing is
//! measured by asking around: calls are timed where they pass, and only a scrape counts what stands around. Labels have
//! few values, known beforehand: no host, task or user is one.
//!
//! | room | measures |
//! |---|---|
//! | [`store`] | each operation of the engine's store; what passes it tells [`steps`] |
//! | [`steps`] | the way of steps from READY to RUNNING, the queue, how tasks end |
//! | [`lease`] | the right to change tasks, where servers share a database |
//! | [`agents`] | calls to agents |
//! | [`peers`] | calls to the other servers on the database |
//! | [`http`] | requests, by the template of their route |
//! | [`process`] | memory, files, threads, processor time |

pub mod agents;
pub mod http;
pub mod lease;
pub mod peers;
pub mod process;
pub mod steps;
pub mod store;

use std::fmt;

use prometheus_client::{
    encoding::text::encode,
    metrics::{
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::Registry,
};

use self::{
    agents::AgentMetrics, http::HttpMetrics, lease::LeaseMetrics, peers::PeerMetrics, process::ProcessCollector,
    steps::StepMetrics, store::StoreMetrics,
};

/// What [`Metrics::render`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All instruments of one server.
pub struct Metrics {
    registry: Registry,
    /// Of the task store.
    pub store: StoreMetrics,
    /// Of the server's lease.
    pub lease: LeaseMetrics,
    /// Of steps and tasks.
    pub steps: StepMetrics,
    /// Of calls to agents.
    pub agents: AgentMetrics,
    /// Of calls to other servers.
    pub peers: PeerMetrics,
    /// Of requests.
    pub http: HttpMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector));
        let ours = registry.sub_registry_with_prefix("obfleet");
        let build = Info::new(vec![
            ("version", env!("CARGO_PKG_VERSION")),
            ("target_arch", std::env::consts::ARCH),
        ]);
        ours.register("build", "What runs", build);
        Self {
            store: StoreMetrics::register(ours),
            lease: LeaseMetrics::register(ours),
            steps: StepMetrics::register(ours),
            agents: AgentMetrics::register(ours),
            peers: PeerMetrics::register(ours),
            http: HttpMetrics::register(ours),
            registry,
        }
    }
}

impl Metrics {
    /// All of it, as a scrape gets it.
    ///
    /// # Errors
    /// When an instrument cannot be written down.
    pub fn render(&self) -> Result<String, fmt::Error> {
        self.steps.count();
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// From a quarter of a millisecond to four seconds: transactions and what is made of them.
fn short_times() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 15))
}

/// From a millisecond to more than an hour: an operation at an agent is over when it is.
fn long_times() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 12))
}
