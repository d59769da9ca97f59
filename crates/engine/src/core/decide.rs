//! Which commands a task admits and what they begin; what follows by itself is [`super::settle`]'s.

use std::collections::BTreeSet;

use super::apply::{Broken, interrupted};
use super::command::{Command, Env, Reject};
use super::event::{Change, Event};
use super::halt::{abandon, cancel_task, pause, unpause};
use super::ledger::Ledger;
use super::settle::{claim, complete, park_ready, pass_barrier, settle, turn_back};
use crate::action::OnCrash;
use crate::context::{CONTEXT_LIMIT, ContextDelta, total_size};
use crate::state::{
    Cause, Failure, MAX_BACKOFF_MS, Outcome, Owner, SubtaskId, SubtaskOperation as Op, SubtaskStatus as Sub,
    TaskOperation, TaskState, TaskStatus,
};

/// Crashes in a row after which an attempt is failed rather than repeated.
pub const MAX_CRASHES: u32 = 3;

/// What follows from a command: to be committed as a whole or not at all.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The state after the events.
    pub state: TaskState,
    /// What happens, in order. Never empty.
    pub events: Vec<Event>,
}

impl Decision {
    /// Whether the changes count that came with the command. Those of an attempt that was done with its step, and ends as
    /// failed because it was cancelled meanwhile, or because its results are too large, do not: a step that failed is undone
    /// or tried again, and either expects of the database what it had before.
    pub fn takes_changes(&self) -> bool {
        !self
            .events
            .iter()
            .any(|event| matches!(event.change, Change::SubFailed { .. }))
    }
}

/// Decides a command on a task.
pub fn decide(state: &TaskState, command: Command, env: &Env) -> Result<Decision, Reject> {
    let mut ledger = Ledger::new(state.clone(), env);
    match command {
        Command::Claim { subtask } => begin(&mut ledger, subtask)?,
        Command::Finish { subtask, epoch, delta } => finish(&mut ledger, subtask, epoch, delta)?,
        Command::Fail {
            subtask,
            epoch,
            failure,
            delta,
        } => {
            let index = held(&ledger, subtask, epoch)?;
            let epoch = ledger.subtask(index).epoch;
            fail(&mut ledger, index, epoch, failure, delta)?;
        }
        Command::Expire { subtask, epoch } => expire(&mut ledger, subtask, epoch)?,
        Command::Checkpoint {
            subtask,
            epoch,
            key,
            value,
        } => checkpoint(&mut ledger, subtask, epoch, key, value)?,
        Command::Disclaim { subtasks } => disclaim(&mut ledger, &subtasks)?,
        Command::Orphan { dead } => orphan(&mut ledger, &dead)?,
        Command::Release => release(&mut ledger)?,
        Command::Cancel { subtask, actor } => cancel(&mut ledger, subtask, actor)?,
        Command::RetryTask { actor } => retry_task(&mut ledger, actor)?,
        Command::RetrySubtask { subtask, actor } => retry_subtask(&mut ledger, subtask, actor)?,
        Command::Skip { subtask, actor } => skip(&mut ledger, subtask, actor)?,
        Command::Rollback { actor } => roll_back(&mut ledger, actor)?,
        Command::Pause { actor } => pause(&mut ledger, actor)?,
        Command::Unpause { actor } => unpause(&mut ledger, actor)?,
        Command::CancelTask { actor } => cancel_task(&mut ledger, actor)?,
        Command::Abandon { actor, reason } => abandon(&mut ledger, actor, reason)?,
    }
    settle(&mut ledger)?;
    Ok(Decision {
        state: ledger.state,
        events: ledger.events,
    })
}

fn find(ledger: &Ledger<'_>, subtask: SubtaskId) -> Result<usize, Reject> {
    ledger.state.index_of(subtask).ok_or(Reject::NoSuchSubtask(subtask))
}

