//! Runs operations: each key once, one per subtask and per thing at a time, behind the fence.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use obfleet_wire::{
    agent::{AgentError, AttemptKey, Fence, Operation, OperationReport, OperationRequest, OperationState, Outcome},
    time::Timestamp,
};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    durable::{self, FileError},
    journal::{Ended, Journal, Stale, Subtask},
    locks::Locks,
};

/// How long a fence waits for what it fenced off; the caller asks again after that.
const FENCE_WAIT: Duration = Duration::from_secs(60);

/// Does the work of an operation.
#[async_trait]
pub trait Perform: Send + Sync + 'static {
    /// Looks first, does what is left. The error is a sentence with object, reason and next step.
    async fn perform(&self, operation: Operation, job: &Job) -> Result<Outcome, String>;
}

/// An operation at work, as it sees itself.
pub struct Job {
    key: AttemptKey,
    lines_file: PathBuf,
    progress: watch::Sender<Progress>,
    superseded: CancellationToken,
}

struct Progress {
    /// The highest epoch that asked for it.
    epoch: i64,
    lines: Vec<String>,
    state: State,
}

#[derive(Clone)]
enum State {
    Running,
    Ended(Ended),
    /// The end could not be made durable, so it is not told; asking again does it again.
    Lost(String),
}

impl Job {
    /// Its name.
    pub fn key(&self) -> &AttemptKey {
        &self.key
    }

    /// Tells the reader of the task's log something. Line ends become spaces.
    pub fn say(&self, line: impl Into<String>) {
        let line = line.into().replace(['\n', '\r'], " ");
        tracing::info!(key = %self.key, "{line}");
        let written = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.lines_file)
            .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        if let Err(e) = written {
            tracing::warn!(key = %self.key, error = %e, "cannot keep a line of an operation's log");
        }
        self.progress.send_modify(|p| p.lines.push(line));
    }

    /// Whether an earlier performance of the same attempt said this already.
    pub fn has_said(&self, line: &str) -> bool {
        self.progress.borrow().lines.iter().any(|said| said == line)
    }

    /// Completes when a higher epoch took over: what only waits should stop waiting.
    pub async fn superseded(&self) {
        self.superseded.cancelled().await;
    }

    /// Whether a higher epoch took over.
    pub fn is_superseded(&self) -> bool {
        self.superseded.is_cancelled()
    }

    /// The same attempt asks under a new epoch: its server was replaced, the work goes on.
    fn goes_on_under(&self, epoch: i64) {
        self.progress.send_modify(|p| p.epoch = p.epoch.max(epoch));
    }

    fn report(&self, from: u64) -> Result<OperationReport, AgentError> {
        let progress = self.progress.borrow();
        let state = match &progress.state {
            State::Running => OperationState::Running,
            State::Ended(ended) => ended.clone().into(),
            State::Lost(reason) => return Err(AgentError::Internal { reason: reason.clone() }),
        };
        Ok(cut(&progress.lines, from, state))
    }
}

/// The report from line `from` on.
fn cut(lines: &[String], from: u64, state: OperationState) -> OperationReport {
    let skip = usize::try_from(from).unwrap_or(usize::MAX).min(lines.len());
    OperationReport {
        lines: lines[skip..].to_vec(),
        next: lines.len() as u64,
        state,
    }
}

/// Admits, runs and reports operations.
pub struct Runner {
    board: Mutex<Board>,
    subtasks: Locks<Subtask>,
    work: Arc<dyn Perform>,
}

struct Board {
    journal: Journal,
    running: HashMap<AttemptKey, Arc<Job>>,
}

impl Board {
    fn admit(&mut self, subtask: &Subtask, epoch: i64) -> Result<(), AgentError> {
        self.journal.admit(subtask, epoch).map_err(|stale| match stale {
            Stale::Epoch { epoch, highest } => AgentError::Fenced { epoch, highest },
            Stale::Era { .. } => AgentError::Invalid {
                reason: stale.to_string(),
            },
        })?;
        self.journal.raise(subtask, epoch, Timestamp::now()).map_err(internal)?;
        for job in self.running.values().filter(|job| Subtask::from(&job.key) == *subtask) {
            if job.progress.borrow().epoch < epoch {
                job.superseded.cancel();
            }
        }
        Ok(())
    }
}

fn internal(error: FileError) -> AgentError {
    AgentError::Internal {
        reason: crate::describe(&error),
    }
}

