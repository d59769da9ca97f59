//! The durable memory of operations: which epochs are over, what was begun, and how it ended.
//!
//! One append-only file of JSON lines, each on disk before the agent acts on it; a line torn by a crash is cut off at
//! the next start. What an operation said is in a file of its own beside it: losing the end of that loses no decision.
//! Neither holds the content of a request, so neither holds secrets.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use obfleet_wire::{
    agent::{AttemptKey, Fence, OperationState, Outcome},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::durable::{self, FileError};

/// Results and fences are forgotten after this long: no task of a server is that old.
const RETENTION_MS: i64 = 90 * 24 * 3600 * 1000;

/// A subtask of one installation and era: what a fence protects.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Subtask {
    /// See [`AttemptKey::installation`].
    pub installation: String,
    /// See [`AttemptKey::era`].
    pub era: u64,
    /// See [`AttemptKey::task`].
    pub task: i64,
    /// See [`AttemptKey::subtask`].
    pub subtask: i64,
}

impl From<&AttemptKey> for Subtask {
    fn from(key: &AttemptKey) -> Self {
        Self {
            installation: key.installation.clone(),
            era: key.era,
            task: key.task,
            subtask: key.subtask,
        }
    }
}

impl From<&Fence> for Subtask {
    fn from(fence: &Fence) -> Self {
        Self {
            installation: fence.installation.clone(),
            era: fence.era,
            task: fence.task,
            subtask: fence.subtask,
        }
    }
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "camelCase")]
pub enum Ended {
    /// Done.
    Done {
        /// Its result.
        outcome: Outcome,
    },
    /// Failed.
    Failed {
        /// Why.
        message: String,
    },
}

impl From<Ended> for OperationState {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Done { outcome } => Self::Done { outcome },
            Ended::Failed { message } => Self::Failed { message },
        }
    }
}

/// One line of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "camelCase")]
enum Record {
    /// Epochs below are refused.
    Fence { at: i64, subtask: Subtask, epoch: i64 },
    /// An operation is about to start.
    Begin {
        at: i64,
        key: AttemptKey,
        operation: String,
    },
    /// It ended, asked for by this epoch at the highest.
    End {
        at: i64,
        key: AttemptKey,
        epoch: i64,
        end: Ended,
    },
}

impl Record {
    fn at(&self) -> i64 {
        match self {
            Self::Fence { at, .. } | Self::Begin { at, .. } | Self::End { at, .. } => *at,
        }
    }
}

/// A call comes from a past that is over.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// A higher epoch of the subtask has been seen.
    #[error("epoch {epoch} is below {highest}")]
    Epoch {
        /// Of the call.
        epoch: i64,
        /// The highest seen.
        highest: i64,
    },
    /// The database was restored since: the caller is a server from before.
    #[error("era {era} of installation {installation} is over, era {highest} has begun")]
    Era {
        /// Whose.
        installation: String,
        /// Of the call.
        era: u64,
        /// The highest seen.
        highest: u64,
    },
}

/// An end, and the highest epoch that had asked for it.
struct Known {
    epoch: i64,
    end: Ended,
}

/// The journal of one agent. Not shared: its owner serialises the calls.
pub struct Journal {
    dir: PathBuf,
    file: File,
    eras: HashMap<String, u64>,
    fences: HashMap<Subtask, i64>,
    /// Known operations; `None` is one that was begun and has not ended.
    attempts: HashMap<AttemptKey, Option<Known>>,
}