/// The subtask whose attempt holds `epoch`; the fence of every write of an attempt.
fn held(ledger: &Ledger<'_>, subtask: SubtaskId, epoch: i64) -> Result<usize, Reject> {
    let index = find(ledger, subtask)?;
    let row = ledger.subtask(index);
    let under_way = matches!(row.status, Sub::Running | Sub::Canceling);
    if under_way && row.epoch == epoch {
        Ok(index)
    } else {
        Err(Reject::Fenced)
    }
}

pub(super) fn task_state(ledger: &Ledger<'_>) -> Reject {
    Reject::TaskState {
        status: ledger.state.task.status,
        operation: ledger.state.task.operation,
    }
}

fn begin(ledger: &mut Ledger<'_>, subtask: SubtaskId) -> Result<(), Reject> {
    let index = find(ledger, subtask)?;
    if ledger.state.task.status != TaskStatus::Running {
        return Err(task_state(ledger));
    }
    if let Some(halt) = ledger.state.task.halt {
        return Err(Reject::Halted(halt));
    }
    let row = ledger.subtask(index);
    if row.status != Sub::Ready {
        return Err(Reject::SubtaskState { status: row.status });
    }
    if row.waits_until(ledger.env.steady_ms).is_some() {
        return Err(Reject::NotDue);
    }
    if !ledger.env.classes.know(&row.spec) {
        return Err(Reject::UnknownClass(row.spec.class_name.clone()));
    }
    if row.spec.barrier {
        pass_barrier(ledger, index)?;
    } else {
        claim(ledger, index)?;
    }
    Ok(())
}

fn finish(ledger: &mut Ledger<'_>, subtask: SubtaskId, epoch: i64, delta: ContextDelta) -> Result<(), Reject> {
    let index = held(ledger, subtask, epoch)?;
    if ledger.subtask(index).status == Sub::Canceling {
        let message = "cancelled by an operator; the step ended before it noticed".to_owned();
        return fail(
            ledger,
            index,
            epoch,
            Failure {
                cause: Cause::Cancelled,
                message,
            },
            delta,
        );
    }
    if total_size(&ledger.state) + delta.size() > CONTEXT_LIMIT {
        let message = format!("the step's results would take the context over its limit of {CONTEXT_LIMIT} bytes");
        return fail(
            ledger,
            index,
            epoch,
            Failure {
                cause: Cause::Context,
                message,
            },
            ContextDelta::new(),
        );
    }
    Ok(complete(ledger, index, delta)?)
}

/// RUNNING or CANCELING → FAILED, and from there to READY again if an automatic retry is left. `epoch` exceeds the row's
/// when the end is forced on the attempt.
fn fail(
    ledger: &mut Ledger<'_>,
    index: usize,
    epoch: i64,
    mut failure: Failure,
    mut delta: ContextDelta,
) -> Result<(), Reject> {
    let row = ledger.subtask(index);
    if row.status == Sub::Canceling {
        failure.cause = Cause::Cancelled;
    }
    if total_size(&ledger.state) + delta.size() > CONTEXT_LIMIT {
        delta = ContextDelta::new();
    }
    let already_failing = ledger.state.is_failing();
    let transient = failure.cause.is_transient();
    let subtask = row.id;
    ledger.emit(Change::SubFailed {
        subtask,
        epoch,
        failure,
        delta,
    })?;
    match automatic_retry(ledger, index) {
        Some(retry) if transient && !already_failing => ledger.emit(retry)?,
        _ => park_ready(ledger)?,
    }
    Ok(())
}

fn automatic_retry(ledger: &Ledger<'_>, index: usize) -> Option<Change> {
    let row = ledger.subtask(index);
    let undo = row.operation == Op::Rollback;
    let tried = if undo { row.undo_tries } else { row.run_time - 1 };
    let allowed = if undo { row.spec.undo_retries } else { row.spec.retries };
    let repeatable = undo || matches!(row.operation, Op::Execute | Op::Retry);
    (repeatable && tried < allowed).then(|| Change::SubRetry {
        subtask: row.id,
        operation: if undo { Op::Rollback } else { Op::Retry },
        run_time: row.run_time + u32::from(!undo),
        undo_tries: row.undo_tries + u32::from(undo),
        not_before: Some(ledger.env.steady_ms + backoff_ms(row.spec.backoff_ms, tried)),
    })
}

