//! What operators may do to a task as a whole besides sending it forward or back: pause it, cancel it, give it up.

use super::command::Reject;
use super::decide::{ask_to_stop, refuse_if_over, task_state};
use super::event::Change;
use super::ledger::Ledger;
use super::settle::park_ready;
use crate::state::{Halt, SubtaskStatus, TaskStatus};

/// E19. What runs goes on to its end; its successors become READY and wait.
pub(super) fn pause(ledger: &mut Ledger<'_>, actor: String) -> Result<(), Reject> {
    match running(ledger)? {
        Some(halt) => Err(Reject::Halted(halt)),
        None => Ok(ledger.emit(Change::TaskPaused { actor })?),
    }
}

/// E20.
pub(super) fn unpause(ledger: &mut Ledger<'_>, actor: String) -> Result<(), Reject> {
    match running(ledger)? {
        Some(Halt::Paused) => Ok(ledger.emit(Change::TaskUnpaused { actor })?),
        Some(halt) => Err(Reject::Halted(halt)),
        None => Err(task_state(ledger)),
    }
}

/// E21. READY subtasks are parked at once; the task is FAILED when the last CANCELING one has ended, perhaps at once.
pub(super) fn cancel_task(ledger: &mut Ledger<'_>, actor: String) -> Result<(), Reject> {
    if let Some(Halt::Canceling) = running(ledger)? {
        return Err(Reject::Halted(Halt::Canceling));
    }
    ledger.emit(Change::TaskCanceling { actor: actor.clone() })?;
    for index in 0..ledger.state.subtasks.len() {
        if ledger.subtask(index).status == SubtaskStatus::Running {
            ask_to_stop(ledger, index, actor.clone())?;
        }
    }
    Ok(park_ready(ledger)?)
}

/// E22. A FAILED task is quiet, so nothing can act for it any more.
pub(super) fn abandon(ledger: &mut Ledger<'_>, actor: String, reason: String) -> Result<(), Reject> {
    if ledger.state.task.status != TaskStatus::Failed {
        return Err(task_state(ledger));
    }
    refuse_if_over(ledger)?;
    Ok(ledger.emit(Change::TaskAbandoned { actor, reason })?)
}

/// What halts the task, which has to be RUNNING.
fn running(ledger: &Ledger<'_>) -> Result<Option<Halt>, Reject> {
    match ledger.state.task.status {
        TaskStatus::Running => Ok(ledger.state.task.halt),
        _ => Err(task_state(ledger)),
    }
}
