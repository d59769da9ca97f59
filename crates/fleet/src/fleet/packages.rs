//! Software packages: the files, and what is known of them.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use obfleet_engine::{TaskFilter, TaskId, TaskStatus};
use obfleet_package::{PackageError, PackageKind, SignatureFault, Signer, TrustedKeys};
use obfleet_wire::{
    Code, Refusal,
    package::SoftwarePackage,
    reason::{Reason, Thing},
    time::Timestamp,
};

use super::{Error, Fleet, holding};
use crate::{
    inventory::{InventoryError, Package},
    package_files::PackageFileError,
    view,
};

/// Tasks read at once when the one that holds a package is looked for.
const TASKS_AT_A_TIME: u32 = 100;

/// The file of a package, on this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageOnDisk {
    /// Where it lies.
    pub path: PathBuf,
    /// What it is called, `obproxy-ce-4.3.1.0-1.el7.x86_64.rpm`.
    pub file_name: String,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

impl PackageOnDisk {
    fn new(package: &Package, path: PathBuf) -> Self {
        Self {
            path,
            file_name: package.name.file_name(),
            sha256: package.sha256.clone(),
        }
    }
}

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

    /// Takes an uploaded file over: what it is, is read from its header, its digests are checked, and its signature where
    /// there are trusted keys; its name is made from the header. `file_name` is what the client called it; only its suffix
    /// counts.
    ///
    /// The same file once more is a way to have a package whose file or whose signer is missing.
    pub async fn add_package(&self, uploaded: &Path, file_name: &str) -> Result<SoftwarePackage, Error> {
        let suffix = Path::new(file_name)
            .extension()
            .and_then(|suffix| suffix.to_str())
            .unwrap_or("");
        if suffix != "rpm" {
            return Err(Refusal::new(Code::Pkg10003, [suffix, "rpm"]).field("file").into());
        }
        let path = uploaded.to_owned();
        let keys = self.package_keys.clone();
        let read = tokio::task::spawn_blocking(move || {
            let info = obfleet_package::inspect(&path).map_err(unreadable)?;
            let signer = verify(&path, keys.as_deref())?;
            Ok::<_, Error>((info, signer))
        });
        let read = read.await.map_err(|error| InventoryError(error.to_string()))?;
        let (info, signer) = read?;
        let package = Package {
            id: self.crew.inventory.next_id().await?,
            name: info.package_name(),
            is_proxy: info.kind != PackageKind::Other,
            size: info.size,
            sha1: info.sha1,
            sha256: info.sha256,
            signed_by: signer.map(|signer| signer.fingerprint),
            created: Timestamp::now(),
        };
        let fleet = self.snapshot().await?;
        let files = &self.crew.packages;
        let taken = || Refusal::new(Code::Pkg10012, [package.name.file_name()]).field("file");
        if let Some(known) = fleet.packages.values().find(|other| other.name == package.name) {
            if known.sha256 != package.sha256 {
                return Err(taken().into());
            }
            let is_missing = files.here(known).await.is_none();
            if is_missing {
                // The way back when the only server that had the file is gone.
                files.replace(uploaded, known).await?;
            }
            let known = match &package.signed_by {
                // It was uploaded before signatures were asked for, or has been signed by another key since.
                Some(signer) if known.signed_by != package.signed_by => {
                    self.crew.inventory.set_package_signer(known.id, signer).await?;
                    Package {
                        signed_by: package.signed_by,
                        ..known.clone()
                    }
                }
                _ if is_missing => known.clone(),
                _ => return Err(taken().into()),
            };
            return Ok(view::package(&fleet, &known, &self.base_url));
        }
        if !files.add(uploaded, &package, &*self.crew.inventory).await? {
            return Err(taken().into());
        }
        Ok(view::package(&fleet, &package, &self.base_url))
    }

    /// Removes a package that no proxy runs and no task is about to install.
    pub async fn remove_package(&self, id: i64) -> Result<(), Error> {
        let fleet = self.snapshot().await?;
        let package = fleet
            .packages
            .get(&id)
            .ok_or_else(|| Refusal::new(Code::Pkg10014, [id]).field("id"))?;
        let file_name = package.name.file_name();
        let in_use = |user: Thing| Refusal::about(Code::Pkg10007, [(&file_name).into(), user.into()]).field("id");
        if let Some(proxy) = view::user_of(&fleet, package) {
            return Err(in_use(Thing::Proxy(proxy.id.to_string())).into());
        }
        if let Some(task) = self.task_about(package).await? {
            return Err(in_use(Thing::Task(task.to_string())).into());
        }
        if self.crew.inventory.delete_package(id).await? {
            self.crew.packages.remove(package).await?;
        }
        Ok(())
    }

    /// A task that is not over and holds the package. One that begins in this very moment is not seen: its step says then
    /// that the package was deleted.
    async fn task_about(&self, package: &Package) -> Result<Option<TaskId>, Error> {
        let held = holding::package(package.id);
        for status in [TaskStatus::Running, TaskStatus::Failed] {
            for page in 1.. {
                let filter = TaskFilter {
                    status: vec![status],
                    page,
                    size: TASKS_AT_A_TIME,
                    ..TaskFilter::default()
                };
                let tasks = self.engine.list(&filter).await?.items;
                if let Some(task) = tasks.iter().find(|task| task.locks.contains(&held)) {
                    return Ok(Some(task.id));
                }
                if tasks.len() < TASKS_AT_A_TIME as usize {
                    break;
                }
            }
        }
        Ok(None)
    }

    /// The file of a package, on this server by now.
    pub async fn package_file(&self, file_name: &str) -> Result<PackageOnDisk, Error> {
        let fleet = self.snapshot().await?;
        let mut packages = fleet.packages.values();
        let package = packages.find(|package| package.name.file_name() == file_name);
        let package = package.ok_or_else(|| Refusal::new(Code::Pkg10014, [file_name]).field("fileName"))?;
        let path = self.crew.packages.get(package).await?;
        Ok(PackageOnDisk::new(package, path))
    }

    /// The file with this digest, if it is a package's and on this server.
    pub async fn package_file_here(&self, sha256: &str) -> Result<Option<PackageOnDisk>, Error> {
        let Some(package) = self.package_with(sha256).await? else {
            return Ok(None);
        };
        let path = self.crew.packages.here(&package).await;
        Ok(path.map(|path| PackageOnDisk::new(&package, path)))
    }

    /// Sees to it that the file with this digest is on this server.
    pub async fn take_package(&self, sha256: &str) -> Result<(), Error> {
        let package = self.package_with(sha256).await?;
        let package = package.ok_or_else(|| Refusal::new(Code::Pkg10014, [sha256]))?;
        self.crew.packages.get(&package).await?;
        Ok(())
    }

    async fn package_with(&self, sha256: &str) -> Result<Option<Package>, Error> {
        let fleet = self.snapshot().await?;
        let mut packages = fleet.packages.values();
        Ok(packages.find(|package| package.sha256 == sha256).cloned())
    }
}

