//! Packages.

use obfleet_wire::{time::Timestamp, version::PackageName};

/// An uploaded package.
#[derive(Debug, Clone, PartialEq)]
pub struct Package {
    /// Its id.
    pub id: i64,
    /// Its name, from the header.
    pub name: PackageName,
    /// Whether it holds an OBProxy.
    pub is_proxy: bool,
    /// Bytes.
    pub size: u64,
    /// SHA-1 of the file, hexadecimal.
    pub sha1: String,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// Fingerprint of the trusted key that signed it; absent where signatures were not asked for when it was uploaded.
    pub signed_by: Option<String>,
    /// When it was uploaded.
    pub created: Timestamp,
}

impl Package {
    /// Name of its file in the package store: by content, so that no upload can replace another's file.
    pub fn stored_name(&self) -> String {
        format!("{}.rpm", self.sha256)
    }
}
