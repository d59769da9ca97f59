//! Where a measurement's database lies: the one room that knows which databases there are.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use obfleet_engine::Store;
use obfleet_fleet::inventory::InventoryChange;
use obfleet_store::{Database, Location};
use obfleet_testdb::shared;
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
    /// MariaDB, started for the occasion.
    Mariadb,
    /// The OceanBase kernel, started for the occasion.
    Oceanbase,
}

impl std::fmt::Display for StoreKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "sqlite",
            Self::Mariadb => "mariadb",
            Self::Oceanbase => "oceanbase",
        })
    }
}

/// Empty databases of one measurement: the state database, and one for bare transactions. Files are gone with the value;
/// servers end with the process.
pub struct Place {
    dir: TempDir,
    /// The two on a server.
    urls: Option<[String; 2]>,
}

impl Place {
    /// Below `dir`, on the disk that is to be measured. Servers put their files into the system's temporary directory.
    pub async fn new(kind: StoreKind, dir: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("place-")
            .tempdir_in(dir)
            .with_context(|| format!("no database can be made in {}", dir.display()))?;
        let urls = match kind {
            StoreKind::Sqlite => None,
            StoreKind::Mariadb => Some([shared::mariadb().await?, shared::mariadb().await?]),
            StoreKind::Oceanbase => Some([shared::seekdb().await?, shared::seekdb().await?]),
        };
        Ok(Self { dir, urls })
    }

    /// Its own directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Opens the state database, as a server does.
    pub async fn open(&self) -> Result<Open> {
        Open::at(&self.address()).await
    }

    /// Where the state database is, for another process to open it: [`Open::at`].
    pub fn address(&self) -> OsString {
        match &self.urls {
            None => self.dir().join(STATE).into(),
            Some([state, _]) => state.into(),
        }
    }

    /// What bare transactions take on a database of the same kind, on the same disk.
    pub async fn bare(&self) -> Result<Bare> {
        Bare::new(match &self.urls {
            None => Database::open(&self.dir().join("bare.db")).await?,
            Some([_, bare]) => Database::connect(&bare.parse()?).await?,
        })
        .await
    }

    /// Puts much into the state database, which must not have been opened yet: a file where nothing waits for a disk.
    pub async fn fill(&self, fill: impl AsyncFnOnce(Arc<dyn Store<InventoryChange>>) -> Result<()>) -> Result<()> {
        if self.urls.is_some() {
            let open = self.open().await?;
            fill(open.store()).await?;
            open.close().await;
            return Ok(());
        }
        let memory = tempfile::tempdir_in(MEMORY)?;
        let open = Open::at(memory.path().join(STATE).as_os_str()).await?;
        fill(open.store()).await?;
        open.close().await;
        for file in std::fs::read_dir(memory.path())? {
            let file = file?;
            std::fs::copy(file.path(), self.dir().join(file.file_name()))?;
        }
        Ok(())
    }
}

/// An open state database.
pub struct Open {
    database: Database,
    is_shareable: bool,
}

impl Open {
    /// By the URL of a database on a server, or by the path of a file.
    pub async fn at(address: &OsStr) -> Result<Self> {
        let location = match address.to_str().map(str::parse) {
            Some(Ok(address)) => Location::Server(address),
            _ => Location::File(address.into()),
        };
        let is_shareable = matches!(location, Location::Server(_));
        Ok(Self {
            database: Database::at(&location).await?,
            is_shareable,
        })
    }

    /// Whether several servers may have it open at a time.
    pub fn is_shareable(&self) -> bool {
        self.is_shareable
    }

    /// What an engine runs on.
    pub fn store(&self) -> Arc<dyn Store<InventoryChange>> {
        Arc::new(self.database.tasks())
    }

    /// After all engines on it have shut down.
    pub async fn close(self) {
        self.database.close().await;
    }
}
