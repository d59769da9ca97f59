//! What each event does to the rows, and which moves are legal at all.

use std::sync::Arc;

use super::event::{Change, Event};
use crate::state::{
    Cause, Halt, Outcome, Subtask, SubtaskId, SubtaskOperation as Op, SubtaskStatus as Sub, TaskOperation, TaskState,
    TaskStatus,
};

/// An event does not follow from the state it is applied to: the log or the rows are damaged, or a rule is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {seq} ({kind}) cannot follow: {reason}")]
pub struct Broken {
    /// The event's position.
    pub seq: i64,
    /// Its kind.
    pub kind: &'static str,
    /// What is wrong.
    pub reason: String,
}

/// Applies one event. On `Err` the state is unspecified and must be dropped.
pub fn apply(state: &mut TaskState, event: &Event) -> Result<(), Broken> {
    let broken = |reason: String| Broken {
        seq: event.seq,
        kind: event.change.kind(),
        reason,
    };
    if event.seq != state.task.rev + 1 {
        return Err(broken(format!("it comes after {}", state.task.rev)));
    }
    if let Change::Unreadable { kind, .. } = &event.change {
        return Err(broken(format!("this release cannot read {kind}")));
    }
    state.task.rev = event.seq;
    if let (Change::SubClaimed { .. }, Some(halt)) = (&event.change, state.task.halt) {
        return Err(broken(format!("the task is {halt}")));
    }
    match event.change.subtask() {
        Some(id) => {
            let keeps_reason = state.task.undo_on_failure;
            let subtask = subtask_mut(state, id).ok_or_else(|| broken(format!("no subtask {id}")))?;
            apply_to_subtask(subtask, event, keeps_reason).map_err(broken)
        }
        None => apply_to_task(state, event).map_err(broken),
    }
}

fn subtask_mut(state: &mut TaskState, id: SubtaskId) -> Option<&mut Subtask> {
    let index = state.index_of(id)?;
    Some(Arc::make_mut(&mut state.subtasks[index]))
}

fn apply_to_task(state: &mut TaskState, event: &Event) -> Result<(), String> {
    let from = state.task.status;
    let expect = |wanted: TaskStatus| {
        if from == wanted {
            Ok(())
        } else {
            Err(format!("the task is {from}"))
        }
    };
    let not_over = match state.task.outcome {
        Some(Outcome::Abandoned) => Err("the task is abandoned".to_owned()),
        Some(Outcome::RolledBack) => Err("the task is rolled back".to_owned()),
        _ => Ok(()),
    };
    match &event.change {
        Change::TaskRetry { .. } => {
            expect(TaskStatus::Failed)?;
            not_over?;
            resume(state, TaskOperation::Retry);
        }
        Change::TaskResumed { .. } => {
            expect(TaskStatus::Failed)?;
            not_over?;
            resume(state, state.task.operation);
        }
        Change::TaskRollback { .. } => {
            if !state.undoes_itself() {
                expect(TaskStatus::Failed)?;
            }
            not_over?;
            resume(state, TaskOperation::Rollback);
            for subtask in state
                .subtasks
                .iter_mut()
                .filter(|subtask| subtask.status != Sub::Pending)
            {
                let subtask = Arc::make_mut(subtask);
                subtask.operation = Op::Rollback;
                subtask.undo_tries = 0;
                subtask.crash_count = 0;
            }
        }
        Change::TaskPaused { .. } => {
            expect(TaskStatus::Running)?;
            halt(state, &[None], Some(Halt::Paused))?;
        }
        Change::TaskUnpaused { .. } => {
            expect(TaskStatus::Running)?;
            halt(state, &[Some(Halt::Paused)], None)?;
        }
        Change::TaskCanceling { .. } => {
            expect(TaskStatus::Running)?;
            halt(state, &[None, Some(Halt::Paused)], Some(Halt::Canceling))?;
        }
        Change::TaskAbandoned { .. } => {
            expect(TaskStatus::Failed)?;
            not_over?;
            state.task.outcome = Some(Outcome::Abandoned);
            state.task.end_time = Some(event.at);
            state.task.locks.clear();
        }
        Change::TaskFailed { outcome } => {
            expect(TaskStatus::Running)?;
            state.task.status = TaskStatus::Failed;
            state.task.halt = None;
            state.task.outcome = *outcome;
            state.task.end_time = Some(event.at);
        }
        Change::TaskDone { outcome } => {
            expect(TaskStatus::Running)?;
            // Nobody asked for the way back: whoever waits for the task must not take it for what was asked for.
            let by_itself = state.task.undo_on_failure && *outcome == Outcome::RolledBack;
            state.task.status = if by_itself {
                TaskStatus::Failed
            } else {
                TaskStatus::Successful
            };
            state.task.halt = None;
            state.task.outcome = Some(*outcome);
            state.task.end_time = Some(event.at);
            state.task.locks.clear();
        }
        other => return Err(format!("{} does not move a task", other.kind())),
    }
    Ok(())
}

fn halt(state: &mut TaskState, from: &[Option<Halt>], to: Option<Halt>) -> Result<(), String> {
    let was = std::mem::replace(&mut state.task.halt, to);
    if from.contains(&was) {
        Ok(())
    } else {
        Err(was.map_or("nothing halts the task".to_owned(), |was| format!("the task is {was}")))
    }
}

fn resume(state: &mut TaskState, operation: TaskOperation) {
    state.task.status = TaskStatus::Running;
    state.task.operation = operation;
    state.task.outcome = None::<Outcome>;
    state.task.end_time = None;
}

