//! Versions of the proxy on this host, and the binary of a home.
//!
//! A slot is never changed. A home gets its binary by a hard link renamed into place: no moment without one, none with
//! half of one, and no second copy on disk.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use obfleet_package::{Limits, PackageError, Slot, extract, inspect, list_slots, read_slot, remove_slot};
use obfleet_wire::version::ProxyVersion;

use crate::{
    durable::{self, FileError},
    layout::Layout,
    packages::Packages,
};

/// A slot cannot be made, used or removed.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// Neither the package nor a slot of the version is here.
    #[error("package {0} is not on this host: put it first")]
    NoPackage(String),
    /// No slot of the version.
    #[error("slot {0} is not on this host: install its package first")]
    Missing(ProxyVersion),
    /// Another package than the caller thinks.
    #[error("package {sha256} holds version {found}, not {wanted}: choose the right package")]
    Version {
        /// The package.
        sha256: String,
        /// What it holds.
        found: ProxyVersion,
        /// What it should hold.
        wanted: ProxyVersion,
    },
    /// Work on a thread of its own ended early.
    #[error("the agent is shutting down: ask again")]
    ShuttingDown,
    /// The package, or the slot's content.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Extracts the package unless its slot is there; tells whether it made the slot.
///
/// # Errors
/// When the package is not here, is damaged, is another version, or differs from the slot of its version.
pub(crate) fn install(
    layout: &Layout,
    packages: &Packages,
    sha256: &str,
    version: &ProxyVersion,
) -> Result<(Slot, bool), SlotError> {
    let Some(package) = packages.find(sha256) else {
        // The slot may have outlived its package.
        let slot = find(layout, version).map_err(|_| SlotError::NoPackage(sha256.to_owned()))?;
        return Ok((slot, false));
    };
    let found = inspect(&package)?.version;
    if found != *version {
        return Err(SlotError::Version {
            sha256: sha256.to_owned(),
            found,
            wanted: version.clone(),
        });
    }
    let before = list_slots(&layout.slots())?;
    let slot = extract(&package, &layout.slots(), &Limits::default())?;
    let created = before.iter().all(|old| old.path != slot.path);
    Ok((slot, created))
}

/// The slot of a version, its executable verified.
///
/// # Errors
/// When it is missing or damaged.
pub(crate) fn find(layout: &Layout, version: &ProxyVersion) -> Result<Slot, SlotError> {
    let slots = list_slots(&layout.slots())?;
    let slot = slots.into_iter().find(|slot| slot.version == *version);
    let slot = slot.ok_or_else(|| SlotError::Missing(version.clone()))?;
    Ok(read_slot(&slot.path)?)
}

/// Keeps what runs as a slot, unless there is one that holds the same.
///
/// # Errors
/// When it cannot be read, or the disk refuses.
pub(crate) async fn take(layout: &Layout, executable: PathBuf, version: &ProxyVersion) -> Result<Slot, SlotError> {
    let (slots, version) = (layout.slots(), version.clone());
    let taken = tokio::task::spawn_blocking(move || obfleet_package::take(&executable, &version, &slots));
    let taken = taken.await.map_err(|_| SlotError::ShuttingDown)?;
    Ok(taken?.0)
}

/// Slots that were made of what ran, without packages.
///
/// # Errors
/// When they cannot be listed.
pub(crate) fn taken(layout: &Layout) -> Result<Vec<Slot>, SlotError> {
    let mut slots = list_slots(&layout.slots())?;
    slots.retain(obfleet_package::is_taken);
    Ok(slots)
}

/// Removes one of these.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn drop_taken(slot: &Slot) -> Result<(), SlotError> {
    Ok(remove_slot(&slot.path)?)
}

/// Removes the slot and the packages of its version.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn remove(layout: &Layout, version: &ProxyVersion) -> Result<(), SlotError> {
    for slot in list_slots(&layout.slots())?
        .iter()
        .filter(|slot| slot.version == *version)
    {
        remove_slot(&slot.path)?;
    }
    let dir = layout.packages();
    for file in fs::read_dir(&dir).map_err(FileError::io("read", &dir))?.flatten() {
        // What cannot be read as a package is not one of this version.
        if inspect(&file.path()).is_ok_and(|info| info.version == *version) {
            durable::remove(&file.path())?;
        }
    }
    Ok(())
}

/// Puts the slot's executable into the home; the caller makes sure that no restart is under way.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn place_binary(slot: &Slot, home: &Path) -> Result<PathBuf, SlotError> {
    let (from, to) = (slot.binary(), home.join("bin/obproxy"));
    let beside = home.join("bin/obproxy.new");
    durable::remove(&beside)?;
    fs::hard_link(&from, &beside)
        .or_else(|e| match e.kind() {
            io::ErrorKind::CrossesDevices | io::ErrorKind::TooManyLinks => copy_new(&from, &beside),
            _ => Err(e),
        })
        .map_err(FileError::io("link", &beside))?;
    fs::rename(&beside, &to).map_err(FileError::io("replace", &to))?;
    // Renaming a link over another link of the same file leaves both.
    durable::remove(&beside)?;
    durable::sync_parent(&to)?;
    Ok(to)
}

/// The directory may be another user's, who could put a link in the way: the file is a new one, or there is none.
fn copy_new(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = fs::File::open(from)?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(to)?;
    io::copy(&mut source, &mut file)?;
    file.set_permissions(fs::Permissions::from_mode(0o755))?;
    file.sync_all()
}
