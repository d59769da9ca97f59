//! What follows from a move by itself, decided in the same commit: successors READY (E2, E16), barriers passing (E4b),
//! parking (E13), the task coming to rest (E14, E18), claims while slots are free (E3).

use super::apply::Broken;
use super::event::Change;
use super::ledger::Ledger;
use crate::context::ContextDelta;
use crate::state::{Halt, Outcome, SubtaskOperation as Op, SubtaskStatus as Sub, TaskOperation, TaskStatus};

/// Brings the task to where nothing more follows, then claims up to `slots` subtasks.
pub(super) fn settle(ledger: &mut Ledger<'_>) -> Result<(), Broken> {
    if ledger.state.task.status != TaskStatus::Running {
        return Ok(());
    }
    if ledger.state.is_failing() || ledger.state.task.halt == Some(Halt::Canceling) {
        rest_or_go_back_if_quiet(ledger)?;
    } else if ledger.state.task.operation == TaskOperation::Rollback {
        go_back(ledger)?;
    } else {
        go_forward(ledger)?;
    }
    claim_some(ledger)
}

/// The roots of a new task become READY; barriers among them wait for their first claim, so that the reply shows them.
pub(super) fn ready_roots(ledger: &mut Ledger<'_>) -> Result<(), Broken> {
    for index in 0..ledger.state.subtasks.len() {
        if ledger.state.graph.upstreams(index).is_empty() {
            let subtask = ledger.subtask(index).id;
            ledger.emit(Change::SubReady {
                subtask,
                operation: Op::Execute,
            })?;
        }
    }
    Ok(())
}

/// Series order is topological: one pass reaches everything, also behind barriers that pass on the way.
fn go_forward(ledger: &mut Ledger<'_>) -> Result<(), Broken> {
    for index in 0..ledger.state.subtasks.len() {
        let due = ledger.subtask(index).status == Sub::Pending
            && ledger
                .state
                .graph
                .upstreams(index)
                .iter()
                .all(|&up| ledger.subtask(up).status == Sub::Successful);
        if due {
            let subtask = ledger.subtask(index);
            let (subtask, operation) = (subtask.id, subtask.operation);
            ledger.emit(Change::SubReady { subtask, operation })?;
            pass_barrier(ledger, index)?;
        }
    }
    done_if_all(ledger, Sub::Successful, Outcome::Completed)
}

fn go_back(ledger: &mut Ledger<'_>) -> Result<(), Broken> {
    for index in (0..ledger.state.subtasks.len()).rev() {
        let due = ledger.subtask(index).status == Sub::Successful
            && ledger
                .state
                .graph
                .downstreams(index)
                .iter()
                .all(|&down| ledger.subtask(down).status == Sub::Pending);
        if due {
            let subtask = ledger.subtask(index).id;
            ledger.emit(Change::SubReady {
                subtask,
                operation: Op::Rollback,
            })?;
            pass_barrier(ledger, index)?;
        }
    }
    done_if_all(ledger, Sub::Pending, Outcome::RolledBack)
}

fn done_if_all(ledger: &mut Ledger<'_>, status: Sub, outcome: Outcome) -> Result<(), Broken> {
    if ledger.state.subtasks.iter().all(|subtask| subtask.status == status) {
        ledger.emit(Change::TaskDone { outcome })?;
    }
    Ok(())
}

/// FAILED only once quiet: no subtask READY, RUNNING or CANCELING. A task that goes back by itself does so then instead.
fn rest_or_go_back_if_quiet(ledger: &mut Ledger<'_>) -> Result<(), Broken> {
    if ledger.state.subtasks.iter().any(|subtask| subtask.status.is_active()) {
        return Ok(());
    }
    if ledger.state.undoes_itself() {
        turn_back(ledger, None)?;
        return go_back(ledger);
    }
    let task = &ledger.state.task;
    let outcome = match (task.halt, task.operation) {
        (Some(Halt::Canceling), _) => Some(Outcome::Cancelled),
        (_, TaskOperation::Rollback) => Some(Outcome::Stuck),
        _ => None,
    };
    ledger.emit(Change::TaskFailed { outcome })
}

/// The task goes back from here, beginning with what has FAILED; `actor` is who asked for it, if anybody did.
pub(super) fn turn_back(ledger: &mut Ledger<'_>, actor: Option<String>) -> Result<(), Broken> {
    ledger.emit(Change::TaskRollback { actor })?;
    for index in (0..ledger.state.subtasks.len()).rev() {
        let row = ledger.subtask(index);
        if row.status == Sub::Failed {
            let subtask = row.id;
            ledger.emit(Change::SubReady {
                subtask,
                operation: Op::Rollback,
            })?;
        }
    }
    Ok(())
}

/// Takes back every READY subtask because one has failed for good, or the task is cancelled.
pub(super) fn park_ready(ledger: &mut Ledger<'_>) -> Result<(), Broken> {
    for index in 0..ledger.state.subtasks.len() {
        let row = ledger.subtask(index);
        if row.status != Sub::Ready {
            continue;
        }
        let to = row.ready_from.unwrap_or(Sub::Pending);
        // A retry that never began does not count: only its predecessor's failure is there.
        let unbegun = row.operation == Op::Retry && row.crash_count == 0 && row.failure.is_some();
        let run_time = row.run_time - u32::from(unbegun);
        let subtask = row.id;
        ledger.emit(Change::SubParked { subtask, to, run_time })?;
    }
    Ok(())
}

fn claim_some(ledger: &mut Ledger<'_>) -> Result<(), Broken> {
    if ledger.env.slots == 0 {
        return Ok(());
    }
    let claimable: Vec<_> = ledger
        .state
        .claimable(ledger.env.steady_ms)
        .filter(|&index| ledger.env.classes.know(&ledger.subtask(index).spec))
        .take(ledger.env.slots)
        .collect();
    for index in claimable {
        // A barrier is READY here only as a root that nobody has claimed yet, or made ready under a pause: it is claimed
        // by command.
        if !ledger.subtask(index).spec.barrier {
            claim(ledger, index)?;
        }
    }
    Ok(())
}

/// READY → RUNNING.
pub(super) fn claim(ledger: &mut Ledger<'_>, index: usize) -> Result<(), Broken> {
    let row = ledger.subtask(index);
    let timeout_ms = i64::from(row.spec.timeout_s) * 1000;
    let deadline_at = (timeout_ms > 0 && !row.spec.barrier).then_some(ledger.env.wall_ms + timeout_ms);
    let (subtask, epoch) = (row.id, row.epoch + 1);
    ledger.emit(Change::SubClaimed {
        subtask,
        epoch,
        owner: ledger.env.owner.clone(),
        executor: ledger.env.executor.clone(),
        deadline_at,
    })
}

/// A READY barrier goes through RUNNING to its end at once, unless the task is halted; other nodes stay.
pub(super) fn pass_barrier(ledger: &mut Ledger<'_>, index: usize) -> Result<(), Broken> {
    if !ledger.subtask(index).spec.barrier || ledger.state.task.halt.is_some() {
        return Ok(());
    }
    claim(ledger, index)?;
    complete(ledger, index, ContextDelta::new())
}

/// RUNNING → SUCCESSFUL, or PENDING in an undo.
pub(super) fn complete(ledger: &mut Ledger<'_>, index: usize, delta: ContextDelta) -> Result<(), Broken> {
    let row = ledger.subtask(index);
    let subtask = row.id;
    match row.operation {
        Op::Rollback => ledger.emit(Change::SubUndone { subtask, delta }),
        _ => ledger.emit(Change::SubSucceeded { subtask, delta }),
    }
}
