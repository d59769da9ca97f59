//! What an operator may do about a task that stands FAILED.

use crate::state::{Outcome, SubtaskStatus, TaskOperation, TaskState, TaskStatus, WayOut};

/// The commands on the task, or on one of its FAILED subtasks, that would be admitted; empty unless it is FAILED.
pub fn ways_out(state: &TaskState) -> Vec<WayOut> {
    let task = &state.task;
    if task.status != TaskStatus::Failed || task.outcome.is_some_and(Outcome::is_final) {
        return Vec::new();
    }
    let failed = state.subtasks.iter().any(|row| row.status == SubtaskStatus::Failed);
    let ways = [
        (WayOut::Retry, task.operation != TaskOperation::Rollback),
        (WayOut::Rollback, !state.prohibits_rollback()),
        (WayOut::Skip, failed),
        (WayOut::Abandon, true),
    ];
    ways.into_iter().filter_map(|(way, open)| open.then_some(way)).collect()
}
