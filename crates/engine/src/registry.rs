//! The actions a server knows, by class name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::action::{Action, OnCrash, RetryMode, Spec};
use crate::barrier;
use crate::core::Classes;
use crate::error::EngineError;
use crate::state::SubtaskSpec;
use crate::template::TemplateNode;

/// Actions by class name. The barrier classes need no registration.
pub struct Registry<C> {
    actions: BTreeMap<&'static str, Arc<dyn Action<C>>>,
}

impl<C: 'static> Registry<C> {
    /// A registry of these actions; an error if two have one class name.
    pub fn new(actions: impl IntoIterator<Item = Arc<dyn Action<C>>>) -> Result<Self, EngineError> {
        let mut registry = Self {
            actions: BTreeMap::new(),
        };
        for action in actions {
            let class_name = action.spec().class_name;
            if barrier::spec(class_name).is_some() || registry.actions.insert(class_name, action).is_some() {
                return Err(EngineError::DuplicateClass(class_name.to_owned()));
            }
        }
        Ok(registry)
    }

    /// The action of a class.
    pub fn find(&self, class_name: &str) -> Option<Arc<dyn Action<C>>> {
        self.actions.get(class_name).cloned()
    }

    /// What may be claimed by whoever has these actions.
    pub(crate) fn classes(&self) -> Classes {
        Classes::Only(Arc::new(self.class_names().map(str::to_owned).collect()))
    }

    /// Every registered class name, ascending.
    pub fn class_names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.actions.keys().copied()
    }

    /// What a template's node will be, frozen.
    pub(crate) fn freeze(&self, node: &TemplateNode) -> Result<SubtaskSpec, EngineError> {
        let barrier = barrier::spec(&node.class_name);
        let is_barrier = barrier.is_some();
        let registered = || self.actions.get(node.class_name.as_str()).map(|action| action.spec());
        let spec = barrier
            .or_else(registered)
            .ok_or_else(|| EngineError::UnknownClass(node.class_name.clone()))?;
        Ok(frozen(spec, is_barrier, node.parallel_idx))
    }
}

fn frozen(spec: Spec, barrier: bool, parallel_idx: Option<u32>) -> SubtaskSpec {
    let retry_mode: RetryMode = spec.retry;
    let on_crash: OnCrash = spec.on_crash;
    SubtaskSpec {
        name: spec.name.to_owned(),
        class_name: spec.class_name.to_owned(),
        timeout_s: spec.timeout_s,
        prohibit_rollback: spec.prohibit_rollback,
        retries: spec.retries,
        undo_retries: spec.undo_retries,
        backoff_ms: spec.backoff_ms,
        retry_mode,
        on_crash,
        barrier,
        parallel_idx,
        items: BTreeMap::new(),
    }
}
