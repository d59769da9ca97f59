//! Who signed a package: its OpenPGP signatures against keys that are trusted.
//!
//! RPM signs in two ways. A signature of the *header* (EL7 and later) vouches for what the header names: the digest of the
//! payload, or in packages of older RPMs the digest of each file. A signature of *header and payload* (kept beside it in EL7)
//! vouches for every byte after itself. Either is enough, as long as what is unpacked is bound by it.

mod certificate;
mod keys;

use std::{io::Read as _, path::Path, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pgp::{
    crypto::hash::HashAlgorithm,
    packet::{Packet, PacketParser, Signature, SignatureType},
};
use rpm::IndexSignatureTag;

pub use keys::{KeysError, TrustedKeys};

use crate::{
    Integrity, Limits, PackageError,
    contents::{self, FileKind, PackagedFile},
    hashing::{self, is_strong},
    package_file::PackageFile,
    verify::verify_payload,
};

/// Signatures of a package that are looked at; RPM's own packages have one, some vendors' two.
const MOST_SIGNATURES: usize = 16;
/// Bytes a signature may have; the largest in use has a tenth.
const MOST_SIGNATURE_BYTES: usize = 16 * 1024;

/// Whose signature a package carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// Fingerprint of the trusted key, hexadecimal in capitals. A subkey's signature counts as its key's.
    pub fingerprint: String,
}

/// Why a package does not count as signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureFault {
    /// There is no signature in it.
    #[error("it carries no signature")]
    Unsigned,
    /// All its signatures are by keys that are not trusted.
    #[error("it is signed by {key}, which is not among the trusted keys")]
    UnknownKey {
        /// Fingerprint or key id that the signature names, hexadecimal; empty if it names none.
        key: String,
    },
    /// What is there is no signature, or none of a kind that is known.
    #[error("its signature cannot be read: {reason}")]
    Unreadable {
        /// What does not fit.
        reason: String,
    },
    /// The signature was not made for this content, or not by the key it names.
    #[error("its signature does not fit its content and the key {key}")]
    Bad {
        /// The trusted key that the signature names.
        key: String,
    },
    /// The signature was made over a digest that can be forged.
    #[error("its signature by {key} is over a digest of the kind {algorithm}, which can be forged")]
    Weak {
        /// The trusted key.
        key: String,
        /// `MD5`.
        algorithm: String,
    },
    /// The owner of the key has revoked it.
    #[error("the key {key} that signed it is revoked")]
    KeyRevoked {
        /// The key.
        key: String,
    },
    /// The key was over, or had not begun, when the signature was made.
    #[error("the key {key} was not valid when it signed the package")]
    KeyNotValid {
        /// The key.
        key: String,
    },
    /// The key is for something else, or does not belong to the trusted key it came with.
    #[error("the key {key} that signed it is not for signing")]
    NotForSigning {
        /// The key.
        key: String,
    },
    /// The signature is over by now, or was made in the future.
    #[error("its signature by {key} is not valid now")]
    NotNow {
        /// The key.
        key: String,
    },
    /// The signature is good, but vouches for the header alone, which names only digests that can be forged.
    #[error("its signature by {key} does not vouch for its files, which have weak digests")]
    FilesUnbound {
        /// The key.
        key: String,
    },
}

/// Verifies the package at `path` as [`crate::verify`] does, and that one of `keys` signed it; `now` is the time that
/// signatures are compared with.
///
/// Each signature by a trusted key must be good, and there must be one; those by other keys count for nothing.
pub fn verify_signed(path: &Path, keys: &TrustedKeys, now: SystemTime) -> Result<(Integrity, Signer), PackageError> {
    let limits = Limits::default();
    let package = PackageFile::open(path, &limits)?;
    let refused = |fault| PackageError::Signature {
        path: path.to_owned(),
        fault,
    };
    let found = signatures(&package).map_err(refused)?;
    let (mut signer, mut stranger, mut covers_payload) = (None, None, false);
    for found in &found {
        if !keys.know_issuer_of(&found.signature) {
            stranger = Some(named_issuer(&found.signature));
            continue;
        }
        let good = check(&package, found, keys, now)?.map_err(refused)?;
        covers_payload |= found.covers_payload;
        signer = Some(good);
    }
    let Some(signer) = signer else {
        return Err(refused(
            stranger.map_or(SignatureFault::Unsigned, |key| SignatureFault::UnknownKey { key }),
        ));
    };
    let files = contents::read(&package, &limits)?;
    let integrity = verify_payload(&package, &files, &limits)?;
    let bound = covers_payload || integrity == Integrity::Payload || have_strong_digests(&files);
    if !bound {
        return Err(refused(SignatureFault::FilesUnbound {
            key: signer.fingerprint,
        }));
    }
    Ok((integrity, signer))
}

/// A signature of a package, and what it was made of.
struct Found {
    signature: Signature,
    /// Whether it was made of header and payload, or else of the header alone.
    covers_payload: bool,
}

