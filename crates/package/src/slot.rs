//! A slot: a directory that holds one version of the proxy, `obproxy-4.3.1.0-1.el7/bin/obproxy`.
//!
//! Slots lie side by side in the *slots directory* and never change: they appear whole by a rename and vanish whole by
//! a rename. `slot.json` in each says what it holds. Names that begin with a dot are never slots.

mod directory;
mod manifest;

use std::{
    fs,
    path::{Path, PathBuf},
};

use obfleet_wire::version::ProxyVersion;

pub(crate) use self::{
    directory::{SlotsDirectory, Staging},
    manifest::{Manifest, Stored},
};
use crate::{PackageError, hashing};

/// Path of the executable inside a slot.
pub(crate) const EXECUTABLE: &str = "bin/obproxy";
/// How every slot's name begins.
const NAME_PREFIX: &str = "obproxy-";

/// One unpacked version of the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The slot's directory.
    pub path: PathBuf,
    /// Version and build.
    pub version: ProxyVersion,
    /// SHA-256 of the executable in hexadecimal.
    pub binary_sha256: String,
}

impl Slot {
    /// The proxy's executable.
    pub fn binary(&self) -> PathBuf {
        self.path.join(EXECUTABLE)
    }

    pub(crate) fn new(path: PathBuf, manifest: &Manifest) -> Self {
        Self {
            path,
            version: manifest.version.clone(),
            binary_sha256: manifest.binary_sha256.clone(),
        }
    }
}

fn bad_slot(slot: &Path, reason: impl Into<String>) -> PackageError {
    PackageError::BadSlot {
        slot: slot.to_owned(),
        reason: reason.into(),
    }
}

/// Reads the slot at `path` and compares its executable with the digest in its manifest.
pub fn read_slot(path: &Path) -> Result<Slot, PackageError> {
    let slot = Slot::new(path.to_owned(), &Manifest::read(path)?);
    let actual = regular_file_sha256(&slot.binary()).map_err(|reason| bad_slot(path, reason))?;
    if actual != slot.binary_sha256 {
        let expected = &slot.binary_sha256;
        return Err(bad_slot(
            path,
            format!("{EXECUTABLE} should have SHA-256 {expected}, has {actual}"),
        ));
    }
    Ok(slot)
}

/// SHA-256 of a file that must be a regular file and no link; the error is the reason.
pub(crate) fn regular_file_sha256(path: &Path) -> Result<String, String> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => hashing::sha256_of(path).map_err(|error| error.to_string()),
        Ok(_) => Err(format!("{} is not a regular file", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// The slots in `dir`, oldest version first, by their manifests alone (nothing is hashed).
///
/// A directory without a readable manifest is left out; [`read_slot`] says what it lacks. A missing `dir` holds none.
pub fn list_slots(dir: &Path) -> Result<Vec<Slot>, PackageError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(PackageError::io("list", dir)(error)),
    };
    let mut slots = Vec::new();
    for entry in entries {
        let path = entry.map_err(PackageError::io("list", dir))?.path();
        if is_slot_name(&path)
            && let Ok(manifest) = Manifest::read(&path)
        {
            slots.push(Slot::new(path, &manifest));
        }
    }
    slots.sort_by(|a, b| a.version.cmp(&b.version).then_with(|| a.path.cmp(&b.path)));
    Ok(slots)
}

/// Removes the slot at `path`, damaged or not; does nothing if it is gone already.
///
/// The slot vanishes at once, by a rename; a crash afterwards leaves a hidden rest that the next [`crate::extract`]
/// clears away. A proxy that still runs from the slot keeps running.
pub fn remove_slot(path: &Path) -> Result<(), PackageError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(PackageError::io("remove", path)(error)),
        Ok(metadata) if !metadata.is_dir() => return Err(bad_slot(path, "it is not a directory")),
        Ok(_) if !is_slot_name(path) => return Err(bad_slot(path, "its name is not that of a slot")),
        Ok(_) => {}
    }
    let dir = path
        .parent()
        .ok_or_else(|| bad_slot(path, "it is not in a slots directory"))?;
    SlotsDirectory::lock(dir)?.remove(path)
}

fn is_slot_name(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(NAME_PREFIX.as_bytes()))
}
