//! What can be wrong with a package or a slot.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::SignatureFault;

/// Why a package or a slot was refused; each names the object and the reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// The file is something else than an RPM package.
    #[error("{path} is not an RPM package: it is {found}")]
    NotAnRpm {
        /// The file.
        path: PathBuf,
        /// What its first bytes look like.
        found: &'static str,
    },
    /// The file is an RPM package, but a damaged or senseless one.
    #[error("package {path} is malformed: {reason}")]
    Malformed {
        /// The package.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The content differs from what the package says about itself.
    #[error("package {path} is damaged: {object} should have digest {expected}, has {actual}")]
    DigestMismatch {
        /// The package.
        path: PathBuf,
        /// The part that differs: header, payload or the path of a file.
        object: String,
        /// Digest in hexadecimal that the package names.
        expected: String,
        /// Digest in hexadecimal of what is there.
        actual: String,
    },
    /// Nobody who is trusted has signed it, or not this content.
    #[error("package {path} is not signed as it has to be: {fault}")]
    Signature {
        /// The package.
        path: PathBuf,
        /// What is wrong with its signature.
        fault: SignatureFault,
    },
    /// No proxy runs on this architecture.
    #[error("package {path} is for architecture '{arch}': only x86_64 and aarch64 are supported")]
    UnsupportedArch {
        /// The package.
        path: PathBuf,
        /// Architecture in its header.
        arch: String,
    },
    /// The package or its executable is for another machine than this host.
    #[error("{object} of package {path} is for {found}, but this host is {host}")]
    WrongMachine {
        /// The package.
        path: PathBuf,
        /// The header or the path of the executable.
        object: String,
        /// Machine it is made for.
        found: String,
        /// Machine of this host.
        host: &'static str,
    },
    /// The package does not hold the proxy's executable.
    #[error("package {path} ({name}) holds no bin/obproxy below /home/admin or /opt/taobao/install")]
    NoProxyBinary {
        /// The package.
        path: PathBuf,
        /// Name in its header.
        name: String,
    },
    /// `bin/obproxy` cannot be run.
    #[error("{file} of package {path} is not an executable: {reason}")]
    NotExecutable {
        /// The package.
        path: PathBuf,
        /// The executable inside.
        file: String,
        /// What it lacks.
        reason: String,
    },
    /// Something is larger than [`crate::Limits`] allow.
    #[error("{object} of package {path} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The package.
        path: PathBuf,
        /// The file, its header, its payload or a file inside.
        object: String,
        /// Bytes allowed.
        limit: u64,
    },
    /// The package lists more files than [`crate::Limits`] allow.
    #[error("package {path} lists {entries} files, more than the limit of {limit}")]
    TooManyEntries {
        /// The package.
        path: PathBuf,
        /// Files it lists.
        entries: usize,
        /// Files allowed.
        limit: usize,
    },
    /// A name or link in the package leads, or could lead, outside its directory.
    #[error("package {package} holds the unsafe path {path:?}: {reason}")]
    UnsafePath {
        /// The package.
        package: PathBuf,
        /// The name inside.
        path: String,
        /// Why it is unsafe.
        reason: String,
    },
    /// A device, pipe or socket is in the package.
    #[error("package {package} holds {path:?}, which is {kind}: only files, directories and links are allowed")]
    SpecialFile {
        /// The package.
        package: PathBuf,
        /// The name inside.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// A slot of that name exists with other content.
    #[error("slot {slot} exists and differs from package {package}: {reason}; remove the slot or use another release")]
    SlotConflict {
        /// The slot.
        slot: PathBuf,
        /// The package.
        package: PathBuf,
        /// The first difference.
        reason: String,
    },
    /// A directory is not a slot, or not a whole one any more.
    #[error("{slot} is not an intact slot: {reason}")]
    BadSlot {
        /// The directory.
        slot: PathBuf,
        /// What is missing or changed.
        reason: String,
    },
    /// Another process has been working in the slots directory for too long.
    #[error("{dir} is still locked by another extraction or removal after {seconds} s; try again")]
    Busy {
        /// The slots directory.
        dir: PathBuf,
        /// How long we waited.
        seconds: u64,
    },
    /// A package cannot be built from this.
    #[error("cannot build package {name}: {reason}")]
    Build {
        /// File name it would have.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl PackageError {
    /// For `map_err`: an [`PackageError::Io`] that names what was tried on which file.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.as_ref().to_owned(),
            source,
        }
    }

    pub(crate) fn malformed(path: &Path, reason: impl Into<String>) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn too_large(path: &Path, object: impl Into<String>, limit: u64) -> Self {
        Self::TooLarge {
            path: path.to_owned(),
            object: object.into(),
            limit,
        }
    }
}
