//! What an action sees of the attempt it makes: context, identity, and the few things it may do to the outside.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::action::ActionError;
use crate::context::Context;
use crate::state::{SubtaskId, SubtaskOperation, TaskId};

/// Identity of an attempt for idempotency: a repetition after a crash has the same key (and a higher epoch).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptKey {
    /// The task.
    pub task: TaskId,
    /// The subtask.
    pub subtask: SubtaskId,
    /// EXECUTE, RETRY or ROLLBACK.
    pub operation: SubtaskOperation,
    /// Attempts users know of, from 1.
    pub run_time: u32,
}

impl fmt::Display for AttemptKey {
    /// `task/<id>/sub/<id>/<OPERATION>/<run time>`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "task/{}/sub/{}/{}/{}",
            self.task, self.subtask, self.operation, self.run_time
        )
    }
}

/// A checkpoint was refused: the attempt no longer holds its epoch, or the database is away. Stop without further effects.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The attempt was given up (deadline, cancel, another server) and may write no more.
    #[error("the attempt no longer holds its epoch")]
    Fenced,
    /// The checkpoint would take the task's context over its limit.
    #[error("the checkpoint {key:?} would take the context over its limit")]
    TooLarge {
        /// Its key.
        key: String,
    },
    /// It could not be stored, and the attempt is to stop or trying again would not help.
    #[error("the checkpoint could not be stored")]
    Store(#[source] crate::store::StoreError),
}

impl From<CheckpointError> for ActionError {
    fn from(error: CheckpointError) -> Self {
        match &error {
            CheckpointError::Store(source) => Self::new(format!("{error}: {source}")),
            _ => Self::new(error.to_string()),
        }
    }
}

/// Where an attempt writes to: the engine, or a test's own.
#[async_trait]
pub trait AttemptSink: Send + Sync {
    /// Makes a checkpoint durable under the attempt's epoch.
    async fn checkpoint(&self, key: String, value: String) -> Result<(), CheckpointError>;

    /// Takes a log text.
    fn log(&self, text: &str);
}

/// One attempt at a subtask. Cheap to clone, so that spawned helpers can log and look at the token.
#[derive(Clone)]
pub struct Attempt {
    facts: Arc<AttemptFacts>,
    cancelled: CancellationToken,
    sink: Arc<dyn AttemptSink>,
}

/// What an attempt is about.
#[derive(Clone, Debug)]
pub struct AttemptFacts {
    /// Identity.
    pub key: AttemptKey,
    /// The fence to hand to whoever is asked to act.
    pub epoch: i64,
    /// Merged context: base, ancestors, and the subtask's own earlier additions.
    pub context: Context,
    /// Which element of the lists it works on.
    pub parallel_idx: Option<u32>,
    /// That element of each submitted list.
    pub items: BTreeMap<String, String>,
    /// What earlier attempts and the run being undone recorded.
    pub checkpoint: BTreeMap<String, String>,
}

impl Attempt {
    /// An attempt on a sink of the caller's; the engine makes its own, tests of actions make theirs.
    pub fn new(facts: AttemptFacts, cancelled: CancellationToken, sink: Arc<dyn AttemptSink>) -> Self {
        Self {
            facts: Arc::new(facts),
            cancelled,
            sink,
        }
    }

    /// A text of the context; an error naming the key if it is not there.
    pub fn string(&self, key: &str) -> Result<&str, ActionError> {
        self.find_string(key)
            .ok_or_else(|| ActionError::new(format!("the context has no text {key:?}")))
    }

    /// A text of the context, if it is there: what undo asks of a run that may not have got so far.
    pub fn find_string(&self, key: &str) -> Option<&str> {
        self.facts.context.string_map.get(key).map(String::as_str)
    }

    /// A list of the context; an error naming the key if it is not there.
    pub fn list(&self, key: &str) -> Result<&[String], ActionError> {
        let list = self.facts.context.list_map.get(key);
        list.map(Vec::as_slice)
            .ok_or_else(|| ActionError::new(format!("the context has no list {key:?}")))
    }

    /// This subtask's element of a list, as frozen at submit; for lists added later, the element at its index.
    pub fn item(&self, list_key: &str) -> Result<&str, ActionError> {
        if let Some(frozen) = self.facts.items.get(list_key) {
            return Ok(frozen);
        }
        let Some(index) = self.facts.parallel_idx else {
            return Err(ActionError::new(format!(
                "the subtask has no index into the list {list_key:?}"
            )));
        };
        let item = self.list(list_key)?.get(index as usize).map(String::as_str);
        item.ok_or_else(|| ActionError::new(format!("the list {list_key:?} has no element {index}")))
    }

    /// The index of this subtask's elements.
    pub fn parallel_idx(&self) -> Option<u32> {
        self.facts.parallel_idx
    }

    /// Identity for idempotency.
    pub fn key(&self) -> AttemptKey {
        self.facts.key
    }

    /// The fence: whoever has seen a higher one for this subtask refuses this attempt.
    pub fn epoch(&self) -> i64 {
        self.facts.epoch
    }

    /// A value recorded by an earlier attempt (or, in undo, by the run).
    pub fn checkpointed(&self, key: &str) -> Option<&str> {
        self.facts.checkpoint.get(key).map(String::as_str)
    }

    /// Records a value durably *before* acting on it; undo and the next attempt read it with [`Self::checkpointed`]. A
    /// database that is away is waited for until the attempt is to stop.
    pub async fn checkpoint(&self, key: impl Into<String>, value: impl Into<String>) -> Result<(), CheckpointError> {
        self.sink.checkpoint(key.into(), value.into()).await
    }

    /// Adds lines to the subtask's log. Never fails, never waits. No secrets.
    pub fn log(&self, text: impl AsRef<str>) {
        self.sink.log(text.as_ref());
    }

    /// Fires when the attempt should stop: cancelled, timed out, or the engine shuts down.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }
}
