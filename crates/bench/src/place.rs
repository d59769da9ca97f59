//! Where a measurement's database lies: the one room that knows which databases there are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use obfleet_engine::Store;
use obfleet_fleet::inventory::InventoryChange;
use obfleet_store::Database;
use serde::Serialize;
use tempfile::TempDir;

use crate::floor::Bare;

/// A file system in memory.
const MEMORY: &str = "/dev/shm";
/// Name of the state database.
const STATE: &str = "state.db";

/// The databases a server can keep its state in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// A file, as a single server has it.
    Sqlite,
}

impl std::fmt::Display for StoreKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "sqlite",
        })
    }
}

/// An empty database of one measurement, gone with its value.
pub struct Place {
    kind: StoreKind,
    dir: TempDir,
}

impl Place {
    /// Below `dir`, on the disk that is to be measured.
    pub fn new(kind: StoreKind, dir: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("place-")
            .tempdir_in(dir)
            .with_context(|| format!("no database can be made in {}", dir.display()))?;
        Ok(Self { kind, dir })
    }

    /// Its own directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Opens the state database, as a server does.
    pub async fn open(&self) -> Result<Open> {
        let database = match self.kind {
            StoreKind::Sqlite => Database::open(&self.state()).await?,
        };
        Ok(Open { database })
    }

    /// What bare transactions take on a database of the same kind, on the same disk.
    pub async fn bare(&self) -> Result<Bare> {
        match self.kind {
            StoreKind::Sqlite => Bare::sqlite(&self.dir().join("bare.db")).await,
        }
    }

    /// Puts much into the state database in little time: where nothing waits for a disk. It must not have been opened yet.
    pub async fn fill(&self, fill: impl AsyncFnOnce(Arc<dyn Store<InventoryChange>>) -> Result<()>) -> Result<()> {
        match self.kind {
            StoreKind::Sqlite => {
                let memory = tempfile::tempdir_in(MEMORY)?;
                let open = Open {
                    database: Database::open(&memory.path().join(STATE)).await?,
                };
                fill(open.store()).await?;
                open.close().await;
                for file in std::fs::read_dir(memory.path())? {
                    let file = file?;
                    std::fs::copy(file.path(), self.dir().join(file.file_name()))?;
                }
                Ok(())
            }
        }
    }

    fn state(&self) -> PathBuf {
        self.dir().join(STATE)
    }
}

/// An open state database.
pub struct Open {
    database: Database,
}

impl Open {
    /// What an engine runs on.
    pub fn store(&self) -> Arc<dyn Store<InventoryChange>> {
        Arc::new(self.database.tasks())
    }

    /// After all engines on it have shut down.
    pub async fn close(self) {
        self.database.close().await;
    }
}
