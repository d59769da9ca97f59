//! The measurements, and which figures each of them gives.

mod api;
mod engine;
mod history;
mod process;
mod server;
mod servers;

use std::path::PathBuf;

use anyhow::Result;

use crate::figure::Reading;
use crate::place::{Place, StoreKind};

/// What is measured, and where.
pub struct Setting {
    /// The database.
    pub store: StoreKind,
    /// On the disk to be measured.
    pub dir: PathBuf,
    /// The real executable.
    pub obfleet: PathBuf,
}

impl Setting {
    async fn place(&self) -> Result<Place> {
        Place::new(self.store, &self.dir).await
    }
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measurement {
    /// From one step to the next.
    Hop,
    /// OCP's documented chain of eight nodes.
    Chain,
    /// Many chains in flight.
    Throughput,
    /// One wide task.
    FanOut,
    /// Many tasks at once, for one server and for several.
    Burst,
    /// The death of a server.
    Failover,
    /// A server's start.
    Start,
    /// A server with nothing to do.
    Idle,
    /// A store with many finished tasks.
    History,
    /// The API of a server with 1,000 proxies.
    Api,
    /// The same with 10,000.
    LargeApi,
}

/// All of them, in the order in which they are told.
pub const MEASUREMENTS: [Measurement; 11] = [
    Measurement::Hop,
    Measurement::Chain,
    Measurement::Throughput,
    Measurement::FanOut,
    Measurement::Burst,
    Measurement::Failover,
    Measurement::Start,
    Measurement::Idle,
    Measurement::History,
    Measurement::Api,
    Measurement::LargeApi,
];

impl Measurement {
    /// For whoever watches.
    pub fn title(self) -> &'static str {
        match self {
            Self::Hop => "hop from step to step",
            Self::Chain => "chain of eight nodes",
            Self::Throughput => "32 chains in flight",
            Self::FanOut => "1,000 parallel steps",
            Self::Burst => "200 chains at once",
            Self::Failover => "death of a server",
            Self::Start => "start of a server",
            Self::Idle => "idle server",
            Self::History => "10,000 finished tasks",
            Self::Api => "API with 1,000 proxies",
            Self::LargeApi => "API with 10,000 proxies",
        }
    }

    /// Names of its figures.
    pub fn figures(&self) -> &'static [&'static str] {
        match self {
            Self::Hop => &["bare_tx_p50", "bare_tx_p99", "hop_p50", "hop_p99"],
            Self::Chain => &["chain8_p50", "chain8_p99"],
            Self::Throughput => &["steps_per_s"],
            Self::FanOut => &["fanout1000"],
            Self::Burst => &[
                "tasks_per_s_1_servers",
                "tasks_per_s_2_servers",
                "tasks_per_s_4_servers",
            ],
            Self::Failover => &["failover_s"],
            Self::Start => &["start_ms"],
            Self::Idle => &["idle_queries_per_s", "idle_cpu_percent", "idle_rss_mb"],
            Self::History => &["list_ratio_10000", "get_ratio_10000", "claim_ratio_10000"],
            Self::Api => &api::SMALL.figures,
            Self::LargeApi => &api::LARGE.figures,
        }
    }

    /// How often it is made when others are made `wished` times: filling a store takes long, an idle server is told from many
    /// seconds already, and failover from several deaths.
    pub fn runs(self, wished: u32) -> u32 {
        match self {
            Self::History | Self::Idle | Self::Failover | Self::Api | Self::LargeApi => 1,
            _ => wished,
        }
    }

    /// Whether it can be made on such a store: a server of its own process has a file, and nobody shares a file.
    pub fn is_made_on(self, store: StoreKind) -> bool {
        match self {
            Self::Start | Self::Idle | Self::Api | Self::LargeApi => store == StoreKind::Sqlite,
            Self::Failover => store != StoreKind::Sqlite,
            _ => true,
        }
    }

    /// Makes it once.
    pub async fn run(self, setting: &Setting) -> Result<Vec<Reading>> {
        match self {
            Self::Hop => engine::hop(&setting.place().await?).await,
            Self::Chain => engine::chain(&setting.place().await?).await,
            Self::Throughput => engine::throughput(&setting.place().await?).await,
            Self::FanOut => engine::fan_out(&setting.place().await?).await,
            Self::Burst => servers::burst(setting).await,
            Self::Failover => servers::failover(&setting.place().await?).await,
            Self::Start => server::start(setting).await,
            Self::Idle => server::idle(setting).await,
            Self::History => history::ratios(setting).await,
            Self::Api => api::under_load(setting, &api::SMALL).await,
            Self::LargeApi => api::under_load(setting, &api::LARGE).await,
        }
    }
}
