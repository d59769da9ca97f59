//! What a guard sees and does, line by line, for the agent to forward.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use obfleet_wire::time::Timestamp;

const FILE: &str = "log";

/// Appends lines.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
}

impl Log {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(dir.join(FILE))?;
        Ok(Self { file })
    }

    /// Writes one line with the time before it. A full disk must not stop a restart half way: failures are ignored.
    pub(crate) fn line(&self, text: impl std::fmt::Display) {
        let text = text.to_string().replace('\n', " | ");
        drop((&self.file).write_all(format!("{} {text}\n", Timestamp::now()).as_bytes()));
    }
}

/// The whole lines from byte `offset` on, and the offset of what follows them.
pub(crate) fn read(dir: &Path, offset: u64) -> io::Result<(Vec<String>, u64)> {
    let mut text = String::new();
    match File::open(dir.join(FILE)) {
        Ok(mut file) => {
            file.seek(SeekFrom::Start(offset))?;
            file.read_to_string(&mut text)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    Ok((whole.lines().map(str::to_owned).collect(), offset + whole.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), 0).unwrap(), (vec![], 0));
        let log = Log::open(dir.path()).unwrap();
        log.line("one\ntwo");
        let (lines, next) = read(dir.path(), 0).unwrap();
        assert_eq!(lines.len(), 1);
        assert!(lines[0].ends_with(" one | two"), "{lines:?}");
        (&log.file).write_all(b"half").unwrap();
        assert_eq!(read(dir.path(), next).unwrap(), (vec![], next));
        (&log.file).write_all(b" done\n").unwrap();
        assert_eq!(read(dir.path(), next).unwrap().0, ["half done"]);
    }
}
