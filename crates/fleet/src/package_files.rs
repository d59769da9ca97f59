//! The package files of this server. Servers on one database know the same packages; a file that is not here is got from
//! another server, and one that nobody knows any more is removed.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use tokio::{fs, sync::Mutex};

use crate::inventory::{Inventory, InventoryError, Package};

/// A package file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PackageFileError {
    /// It is not here, and nobody else gave it.
    #[error(
        "the file of package {name} is not on this server and was not got from another one ({reason}): start a server that \
         has it, or upload the same file again"
    )]
    Missing {
        /// The package's file name.
        name: String,
        /// What the others said.
        reason: String,
    },
    /// The system failed.
    #[error("the package file {path} cannot be kept, read or removed")]
    Storage {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not known which packages there are.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
}

/// The other servers, as far as package files go.
#[async_trait]
pub trait OtherStores: Send + Sync {
    /// Brings the file of a package into the new file `to`: whole, checked against its digest, and on disk.
    ///
    /// # Errors
    /// When nobody has it, in words.
    async fn fetch(&self, package: &Package, to: &Path) -> Result<(), String>;

    /// Has all others that are up take the file of a package, which this server now has. Not getting it to all of them is no
    /// failure: they fetch it when they need it.
    async fn offer(&self, package: &Package);
}

/// For a server alone on its database.
#[derive(Debug, Clone, Copy)]
struct Nobody;

#[async_trait]
impl OtherStores for Nobody {
    async fn fetch(&self, _package: &Package, _to: &Path) -> Result<(), String> {
        Err("there is no other server".to_owned())
    }

    async fn offer(&self, _package: &Package) {}
}

/// The files, by content.
pub struct PackageFiles {
    dir: PathBuf,
    arriving: PathBuf,
    others: Arc<dyn OtherStores>,
    /// Held from the moment a file is put here until the inventory knows its package, and while unknown ones are removed.
    settled: Mutex<()>,
    /// One file is fetched at a time: whoever wants the same one finds it here afterwards.
    fetching: Mutex<()>,
}

fn storage(path: &Path) -> impl FnOnce(io::Error) -> PackageFileError {
    move |source| PackageFileError::Storage {
        path: path.to_owned(),
        source,
    }
}

impl PackageFiles {
    /// Files in `dir`; what is on its way is in `arriving`, on the same file system.
    pub fn new(dir: PathBuf, arriving: PathBuf, others: Arc<dyn OtherStores>) -> Self {
        Self {
            dir,
            arriving,
            others,
            settled: Mutex::default(),
            fetching: Mutex::default(),
        }
    }

    /// Those of a server alone on its database.
    pub fn alone(dir: PathBuf) -> Self {
        Self::new(dir.clone(), dir, Arc::new(Nobody))
    }

    /// Where the file of a package lies, if it is on this server.
    pub fn place(&self, package: &Package) -> PathBuf {
        self.dir.join(package.stored_name())
    }

    /// The file of a package, if it is on this server.
    pub async fn here(&self, package: &Package) -> Option<PathBuf> {
        let path = self.place(package);
        fs::try_exists(&path).await.is_ok_and(|there| there).then_some(path)
    }

    /// The file of a package, fetched from another server if need be.
    pub async fn get(&self, package: &Package) -> Result<PathBuf, PackageFileError> {
        if let Some(path) = self.here(package).await {
            return Ok(path);
        }
        let _one = self.fetching.lock().await;
        if let Some(path) = self.here(package).await {
            return Ok(path);
        }
        let name = package.name.file_name();
        let arriving = self.arriving.join(format!("{}.part", package.sha256));
        let fetched = self.others.fetch(package, &arriving).await;
        if let Err(reason) = fetched {
            // Half a file, or none.
            drop(fs::remove_file(&arriving).await);
            return Err(PackageFileError::Missing { name, reason });
        }
        let path = self.place(package);
        fs::rename(&arriving, &path).await.map_err(storage(&path))?;
        tracing::info!(name, "the file of a package was got from another server");
        Ok(path)
    }

    /// Moves a file here and has the inventory know its package. → false when it knows one by that name; then nothing is
    /// kept
    pub async fn add(
        &self,
        uploaded: &Path,
        package: &Package,
        inventory: &dyn Inventory,
    ) -> Result<bool, PackageFileError> {
        let settled = self.settled.lock().await;
        self.put(uploaded, package).await?;
        let added = inventory.insert_package(package).await;
        if !matches!(added, Ok(true)) {
            // The same content may be a known package's. Whether it is, tidying looks again when the inventory cannot tell.
            let known = inventory.snapshot().await;
            let other = |known: &Package| known.sha256 != package.sha256;
            if known.is_ok_and(|known| known.packages.values().all(other)) {
                self.remove(package).await?;
            }
        }
        let added = added?;
        drop(settled);
        if added {
            self.others.offer(package).await;
        }
        Ok(added)
    }

    /// Moves the file of a package here that the inventory knows, unless it is here.
    pub async fn replace(&self, uploaded: &Path, package: &Package) -> Result<(), PackageFileError> {
        if self.here(package).await.is_none() {
            self.put(uploaded, package).await?;
            self.others.offer(package).await;
        }
        Ok(())
    }

    async fn put(&self, uploaded: &Path, package: &Package) -> Result<(), PackageFileError> {
        let path = self.place(package);
        fs::rename(uploaded, &path).await.map_err(storage(&path))
    }

    /// Removes the files of packages that the inventory does not know, and fetches those that are missing.
    pub async fn tidy(&self, inventory: &dyn Inventory) -> Result<(), PackageFileError> {
        let settled = self.settled.lock().await;
        // In this order: a file that is listed is known already, or never will be.
        let files = self.list().await?;
        let fleet = inventory.snapshot().await?;
        let known: BTreeSet<String> = fleet.packages.values().map(Package::stored_name).collect();
        for name in files.difference(&known) {
            let path = self.dir.join(name);
            fs::remove_file(&path).await.map_err(storage(&path))?;
            tracing::info!(name, "the file of a package that was deleted is removed");
        }
        drop(settled);
        let mut done = Ok(());
        for package in fleet.packages.values() {
            if let Err(error) = self.get(package).await {
                done = Err(error);
            }
        }
        done
    }

    /// Names of the files here that are packages'.
    async fn list(&self) -> Result<BTreeSet<String>, PackageFileError> {
        let failed = |source| PackageFileError::Storage {
            path: self.dir.clone(),
            source,
        };
        let mut entries = fs::read_dir(&self.dir).await.map_err(failed)?;
        let mut names = BTreeSet::new();
        while let Some(entry) = entries.next_entry().await.map_err(failed)? {
            let name = entry.file_name().into_string().unwrap_or_default();
            let digest = name.strip_suffix(".rpm").unwrap_or_default();
            if digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()) {
                names.insert(name);
            }
        }
        Ok(names)
    }

    /// Removes the file of a package that the inventory does not know any more.
    pub async fn remove(&self, package: &Package) -> Result<(), PackageFileError> {
        let path = self.place(package);
        match fs::remove_file(&path).await {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(storage(&path)(source)),
            _ => Ok(()),
        }
    }
}
