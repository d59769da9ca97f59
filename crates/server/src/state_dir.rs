//! The directory a server keeps its state in: its identity, its keys, its packages and, by default, its database.
//!
//! | name | is |
//! |---|---|
//! | `lock` | held as long as a server runs on the directory |
//! | `server-id` | opaque id of this server, ten hexadecimal digits; whoever holds the lock may end an older lease of its |
//! | `key` | seals the secrets in the database; belongs to the database and is the same on every server |
//! | `ca.pem` | of earlier releases: key and certificate of the enrolment authority, which is in the database now |
//! | `obfleet.db` | the database, when none is configured |
//! | `packages/`, `uploads/` | package files; uploads under way |
//! | `agents/` | made by an operator: executables for agents on other kinds of machines, `obfleet-<architecture>` |

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use obfleet_fleet::secrets::fingerprint;

/// What the file is called in which earlier releases kept the enrolment authority.
pub const AUTHORITY: &str = "ca.pem";
const KEY: &str = "key";

/// The state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// A file or directory in it cannot be read or written.
    #[error("{path} cannot be made, read or written; give --state-dir a directory that belongs to the server's user")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another server runs on it.
    #[error("another server uses {path}; stop it, or give this one a --state-dir of its own")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The key is gone, but not what it sealed.
    #[error(
        "{path} is missing, and without it the secrets in the database cannot be opened: copy the file with key \
         {fingerprint} from another server of the database or from a backup"
    )]
    KeyMissing {
        /// The key file.
        path: PathBuf,
        /// Fingerprint of the key that is missed.
        fingerprint: String,
    },
    /// The key is not the one that sealed the database's secrets.
    #[error(
        "{path} holds key {found}, but the secrets in the database are sealed with key {fingerprint}: put back the file \
         that belongs to the database, or the database that belongs to the file"
    )]
    WrongKey {
        /// The key file.
        path: PathBuf,
        /// Fingerprint of the key in it.
        found: String,
        /// Fingerprint of the key that is missed.
        fingerprint: String,
    },
    /// A file holds something else than it should.
    #[error("{path} is damaged: restore it from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// An open state directory; the lock goes with it.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> StateDirError {
    move |source| StateDirError::Io {
        path: path.to_owned(),
        source,
    }
}

impl StateDir {
    /// Opens the directory, makes what is missing, and locks it for as long as the value lives.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        for dir in [path.to_owned(), path.join("packages"), path.join("uploads")] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .map_err(failed(&dir))?;
        }
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&lock_path);
        let lock = lock.map_err(failed(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateDirError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed(&lock_path)(source)),
        }
        let dir = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        dir.drop_uploads()?;
        Ok(dir)
    }

    /// Uploads a killed server left behind.
    fn drop_uploads(&self) -> Result<(), StateDirError> {
        let uploads = self.uploads();
        for entry in fs::read_dir(&uploads).map_err(failed(&uploads))? {
            let path = entry.map_err(failed(&uploads))?.path();
            fs::remove_file(&path).map_err(failed(&path))?;
        }
        Ok(())
    }

    /// Where package files lie.
    pub fn packages(&self) -> PathBuf {
        self.path.join("packages")
    }

    /// Where uploads are written; on the same file system as the packages.
    pub fn uploads(&self) -> PathBuf {
        self.path.join("uploads")
    }

    /// Where executables for agents are, if an operator put any there.
    pub fn agents(&self) -> PathBuf {
        self.path.join("agents")
    }

    /// The database file of the state directory `path`.
    pub fn database(path: &Path) -> PathBuf {
        path.join("obfleet.db")
    }

    /// The opaque id of this server.
    pub fn server_id(&self) -> Result<String, StateDirError> {
        let id = self.kept("server-id", || Ok(hex::encode(rand::random::<[u8; 5]>())))?;
        let good = id.len() == 10 && id.bytes().all(|b| b.is_ascii_hexdigit());
        if good { Ok(id) } else { Err(self.damaged("server-id")) }
    }

    /// The key that seals secrets. `known` is the fingerprint of the key that sealed those in the database; a key is made
    /// only when there is none.
    pub fn sealing_key(&self, known: Option<&str>) -> Result<[u8; 32], StateDirError> {
        let path = || self.path.join(KEY);
        let text = self.kept(KEY, || match known {
            None => Ok(hex::encode(rand::random::<[u8; 32]>())),
            Some(known) => Err(StateDirError::KeyMissing {
                path: path(),
                fingerprint: known.to_owned(),
            }),
        })?;
        let mut key = [0; 32];
        hex::decode_to_slice(&text, &mut key).map_err(|_| self.damaged(KEY))?;
        let found = fingerprint(&key);
        match known {
            Some(known) if known != found => Err(StateDirError::WrongKey {
                path: path(),
                found,
                fingerprint: known.to_owned(),
            }),
            _ => Ok(key),
        }
    }

    /// Whether there is a key.
    pub fn has_key(&self) -> bool {
        self.path.join(KEY).exists()
    }

    /// Removes a key that has sealed nothing.
    pub fn drop_key(&self) -> Result<(), StateDirError> {
        let path = self.path.join(KEY);
        fs::remove_file(&path).map_err(failed(&path))
    }

    /// The text of a file, made the first time; readable by its owner only.
    fn kept(&self, name: &str, make: impl FnOnce() -> Result<String, StateDirError>) -> Result<String, StateDirError> {
        if let Some(text) = self.read(name)? {
            return Ok(text);
        }
        let text = make()?;
        let path = self.path.join(name);
        self.write(&path, &text).map_err(failed(&path))?;
        Ok(text)
    }

    /// The text of a file, if it is there.
    pub fn read(&self, name: &str) -> Result<Option<String>, StateDirError> {
        let path = self.path.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim_end().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(failed(&path)(source)),
        }
    }

    /// Where a file of this name lies.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whole or not at all: a key that was used and then lost with a crash would be lost for good.
    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        let new = path.with_extension("new");
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(&self.path)?.sync_all()
    }

    /// The error for a file with the wrong content.
    pub fn damaged(&self, name: &str) -> StateDirError {
        StateDirError::Damaged {
            path: self.path.join(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn identity_and_keys_stay_and_are_private() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state");
        let (id, key) = {
            let dir = StateDir::open(&path).unwrap();
            fs::write(dir.uploads().join("left-behind"), "x").unwrap();
            (dir.server_id().unwrap(), dir.sealing_key(None).unwrap())
        };
        let dir = StateDir::open(&path).unwrap();
        let known = fingerprint(&key);
        assert_eq!(
            (dir.server_id().unwrap(), dir.sealing_key(Some(&known)).unwrap()),
            (id, key)
        );
        assert_eq!(fs::read_dir(dir.uploads()).unwrap().count(), 0);
        for (name, mode) in [("", 0o700), ("key", 0o600), ("server-id", 0o600)] {
            assert_eq!(
                fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777,
                mode,
                "{name}"
            );
        }
        fs::write(path.join("key"), "short").unwrap();
        assert!(matches!(
            dir.sealing_key(Some(&known)),
            Err(StateDirError::Damaged { .. })
        ));
    }

    #[test]
    fn one_server_at_a_time() {
        let temp = tempfile::tempdir().unwrap();
        let first = StateDir::open(temp.path()).unwrap();
        assert!(matches!(StateDir::open(temp.path()), Err(StateDirError::InUse { .. })));
        drop(first);
        StateDir::open(temp.path()).unwrap();
    }
}
