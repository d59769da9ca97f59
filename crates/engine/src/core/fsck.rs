//! Checks that the rows of a task are the fold of its events.

use std::sync::Arc;

use super::apply::{Broken, apply};
use super::event::{Change, Event};
use crate::state::{Graph, SubtaskId, Task, TaskState};

/// Where rows and events disagree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The log does not begin with the task's creation.
    #[error("the events do not begin with TASK_CREATED")]
    NoBeginning,
    /// The created graph has an edge that does not go forward.
    #[error("the created graph is not in topological order")]
    BadGraph,
    /// An event does not follow from those before it.
    #[error("the events do not follow from each other")]
    Broken(#[from] Broken),
    /// The task row is not what the events lead to.
    #[error("the task row differs from its events: {row}, folded {folded}")]
    Task {
        /// The row.
        row: String,
        /// The fold.
        folded: String,
    },
    /// A subtask row is not what the events lead to.
    #[error("the row of subtask {subtask} differs from its events: {row}, folded {folded}")]
    Subtask {
        /// Which.
        subtask: SubtaskId,
        /// The row.
        row: String,
        /// The fold.
        folded: String,
    },
    /// The edges, or the number of subtasks, differ.
    #[error("the rows form another graph than the one created")]
    Graph,
}

/// Folds all events of a task and compares with its rows.
pub fn fsck(state: &TaskState, events: &[Event]) -> Result<(), Finding> {
    let folded = fold(events)?;
    if folded.task != state.task {
        return Err(Finding::Task {
            row: format!("{:?}", state.task),
            folded: format!("{:?}", folded.task),
        });
    }
    if folded.graph != state.graph || folded.subtasks.len() != state.subtasks.len() {
        return Err(Finding::Graph);
    }
    for (row, folded) in state.subtasks.iter().zip(&folded.subtasks) {
        if row != folded {
            let (subtask, row, folded) = (folded.id, format!("{row:?}"), format!("{folded:?}"));
            return Err(Finding::Subtask { subtask, row, folded });
        }
    }
    Ok(())
}

fn fold(events: &[Event]) -> Result<TaskState, Finding> {
    let (first, later) = events.split_first().ok_or(Finding::NoBeginning)?;
    let Change::TaskCreated { task, subtasks, edges } = &first.change else {
        return Err(Finding::NoBeginning);
    };
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
