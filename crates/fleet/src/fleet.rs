//! The fleet as the REST API uses it: one method a route. Each reads a [`Snapshot`], has it planned, and submits the
//! task; none waits for a task.

mod add_hosts;
mod clusters;
mod credentials;
mod events;
mod exporters;
mod holding;
mod hosts;
mod install;
mod load_balance;
mod ob_clusters;
mod ob_links;
mod offline;
mod operate;
mod packages;
mod parameters;
mod passwords;
mod sites;
mod take_over;
mod upgrade;

use std::{path::Path, sync::Arc};

use obfleet_engine::{Engine, EngineError, TaskView, TemplateError};
use obfleet_package::KeysError;
use obfleet_wire::Refusal;

use crate::{
    flows::crew::Crew,
    host_agent::HostAgentError,
    inventory::{InventoryChange, InventoryError},
    package_files::PackageFileError,
    plan::Snapshot,
    secrets::SealError,
};

pub use exporters::ExporterTarget;
pub use load_balance::LoadBalanceServer;
pub use ob_clusters::ProbeTarget;
pub use packages::PackageOnDisk;
pub use take_over::TakeOverCheck;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The user's id.
    pub id: i64,
    /// The user's login name.
    pub name: String,
}

/// A task that made a cluster.
#[derive(Debug)]
pub struct Started {
    /// The task.
    pub task: TaskView,
    /// The cluster it made.
    pub cluster_id: i64,
}

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be done as it is.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The engine did not take the task.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The state database failed.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// A secret cannot be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A flow's graph is wrong.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A package file cannot be had or kept.
    #[error(transparent)]
    PackageFile(#[from] PackageFileError),
    /// The keys that packages may be signed with cannot be had.
    #[error(transparent)]
    PackageKeys(#[from] KeysError),
    /// The agent of a host did not answer as it should.
    #[error(transparent)]
    Agent(#[from] HostAgentError),
}

/// The fleet. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    crew: Arc<Crew>,
    engine: Engine<InventoryChange>,
    base_url: Arc<str>,
    package_keys: Option<Arc<Path>>,
}

impl Fleet {
    /// The fleet of `crew`, whose tasks run in `engine`; `base_url` is where clients reach this server.
    pub fn new(crew: Arc<Crew>, engine: Engine<InventoryChange>, base_url: &str) -> Self {
        Self {
            crew,
            engine,
            base_url: base_url.into(),
            package_keys: None,
        }
    }

    /// Takes only packages that are signed by one of the public keys in this directory; without one, any.
    #[must_use]
    pub fn trusting(self, package_keys: Option<&Path>) -> Self {
        Self {
            package_keys: package_keys.map(Into::into),
            ..self
        }
    }

    /// The engine, for the task routes.
    pub fn engine(&self) -> &Engine<InventoryChange> {
        &self.engine
    }

    /// The steps' surroundings, for the observer.
    pub fn crew(&self) -> &Arc<Crew> {
        &self.crew
    }

    /// Everything there is, as of one moment that is not before this was asked.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>, Error> {
        Ok(self.crew.inventory.snapshot().await?)
    }
}
