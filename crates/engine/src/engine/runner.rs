//! One attempt from its claim to its end.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::lease::Tenure;
use super::logs::AttemptLog;
use super::shared::{Moved, Shared};
use crate::action::{Action, ActionError, Output, RetryMode};
use crate::attempt::{Attempt, AttemptFacts, AttemptKey, AttemptSink, CheckpointError};
use crate::context::{ContextDelta, MergeConflict, input_of};
use crate::core::Command;
use crate::error::EngineError;
use crate::state::{Cause, Failure, Subtask, SubtaskId, SubtaskOperation, TaskId, TaskState};
use crate::store::StoreError;

/// First and longest wait between tries to record what an attempt has to say while the database is away.
const RECORD_RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// An attempt under way in this process.
pub(super) struct Running<C> {
    epoch: i64,
    stop: CancellationToken,
    /// Fires when nothing of the attempt runs any more.
    ended: CancellationToken,
    work: Option<(Arc<dyn Action<C>>, Attempt)>,
}

type Ended<C> = Result<Output<C>, (Failure, ContextDelta)>;

impl<C: Send + Sync + 'static> Shared<C> {
    /// Runs the attempt that a commit has just claimed.
    pub fn start_attempt(self: &Arc<Self>, state: &TaskState, index: usize, slot: Option<OwnedSemaphorePermit>) {
        let row = Arc::clone(&state.subtasks[index]);
        let log = Arc::new(self.logs.attempt(state.task.id, &row, row.epoch));
        let timeout = u64::from(row.spec.timeout_s);
        let deadline = (timeout > 0).then(|| Instant::now() + Duration::from_secs(timeout));
        let tenure = self.lease.tenure();
        let stop = tenure.stop.child_token();
        let ended = CancellationToken::new();
        let action = self.registry.find(&row.spec.class_name);
        let made = self.make_attempt(state, index, &tenure, &stop, &log);
        let work = match (&made, &action) {
            (Ok(attempt), Some(action)) => Some((Arc::clone(action), attempt.clone())),
            _ => None,
        };
        let running = Running {
            epoch: row.epoch,
            stop: stop.clone(),
            ended: ended.clone(),
            work,
        };
        let previous = self.running().insert(row.id, running);
        let life = Life {
            shared: Arc::clone(self),
            task: state.task.id,
            row,
            log,
            stop,
            tenure,
            deadline,
        };
        self.tracker.spawn(async move {
            // A predecessor that was given up may still be on its way out: it ends before its successor begins.
            if let Some(previous) = previous {
                previous.stop.cancel();
                previous.ended.cancelled().await;
            }
            life.log.header();
            let result = life.perform(made, action).await;
            ended.cancel();
            life.forget();
            life.record(result, slot).await;
        });
    }

    fn make_attempt(
        self: &Arc<Self>,
        state: &TaskState,
        index: usize,
        tenure: &Arc<Tenure>,
        stop: &CancellationToken,
        log: &Arc<AttemptLog>,
    ) -> Result<Attempt, MergeConflict> {
        let row = &state.subtasks[index];
        let key = AttemptKey {
            task: state.task.id,
            subtask: row.id,
            operation: row.operation,
            run_time: row.run_time,
        };
        let facts = AttemptFacts {
            key,
            epoch: row.epoch,
            context: input_of(state, index)?,
            parallel_idx: row.spec.parallel_idx,
            items: row.spec.items.clone(),
            checkpoint: row.checkpoint.clone(),
        };
        let sink = Sink {
            shared: Arc::clone(self),
            tenure: Arc::clone(tenure),
            stop: stop.clone(),
            key,
            epoch: row.epoch,
            log: Arc::clone(log),
        };
        Ok(Attempt::new(facts, stop.clone(), Arc::new(sink)))
    }

    /// Asks an attempt to stop because an operator wants it; once is enough.
    pub fn cancel_attempt(self: &Arc<Self>, subtask: SubtaskId, epoch: i64) {
        let running = self.running();
        let attempt = running.get(&subtask).filter(|attempt| attempt.epoch == epoch);
        let Some(attempt) = attempt.filter(|attempt| !attempt.stop.is_cancelled()) else {
            return;
        };
        attempt.stop.cancel();
        let Some((action, attempt)) = attempt.work.clone() else {
            return;
        };
        let grace = self.options.grace;
        self.tracker.spawn(async move {
            match tokio::time::timeout(grace, action.cancel(&attempt)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => attempt.log(format!("cancelling failed: {error}")),
                Err(_) => attempt.log("cancelling did not end in time"),
            }
        });
    }

    /// Stops an attempt that lost its epoch to `epoch` or holds an older one.
    pub fn stop_below(&self, subtask: SubtaskId, epoch: i64) {
        if let Some(attempt) = self.running().get(&subtask).filter(|attempt| attempt.epoch < epoch) {
            attempt.stop.cancel();
        }
    }
}