/// Compares the package with its digests, and where `keys` is a directory of trusted keys, its signature with them. The keys
/// are read for each package, so that one that is put there, or taken away, counts at once.
fn verify(path: &Path, keys: Option<&Path>) -> Result<Option<Signer>, Error> {
    let Some(keys) = keys else {
        obfleet_package::verify(path).map_err(unreadable)?;
        return Ok(None);
    };
    let keys = TrustedKeys::read(keys)?;
    let (_, signer) = obfleet_package::verify_signed(path, &keys, SystemTime::now()).map_err(unreadable)?;
    Ok(Some(signer))
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
        PackageError::Signature { fault, .. } => flawed(unsigned(fault)),
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

fn unsigned(fault: SignatureFault) -> Reason {
    match fault {
        SignatureFault::Unsigned => Reason::Unsigned,
        SignatureFault::UnknownKey { key } => Reason::UnknownSigner(key),
        SignatureFault::Unreadable { reason } => Reason::UnreadableSignature(reason),
        SignatureFault::Bad { key } => Reason::BadSignature { key },
        SignatureFault::Weak { key, .. } | SignatureFault::FilesUnbound { key } => Reason::WeakSignature { key },
        SignatureFault::KeyRevoked { key } => Reason::RevokedSigner { key },
        SignatureFault::KeyNotValid { key } => Reason::SignerNotValid { key },
        SignatureFault::NotForSigning { key } => Reason::SignerNotForSigning { key },
        SignatureFault::NotNow { key } => Reason::SignatureNotNow { key },
        other => Reason::UnreadableSignature(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What somebody is told whose upload failed with this error.
    fn code(error: PackageError) -> Code {
        match unreadable(error) {
            Error::Refused(refusal) => {
                assert_eq!(refusal.field.as_deref(), Some("file"));
                assert!(!refusal.to_string().contains("/uploads/"), "{refusal}");
                refusal.code
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_wrong_with_an_upload_has_its_code() {
        let path = || PathBuf::from("/uploads/x");
        let found = "a zip archive";
        assert_eq!(code(PackageError::NotAnRpm { path: path(), found }), Code::Pkg10004);
        let arch = "ppc64le".to_owned();
        assert_eq!(
            code(PackageError::UnsupportedArch { path: path(), arch }),
            Code::Pkg10015
        );
        let reason = "it ends inside its header".to_owned();
        assert_eq!(code(PackageError::Malformed { path: path(), reason }), Code::Pkg10006);
        let name = "obproxy-ce".to_owned();
        assert_eq!(code(PackageError::NoProxyBinary { path: path(), name }), Code::Pkg10006);
        let io = PackageError::Io {
            action: "read",
            path: path(),
            source: std::io::Error::other("disk"),
        };
        assert!(matches!(
            unreadable(io),
            Error::PackageFile(PackageFileError::Storage { .. })
        ));
    }
}
