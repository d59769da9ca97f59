//! What a caller hands to [`crate::Engine::submit`].

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::state::TaskType;
use crate::template::Template;

/// A claim on something two tasks must not change at once. Taken in the submit transaction, freed when the task is over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lock {
    /// What kind of thing, such as `obproxy`.
    pub kind: String,
    /// Which one, such as `17`.
    pub name: String,
    /// Exclusive locks admit no other; shared ones admit each other.
    pub exclusive: bool,
}

impl Lock {
    /// Nobody else may hold it.
    pub fn exclusive(kind: impl Into<String>, name: impl ToString) -> Self {
        Self {
            kind: kind.into(),
            name: name.to_string(),
            exclusive: true,
        }
    }

    /// Others may share it.
    pub fn shared(kind: impl Into<String>, name: impl ToString) -> Self {
        Self {
            kind: kind.into(),
            name: name.to_string(),
            exclusive: false,
        }
    }
}

/// A task to start. `C` is the domain's change type.
#[derive(Clone, Debug)]
pub struct Submission<C> {
    /// What users see, such as `Upgrade obproxy`.
    pub name: String,
    /// Who starts tasks of this kind.
    pub task_type: TaskType,
    /// Login name of the submitter.
    pub creator: String,
    /// What the subtasks start from.
    pub context: Context,
    /// What no other task may hold meanwhile.
    pub locks: Vec<Lock>,
    /// The OBProxy cluster it is about.
    pub cluster_id: Option<i64>,
    /// The host it is about.
    pub host_id: Option<i64>,
    /// Idempotency key: the same token gives the same task.
    pub client_token: Option<String>,
    /// Digest of the request the key came with: the same token with another digest is refused.
    pub request_digest: Option<String>,
    /// Whether the task goes back by itself when a step fails, without waiting for an operator. Having gone back it is FAILED,
    /// and holds nothing.
    pub undo_on_failure: bool,
    /// The steps.
    pub template: Template,
    /// Domain changes to commit together with the new task.
    pub changes: Vec<C>,
}

impl<C> Submission<C> {
    /// A manual task with an empty context, no locks and no changes; set the public fields for more.
    pub fn new(name: impl Into<String>, creator: impl Into<String>, template: Template) -> Self {
        Self {
            name: name.into(),
            task_type: TaskType::Manual,
            creator: creator.into(),
            context: Context::new(),
            locks: Vec::new(),
            cluster_id: None,
            host_id: None,
            client_token: None,
            request_digest: None,
            undo_on_failure: false,
            template,
            changes: Vec::new(),
        }
    }
}
