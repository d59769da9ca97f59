//! The slots directory: one worker at a time, new slots prepared aside, leftovers of crashes cleared away.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::PackageError;

const LOCK_FILE: &str = ".lock";
/// How the name of a slot under construction begins, and that of one being removed.
const INCOMING: &str = ".incoming-";
const OUTGOING: &str = ".outgoing-";
/// An extraction takes seconds; whoever holds the lock longer hangs.
const LOCK_DEADLINE: Duration = Duration::from_secs(60);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// The locked slots directory; the lock goes with the value, or with the process.
pub(crate) struct SlotsDirectory {
    path: PathBuf,
    _lock: File,
}

impl SlotsDirectory {
    /// Creates the directory if need be, waits for the lock, and removes what crashes left behind.
    pub(crate) fn lock(path: &Path) -> Result<Self, PackageError> {
        fs::create_dir_all(path).map_err(PackageError::io("create", path))?;
        let lock_path = path.join(LOCK_FILE);
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&lock_path);
        let lock = lock.map_err(PackageError::io("open", &lock_path))?;
        let started = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if started.elapsed() < LOCK_DEADLINE => thread::sleep(LOCK_RETRY),
                Err(TryLockError::WouldBlock) => {
                    return Err(PackageError::Busy {
                        dir: path.to_owned(),
                        seconds: LOCK_DEADLINE.as_secs(),
                    });
                }
                Err(TryLockError::Error(error)) => return Err(PackageError::io("lock", &lock_path)(error)),
            }
        }
        let directory = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        directory.sweep()?;
        Ok(directory)
    }

    /// Everything under construction belongs to a crashed process: its lock is ours now.
    fn sweep(&self) -> Result<(), PackageError> {
        for entry in fs::read_dir(&self.path).map_err(PackageError::io("list", &self.path))? {
            let entry = entry.map_err(PackageError::io("list", &self.path))?;
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            if name.starts_with(INCOMING.as_bytes()) || name.starts_with(OUTGOING.as_bytes()) {
                let path = entry.path();
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let removed = if is_directory {
                    fs::remove_dir_all(&path)
                } else {
                    fs::remove_file(&path)
                };
                removed.map_err(PackageError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// A new, private directory beside the slots; it is gone when the value is dropped before [`Staging::publish`].
    pub(crate) fn stage(&self, slot_name: &str) -> Result<Staging<'_>, PackageError> {
        let path = self.path.join(format!("{INCOMING}{slot_name}"));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(PackageError::io("create", &path))?;
        Ok(Staging {
            directory: self,
            path,
            target: self.path.join(slot_name),
            published: false,
        })
    }

    pub(crate) fn remove(&self, slot: &Path) -> Result<(), PackageError> {
        let Some(name) = slot.file_name() else { return Ok(()) };
        let mut aside = std::ffi::OsString::from(OUTGOING);
        aside.push(name);
        let aside = self.path.join(aside);
        match fs::rename(slot, &aside) {
            // Somebody else removed it while we waited for the lock.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed.map_err(PackageError::io("remove", slot))?,
        }
        sync_directory(&self.path)?;
        fs::remove_dir_all(&aside).map_err(PackageError::io("remove", &aside))
    }
}

/// A slot under construction.
pub(crate) struct Staging<'a> {
    directory: &'a SlotsDirectory,
    /// Where it is being built.
    pub(crate) path: PathBuf,
    /// Where it will be.
    pub(crate) target: PathBuf,
    published: bool,
}

impl Staging<'_> {
    /// Makes everything durable and gives the slot its name; fails if that name is taken.
    pub(crate) fn publish(mut self) -> Result<PathBuf, PackageError> {
        fs::set_permissions(&self.path, Permissions::from_mode(0o755))
            .map_err(PackageError::io("set the mode of", &self.path))?;
        sync_tree(&self.path)?;
        fs::rename(&self.path, &self.target).map_err(PackageError::io("rename to", &self.target))?;
        self.published = true;
        sync_directory(&self.directory.path)?;
        Ok(self.target.clone())
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed now is swept by the next one who takes the lock.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Makes the names in a directory, and in those below it, durable; files were synced when they were written.
fn sync_tree(directory: &Path) -> Result<(), PackageError> {
    for entry in fs::read_dir(directory).map_err(PackageError::io("list", directory))? {
        let entry = entry.map_err(PackageError::io("list", directory))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            sync_tree(&entry.path())?;
        }
    }
    sync_directory(directory)
}

fn sync_directory(path: &Path) -> Result<(), PackageError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(PackageError::io("sync", path))
}