/// Doubles with each try, up to [`MAX_BACKOFF_MS`].
fn backoff_ms(first: u64, tried: u32) -> i64 {
    let doubled = first.saturating_mul(1_u64.checked_shl(tried).unwrap_or(u64::MAX));
    i64::try_from(doubled).map_or(MAX_BACKOFF_MS, |wait| wait.min(MAX_BACKOFF_MS))
}

fn expire(ledger: &mut Ledger<'_>, subtask: SubtaskId, epoch: i64) -> Result<(), Reject> {
    let index = held(ledger, subtask, epoch)?;
    let row = ledger.subtask(index);
    let failure = match row.status {
        Sub::Canceling => {
            let message = "cancelled by an operator; the step did not stop in time and was given up".to_owned();
            Failure {
                cause: Cause::Cancelled,
                message,
            }
        }
        _ => {
            let message = format!("the step did not end within its {} s", row.spec.timeout_s);
            Failure {
                cause: Cause::Timeout,
                message,
            }
        }
    };
    fail(ledger, index, epoch + 1, failure, ContextDelta::new())
}

fn checkpoint(
    ledger: &mut Ledger<'_>,
    subtask: SubtaskId,
    epoch: i64,
    key: String,
    value: String,
) -> Result<(), Reject> {
    let index = held(ledger, subtask, epoch)?;
    if ledger.subtask(index).status != Sub::Running {
        return Err(Reject::Fenced);
    }
    if total_size(&ledger.state) + key.len() + value.len() > CONTEXT_LIMIT {
        return Err(Reject::TooLarge);
    }
    Ok(ledger.emit(Change::SubCheckpoint { subtask, key, value })?)
}

fn disclaim(ledger: &mut Ledger<'_>, subtasks: &BTreeSet<SubtaskId>) -> Result<(), Reject> {
    for index in 0..ledger.state.subtasks.len() {
        let row = ledger.subtask(index);
        let strange = row.status == Sub::Ready && !ledger.env.classes.know(&row.spec);
        if strange && subtasks.contains(&row.id) {
            let (subtask, epoch, class_name) = (row.id, row.epoch, row.spec.class_name.clone());
            ledger.emit(Change::SubUnknown {
                subtask,
                epoch,
                class_name,
            })?;
        }
    }
    if ledger.events.is_empty() {
        Err(task_state(ledger))
    } else {
        Ok(())
    }
}

/// What dead processes held.
fn orphan(ledger: &mut Ledger<'_>, dead: &BTreeSet<String>) -> Result<(), Reject> {
    end_of_owner(ledger, |owner| dead.contains(&owner.incarnation), true)
}

/// What the deciding server holds. That it does not run it any more is no fault of the steps, so it is not counted, however
/// often it happens.
fn release(ledger: &mut Ledger<'_>) -> Result<(), Reject> {
    let env = ledger.env;
    end_of_owner(ledger, |owner| owner.server == env.owner.server, false)
}

/// Every attempt of these owners is to be repeated, or ends; `died` tells how they ended themselves.
fn end_of_owner(ledger: &mut Ledger<'_>, ended: impl Fn(&Owner) -> bool, died: bool) -> Result<(), Reject> {
    for index in 0..ledger.state.subtasks.len() {
        let row = ledger.subtask(index);
        if !row.owner.as_ref().is_some_and(&ended) {
            continue;
        }
        let (subtask, epoch) = (row.id, row.epoch + 1);
        let resumes = row.spec.on_crash == OnCrash::Resume && (!died || row.crash_count < MAX_CRASHES);
        if row.status == Sub::Running && resumes {
            ledger.emit(match died {
                true => Change::SubOrphaned { subtask, epoch },
                false => Change::SubReleased { subtask, epoch },
            })?;
        } else {
            fail(ledger, index, epoch, interrupted(died), ContextDelta::new())?;
        }
    }
    // What one failure parked must also hold for attempts given back after it.
    if ledger.state.is_failing()
        && ledger
            .events
            .iter()
            .any(|event| matches!(event.change, Change::SubFailed { .. }))
    {
        park_ready(ledger)?;
    }
    if ledger.events.is_empty() {
        Err(task_state(ledger))
    } else {
        Ok(())
    }
}

