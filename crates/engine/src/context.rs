//! What subtasks tell each other: a map of texts and a map of lists, OCP's shape.
//!
//! A task has a base context; each subtask adds a [`ContextDelta`]. What a subtask reads is the base plus the deltas of
//! all its ancestors in series order. Two ancestors that are not ordered by the graph and give one key different values
//! are a [`MergeConflict`]: the order in which they happened to finish must not decide.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::state::{SubtaskId, TaskState};

/// Most bytes of text a task's context may come to, all deltas and checkpoints included.
pub const CONTEXT_LIMIT: usize = 256 * 1024;

/// The key that merges with OR: one `true` forbids rolling the task back.
pub const PROHIBIT_ROLLBACK: &str = "prohibit_rollback";

/// Texts and lists of texts by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Context {
    /// Lists that parallel subtasks index with their `parallel_idx`.
    pub list_map: BTreeMap<String, Vec<String>>,
    /// Texts.
    pub string_map: BTreeMap<String, String>,
}

impl Context {
    /// An empty context.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a text.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.string_map.insert(key.into(), value.into());
        self
    }

    /// With a list.
    #[must_use]
    pub fn with_list<T: Into<String>>(mut self, key: impl Into<String>, items: impl IntoIterator<Item = T>) -> Self {
        self.list_map
            .insert(key.into(), items.into_iter().map(Into::into).collect());
        self
    }

    /// Whether `prohibit_rollback` is `true` here.
    pub fn prohibits_rollback(&self) -> bool {
        self.string_map
            .get(PROHIBIT_ROLLBACK)
            .is_some_and(|value| value == "true")
    }

    /// Bytes of text in it.
    pub fn size(&self) -> usize {
        size(&self.string_map, &self.list_map)
    }

    /// Takes in a delta: texts replace, lists grow by what they do not have yet.
    pub fn apply(&mut self, delta: &ContextDelta) {
        for (key, value) in &delta.set {
            self.set(key, value);
        }
        for (key, items) in &delta.append {
            append_new(self.list_map.entry(key.clone()).or_default(), items);
        }
    }

    fn set(&mut self, key: &str, value: &str) {
        if key == PROHIBIT_ROLLBACK && self.prohibits_rollback() {
            return;
        }
        self.string_map.insert(key.to_owned(), value.to_owned());
    }
}

/// What one subtask adds to the context.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContextDelta {
    /// Texts to set.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// Elements to add to lists, those already there left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub append: BTreeMap<String, Vec<String>>,
}

impl ContextDelta {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a text set.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.set.insert(key.into(), value.into());
        self
    }

    /// With elements added to a list.
    #[must_use]
    pub fn with_items<T: Into<String>>(mut self, key: impl Into<String>, items: impl IntoIterator<Item = T>) -> Self {
        self.append
            .entry(key.into())
            .or_default()
            .extend(items.into_iter().map(Into::into));
        self
    }

    /// Bytes of text in it.
    pub fn size(&self) -> usize {
        size(&self.set, &self.append)
    }

    /// Takes in a later delta of the same subtask: its texts replace, its lists grow.
    pub fn merge(&mut self, later: &Self) {
        self.set
            .extend(later.set.iter().map(|(key, value)| (key.clone(), value.clone())));
        for (key, items) in &later.append {
            append_new(self.append.entry(key.clone()).or_default(), items);
        }
    }
}

fn append_new(list: &mut Vec<String>, items: &[String]) {
    for item in items {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

fn size(texts: &BTreeMap<String, String>, lists: &BTreeMap<String, Vec<String>>) -> usize {
    let texts: usize = texts.iter().map(|(key, value)| key.len() + value.len()).sum();
    let lists: usize = lists
        .iter()
        .map(|(key, items)| key.len() + items.iter().map(String::len).sum::<usize>())
        .sum();
    texts + lists
}

/// Two subtasks that may run in either order gave one key different values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "context key {key:?} was set to different values by subtasks {} ({first_name}) and {} ({second_name}), which are not ordered",
    .first.0, .second.0
)]
pub struct MergeConflict {
    /// The key.
    pub key: String,
    /// The writer with the lower series id.
    pub first: SubtaskId,
    /// Its name.
    pub first_name: String,
    /// The other writer.
    pub second: SubtaskId,
    /// Its name.
    pub second_name: String,
}

/// What the subtask at `index` reads: the base, its ancestors' deltas, and, when it has run before, its own.
pub fn input_of(state: &TaskState, index: usize) -> Result<Context, MergeConflict> {
    let mut context = state.task.context.clone();
    let mut writers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let ancestors = state.graph.ancestors(index);
    for writer in (0..index).filter(|&i| ancestors[i]) {
        let delta = &state.subtasks[writer].delta;
        for (key, value) in delta.set.iter().filter(|(key, _)| *key != PROHIBIT_ROLLBACK) {
            let open = writers.entry(key).or_default();
            if !open.is_empty() {
                let ordered = state.graph.ancestors(writer);
                open.retain(|&earlier| !ordered[earlier]);
            }
            let differs = |&&earlier: &&usize| state.subtasks[earlier].delta.set.get(key) != Some(value);
            if let Some(&other) = open.iter().find(differs) {
                return Err(conflict(state, key, other, writer));
            }
            open.push(writer);
        }
        context.apply(delta);
    }
    context.apply(&state.subtasks[index].delta);
    Ok(context)
}

fn conflict(state: &TaskState, key: &str, first: usize, second: usize) -> MergeConflict {
    let (first, second) = (&state.subtasks[first], &state.subtasks[second]);
    MergeConflict {
        key: key.to_owned(),
        first: first.id,
        first_name: first.spec.name.clone(),
        second: second.id,
        second_name: second.spec.name.clone(),
    }
}

/// The whole task's context for display: every delta in series order, the last writer shown.
pub fn merged(state: &TaskState) -> Context {
    let mut context = state.task.context.clone();
    for subtask in &state.subtasks {
        context.apply(&subtask.delta);
    }
    context
}

/// Bytes of text the task holds in base, deltas and checkpoints.
pub fn total_size(state: &TaskState) -> usize {
    let own: usize = state
        .subtasks
        .iter()
        .map(|subtask| subtask.delta.size() + checkpoint_size(&subtask.checkpoint))
        .sum();
    state.task.context.size() + own
}

fn checkpoint_size(checkpoint: &BTreeMap<String, String>) -> usize {
    checkpoint.iter().map(|(key, value)| key.len() + value.len()).sum()
}