impl Journal {
    /// Reads the journal, or starts one; forgets what is older than [`RETENTION_MS`].
    ///
    /// # Errors
    /// When a file cannot be used, or a line that is not the last is damaged.
    pub fn open(dir: &Path, now: Timestamp) -> Result<Self, FileError> {
        durable::private_dir(&dir.join("lines"))?;
        let path = dir.join("journal.jsonl");
        let (records, whole) = read_records(&path)?;
        let horizon = now.millis() - RETENTION_MS;
        if records.iter().any(|r| r.at() < horizon) {
            rewrite(dir, &path, &records, horizon)?;
        }
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(FileError::io("open", &path))?;
        let mut journal = Self {
            dir: dir.to_owned(),
            file,
            eras: HashMap::new(),
            fences: HashMap::new(),
            attempts: HashMap::new(),
        };
        if records.iter().all(|r| r.at() >= horizon) {
            // What a crash left of the last line must go before the next one is appended to it.
            journal.file.set_len(whole).map_err(FileError::io("truncate", &path))?;
        }
        for record in records.into_iter().filter(|r| r.at() >= horizon) {
            journal.apply(record);
        }
        durable::sync_parent(&path)?;
        Ok(journal)
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Fence { subtask, epoch, .. } => {
                let era = self.eras.entry(subtask.installation.clone()).or_default();
                *era = (*era).max(subtask.era);
                let highest = self.fences.entry(subtask).or_insert(epoch);
                *highest = (*highest).max(epoch);
            }
            Record::Begin { key, .. } => {
                self.attempts.entry(key).or_insert(None);
            }
            Record::End { key, epoch, end, .. } => {
                self.attempts.insert(key, Some(Known { epoch, end }));
            }
        }
    }

    fn append(&mut self, record: Record) -> Result<(), FileError> {
        let path = self.dir.join("journal.jsonl");
        let mut line = serde_json::to_vec(&record).map_err(|source| FileError::Damaged {
            path: path.clone(),
            source,
        })?;
        line.push(b'\n');
        let before = self.file.metadata().map(|m| m.len());
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        if let Err(e) = written {
            // A full disk must not leave half a line in front of the next one.
            if let Ok(before) = before {
                self.file.set_len(before).map_err(FileError::io("truncate", &path))?;
            }
            return Err(FileError::io("write", &path)(e));
        }
        self.apply(record);
        Ok(())
    }

    /// Tests a call against eras and fences.
    ///
    /// # Errors
    /// When the caller has been superseded.
    pub fn admit(&self, subtask: &Subtask, epoch: i64) -> Result<(), Stale> {
        let era = self.eras.get(&subtask.installation).copied().unwrap_or_default();
        if subtask.era < era {
            return Err(Stale::Era {
                installation: subtask.installation.clone(),
                era: subtask.era,
                highest: era,
            });
        }
        match self.fences.get(subtask) {
            Some(&highest) if epoch < highest => Err(Stale::Epoch { epoch, highest }),
            _ => Ok(()),
        }
    }

    /// Makes `epoch` the lowest one let in; a lower or equal one changes nothing.
    ///
    /// # Errors
    /// When it cannot be made durable.
    pub fn raise(&mut self, subtask: &Subtask, epoch: i64, now: Timestamp) -> Result<(), FileError> {
        if self.fences.get(subtask).is_some_and(|&highest| highest >= epoch) {
            return Ok(());
        }
        self.append(Record::Fence {
            at: now.millis(),
            subtask: subtask.clone(),
            epoch,
        })
    }

    /// Notes that the operation is about to start; one that was begun before stays as it is.
    ///
    /// # Errors
    /// When it cannot be made durable; the operation must not start then.
    pub fn begin(&mut self, key: &AttemptKey, operation: &str, now: Timestamp) -> Result<(), FileError> {
        if self.attempts.contains_key(key) {
            return Ok(());
        }
        self.append(Record::Begin {
            at: now.millis(),
            key: key.clone(),
            operation: operation.to_owned(),
        })
    }

    /// Notes how the operation ended that `epoch` had asked for.
    ///
    /// # Errors
    /// When it cannot be made durable; the end must not be told then.
    pub fn end(&mut self, key: &AttemptKey, epoch: i64, end: Ended, now: Timestamp) -> Result<(), FileError> {
        self.append(Record::End {
            at: now.millis(),
            key: key.clone(),
            epoch,
            end,
        })
    }

    /// How the operation ended, if it has.
    pub fn ended(&self, key: &AttemptKey) -> Option<&Ended> {
        Some(&self.known(key)?.end)
    }

    /// What is left to say to `epoch` when it asks for the operation. A failure is for those who had asked by then:
    /// who comes later wants it tried again.
    pub fn answer_to(&self, key: &AttemptKey, epoch: i64) -> Option<&Ended> {
        let known = self.known(key)?;
        let is_answer = matches!(known.end, Ended::Done { .. }) || epoch <= known.epoch;
        is_answer.then_some(&known.end)
    }

    fn known(&self, key: &AttemptKey) -> Option<&Known> {
        self.attempts.get(key)?.as_ref()
    }

    /// The file of what the operation says.
    pub fn lines_file(&self, key: &AttemptKey) -> PathBuf {
        lines_file(&self.dir, key)
    }
}

