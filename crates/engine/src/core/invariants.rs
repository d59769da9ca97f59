//! What holds in every state a task can be in; numbers as in the task engine's specification.

use crate::context::{CONTEXT_LIMIT, total_size};
use crate::state::{Halt, Outcome, Subtask, SubtaskStatus as Sub, TaskOperation, TaskState, TaskStatus};

/// Checks a state by itself; `Err` names the first invariant that does not hold.
pub fn check_invariants(state: &TaskState) -> Result<(), String> {
    let all = |indexes: &[usize], status: Sub| indexes.iter().all(|&i| state.subtasks[i].status == status);
    let forward = state.task.operation != TaskOperation::Rollback;
    for (index, row) in state.subtasks.iter().enumerate() {
        row_is_sound(row).map_err(|what| format!("subtask {index}: {what}"))?;
        let begun = row.status != Sub::Pending;
        if forward && begun && !all(state.graph.upstreams(index), Sub::Successful) {
            return Err(format!(
                "I4: subtask {index} is {} before its upstreams succeeded",
                row.status
            ));
        }
        if !forward && row.status == Sub::Pending && !all(state.graph.downstreams(index), Sub::Pending) {
            return Err(format!("I5: subtask {index} was undone before its downstreams"));
        }
    }
    let active = state.subtasks.iter().any(|row| row.status.is_active());
    let by_operator = matches!(state.task.outcome, Some(Outcome::Cancelled | Outcome::Abandoned));
    let undone = state.task.outcome == Some(Outcome::RolledBack);
    match state.task.status {
        TaskStatus::Running if !active => return Err("G10: a RUNNING task with nothing under way".into()),
        TaskStatus::Failed if active => return Err("G9: a FAILED task is not quiet".into()),
        TaskStatus::Failed if !state.is_failing() && !by_operator && !undone => {
            return Err("a FAILED task without a FAILED subtask".into());
        }
        TaskStatus::Running | TaskStatus::Failed | TaskStatus::Successful => {}
    }
    if undone && (state.task.status == TaskStatus::Failed) != state.task.undo_on_failure {
        return Err("E15b: a task that was rolled back is FAILED exactly when it goes back by itself".into());
    }
    if undone || state.task.status == TaskStatus::Successful {
        if !state.task.locks.is_empty() {
            return Err("I6: a finished task holds locks".into());
        }
        let end = if forward { Sub::Successful } else { Sub::Pending };
        if state.subtasks.iter().any(|row| row.status != end) {
            return Err(format!("I6: a finished task has a subtask that is not {end}"));
        }
    }
    if (state.task.status == TaskStatus::Running) == state.task.end_time.is_some() {
        return Err("a task has an end time exactly when it is at rest".into());
    }
    halt_is_sound(state)?;
    if total_size(state) > CONTEXT_LIMIT {
        return Err("I9: the context is over its limit".into());
    }
    Ok(())
}

fn halt_is_sound(state: &TaskState) -> Result<(), String> {
    let task = &state.task;
    let begins = |row: &Subtask| matches!(row.status, Sub::Ready | Sub::Running);
    if task.halt.is_some() && task.status != TaskStatus::Running {
        return Err("only a RUNNING task is halted".into());
    }
    if task.halt == Some(Halt::Canceling) && state.subtasks.iter().any(|row| begins(row)) {
        return Err("E21: a cancelled task has something READY or RUNNING".into());
    }
    if task.outcome == Some(Outcome::Abandoned) && (task.status != TaskStatus::Failed || !task.locks.is_empty()) {
        return Err("E22: an abandoned task is not at rest, or holds locks".into());
    }
    Ok(())
}

fn row_is_sound(row: &Subtask) -> Result<(), String> {
    let held = matches!(row.status, Sub::Running | Sub::Canceling);
    if held != row.owner.is_some() {
        return Err(format!("I3: {} with owner {:?}", row.status, row.owner));
    }
    if held && row.deadline_at.is_none() && (row.spec.timeout_s > 0 || row.status == Sub::Canceling) {
        return Err("I3: an attempt without its deadline".into());
    }
    if row.spec.barrier && (held || row.status == Sub::Failed) {
        return Err(format!("E4b: a barrier stands {}", row.status));
    }
    if (row.status == Sub::Ready) != row.ready_from.is_some() {
        return Err("READY and where it came from belong together".into());
    }
    if (row.status == Sub::Failed) && row.failure.is_none() {
        return Err("FAILED without a reason".into());
    }
    Ok(())
}
