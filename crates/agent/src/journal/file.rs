//! The file of the journal: whole lines only, each on disk when [`JournalFile::append`] returns.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use obfleet_wire::agent::AttemptKey;

use super::record::Record;
use crate::durable::{self, FileError};

/// The file, open for appending, and the directory of what operations say beside it.
pub(super) struct JournalFile {
    dir: PathBuf,
    path: PathBuf,
    file: File,
}

impl JournalFile {
    /// Reads the file, or starts one. What is older than `horizon` is forgotten, with what those operations said.
    ///
    /// # Errors
    /// When a file cannot be used, or a line that is not the last is damaged.
    pub(super) fn open(dir: &Path, horizon: i64) -> Result<(Self, Vec<Record>), FileError> {
        durable::private_dir(&dir.join("lines"))?;
        let path = dir.join("journal.jsonl");
        let (mut records, whole) = read_records(&path)?;
        let some_are_old = records.iter().any(|r| r.at() < horizon);
        if some_are_old {
            rewrite(dir, &path, &records, horizon)?;
            records.retain(|r| r.at() >= horizon);
        }
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(FileError::io("open", &path))?;
        if !some_are_old {
            // What a crash left of the last line must go before the next one is appended to it.
            file.set_len(whole).map_err(FileError::io("truncate", &path))?;
        }
        durable::sync_parent(&path)?;
        let dir = dir.to_owned();
        Ok((Self { dir, path, file }, records))
    }

    /// Writes a line.
    ///
    /// # Errors
    /// When it is not on disk; nothing of it is left then.
    pub(super) fn append(&mut self, record: &Record) -> Result<(), FileError> {
        let mut line = serde_json::to_vec(record).map_err(|source| FileError::Damaged {
            path: self.path.clone(),
            source,
        })?;
        line.push(b'\n');
        let before = self.file.metadata().map(|m| m.len());
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        written.map_err(|e| {
            // A full disk must not leave half a line in front of the next one.
            match before.and_then(|before| self.file.set_len(before)) {
                Ok(()) => FileError::io("write", &self.path)(e),
                Err(e) => FileError::io("truncate", &self.path)(e),
            }
        })
    }

    /// The file of what the operation says.
    pub(super) fn lines_file(&self, key: &AttemptKey) -> PathBuf {
        lines_file(&self.dir, key)
    }
}

/// The records of the file, and the length of its whole lines.
fn read_records(path: &Path) -> Result<(Vec<Record>, u64), FileError> {
    let content = durable::read(path)?.unwrap_or_default();
    let mut records = Vec::new();
    let mut whole = 0;
    while whole < content.len() {
        let rest = &content[whole..];
        let Some(end) = rest.iter().position(|&b| b == b'\n') else {
            break;
        };
        match serde_json::from_slice(&rest[..end]) {
            Ok(record) => records.push(record),
            // Blocks of a file can reach the disk out of order: the last line may be garbage with an end.
            Err(_) if whole + end + 1 == content.len() => break,
            Err(source) => {
                let path = path.to_owned();
                return Err(FileError::Damaged { path, source });
            }
        }
        whole += end + 1;
    }
    Ok((records, whole as u64))
}

/// Replaces the file by its records since `horizon`, and drops what forgotten operations said.
fn rewrite(dir: &Path, path: &Path, records: &[Record], horizon: i64) -> Result<(), FileError> {
    let mut kept = Vec::new();
    for record in records.iter().filter(|r| r.at() >= horizon) {
        serde_json::to_writer(&mut kept, record).map_err(|source| FileError::Damaged {
            path: path.to_owned(),
            source,
        })?;
        kept.push(b'\n');
    }
    durable::write(path, &kept)?;
    for record in records.iter().filter(|r| r.at() < horizon) {
        if let Record::End { key, .. } = record {
            match fs::remove_file(lines_file(dir, key)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%key, error = %e, "cannot remove the log of a forgotten operation");
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn lines_file(dir: &Path, key: &AttemptKey) -> PathBuf {
    dir.join("lines").join(format!("{key}.log"))
}