/// `keeps_reason`: what was undone still tells why it had failed, since nobody looked at the task in between.
fn apply_to_subtask(row: &mut Subtask, event: &Event, keeps_reason: bool) -> Result<(), String> {
    let from = row.status;
    let expect = |wanted: &[Sub]| {
        if wanted.contains(&from) {
            Ok(())
        } else {
            Err(format!("the subtask is {from}"))
        }
    };
    match &event.change {
        Change::SubReady { operation, .. } => {
            expect(&[Sub::Pending, Sub::Successful, Sub::Failed])?;
            row.operation = *operation;
            row.crash_count = 0;
            ready(row, None);
        }
        Change::SubRetry {
            operation,
            run_time,
            undo_tries,
            not_before,
            ..
        } => {
            expect(&[Sub::Failed])?;
            row.operation = *operation;
            row.run_time = *run_time;
            row.undo_tries = *undo_tries;
            row.crash_count = 0;
            ready(row, *not_before);
        }
        Change::SubOrphaned { epoch, .. } => {
            expect(&[Sub::Running])?;
            raise_epoch(row, *epoch)?;
            row.crash_count += 1;
            give_back(row);
        }
        Change::SubReleased { epoch, .. } => {
            expect(&[Sub::Running])?;
            raise_epoch(row, *epoch)?;
            // Tells a retry that began from one that never did.
            if row.operation != Op::Rollback {
                row.failure = None;
            }
            give_back(row);
        }
        Change::SubClaimed {
            epoch,
            owner,
            executor,
            deadline_at,
            ..
        } => {
            expect(&[Sub::Ready])?;
            raise_epoch(row, *epoch)?;
            row.status = Sub::Running;
            row.executor = Some(executor.clone());
            row.owner = Some(owner.clone());
            row.deadline_at = *deadline_at;
            row.not_before = None;
            row.ready_from = None;
            row.start_time = row.start_time.or(Some(event.at));
        }
        Change::SubCheckpoint { key, value, .. } => {
            expect(&[Sub::Running])?;
            row.checkpoint.insert(key.clone(), value.clone());
        }
        // Only tells.
        Change::SubUnknown { .. } => expect(&[Sub::Ready])?,
        Change::SubCanceling { deadline_at, .. } => {
            expect(&[Sub::Running])?;
            if row.operation != Op::Rollback {
                row.operation = Op::Cancel;
            }
            row.status = Sub::Canceling;
            row.deadline_at = Some(*deadline_at);
        }
        Change::SubSucceeded { delta, .. } => {
            expect(&[Sub::Running])?;
            row.delta.merge(delta);
            end(row, Sub::Successful, event.at);
        }
        Change::SubUndone { delta, .. } => {
            expect(&[Sub::Running])?;
            row.delta.merge(delta);
            let reason = row.failure.take().filter(|_| keeps_reason && row.undo_tries == 0);
            end(row, Sub::Pending, event.at);
            row.failure = reason;
        }
        Change::SubFailed {
            epoch, failure, delta, ..
        } => {
            expect(&[Sub::Running, Sub::Canceling])?;
            if *epoch != row.epoch {
                raise_epoch(row, *epoch)?;
            }
            row.delta.merge(delta);
            end(row, Sub::Failed, event.at);
            row.failure = Some(failure.clone());
        }
        Change::SubSkipped { .. } => {
            expect(&[Sub::Failed])?;
            let undo = row.operation == Op::Rollback;
            row.operation = if undo { Op::RollbackSkip } else { Op::Skip };
            end(row, if undo { Sub::Pending } else { Sub::Successful }, event.at);
        }
        Change::SubParked { to, run_time, .. } => {
            expect(&[Sub::Ready])?;
            if *to == Sub::Failed && row.failure.is_none() {
                row.failure = Some(interrupted(row.crash_count > 0));
            }
            row.status = *to;
            row.run_time = *run_time;
            row.not_before = None;
            row.ready_from = None;
            row.end_time = if *to == Sub::Pending { None } else { Some(event.at) };
        }
        other => return Err(format!("{} does not move a subtask", other.kind())),
    }
    Ok(())
}

/// The failure of an attempt that its server's end ended, which died or was stopped.
pub(super) fn interrupted(died: bool) -> crate::state::Failure {
    let how = if died { "died" } else { "was stopped" };
    crate::state::Failure {
        cause: Cause::Interrupted,
        message: format!("the server {how} while the step was under way"),
    }
}

/// RUNNING → READY.
fn give_back(row: &mut Subtask) {
    row.status = Sub::Ready;
    // It may have left half its work behind: parked it counts as FAILED, so that the undo looks after it.
    row.ready_from = Some(Sub::Failed);
    release(row);
}

fn ready(row: &mut Subtask, not_before: Option<i64>) {
    row.ready_from = Some(row.status);
    row.status = Sub::Ready;
    row.not_before = not_before;
    row.end_time = None;
}

fn raise_epoch(row: &mut Subtask, epoch: i64) -> Result<(), String> {
    if epoch <= row.epoch {
        return Err(format!("epoch {epoch} does not exceed {}", row.epoch));
    }
    row.epoch = epoch;
    Ok(())
}

fn release(row: &mut Subtask) {
    row.owner = None;
    row.deadline_at = None;
}

fn end(row: &mut Subtask, status: Sub, at: i64) {
    release(row);
    row.status = status;
    row.crash_count = 0;
    row.end_time = Some(at);
    row.failure = None;
}