/// What an attempt's own task holds on to.
struct Life<C> {
    shared: Arc<Shared<C>>,
    task: TaskId,
    row: Arc<Subtask>,
    log: Arc<AttemptLog>,
    stop: CancellationToken,
    /// The lease it was claimed under: it writes under no other.
    tenure: Arc<Tenure>,
    deadline: Option<Instant>,
}

impl<C: Send + Sync + 'static> Life<C> {
    /// Does the work, within the deadline, stopped within the grace.
    async fn perform(&self, made: Result<Attempt, MergeConflict>, action: Option<Arc<dyn Action<C>>>) -> Ended<C> {
        let class_name = &self.row.spec.class_name;
        let undo = self.row.operation == SubtaskOperation::Rollback;
        let attempt = match made {
            Ok(attempt) => attempt,
            // Its run could not begin for the same reason, so there is nothing to undo.
            Err(_) if undo => return Ok(Output::nothing()),
            Err(conflict) => return failed(Cause::Context, conflict.to_string()),
        };
        let Some(action) = action else {
            // What this server does not know, it does not claim.
            return failed(
                Cause::UnknownClass,
                format!("no action is registered for class {class_name}"),
            );
        };
        let retry_mode = self.row.spec.retry_mode;
        let work = tokio::spawn(async move { run(&*action, &attempt, retry_mode).await });
        match self.supervise(work).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(error)) => Err((
                Failure {
                    cause: Cause::Error,
                    message: error.message,
                },
                error.delta,
            )),
            Err(error) if error.is_panic() => failed(Cause::Panic, panic_message(error)),
            Err(_) => failed(
                Cause::Cancelled,
                "the step was told to stop and did not in time".to_owned(),
            ),
        }
    }

    /// Waits for the work to end; gives it up at its deadline, and ends it by force when it outstays its grace.
    async fn supervise<T>(&self, mut work: JoinHandle<T>) -> Result<T, JoinError> {
        let timed_out = async {
            match self.deadline {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            result = &mut work => return result,
            () = self.stop.cancelled() => {}
            () = timed_out => {
                self.give_up().await;
                self.stop.cancel();
            }
        }
        tokio::select! {
            result = &mut work => return result,
            () = sleep(self.shared.options.grace) => {}
        }
        if !self.tenure.stop.is_cancelled() {
            self.give_up().await;
        }
        work.abort();
        work.await
    }

    /// Raises the epoch above the attempt's: from here on it can write nothing.
    async fn give_up(&self) {
        let command = Command::Expire {
            subtask: self.row.id,
            epoch: self.row.epoch,
        };
        self.insist(command, &[], &mut None).await;
    }

    fn forget(&self) {
        let mut running = self.shared.running();
        if running
            .get(&self.row.id)
            .is_some_and(|known| known.epoch == self.row.epoch)
        {
            running.remove(&self.row.id);
        }
    }

    /// Makes the attempt's end durable; the slot it held goes to what follows from it.
    async fn record(&self, ended: Ended<C>, slot: Option<OwnedSemaphorePermit>) {
        let mut slot = slot;
        let (subtask, epoch) = (self.row.id, self.row.epoch);
        match &ended {
            Ok(_) => self.log.line("done"),
            Err((failure, _)) => {
                self.log.line(&format!("{}: {}", failure.cause, failure.message));
                // Whoever sees the failure looks into the log next, and may ask another server.
                self.shared.logs.flush().await;
            }
        }
        let refused = match ended {
            Ok(output) => {
                let command = Command::Finish {
                    subtask,
                    epoch,
                    delta: output.delta,
                };
                self.insist(command, &output.changes, &mut slot).await
            }
            // Stopping with the engine or its lease is no failure of the step: the next start or another server takes it
            // up again.
            Err(_) if self.tenure.stop.is_cancelled() => None,
            Err((failure, delta)) => {
                self.insist(
                    Command::Fail {
                        subtask,
                        epoch,
                        failure,
                        delta,
                    },
                    &[],
                    &mut slot,
                )
                .await
            }
        };
        if let Some(reason) = refused {
            let message = format!("the step's result could not be recorded: {reason}");
            self.log.line(&message);
            let failure = Failure {
                cause: Cause::Unrecorded,
                message,
            };
            self.insist(
                Command::Fail {
                    subtask,
                    epoch,
                    failure,
                    delta: ContextDelta::new(),
                },
                &[],
                &mut slot,
            )
            .await;
        }
    }

    /// Commits a command of this attempt, again and again while the database is away. Returns the reason if the
    /// attempt's changes were refused; losing the epoch meanwhile is nobody's error.
    async fn insist(&self, command: Command, changes: &[C], slot: &mut Option<OwnedSemaphorePermit>) -> Option<String> {
        let (mut wait, longest) = RECORD_RETRY;
        loop {
            let subtask = Some(self.row.id);
            let choose = |_: &TaskState, _| self.tenure.is_trusted(Instant::now()).then(|| command.clone());
            match self
                .shared
                .advance_by(self.task, subtask, choose, changes, slot.take())
                .await
            {
                Ok(_) => return None,
                Err(EngineError::ChangeRefused(reason)) => return Some(reason),
                Err(EngineError::Store(StoreError::Unavailable(error))) => {
                    tracing::warn!(task = %self.task, subtask = %self.row.id, error, "the state database is away");
                }
                Err(error) => {
                    tracing::debug!(task = %self.task, subtask = %self.row.id, %error, "the attempt's word came too late");
                    return None;
                }
            }
            tokio::select! {
                () = self.tenure.stop.cancelled() => return None,
                () = sleep(wait) => wait = (wait * 2).min(longest),
            }
        }
    }
}

