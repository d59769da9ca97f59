//! Whether a package is whole: its content against its own digests.

use std::path::Path;

use rpm::IndexTag;
use sha2::{Digest as _, Sha256, Sha512};

use crate::{
    Limits, PackageError,
    contents::{self, FileKind, PackagedFile},
    hashing,
    package_file::PackageFile,
    payload,
};

/// Which digest vouches for the payload of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrity {
    /// The header names a digest of the payload (RPM 4.14 and later), and the payload has it.
    Payload,
    /// The package is from an older RPM (el7) that names no digest of the payload; every file in it has the digest
    /// that the header names for it. What the header does not list was refused.
    PerFile,
}

/// Compares the package with every digest that its header names.
///
/// 1. The header must have the SHA-1 or SHA-256 that the signature header names.
/// 2. If the header names a SHA-256 or SHA-512 of the payload, the payload must have it.
/// 3. If it names none, every regular file must have a digest and match it; a file without one is refused.
///
/// This finds damage, not forgery: whoever makes a package makes its digests too. [`crate::verify_signed`] tells who made
/// it; without keys, compare [`crate::PackageInfo::sha256`] with a value from elsewhere.
pub fn verify(path: &Path) -> Result<Integrity, PackageError> {
    let limits = Limits::default();
    let package = PackageFile::open(path, &limits)?;
    let files = contents::read(&package, &limits)?;
    verify_payload(&package, &files, &limits)
}

/// Steps 2 and 3; opening the package did step 1.
pub(crate) fn verify_payload(
    package: &PackageFile,
    files: &[PackagedFile],
    limits: &Limits,
) -> Result<Integrity, PackageError> {
    let named = |tag| {
        package
            .metadata
            .header
            .get_entry_data_as_string(tag)
            .ok()
            .map(str::to_owned)
    };
    let (sha256, sha512) = (
        named(IndexTag::RPMTAG_PAYLOADSHA256),
        named(IndexTag::RPMTAG_PAYLOAD_SHA512),
    );
    if sha256.is_none() && sha512.is_none() {
        return verify_each_file(package, files, limits);
    }
    let mut hash256 = sha256.as_ref().map(|_| Sha256::new());
    let mut hash512 = sha512.as_ref().map(|_| Sha512::new());
    hashing::stream(&package.file, package.payload_offset, |chunk| {
        if let Some(hasher) = &mut hash256 {
            hasher.update(chunk);
        }
        if let Some(hasher) = &mut hash512 {
            hasher.update(chunk);
        }
    })
    .map_err(PackageError::io("read", &package.path))?;
    let actual = [
        hash256.map(|hash| hex::encode(hash.finalize())),
        hash512.map(|hash| hex::encode(hash.finalize())),
    ];
    for (expected, actual) in [sha256, sha512].into_iter().zip(actual) {
        if let (Some(expected), Some(actual)) = (expected, actual)
            && !expected.eq_ignore_ascii_case(&actual)
        {
            let object = "the payload".to_owned();
            return Err(PackageError::DigestMismatch {
                path: package.path.clone(),
                object,
                expected,
                actual,
            });
        }
    }
    Ok(Integrity::Payload)
}

fn verify_each_file(package: &PackageFile, files: &[PackagedFile], limits: &Limits) -> Result<Integrity, PackageError> {
    let bare = |file: &&PackagedFile| file.kind == FileKind::Regular && !file.ghost && file.digest.is_none();
    if let Some(file) = files.iter().find(bare) {
        let reason = format!("it has neither a digest of its payload nor one of {}", file.path);
        return Err(PackageError::malformed(&package.path, reason));
    }
    payload::walk(package, files, limits, |_, content| {
        while content.next_chunk()?.is_some() {}
        Ok(())
    })?;
    Ok(Integrity::PerFile)
}