fn cancel(ledger: &mut Ledger<'_>, subtask: SubtaskId, actor: String) -> Result<(), Reject> {
    let index = find(ledger, subtask)?;
    let status = ledger.subtask(index).status;
    if status != Sub::Running {
        return Err(Reject::SubtaskState { status });
    }
    Ok(ask_to_stop(ledger, index, actor)?)
}

/// RUNNING → CANCELING.
pub(super) fn ask_to_stop(ledger: &mut Ledger<'_>, index: usize, actor: String) -> Result<(), Broken> {
    let subtask = ledger.subtask(index).id;
    let deadline_at = ledger.env.wall_ms + ledger.env.cancel_grace_ms;
    ledger.emit(Change::SubCanceling {
        subtask,
        deadline_at,
        actor: Some(actor),
    })
}

fn retry_task(ledger: &mut Ledger<'_>, actor: String) -> Result<(), Reject> {
    admits_retry(ledger)?;
    ledger.emit(Change::TaskRetry { actor: Some(actor) })?;
    for index in 0..ledger.state.subtasks.len() {
        if ledger.subtask(index).status == Sub::Failed {
            retry_by_operator(ledger, index)?;
        }
    }
    Ok(())
}

fn retry_subtask(ledger: &mut Ledger<'_>, subtask: SubtaskId, actor: String) -> Result<(), Reject> {
    let index = find(ledger, subtask)?;
    let status = ledger.subtask(index).status;
    if status != Sub::Failed {
        return Err(Reject::SubtaskState { status });
    }
    admits_retry(ledger)?;
    ledger.emit(Change::TaskResumed { actor: Some(actor) })?;
    Ok(retry_by_operator(ledger, index)?)
}

fn admits_retry(ledger: &Ledger<'_>) -> Result<(), Reject> {
    refuse_if_over(ledger)?;
    let task = &ledger.state.task;
    let admits = task.status == TaskStatus::Failed && task.operation != TaskOperation::Rollback;
    if admits { Ok(()) } else { Err(task_state(ledger)) }
}

/// Its locks may be another task's by now.
pub(super) fn refuse_if_over(ledger: &Ledger<'_>) -> Result<(), Reject> {
    match ledger.state.task.outcome {
        Some(Outcome::Abandoned) => Err(Reject::Abandoned),
        Some(Outcome::RolledBack) => Err(Reject::RolledBack),
        _ => Ok(()),
    }
}

fn retry_by_operator(ledger: &mut Ledger<'_>, index: usize) -> Result<(), Broken> {
    let row = ledger.subtask(index);
    ledger.emit(Change::SubRetry {
        subtask: row.id,
        operation: Op::Retry,
        run_time: row.run_time + 1,
        undo_tries: row.undo_tries,
        not_before: None,
    })
}

/// The task goes on only when nothing else stands FAILED.
fn skip(ledger: &mut Ledger<'_>, subtask: SubtaskId, actor: String) -> Result<(), Reject> {
    let index = find(ledger, subtask)?;
    let status = ledger.subtask(index).status;
    if status != Sub::Failed {
        return Err(Reject::SubtaskState { status });
    }
    refuse_if_over(ledger)?;
    let actor = Some(actor);
    ledger.emit(Change::SubSkipped {
        subtask,
        actor: actor.clone(),
    })?;
    if ledger.state.task.status == TaskStatus::Failed && !ledger.state.is_failing() {
        ledger.emit(Change::TaskResumed { actor })?;
    }
    Ok(())
}

fn roll_back(ledger: &mut Ledger<'_>, actor: String) -> Result<(), Reject> {
    if ledger.state.task.status != TaskStatus::Failed {
        return Err(task_state(ledger));
    }
    refuse_if_over(ledger)?;
    if ledger.state.prohibits_rollback() {
        return Err(Reject::RollbackProhibited);
    }
    Ok(turn_back(ledger, Some(actor))?)
}
