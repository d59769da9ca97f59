//! The lines of the journal.

use obfleet_wire::agent::{AttemptKey, Fence, OperationState, Outcome};
use serde::{Deserialize, Serialize};

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
pub(super) enum Record {
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
    /// Milliseconds since the epoch.
    pub(super) fn at(&self) -> i64 {
        match self {
            Self::Fence { at, .. } | Self::Begin { at, .. } | Self::End { at, .. } => *at,
        }
    }
}
