//! The durable memory of operations: which epochs are over, what was begun, and how it ended.
//!
//! One append-only file of JSON lines, each on disk before the agent acts on it; a line torn by a crash is cut off at
//! the next start. What an operation said is in a file of its own beside it: losing the end of that loses no decision.
//! Neither holds the content of a request, so neither holds secrets.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use obfleet_wire::{agent::AttemptKey, time::Timestamp};

use crate::durable::FileError;

mod file;
mod record;
#[cfg(test)]
mod tests;

use file::JournalFile;
use record::Record;
pub use record::{Ended, Subtask};

/// Results and fences are forgotten after this long: no task of a server is that old.
const RETENTION_MS: i64 = 90 * 24 * 3600 * 1000;

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
    file: JournalFile,
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
        let (file, records) = JournalFile::open(dir, now.millis() - RETENTION_MS)?;
        let mut journal = Self {
            file,
            eras: HashMap::new(),
            fences: HashMap::new(),
            attempts: HashMap::new(),
        };
        for record in records {
            journal.apply(record);
        }
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

    /// On disk first, then in memory.
    fn append(&mut self, record: Record) -> Result<(), FileError> {
        self.file.append(&record)?;
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
        self.file.lines_file(key)
    }
}
