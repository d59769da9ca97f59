//! Software packages: the files, and what is known of them.

use std::path::{Path, PathBuf};

use obfleet_package::{PackageError, PackageKind};
use obfleet_wire::{
    Code, Refusal,
    package::SoftwarePackage,
    reason::{Reason, Thing},
    time::Timestamp,
};

use super::{Error, Fleet};
use crate::{
    inventory::{InventoryError, Package},
    package_files::PackageFileError,
    view,
};

impl Fleet {
    /// All packages, by id.
    pub async fn packages(&self) -> Result<Vec<SoftwarePackage>, Error> {
        let fleet = self.snapshot().await?;
        Ok(fleet
            .packages
            .values()
            .map(|package| view::package(&fleet, package, &self.base_url))
            .collect())
    }

    /// Takes an uploaded file over: what it is, is read from its header, its digests are checked, and its name is made
    /// from the header. `file_name` is what the client called it; only its suffix counts.
    pub async fn add_package(&self, uploaded: &Path, file_name: &str) -> Result<SoftwarePackage, Error> {
        let suffix = Path::new(file_name)
            .extension()
            .and_then(|suffix| suffix.to_str())
            .unwrap_or("");
        if suffix != "rpm" {
            return Err(Refusal::new(Code::Pkg10003, [suffix, "rpm"]).field("file").into());
        }
        let path = uploaded.to_owned();
        let info = tokio::task::spawn_blocking(move || {
            let info = obfleet_package::inspect(&path)?;
            obfleet_package::verify(&path)?;
            Ok::<_, PackageError>(info)
        });
        let info = info
            .await
            .map_err(|error| InventoryError(error.to_string()))?
            .map_err(unreadable)?;
        let package = Package {
            id: self.crew.inventory.next_id().await?,
            name: info.package_name(),
            is_proxy: info.kind != PackageKind::Other,
            size: info.size,
            sha1: info.sha1,
            sha256: info.sha256,
            created: Timestamp::now(),
        };
        let fleet = self.snapshot().await?;
        let files = &self.crew.packages;
        let taken = || Refusal::new(Code::Pkg10012, [package.name.file_name()]).field("file");
        if let Some(known) = fleet.packages.values().find(|other| other.name == package.name) {
            if known.sha256 == package.sha256 && files.here(known).await.is_none() {
                // The way back when the only server that had the file is gone.
                files.replace(uploaded, known).await?;
                return Ok(view::package(&fleet, known, &self.base_url));
            }
            return Err(taken().into());
        }
        if !files.add(uploaded, &package, &*self.crew.inventory).await? {
            return Err(taken().into());
        }
        Ok(view::package(&fleet, &package, &self.base_url))
    }

    /// Removes a package no proxy runs.
    pub async fn remove_package(&self, id: i64) -> Result<(), Error> {
        let fleet = self.snapshot().await?;
        let package = fleet
            .packages
            .get(&id)
            .ok_or_else(|| Refusal::new(Code::Pkg10014, [id]).field("id"))?;
        let file_name = package.name.file_name();
        if let Some(user) = fleet
            .proxies
            .values()
            .find(|proxy| proxy.version == package.name.version)
        {
            let user = Thing::Proxy(user.id.to_string());
            let refusal = Refusal::about(Code::Pkg10007, [(&file_name).into(), user.into()]);
            return Err(refusal.field("id").into());
        }
        if self.crew.inventory.delete_package(id).await? {
            self.crew.packages.remove(package).await?;
        }
        Ok(())
    }

    /// The file of a package, on this server by now.
    pub async fn package_file(&self, file_name: &str) -> Result<PathBuf, Error> {
        let packages = self.crew.inventory.packages().await?;
        let package = packages.iter().find(|package| package.name.file_name() == file_name);
        let package = package.ok_or_else(|| Refusal::new(Code::Pkg10014, [file_name]).field("fileName"))?;
        Ok(self.crew.packages.get(package).await?)
    }

    /// The file with this digest, if it is a package's and on this server.
    pub async fn package_file_here(&self, sha256: &str) -> Result<Option<PathBuf>, Error> {
        Ok(match self.package_with(sha256).await? {
            Some(package) => self.crew.packages.here(&package).await,
            None => None,
        })
    }

    /// Sees to it that the file with this digest is on this server.
    pub async fn take_package(&self, sha256: &str) -> Result<(), Error> {
        let package = self.package_with(sha256).await?;
        let package = package.ok_or_else(|| Refusal::new(Code::Pkg10014, [sha256]))?;
        self.crew.packages.get(&package).await?;
        Ok(())
    }

    async fn package_with(&self, sha256: &str) -> Result<Option<Package>, Error> {
        let packages = self.crew.inventory.packages().await?;
        Ok(packages.into_iter().find(|package| package.sha256 == sha256))
    }
}

/// What an uploaded file that is no good package is told. Where the server keeps the file is nobody's business.
fn unreadable(error: PackageError) -> Error {
    let flawed = |reason: Reason| Refusal::about(Code::Pkg10006, [reason.into()]);
    let refusal = match error {
        PackageError::Io { path, source, .. } => return PackageFileError::Storage { path, source }.into(),
        PackageError::NotAnRpm { found, .. } => {
            Refusal::about(Code::Pkg10004, [Thing::OtherFile(found).into(), "rpm".into()])
        }
        PackageError::UnsupportedArch { arch, .. } => Refusal::new(Code::Pkg10015, [arch]),
        PackageError::Malformed { reason, .. } => flawed(Reason::Malformed(reason)),
        PackageError::DigestMismatch { .. } => flawed(Reason::Damaged),
        PackageError::NoProxyBinary { .. } => flawed(Reason::NoExecutable),
        PackageError::TooLarge { limit, .. } => flawed(Reason::TooLarge { limit }),
        PackageError::TooManyEntries { entries, limit, .. } => flawed(Reason::TooManyFiles { files: entries, limit }),
        PackageError::UnsafePath { path, .. } | PackageError::SpecialFile { path, .. } => {
            flawed(Reason::UnsafeFile(path))
        }
        other => flawed(Reason::Malformed(other.to_string())),
    };
    refusal.field("file").into()
}
