//! The user a proxy runs as, where that is another one than who looks after it.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::process;

/// User and group. Only root can start anything as somebody else, so a user that is root's own choice is never kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAs {
    /// Its number.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
}

impl RunAs {
    /// The user of a process; `None` when it is this process's own.
    pub fn user_of(pid: i32) -> io::Result<Option<Self>> {
        let run_as = Self {
            uid: process::user(pid)?,
            gid: process::group(pid)?,
        };
        Ok((run_as.uid != nix::unistd::geteuid().as_raw()).then_some(run_as))
    }

    /// Has the command run as this user, without anybody's other groups.
    pub fn apply(run_as: Option<Self>, command: &mut std::process::Command) {
        use std::os::unix::process::CommandExt as _;
        if let Some(Self { uid, gid }) = run_as {
            // With a user given, the standard library drops the supplementary groups of root.
            command.gid(gid).uid(uid);
        }
    }

    /// Gives a file to this user. A link is not followed: it may lead anywhere.
    pub fn give(run_as: Option<Self>, path: &Path) -> io::Result<()> {
        match run_as {
            Some(Self { uid, gid }) => std::os::unix::fs::lchown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// The owner of a file; `None` when it is this process's user.
    pub fn owner_of(path: &Path) -> io::Result<Option<Self>> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = fs::symlink_metadata(path)?;
        let (uid, gid) = (meta.uid(), meta.gid());
        Ok((uid != nix::unistd::geteuid().as_raw()).then_some(Self { uid, gid }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_named_where_the_user_is_ones_own() {
        let own = std::process::id().cast_signed();
        assert_eq!(RunAs::user_of(own).unwrap(), None);
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(RunAs::owner_of(file.path()).unwrap(), None);
        RunAs::give(None, file.path()).unwrap();
    }

    #[test]
    fn root_runs_and_gives_as_somebody_else() {
        if !nix::unistd::geteuid().is_root() {
            return eprintln!("skipped: only root can");
        }
        let nobody = RunAs { uid: 65534, gid: 65534 };
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        RunAs::give(Some(nobody), &link).unwrap();
        assert_eq!(RunAs::owner_of(&link).unwrap(), Some(nobody));
        assert_eq!(RunAs::owner_of(&file).unwrap(), None, "the link was followed");

        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", "id -u; id -g; id -G"]);
        RunAs::apply(Some(nobody), &mut command);
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "65534\n65534\n65534\n");
    }
}
