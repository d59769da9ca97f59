//! Which classes of step a process can run.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::state::SubtaskSpec;

/// What the deciding process's release has actions for. A step of another class is left to a process that knows it.
#[derive(Clone, Debug)]
pub enum Classes {
    /// Whatever there is.
    All,
    /// These.
    Only(Arc<BTreeSet<String>>),
}

impl Classes {
    /// Whether a step may be claimed. Barriers need no action.
    pub fn know(&self, spec: &SubtaskSpec) -> bool {
        let known = match self {
            Self::All => true,
            Self::Only(names) => names.contains(&spec.class_name),
        };
        known || spec.barrier
    }
}
