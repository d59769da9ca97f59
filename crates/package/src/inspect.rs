//! What a package is, read from its header and never from its file name.

use std::path::Path;

use obfleet_wire::version::{PackageName, ProxyVersion};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::{
    Limits, PackageError, PackageKind,
    contents::{self, FileKind, PackagedFile},
    hashing,
    identity::Identity,
    package_file::PackageFile,
};

/// A package as its header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageInfo {
    /// Package name, `obproxy-ce`.
    pub name: String,
    /// Version and build, `4.3.1.0-1`.
    pub version: ProxyVersion,
    /// Operating system tag of the release, `el7`.
    pub os: String,
    /// Architecture, `x86_64` or `aarch64`.
    pub arch: String,
    /// What the package holds.
    pub kind: PackageKind,
    /// Bytes of the package file.
    pub size: u64,
    /// SHA-1 of the package file in hexadecimal (what OCP lists; no protection).
    pub sha1: String,
    /// SHA-256 of the package file in hexadecimal.
    pub sha256: String,
    /// Everything that the package installs.
    pub files: Vec<PackagedFile>,
    /// Path of the proxy's executable in the package; always there unless `kind` is `Other`.
    pub executable: Option<String>,
}

impl PackageInfo {
    /// The parts of the file name that the package ought to have.
    pub fn package_name(&self) -> PackageName {
        PackageName {
            name: self.name.clone(),
            version: self.version.clone(),
            os: self.os.clone(),
            arch: self.arch.clone(),
        }
    }

    /// The release as RPM knows it, `1.el7`.
    pub fn release(&self) -> String {
        format!("{}.{}", self.version.build, self.os)
    }
}

/// Reads the header of the package at `path` and the digests of the whole file.
///
/// The header must be well formed and match its own digest; the payload is not unpacked ([`crate::verify`] compares
/// its digest). Memory stays within [`Limits::header_bytes`], whatever the file holds.
pub fn inspect(path: &Path) -> Result<PackageInfo, PackageError> {
    let limits = Limits::default();
    let package = PackageFile::open(path, &limits)?;
    let identity = Identity::read(path, &package.metadata)?;
    let files = contents::read(&package, &limits)?;
    let executable = executable(&identity, &files).map(|(prefix, _)| format!("{prefix}/bin/obproxy"));
    if executable.is_none() && identity.kind() != PackageKind::Other {
        return Err(PackageError::NoProxyBinary {
            path: path.to_owned(),
            name: identity.name,
        });
    }
    let (mut sha1, mut sha256) = (Sha1::new(), Sha256::new());
    hashing::stream(&package.file, 0, |chunk| {
        sha1.update(chunk);
        sha256.update(chunk);
    })
    .map_err(PackageError::io("read", path))?;
    Ok(PackageInfo {
        kind: identity.kind(),
        name: identity.name,
        version: identity.version,
        os: identity.os,
        arch: identity.arch,
        size: package.size,
        sha1: hex::encode(sha1.finalize()),
        sha256: hex::encode(sha256.finalize()),
        files,
        executable,
    })
}

/// The prefix below which the package keeps the proxy, and the executable there.
pub(crate) fn executable<'a>(identity: &Identity, files: &'a [PackagedFile]) -> Option<(String, &'a PackagedFile)> {
    identity.prefixes().into_iter().find_map(|prefix| {
        let path = format!("{prefix}/bin/obproxy");
        let file = files
            .iter()
            .find(|file| file.path == path && file.kind == FileKind::Regular && !file.ghost)?;
        Some((prefix, file))
    })
}