impl Runner {
    /// A runner that remembers in `journal` and has `work` do the operations.
    pub fn new(journal: Journal, work: Arc<dyn Perform>) -> Arc<Self> {
        Arc::new(Self {
            board: Mutex::new(Board {
                journal,
                running: HashMap::new(),
            }),
            subtasks: Locks::default(),
            work,
        })
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the operation, attaches to it, or finds its stored result.
    ///
    /// # Errors
    /// When the request is fenced off, or cannot be made durable.
    pub fn start(self: &Arc<Self>, request: OperationRequest) -> Result<OperationReport, AgentError> {
        let OperationRequest { key, epoch, operation } = request;
        let mut board = self.board();
        // Another server makes the attempt again from its beginning: what the attempt was at meanwhile goes on.
        for job in board.running.values().filter(|job| job.key.is_of_attempt_of(&key)) {
            job.goes_on_under(epoch);
        }
        board.admit(&Subtask::from(&key), epoch)?;
        if let Some(job) = board.running.get(&key) {
            return job.report(0);
        }
        let lines_file = board.journal.lines_file(&key);
        let mut lines = read_lines(&lines_file);
        if let Some(ended) = board.journal.answer_to(&key, epoch) {
            return Ok(cut(&lines, 0, ended.clone().into()));
        }
        if board.journal.ended(&key).is_some() {
            // It failed and is tried again: what was said then is not said of now.
            durable::remove(&lines_file).map_err(internal)?;
            lines.clear();
        }
        board
            .journal
            .begin(&key, operation.name(), Timestamp::now())
            .map_err(internal)?;
        let job = Arc::new(Job {
            key: key.clone(),
            lines_file,
            progress: watch::Sender::new(Progress {
                epoch,
                lines,
                state: State::Running,
            }),
            superseded: CancellationToken::new(),
        });
        board.running.insert(key, Arc::clone(&job));
        let report = job.report(0);
        tokio::spawn(Arc::clone(self).run(job, operation));
        report
    }

    async fn run(self: Arc<Self>, job: Arc<Job>, operation: Operation) {
        let turn = self.subtasks.lock(Subtask::from(&job.key)).await;
        let result = if job.superseded.is_cancelled() {
            Err("a higher epoch of the same subtask took over before this began".to_owned())
        } else {
            let (work, same) = (Arc::clone(&self.work), Arc::clone(&job));
            // A task of its own: a panic in an operation is a failure of that operation.
            tokio::spawn(async move { work.perform(operation, &same).await })
                .await
                .unwrap_or_else(|e| {
                    Err(format!(
                        "the agent failed while doing this ({e}); see its log, then retry"
                    ))
                })
        };
        drop(turn);
        let ended = match result {
            Ok(outcome) => Ended::Done { outcome },
            Err(message) => Ended::Failed { message },
        };
        let runner = Arc::clone(&self);
        let finish = tokio::task::spawn_blocking(move || runner.finish(&job, ended)).await;
        if let Err(e) = finish {
            tracing::error!(error = %e, "an operation's end was lost");
        }
    }

    fn finish(&self, job: &Job, ended: Ended) {
        let mut board = self.board();
        let epoch = job.progress.borrow().epoch;
        let state = match board.journal.end(&job.key, epoch, ended.clone(), Timestamp::now()) {
            Ok(()) => State::Ended(ended),
            Err(e) => State::Lost(crate::describe(&e)),
        };
        board.running.remove(&job.key);
        job.progress.send_modify(|p| p.state = state);
    }

    /// Where the operation stands, once there is something after line `from` or `wait` is over.
    ///
    /// # Errors
    /// When the operation is unknown, or was interrupted: starting it again attaches or does the rest.
    pub async fn report(&self, key: &AttemptKey, from: u64, wait: Duration) -> Result<OperationReport, AgentError> {
        let running = self.board().running.get(key).cloned();
        if let Some(job) = running {
            let mut progress = job.progress.subscribe();
            let news = progress.wait_for(|p| p.lines.len() as u64 > from || !matches!(p.state, State::Running));
            // Both ends of the wait are fine: the report tells how things stand.
            let _ = timeout(wait, news).await.is_ok();
            return job.report(from);
        }
        let board = self.board();
        match board.journal.ended(key) {
            Some(ended) => Ok(cut(
                &read_lines(&board.journal.lines_file(key)),
                from,
                ended.clone().into(),
            )),
            None => Err(AgentError::Unknown {
                what: format!("a running operation {key}"),
            }),
        }
    }

    /// Raises the fence, and waits until nothing below it is at work that is not the attempt's own.
    ///
    /// # Errors
    /// When the fence is higher already, or something below it does not come to an end.
    pub async fn fence(&self, fence: &Fence) -> Result<(), AgentError> {
        let subtask = Subtask::from(fence);
        let below: Vec<Arc<Job>> = {
            let mut board = self.board();
            for job in board.running.values().filter(|job| fence.is_own(&job.key)) {
                job.goes_on_under(fence.epoch);
            }
            board.admit(&subtask, fence.epoch)?;
            let of_subtask = board.running.values().filter(|job| Subtask::from(&job.key) == subtask);
            of_subtask
                .filter(|job| job.progress.borrow().epoch < fence.epoch)
                .cloned()
                .collect()
        };
        let ends = below.iter().map(|job| async {
            let mut progress = job.progress.subscribe();
            // The sender lives in the job we hold: the wait cannot fail.
            let _ = progress.wait_for(|p| !matches!(p.state, State::Running)).await.is_ok();
        });
        timeout(FENCE_WAIT, futures::future::join_all(ends))
            .await
            .map(|_| ())
            .map_err(|_| AgentError::Internal {
                reason: format!(
                    "an operation below epoch {} is still at work after {} s: ask again",
                    fence.epoch,
                    FENCE_WAIT.as_secs()
                ),
            })
    }
}

fn read_lines(path: &std::path::Path) -> Vec<String> {
    // A log that was never written is empty.
    let text = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
