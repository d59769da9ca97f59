//! The log files of a proxy, for reading from afar: plain files right in the `log` directory of its home, and nothing that
//! a link leads to.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek as _, SeekFrom},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use nix::fcntl::OFlag;
use obfleet_wire::{agent::ProxyLog, time::Timestamp};

/// An open `log` directory: whatever is put in its place later is not read.
pub(crate) struct LogDir(File);

impl LogDir {
    /// That of the proxy with this home.
    pub(crate) fn open(home: &Path) -> io::Result<Self> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let mut open = OpenOptions::new();
        open.read(true).custom_flags(flags.bits());
        open.open(home.join("log")).map(Self)
    }

    /// Leads to the directory that is open, not to a path that may lead elsewhere by now.
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// The files in it, by name. Links, directories and names that are not UTF-8 are left out.
    pub(crate) fn list(&self) -> io::Result<Vec<ProxyLog>> {
        let mut logs = Vec::new();
        for entry in fs::read_dir(self.path())? {
            let entry = entry?;
            // Of a link itself, not of what it leads to.
            let metadata = match entry.metadata() {
                // Rotated away in the meantime.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if metadata.is_file() {
                logs.push(ProxyLog {
                    modify_time: modified(&metadata),
                    name,
                    size: metadata.len(),
                });
            }
        }
        logs.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(logs)
    }

    /// The file of this name at its last `tail` bytes, and how many there are; `None` when it is not among the listed ones.
    pub(crate) fn open_at(&self, name: &str, tail: u64) -> io::Result<Option<(File, u64)>> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Ok(None);
        }
        let path = self.path().join(name);
        // Before it is opened: that alone has effects on a pipe or a device.
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let mut file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(&path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let first = metadata.len().saturating_sub(tail);
        file.seek(SeekFrom::Start(first))?;
        Ok(Some((file, metadata.len() - first)))
    }
}

fn modified(metadata: &fs::Metadata) -> Timestamp {
    let since = metadata
        .modified()
        .ok()
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Timestamp(since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, os::unix::fs::symlink};

    use super::*;

    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("log")).unwrap();
        fs::write(home.path().join("secret"), "outside").unwrap();
        fs::write(home.path().join("log/b.log"), "0123456789").unwrap();
        fs::write(home.path().join("log/a.log"), "").unwrap();
        home
    }

    fn read(home: &Path, name: &str, tail: u64) -> Option<String> {
        let (file, length) = LogDir::open(home).unwrap().open_at(name, tail).unwrap()?;
        let mut text = String::new();
        file.take(length).read_to_string(&mut text).unwrap();
        Some(text)
    }

    #[test]
    fn the_end_of_a_file_is_read() {
        let home = home();
        for (tail, text) in [
            (0, ""),
            (1, "9"),
            (4, "6789"),
            (10, "0123456789"),
            (u64::MAX, "0123456789"),
        ] {
            assert_eq!(read(home.path(), "b.log", tail).as_deref(), Some(text), "{tail}");
        }
        assert_eq!(read(home.path(), "a.log", 5).as_deref(), Some(""));
        assert_eq!(read(home.path(), "c.log", 5), None);
        let sizes = LogDir::open(home.path()).unwrap().list().unwrap();
        let sizes: Vec<_> = sizes.iter().map(|log| (log.name.as_str(), log.size)).collect();
        assert_eq!(sizes, [("a.log", 0), ("b.log", 10)]);
        assert!(LogDir::open(home.path()).unwrap().list().unwrap()[1].modify_time > Timestamp(0));
    }

    #[test]
    fn nothing_outside_the_directory_is_read() {
        let home = home();
        let log = home.path().join("log");
        fs::create_dir(log.join("dir")).unwrap();
        fs::write(log.join("dir/inner.log"), "inner").unwrap();
        symlink("../secret", log.join("link.log")).unwrap();
        symlink("b.log", log.join("near.log")).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(log.join("pipe.log"))
            .status()
            .unwrap();
        assert!(made.success());
        let outside = home.path().join("secret").display().to_string();
        for name in [
            "link.log",
            "near.log",
            "pipe.log",
            "dir",
            "dir/inner.log",
            "../secret",
            "../log/b.log",
            "./b.log",
            ".",
            "..",
            "",
            "b.log\0",
            &outside,
        ] {
            assert_eq!(read(home.path(), name, 5), None, "{name:?}");
        }
        let listed = LogDir::open(home.path()).unwrap().list().unwrap();
        let listed: Vec<_> = listed.iter().map(|log| log.name.as_str()).collect();
        assert_eq!(listed, ["a.log", "b.log"]);

        // The directory itself may not lead elsewhere either.
        fs::rename(&log, home.path().join("other")).unwrap();
        symlink("other", &log).unwrap();
        assert!(LogDir::open(home.path()).is_err());
    }

    #[test]
    fn a_directory_that_is_replaced_while_it_is_open_is_still_the_one() {
        let home = home();
        let open = LogDir::open(home.path()).unwrap();
        fs::rename(home.path().join("log"), home.path().join("old")).unwrap();
        symlink(home.path(), home.path().join("log")).unwrap();
        assert!(open.open_at("secret", 5).unwrap().is_none());
        assert!(open.open_at("b.log", 5).unwrap().is_some());
    }
}
