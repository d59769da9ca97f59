//! The files of one restart in the proxy's `bin`: the new executable staged, the old one kept, and the switch.
//!
//! `bin/obproxy` is replaced by a rename, never written to and never absent. The old executable is kept from the
//! process that runs, whatever lies on disk.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use obfleet_obproxy::{
    binary::{self, BinaryError},
    process::{FileId, Process},
};

use crate::durable::sync_directory_of;

/// Which executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that ran before the restart.
    Old,
    /// The one to go to.
    New,
}

/// Why a file could not be put in its place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("{} cannot be put in place", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the executable cannot be checked")]
    Binary(#[from] BinaryError),
    #[error("{} has SHA-256 {found}, wanted is {wanted}", path.display())]
    Digest {
        path: PathBuf,
        found: String,
        wanted: String,
    },
}

#[derive(Debug)]
pub(crate) struct Files {
    bin: PathBuf,
    restart_id: String,
}

impl Files {
    pub(crate) fn new(home: &Path, restart_id: &str) -> Self {
        Self {
            bin: home.join("bin"),
            restart_id: restart_id.to_owned(),
        }
    }

    /// What a restart runs.
    pub(crate) fn installed(&self) -> PathBuf {
        self.bin.join("obproxy")
    }

    /// Not called obproxy: a proxy short of memory restarts itself with whatever has that name.
    fn own(&self, suffix: &str) -> PathBuf {
        self.bin.join(format!(".restart-{}.{suffix}", self.restart_id))
    }

    fn path_of(&self, side: Side) -> PathBuf {
        match side {
            Side::Old => self.own("old"),
            Side::New => self.own("new"),
        }
    }

    /// Copies the new executable beside the old one and checks that it is what was ordered.
    pub(crate) fn stage(&self, source: &Path, sha256: &str) -> Result<(), FileError> {
        let staged = self.path_of(Side::New);
        copy(source, &staged)?;
        let found = binary::sha256(&staged)?;
        if found != sha256 {
            return Err(FileError::Digest {
                path: source.to_owned(),
                found,
                wanted: sha256.to_owned(),
            });
        }
        Ok(())
    }

    /// Keeps the executable the process runs.
    pub(crate) fn keep(&self, process: &Process) -> Result<(), FileError> {
        let kept = self.path_of(Side::Old);
        let is_installed = FileId::of(&self.installed()).is_ok_and(|file| file == process.exe_file);
        if is_installed {
            link_or_copy(&self.installed(), &kept)
        } else {
            copy(&process.exe_path(), &kept)
        }
    }

    /// Puts this side at `bin/obproxy`, durably; does nothing if it is there.
    pub(crate) fn install(&self, side: Side) -> Result<(), FileError> {
        let (source, installed) = (self.path_of(side), self.installed());
        let failed = |source| FileError::Io {
            path: installed.clone(),
            source,
        };
        let wanted = FileId::of(&source).map_err(failed)?;
        if FileId::of(&installed).is_ok_and(|file| file == wanted) {
            return Ok(());
        }
        let temporary = self.own("tmp");
        link_or_copy(&source, &temporary)?;
        fs::rename(&temporary, &installed)
            .and_then(|()| sync_directory_of(&installed))
            .map_err(failed)
    }

    /// Removes what was put aside.
    pub(crate) fn clean(&self) {
        for suffix in ["old", "new", "tmp"] {
            // What cannot be removed now lies beside and hurts nobody.
            drop(fs::remove_file(self.own(suffix)));
        }
    }
}

fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(FileError::Io {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// A second name for the file; a copy where links cannot be made.
fn link_or_copy(from: &Path, to: &Path) -> Result<(), FileError> {
    remove(to)?;
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(_) => copy(from, to),
    }
}

/// The directory may be another user's, who could put a link in the way: the file is a new one, or there is none.
fn copy(from: &Path, to: &Path) -> Result<(), FileError> {
    remove(to)?;
    let copied = || {
        let mut source = File::open(from)?;
        let mut file = OpenOptions::new().write(true).create_new(true).open(to)?;
        io::copy(&mut source, &mut file)?;
        file.set_permissions(Permissions::from_mode(0o755))?;
        file.sync_all()?;
        sync_directory_of(to)
    };
    copied().map_err(|source| FileError::Io {
        path: to.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_there_and_back_without_a_gap() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("bin")).unwrap();
        let files = Files::new(home.path(), "r1");
        let slot = home.path().join("slot");
        fs::write(&slot, "new").unwrap();
        fs::copy("/bin/sleep", files.installed()).unwrap();
        let mut running = std::process::Command::new(files.installed())
            .arg("60")
            .current_dir(home.path())
            .spawn()
            .unwrap();
        let process = Process::read(running.id() as i32).unwrap();
        let old = binary::sha256(&files.installed()).unwrap();
        let new = binary::sha256(&slot).unwrap();

        assert!(matches!(files.stage(&slot, &old), Err(FileError::Digest { .. })));
        files.stage(&slot, &new).unwrap();
        files.keep(&process).unwrap();
        for side in [Side::New, Side::New, Side::Old, Side::Old, Side::New] {
            files.install(side).unwrap();
            let wanted = if side == Side::New { &new } else { &old };
            assert_eq!(&binary::sha256(&files.installed()).unwrap(), wanted);
        }
        files.keep(&process).unwrap();
        assert_eq!(
            binary::sha256(&files.path_of(Side::Old)).unwrap(),
            old,
            "kept from the process, not from the disk"
        );
        files.install(Side::Old).unwrap();
        files.clean();
        let left: Vec<_> = fs::read_dir(home.path().join("bin"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["obproxy"]);
        running.kill().unwrap();
        running.wait().unwrap();
    }
}
