//! `slot.json`: what a slot holds.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    path::Path,
};

use obfleet_wire::version::ProxyVersion;
use serde::{Deserialize, Serialize};

use super::{EXECUTABLE, bad_slot, regular_file_sha256};
use crate::PackageError;

/// A manifest of the most entries that limits allow stays far below this.
const MAX_BYTES: u64 = 8 << 20;

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    /// Name of the package it came from.
    pub(crate) package: String,
    pub(crate) version: ProxyVersion,
    /// SHA-256 of the executable.
    pub(crate) binary_sha256: String,
    /// Every file and link by its path in the slot.
    pub(crate) files: BTreeMap<String, Stored>,
}

/// A file or link of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Stored {
    File { sha256: String, executable: bool },
    Link { target: String },
}

impl Manifest {
    /// Name of the manifest in its slot.
    pub(crate) const FILE_NAME: &str = "slot.json";

    /// Reads the manifest of the slot at `slot`; nothing else in it is looked at.
    pub(crate) fn read(slot: &Path) -> Result<Self, PackageError> {
        let is_directory = fs::symlink_metadata(slot)
            .map_err(PackageError::io("read", slot))?
            .is_dir();
        if !is_directory {
            return Err(bad_slot(slot, "it is not a directory"));
        }
        let mut text = String::new();
        File::open(slot.join(Self::FILE_NAME))
            .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
            .map_err(|error| bad_slot(slot, format!("{} cannot be read: {error}", Self::FILE_NAME)))?;
        serde_json::from_str(&text)
            .map_err(|error| bad_slot(slot, format!("{} is malformed: {error}", Self::FILE_NAME)))
    }

    pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec_pretty(self)
    }

    /// How the slot at `slot`, or what its manifest says, differs from this manifest; `None` if it does not.
    pub(crate) fn difference(&self, slot: &Path) -> Option<String> {
        let stored = match Self::read(slot) {
            Ok(stored) => stored,
            Err(PackageError::BadSlot { reason, .. }) => return Some(reason),
            Err(error) => return Some(error.to_string()),
        };
        if stored.binary_sha256 != self.binary_sha256 {
            let (there, new) = (stored.binary_sha256, &self.binary_sha256);
            return Some(format!("its {EXECUTABLE} has SHA-256 {there}, the package's has {new}"));
        }
        if stored != *self {
            return Some("its list of files is another".to_owned());
        }
        self.files
            .iter()
            .find_map(|(path, stored)| stored.difference(&slot.join(path)))
    }
}

impl Stored {
    fn difference(&self, path: &Path) -> Option<String> {
        let (actual, expected) = match self {
            Self::File { sha256, .. } => (regular_file_sha256(path), sha256),
            Self::Link { target } => {
                let actual = fs::read_link(path).map(|actual| actual.to_string_lossy().into_owned());
                (actual.map_err(|error| format!("{}: {error}", path.display())), target)
            }
        };
        match actual {
            Ok(actual) if actual == *expected => None,
            Ok(_) => Some(format!("{} was changed", path.display())),
            Err(reason) => Some(reason),
        }
    }
}
