//! What a starting proxy writes to its log.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

/// A failed start writes a few kilobytes; more is not read.
const TAIL_LIMIT: u64 = 1024 * 1024;

/// Reasons that are told: the last ones are nearest to the end.
const REASONS: usize = 3;

/// The end of a log from a moment on.
pub(super) struct LogTail {
    path: PathBuf,
    offset: u64,
}

impl LogTail {
    /// What is written from now on.
    pub(super) fn from_end(path: &Path) -> Self {
        let offset = path.metadata().map_or(0, |meta| meta.len());
        Self {
            path: path.to_owned(),
            offset,
        }
    }

    /// The last lines of level EDIAG; empty if there are none or the log cannot be read.
    pub(super) fn reasons(&self) -> Vec<String> {
        let mut text = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            // A log that became shorter was rotated: all of it is new.
            let start = if file.metadata()?.len() < self.offset {
                0
            } else {
                self.offset
            };
            file.seek(SeekFrom::Start(start))?;
            file.take(TAIL_LIMIT).read_to_end(&mut text)
        });
        if read.is_err() {
            return Vec::new();
        }
        let text = String::from_utf8_lossy(&text);
        let mut lines: Vec<String> = text.lines().filter_map(reason).collect();
        lines.drain(..lines.len().saturating_sub(REASONS));
        lines
    }
}

/// The message of an EDIAG line, `[time] EDIAG [MOD] func (file:line) [tid][trace] [lt=0] [dc=0] msg`. Lines that may
/// carry a password hash are not told.
fn reason(line: &str) -> Option<String> {
    let (_, after) = line.split_once(" EDIAG ")?;
    if after.contains("password") {
        return None;
    }
    let message = after.rsplit_once("] ").map_or(after, |(_, message)| message);
    Some(message.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn tells_the_reasons_of_this_start_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("obproxy.log");
        assert_eq!(LogTail::from_end(&path).reasons(), [""; 0]);
        fs::write(
            &path,
            "[t] EDIAG [PROXY] old (a.cpp:1) [1][Y0-0] [lt=0] [dc=0] old trouble\n",
        )
        .unwrap();
        let tail = LogTail::from_end(&path);
        assert_eq!(tail.reasons(), [""; 0]);
        let new = "[t] INFO  [PROXY] x (a.cpp:1) [1][Y0-0] [lt=0] [dc=0] fine\n\
                   [t] EDIAG [PROXY] x (a.cpp:1) [1][Y0-0] [lt=0] [dc=0] obproxy_sys_password=0123\n\
                   [t] EDIAG [PROXY] init (a.cpp:1) [1][Y0-0] [lt=0] [dc=0] obproxy init failed(ret=-4147)\n";
        fs::write(&path, fs::read_to_string(&path).unwrap() + new).unwrap();
        assert_eq!(tail.reasons(), ["obproxy init failed(ret=-4147)"]);
        fs::write(&path, &new[new.len() - 60..]).unwrap();
        assert_eq!(tail.reasons(), [""; 0], "a cut line is no EDIAG line");
    }
}
