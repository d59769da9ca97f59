//! The keys that packages may be signed with: files in a directory.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use pgp::{
    composed::{Deserializable as _, SignedPublicKey},
    packet::Signature,
};

use super::certificate;

/// Files a directory of keys may have, and bytes each.
const MOST_FILES: usize = 256;
const MOST_BYTES: u64 = 1 << 20;

const PUBLIC: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const PRIVATE: &str = "-----BEGIN PGP PRIVATE KEY BLOCK-----";

/// The trusted keys cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The directory or a file in it cannot be read.
    #[error("cannot read {path}, where the trusted keys of packages are")]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file is no public key.
    #[error("{path} is not a public key of OpenPGP: {reason}; put keys there as gpg --export --armor writes them")]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// There is none.
    #[error("there is no key in {path}; put the public keys there that packages may be signed with")]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// It holds more files than keys need.
    #[error("{path} holds more than {MOST_FILES} files; put only keys there that packages may be signed with")]
    TooMany {
        /// The directory.
        path: PathBuf,
    },
}

/// Keys whose signature makes a package trusted.
#[derive(Debug)]
pub struct TrustedKeys {
    certificates: Vec<SignedPublicKey>,
}

impl TrustedKeys {
    /// Reads every file of the directory `dir`, armored or not, each with one key or more. Hidden files and directories are
    /// passed over. A file that is no key is an error, since whoever put it there believes that it counts.
    pub fn read(dir: &Path) -> Result<Self, KeysError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| KeysError::Io { path, source }
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed(dir))? {
            let path = entry.map_err(failed(dir))?.path();
            let is_hidden = path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            // Through links, as configuration is often laid out; a pipe would keep us waiting.
            if !is_hidden && fs::metadata(&path).map_err(failed(&path))?.is_file() {
                files.push(path);
            }
            if files.len() > MOST_FILES {
                return Err(KeysError::TooMany { path: dir.to_owned() });
            }
        }
        files.sort();
        let mut certificates = Vec::new();
        for path in files {
            let mut bytes = Vec::new();
            let file = File::open(&path).map_err(failed(&path))?;
            file.take(MOST_BYTES + 1)
                .read_to_end(&mut bytes)
                .map_err(failed(&path))?;
            let keys = certificates_in(&bytes).map_err(|reason| KeysError::NotAKey {
                path: path.clone(),
                reason,
            })?;
            certificates.extend(keys);
        }
        if certificates.is_empty() {
            return Err(KeysError::Empty { path: dir.to_owned() });
        }
        Ok(Self { certificates })
    }

    /// Fingerprints of the keys, hexadecimal in capitals.
    pub fn fingerprints(&self) -> Vec<String> {
        self.certificates.iter().map(certificate::fingerprint).collect()
    }

    pub(super) fn certificates(&self) -> &[SignedPublicKey] {
        &self.certificates
    }

    /// Whether the signature names one of the keys, or a subkey of one.
    pub(super) fn know_issuer_of(&self, signature: &Signature) -> bool {
        let made = |key: &SignedPublicKey| certificate::maker(key, signature).is_some();
        self.certificates.iter().any(made)
    }
}

/// The keys in a file; the error is the reason.
fn certificates_in(bytes: &[u8]) -> Result<Vec<SignedPublicKey>, String> {
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("it has more than {MOST_BYTES} bytes"));
    }
    let mut found = Vec::new();
    match std::str::from_utf8(bytes) {
        Ok(text) if text.contains(PRIVATE) => {
            return Err("it holds a private key, which belongs to nobody but its owner".to_owned());
        }
        // Files put together have one block after another, of which the library reads the first.
        Ok(text) => {
            for (at, _) in text.match_indices(PUBLIC) {
                let (keys, _) = SignedPublicKey::from_armor_many(&bytes[at..]).map_err(|error| error.to_string())?;
                for key in keys {
                    found.push(key.map_err(|error| error.to_string())?);
                }
            }
        }
        Err(_) => {
            for key in SignedPublicKey::from_bytes_many(bytes).map_err(|error| error.to_string())? {
                found.push(key.map_err(|error| error.to_string())?);
            }
        }
    }
    if found.is_empty() {
        return Err("there is no key in it".to_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_told_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        assert!(matches!(TrustedKeys::read(path), Err(KeysError::Empty { .. })));
        assert!(matches!(
            TrustedKeys::read(&path.join("none")),
            Err(KeysError::Io { .. })
        ));
        fs::write(path.join(".hidden"), "no key").unwrap();
        fs::create_dir(path.join("old")).unwrap();
        assert!(matches!(TrustedKeys::read(path), Err(KeysError::Empty { .. })));
        for content in [
            b"".as_slice(),
            b"no key",
            b"\xff\xfe\xfd\xfc",
            b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n",
            b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nAAAA\n-----END PGP PRIVATE KEY BLOCK-----\n",
            &vec![b'x'; 1 << 21],
        ] {
            fs::write(path.join("vendor.asc"), content).unwrap();
            let error = TrustedKeys::read(path).unwrap_err().to_string();
            assert!(error.contains("vendor.asc is not a public key"), "{error}");
        }
    }
}