fn signatures(package: &PackageFile) -> Result<Vec<Found>, SignatureFault> {
    use IndexSignatureTag as Tag;
    let header = &package.metadata.signature;
    let unreadable = |reason: &str| SignatureFault::Unreadable {
        reason: reason.to_owned(),
    };
    let mut found = Vec::new();
    // What RPM 6 writes: any number of signatures of the header, as text.
    if header.entry_is_present(Tag::RPMSIGTAG_OPENPGP) {
        let texts = header
            .get_entry_data_as_string_array(Tag::RPMSIGTAG_OPENPGP)
            .map_err(|_| unreadable("it is of another type than RPM's"))?;
        if texts.len() > MOST_SIGNATURES {
            return Err(unreadable("there are too many"));
        }
        for text in texts {
            let bytes = STANDARD.decode(text).map_err(|_| unreadable("it is not in base64"))?;
            found.push((bytes, false));
        }
    }
    for (tag, covers_payload) in [
        (Tag::RPMSIGTAG_RSA, false),
        (Tag::RPMSIGTAG_DSA, false),
        (Tag::RPMSIGTAG_PGP, true),
        (Tag::RPMSIGTAG_GPG, true),
    ] {
        if header.entry_is_present(tag) {
            let bytes = header
                .get_entry_data_as_binary(tag)
                .map_err(|_| unreadable("it is of another type than RPM's"))?;
            found.push((bytes.to_owned(), covers_payload));
        }
    }
    let parsed = found.into_iter().map(|(bytes, covers_payload)| {
        Ok(Found {
            signature: parse(&bytes)?,
            covers_payload,
        })
    });
    parsed.collect()
}

/// The one signature packet that `bytes` are.
fn parse(bytes: &[u8]) -> Result<Signature, SignatureFault> {
    let unreadable = |reason: String| SignatureFault::Unreadable { reason };
    if bytes.len() > MOST_SIGNATURE_BYTES {
        return Err(unreadable(format!("it has more than {MOST_SIGNATURE_BYTES} bytes")));
    }
    let mut packets = PacketParser::new(bytes);
    match (packets.next(), packets.next()) {
        (Some(Ok(Packet::Signature(signature))), None) => match signature.typ() {
            Some(SignatureType::Binary) => Ok(signature),
            _ => Err(unreadable("it is not one of a file".to_owned())),
        },
        (Some(Err(error)), _) => Err(unreadable(error.to_string())),
        _ => Err(unreadable("it is not one OpenPGP signature".to_owned())),
    }
}

/// Checks a signature by a trusted key. The outer error is one of reading the file.
fn check(
    package: &PackageFile,
    found: &Found,
    keys: &TrustedKeys,
    now: SystemTime,
) -> Result<Result<Signer, SignatureFault>, PackageError> {
    let signature = &found.signature;
    let key = named_issuer(signature);
    if let Some(algorithm) = weak_digest(signature) {
        return Ok(Err(SignatureFault::Weak { key, algorithm }));
    }
    let mut fault = SignatureFault::Bad { key };
    for certificate in keys.certificates() {
        let Some(maker) = certificate::maker(certificate, signature) else {
            continue;
        };
        // Before the payload is read: most faults are of the key.
        let good = match maker.allowed(signature, now) {
            Ok(good) => good,
            // However many copies of a key there are: if one says that it is revoked, it is.
            Err(revoked @ SignatureFault::KeyRevoked { .. }) => return Ok(Err(revoked)),
            Err(other) => {
                fault = other;
                continue;
            }
        };
        let fits = if found.covers_payload {
            // The file's position is set here, and nobody else reads it meanwhile.
            let payload = hashing::reader(&package.file, package.payload_offset)
                .map_err(PackageError::io("read", &package.path))?;
            maker.fits(signature, package.header.as_slice().chain(payload))
        } else {
            maker.fits(signature, package.header.as_slice())
        };
        if fits {
            return Ok(Ok(good));
        }
    }
    Ok(Err(fault))
}

/// The fingerprint, or else the key id, of the key that a signature names as its maker.
fn named_issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(|found| format!("{found:X}"));
    let id = || {
        let id = signature.issuer_key_id().first().map(hex::encode_upper);
        id.unwrap_or_default()
    };
    fingerprint.unwrap_or_else(id)
}

/// The digest a signature was made over, if whoever has one package can make another with the same. SHA-1 is looked
/// through for the traces of such an attack, so that packages of EL7's time are taken.
fn weak_digest(signature: &Signature) -> Option<String> {
    match signature.hash_alg() {
        Some(
            HashAlgorithm::Sha1
            | HashAlgorithm::Sha224
            | HashAlgorithm::Sha256
            | HashAlgorithm::Sha384
            | HashAlgorithm::Sha512
            | HashAlgorithm::Sha3_256
            | HashAlgorithm::Sha3_512,
        ) => None,
        Some(other) => Some(other.to_string()),
        None => Some("unknown".to_owned()),
    }
}

fn have_strong_digests(files: &[PackagedFile]) -> bool {
    let mut regular = files
        .iter()
        .filter(|file| file.kind == FileKind::Regular && !file.ghost);
    regular.all(|file| file.digest.as_ref().is_some_and(|(algorithm, _)| is_strong(*algorithm)))
}