async fn run<C: 'static>(
    action: &dyn Action<C>,
    attempt: &Attempt,
    retry_mode: RetryMode,
) -> Result<Output<C>, ActionError> {
    match attempt.key().operation {
        SubtaskOperation::Rollback => action.undo(attempt).await,
        SubtaskOperation::Retry if retry_mode == RetryMode::UndoThenRun => {
            let undone = action.undo(attempt).await?;
            let done = action.run(attempt).await?;
            Ok(joined(undone, done))
        }
        _ => action.run(attempt).await,
    }
}

/// One output of an undo and the run after it.
fn joined<C>(undone: Output<C>, done: Output<C>) -> Output<C> {
    let Output { mut delta, mut changes } = undone;
    delta.merge(&done.delta);
    changes.extend(done.changes);
    Output { delta, changes }
}

fn failed<C>(cause: Cause, message: String) -> Ended<C> {
    Err((Failure { cause, message }, ContextDelta::new()))
}

fn panic_message(error: JoinError) -> String {
    let payload = match error.try_into_panic() {
        Ok(payload) => payload,
        Err(error) => return error.to_string(),
    };
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    format!("the step panicked: {}", text.as_deref().unwrap_or("no message"))
}

/// An attempt's writes.
struct Sink<C> {
    shared: Arc<Shared<C>>,
    tenure: Arc<Tenure>,
    stop: CancellationToken,
    key: AttemptKey,
    epoch: i64,
    log: Arc<AttemptLog>,
}

#[async_trait]
impl<C: Send + Sync + 'static> AttemptSink for Sink<C> {
    async fn checkpoint(&self, key: String, value: String) -> Result<(), CheckpointError> {
        let AttemptKey { task, subtask, .. } = self.key;
        let command = Command::Checkpoint {
            subtask,
            epoch: self.epoch,
            key: key.clone(),
            value,
        };
        let (mut wait, longest) = RECORD_RETRY;
        loop {
            let choose = |_: &TaskState, _| self.tenure.is_trusted(Instant::now()).then(|| command.clone());
            let away = match self.shared.advance_by(task, Some(subtask), choose, &[], None).await {
                Ok(Moved::To(_)) => return Ok(()),
                Ok(Moved::Not(_)) | Err(EngineError::Fenced | EngineError::Store(StoreError::LeaseLost)) => {
                    return Err(CheckpointError::Fenced);
                }
                Err(EngineError::ContextFull) => return Err(CheckpointError::TooLarge { key }),
                Err(EngineError::Store(away @ StoreError::Unavailable(_))) => away,
                Err(EngineError::Store(error)) => return Err(CheckpointError::Store(error)),
                Err(error) => return Err(CheckpointError::Store(StoreError::Corrupt(error.to_string()))),
            };
            tracing::warn!(%task, %subtask, error = &away as &dyn std::error::Error, "the state database is away");
            tokio::select! {
                () = self.stop.cancelled() => return Err(CheckpointError::Store(away)),
                () = sleep(wait) => wait = (wait * 2).min(longest),
            }
        }
    }

    fn log(&self, text: &str) {
        self.log.line(text);
    }
}