fn lines_file(dir: &Path, key: &AttemptKey) -> PathBuf {
    dir.join("lines").join(format!("{key}.log"))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn key(subtask: i64, run: i64) -> AttemptKey {
        format!("inst.1.5.{subtask}.EXECUTE.{run}").parse().unwrap()
    }

    fn open(dir: &Path) -> Journal {
        Journal::open(dir, Timestamp(RETENTION_MS)).unwrap()
    }

    const NOW: Timestamp = Timestamp(RETENTION_MS);

    #[test]
    fn fences_and_results_survive() {
        let dir = tempfile::tempdir().unwrap();
        let subtask = Subtask::from(&key(7, 1));
        let mut journal = open(dir.path());
        journal.raise(&subtask, 3, NOW).unwrap();
        journal.raise(&subtask, 2, NOW).unwrap();
        journal.begin(&key(7, 1), "inspect", NOW).unwrap();
        journal.begin(&key(7, 2), "inspect", NOW).unwrap();
        let done = Ended::Done { outcome: Outcome::Done };
        journal.end(&key(7, 1), 1, done.clone(), NOW).unwrap();
        drop(journal);

        let journal = open(dir.path());
        assert_eq!(journal.admit(&subtask, 2), Err(Stale::Epoch { epoch: 2, highest: 3 }));
        assert_eq!(journal.admit(&subtask, 3), Ok(()));
        assert_eq!(journal.ended(&key(7, 1)), Some(&done));
        assert_eq!(journal.ended(&key(7, 2)), None, "begun only");
        let other = Subtask::from(&key(8, 1));
        assert_eq!(journal.admit(&other, 0), Ok(()), "a fence is for one subtask");
    }

    #[test]
    fn a_failure_is_no_answer_to_a_later_epoch() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path());
        let failed = Ended::Failed { message: "m".into() };
        let done = Ended::Done { outcome: Outcome::Done };
        journal.end(&key(7, 1), 2, failed.clone(), NOW).unwrap();
        journal.end(&key(7, 2), 2, done.clone(), NOW).unwrap();
        drop(journal);
        let journal = open(dir.path());
        assert_eq!(journal.answer_to(&key(7, 1), 2), Some(&failed));
        assert_eq!(journal.answer_to(&key(7, 1), 3), None);
        assert_eq!(journal.answer_to(&key(7, 2), 3), Some(&done));
    }

    #[test]
    fn an_older_era_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path());
        let now = Subtask::from(&key(7, 1));
        let next = Subtask { era: 2, ..now.clone() };
        journal.raise(&next, 1, NOW).unwrap();
        assert!(matches!(journal.admit(&now, 9), Err(Stale::Era { highest: 2, .. })));
        assert_eq!(journal.admit(&next, 1), Ok(()), "epochs of the old era do not count");
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_a_torn_middle_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path());
        journal.begin(&key(7, 1), "inspect", NOW).unwrap();
        drop(journal);
        let path = dir.path().join("journal.jsonl");
        let good = fs::read(&path).unwrap();
        for torn in [&good[..good.len() / 2], b"\0\0\0\0", b"{\"record\":\"en\n"] {
            fs::write(&path, [&good[..], torn].concat()).unwrap();
            let mut journal = open(dir.path());
            assert!(journal.attempts.contains_key(&key(7, 1)));
            let failed = Ended::Failed { message: "m".into() };
            journal.end(&key(7, 1), 1, failed.clone(), NOW).unwrap();
            drop(journal);
            assert_eq!(open(dir.path()).ended(&key(7, 1)), Some(&failed));
        }
        fs::write(&path, [b"{\"record\"\n", &good[..]].concat()).unwrap();
        assert!(matches!(Journal::open(dir.path(), NOW), Err(FileError::Damaged { .. })));
    }

    #[test]
    fn old_records_are_forgotten_with_what_was_said() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path());
        let old = Timestamp(1);
        journal.begin(&key(7, 1), "inspect", old).unwrap();
        let end = Ended::Done { outcome: Outcome::Done };
        journal.end(&key(7, 1), 1, end.clone(), old).unwrap();
        journal.begin(&key(7, 2), "inspect", Timestamp(99)).unwrap();
        fs::write(journal.lines_file(&key(7, 1)), "said\n").unwrap();
        drop(journal);

        let mut journal = Journal::open(dir.path(), Timestamp(RETENTION_MS + 50)).unwrap();
        assert!(!journal.attempts.contains_key(&key(7, 1)));
        assert!(!journal.lines_file(&key(7, 1)).exists());
        journal.end(&key(7, 2), 1, end.clone(), Timestamp(100)).unwrap();
        drop(journal);
        assert_eq!(open(dir.path()).ended(&key(7, 2)), Some(&end));
    }
}
