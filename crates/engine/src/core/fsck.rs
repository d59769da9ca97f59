//! Checks that the rows of a task are the fold of its events.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::apply::{Broken, apply};
use super::event::{Change, Event};
use crate::state::{Graph, SubtaskId, Task, TaskState};

/// Where rows and events disagree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The log does not begin with the task's creation.
    #[error("the events do not begin with TASK_CREATED as number 1")]
    NoBeginning,
    /// The created graph has an edge that does not go forward.
    #[error("the created graph is not in topological order")]
    BadGraph,
    /// An event does not follow from those before it.
    #[error("the events do not follow from each other")]
    Broken(#[from] Broken),
    /// The task row is not what the events lead to.
    #[error("the task's row is not what its events lead to: {differences}")]
    Task {
        /// Members of the row that differ.
        differences: String,
    },
    /// A subtask row is not what the events lead to.
    #[error("the row of subtask {subtask} is not what its events lead to: {differences}")]
    Subtask {
        /// Which.
        subtask: SubtaskId,
        /// Members of the row that differ.
        differences: String,
    },
    /// The edges, or the number of subtasks, differ.
    #[error("the rows form another graph than the one created")]
    Graph,
}

/// Folds all events of a task and compares with its rows.
pub fn fsck(state: &TaskState, events: &[Event]) -> Result<(), Finding> {
    let folded = fold(events)?;
    if folded.task != state.task {
        let differences = differences(&state.task, &folded.task);
        return Err(Finding::Task { differences });
    }
    if folded.graph != state.graph || folded.subtasks.len() != state.subtasks.len() {
        return Err(Finding::Graph);
    }
    for (row, folded) in state.subtasks.iter().zip(&folded.subtasks) {
        if row != folded {
            let (subtask, differences) = (folded.id, differences(&**row, &**folded));
            return Err(Finding::Subtask { subtask, differences });
        }
    }
    Ok(())
}

fn fold(events: &[Event]) -> Result<TaskState, Finding> {
    let (first, later) = events.split_first().ok_or(Finding::NoBeginning)?;
    let Change::TaskCreated { task, subtasks, edges } = &first.change else {
        return Err(Finding::NoBeginning);
    };
    if first.seq != 1 {
        return Err(Finding::NoBeginning);
    }
    let graph = Graph::new(subtasks.len(), edges).ok_or(Finding::BadGraph)?;
    let subtasks = subtasks.iter().cloned().map(Arc::new).collect();
    let mut state = TaskState {
        task: Task::clone(task),
        subtasks,
        graph: Arc::new(graph),
    };
    for event in later {
        apply(&mut state, event)?;
    }
    Ok(state)
}

/// The members in which a row differs from what its events lead to.
fn differences(row: &impl Serialize, folded: &impl Serialize) -> String {
    let members = |of: Result<Value, _>| match of {
        Ok(Value::Object(members)) => members,
        _ => serde_json::Map::new(),
    };
    let folded = members(serde_json::to_value(folded));
    let differing = members(serde_json::to_value(row))
        .into_iter()
        .filter_map(|(name, value)| {
            let by_events = folded.get(&name).unwrap_or(&Value::Null);
            (value != *by_events).then(|| format!("{name} is {}, by the events {}", brief(&value), brief(by_events)))
        });
    differing.collect::<Vec<_>>().join("; ")
}

/// Its beginning, as JSON.
fn brief(value: &Value) -> String {
    const MOST: usize = 120;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
