//! Running tasks: the handle everybody else holds.
//!
//! Every operation is one decision of [`crate::core`] made durable by one [`Store::commit`]; what the decision calls for
//! (attempts to start, timers, notices) happens after the commit. Nothing polls: a commit wakes what it has made
//! possible, timers wake what has become due, and both are rebuilt from the rows at start. Only servers that share their
//! database look now and then for what others have left to them.

mod clock;
mod dispatch;
mod effects;
mod handover;
mod lease;
mod logs;
mod runner;
mod shared;
mod sharing;
mod unknown;
mod wakes;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::context::CONTEXT_LIMIT;
use crate::core::{Command, Draft, Event};
use crate::error::EngineError;
use crate::registry::Registry;
use crate::state::{SubtaskId, TaskId, TaskOperation, TaskState, TaskStatus};
use crate::store::{Created, LogChunk, NewTask, Page, Store, StoreError, TaskFilter, nonce};
use crate::submission::{Lock, Submission};
use crate::view::TaskView;
pub use clock::WallClock;
use shared::Shared;
pub use sharing::{NoPeers, Peers, Sharing};

/// How an engine runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Identity of this server, kept over restarts. No two processes may run under one at a time.
    pub server: String,
    /// The server as users know it: OCP's `executor`.
    pub executor: String,
    /// Where other servers reach this one.
    pub url: Option<String>,
    /// How it shares its database with other servers; `None` when it is alone on it.
    pub sharing: Option<Sharing>,
    /// Attempts at a time.
    pub slots: usize,
    /// How long an attempt may go on after it was cancelled, timed out, or the engine began to shut down.
    pub grace: Duration,
    /// Where the times come from that are shown.
    pub wall_clock: WallClock,
}

impl Options {
    /// Alone on the database; 32 attempts at a time, 10 s of grace; users know it by its identity.
    pub fn new(server: impl Into<String>) -> Self {
        let server = server.into();
        Self {
            executor: server.clone(),
            server,
            url: None,
            sharing: None,
            slots: 32,
            grace: Duration::from_secs(10),
            wall_clock: WallClock::system(),
        }
    }
}

/// What a commit did to a task, told to subscribers in the order of the task's events.
#[derive(Clone, Debug)]
pub struct Notice {
    /// The task.
    pub task: TaskId,
    /// Its name.
    pub name: String,
    /// Where it stands after the events.
    pub status: TaskStatus,
    /// What it is being made to do.
    pub operation: TaskOperation,
    /// The events.
    pub events: Arc<[Event]>,
}

/// The running engine. Clones are handles to the same one. `C` is the domain's change type.
pub struct Engine<C> {
    shared: Arc<Shared<C>>,
}

impl<C> Clone for Engine<C> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<C: Send + Sync + 'static> Engine<C> {
    /// Starts: gets the server's lease, takes over at once what dead processes had under way, and goes on with every
    /// unfinished task.
    ///
    /// Whoever starts an engine holds a lock on its server's name: a process that ran under it before is dead. An engine
    /// alone on its database takes every other process for dead; one that shares it only those that have lost their lease.
    pub async fn start(store: Arc<dyn Store<C>>, registry: Registry<C>, options: Options) -> Result<Self, EngineError> {
        let shutdown = CancellationToken::new();
        let tenure = lease::grant(&*store, &options, &shutdown, true).await?;
        let shared = Arc::new(Shared::new(store, registry, options, tenure, shutdown));
        shared.tracker.spawn(dispatch::dispatch(Arc::clone(&shared)));
        let closed = shared.closed.clone();
        let keeping = lease::keep(Arc::clone(&shared));
        shared
            .background
            .spawn(closed.clone().run_until_cancelled_owned(keeping));
        match lease::take_up(&shared).await {
            // Whoever keeps the lease gets a new one, and takes up then.
            Ok(()) | Err(StoreError::LeaseLost) => {}
            Err(error) => {
                closed.cancel();
                return Err(error.into());
            }
        }
        if let Some(sharing) = &shared.options.sharing {
            let watching = watch::watch(Arc::clone(&shared), sharing.look);
            shared.background.spawn(closed.run_until_cancelled_owned(watching));
        }
        Ok(Self { shared })
    }

    /// Creates a task in one transaction and returns it with its roots READY. The same client token returns the task it
    /// made before.
    pub async fn submit(&self, submission: Submission<C>) -> Result<TaskView, EngineError> {
        if self.shared.shutdown.is_cancelled() {
            return Err(EngineError::ShuttingDown);
        }
        let size = submission.context.size();
        if size > CONTEXT_LIMIT {
            return Err(EngineError::ContextTooLarge {
                size,
                limit: CONTEXT_LIMIT,
            });
        }
        let (draft, changes) = self.draft(submission)?;
        let tenure = self.shared.lease.current()?;
        let env = self.shared.env(&tenure, 0);
        let digest = draft.request_digest.clone();
        let new = NewTask {
            draft,
            env: &env,
            changes: &changes,
            nonce: nonce(),
        };
        match self.shared.store.create(new).await {
            Ok(Created::New(state, events)) => {
                let view = self.view(&state);
                self.shared.adopt(*state, &events).await;
                Ok(view)
            }
            Ok(Created::Existing(task)) => self.made_by(task, digest.as_deref()).await,
            Err(error) => {
                if matches!(error, StoreError::LeaseLost) {
                    tenure.lose();
                }
                Err(error.into())
            }
        }
    }

    /// The task that was made with this client token, if any; [`EngineError::TokenReused`] when another request made it.
    pub async fn find(&self, token: &str, digest: &str) -> Result<Option<TaskView>, EngineError> {
        match self.shared.store.find_by_token(token).await? {
            Some(task) => Ok(Some(self.made_by(task, Some(digest)).await?)),
            None => Ok(None),
        }
    }

    async fn made_by(&self, task: TaskId, digest: Option<&str>) -> Result<TaskView, EngineError> {
        let state = self.shared.state(task).await?;
        if state.task.request_digest.as_deref() == digest {
            Ok(self.view(&state))
        } else {
            Err(EngineError::TokenReused(task))
        }
    }

    fn draft(&self, submission: Submission<C>) -> Result<(Draft, Vec<C>), EngineError> {
        let template = &submission.template;
        let nodes = template
            .nodes()
            .iter()
            .map(|node| self.shared.registry.freeze(node))
            .collect::<Result<Vec<_>, _>>()?;
        let draft = Draft {
            name: submission.name,
            task_type: submission.task_type,
            creator: submission.creator,
            cluster_id: submission.cluster_id,
            host_id: submission.host_id,
            client_token: submission.client_token,
            request_digest: submission.request_digest,
            undo_on_failure: submission.undo_on_failure,
            context: submission.context,
            locks: strongest(submission.locks),
            nodes,
            graph: Arc::clone(template.graph()),
        };
        Ok((draft, submission.changes))
    }

    /// Retries every failed subtask of a FAILED task.
    pub async fn retry(&self, task: TaskId, actor: &str) -> Result<TaskView, EngineError> {
        let actor = actor.to_owned();
        self.operate(task, None, Command::RetryTask { actor }).await
    }

    /// Undoes a FAILED task, step by step in reverse.
    pub async fn rollback(&self, task: TaskId, actor: &str) -> Result<TaskView, EngineError> {
        let actor = actor.to_owned();
        self.operate(task, None, Command::Rollback { actor }).await
    }

    /// Retries one failed subtask of a FAILED task.
    pub async fn retry_subtask(&self, task: TaskId, subtask: SubtaskId, actor: &str) -> Result<TaskView, EngineError> {
        let actor = actor.to_owned();
        self.operate(task, Some(subtask), Command::RetrySubtask { subtask, actor })
            .await
    }

    /// Passes over a failed subtask: its run, or, in a rollback, its undo.
    pub async fn skip(&self, task: TaskId, subtask: SubtaskId, actor: &str) -> Result<TaskView, EngineError> {
        let actor = actor.to_owned();
        self.operate(task, Some(subtask), Command::Skip { subtask, actor })
            .await
    }

    /// Asks a running subtask to stop; it ends FAILED within the grace.
    pub async fn cancel_subtask(&self, task: TaskId, subtask: SubtaskId, actor: &str) -> Result<TaskView, EngineError> {
        let actor = actor.to_owned();
        self.operate(task, Some(subtask), Command::Cancel { subtask, actor })
            .await
    }

    /// Lets nothing of a RUNNING task begin any more until [`Self::unpause`]; what runs goes on to its end. Lasts over
    /// restarts.
    pub async fn pause(&self, task: TaskId, actor: &str) -> Result<TaskView, EngineError> {
        let actor = actor.to_owned();
        self.operate(task, None, Command::Pause { actor }).await
    }

    /// Lets a paused task go on.
    pub async fn unpause(&self, task: TaskId, actor: &str) -> Result<TaskView, EngineError> {
        let actor = actor.to_owned();
        self.operate(task, None, Command::Unpause { actor }).await
    }

    /// Asks everything of a RUNNING task to stop; it ends FAILED within the grace, and can be retried, rolled back or
    /// abandoned from there.
    pub async fn cancel_task(&self, task: TaskId, actor: &str) -> Result<TaskView, EngineError> {
        let actor = actor.to_owned();
        self.operate(task, None, Command::CancelTask { actor }).await
    }

    /// Gives a FAILED task up as it stands: its locks are free, and nothing can be done with it any more. `changes` are
    /// committed with it.
    pub async fn abandon(
        &self,
        task: TaskId,
        actor: &str,
        reason: &str,
        changes: &[C],
    ) -> Result<TaskView, EngineError> {
        let (actor, reason) = (actor.to_owned(), reason.to_owned());
        let command = Command::Abandon { actor, reason };
        let state = self.shared.advance(task, None, command, changes, None).await?;
        Ok(self.view(&state))
    }

    async fn operate(
        &self,
        task: TaskId,
        subtask: Option<SubtaskId>,
        command: Command,
    ) -> Result<TaskView, EngineError> {
        if self.shared.shutdown.is_cancelled() {
            return Err(EngineError::ShuttingDown);
        }
        let state = self.shared.advance(task, subtask, command, &[], None).await?;
        Ok(self.view(&state))
    }

    fn view(&self, state: &TaskState) -> TaskView {
        let mut view = TaskView::from(state);
        for (shown, row) in view.subtasks.iter_mut().zip(&state.subtasks) {
            shown.waiting = self.shared.why_waiting(row);
        }
        view
    }

    /// A task as it stands.
    pub async fn task(&self, task: TaskId) -> Result<TaskView, EngineError> {
        Ok(self.view(&self.shared.state(task).await?))
    }

    /// A page of tasks.
    pub async fn list(&self, filter: &TaskFilter) -> Result<Page<TaskView>, EngineError> {
        let page = self.shared.store.list(filter).await?;
        Ok(Page {
            items: page.items.iter().map(|state| self.view(state)).collect(),
            total: page.total,
        })
    }

    /// A subtask's log: all attempts, oldest first.
    pub async fn log(&self, task: TaskId, subtask: SubtaskId) -> Result<String, EngineError> {
        let state = self.shared.state(task).await?;
        state
            .index_of(subtask)
            .ok_or(EngineError::SubtaskNotFound { task, subtask })?;
        self.shared.logs.flush().await;
        Ok(self.shared.store.read_log(subtask).await?)
    }

    /// A subtask's log in pieces: those after the chunk with this epoch and seq, at most `limit`.
    pub async fn log_chunks(
        &self,
        subtask: SubtaskId,
        after: Option<(i64, i64)>,
        limit: u32,
    ) -> Result<Vec<LogChunk>, EngineError> {
        if after.is_none() {
            self.shared.logs.flush().await;
        }
        Ok(self.shared.store.log_chunks(subtask, after, limit).await?)
    }

    /// Events of a task with `seq > after`, in order, at most `limit`.
    pub async fn events(&self, task: TaskId, after: i64, limit: u32) -> Result<Vec<Event>, EngineError> {
        Ok(self.shared.store.events(task, after, limit).await?)
    }

    /// Deletes the history of tasks that are over for good and ended before `before_ms`, at most `limit` of them, the
    /// oldest first. → how many
    pub async fn prune(&self, before_ms: i64, limit: u32) -> Result<u32, EngineError> {
        Ok(self.shared.store.prune(before_ms, limit).await?)
    }

    /// Waits until a task has come to rest (SUCCESSFUL or FAILED), at most until the deadline.
    pub async fn wait(&self, task: TaskId, deadline: Duration) -> Result<TaskView, EngineError> {
        let until = Instant::now() + deadline;
        let mut notices = self.subscribe();
        loop {
            let view = self.task(task).await?;
            if view.is_at_rest() {
                return Ok(view);
            }
            // Other servers' commits are not noticed here.
            let look_again = match &self.shared.options.sharing {
                Some(sharing) => until.min(Instant::now() + sharing.look),
                None => until,
            };
            // Any notice, also a lost one, is a reason to look again.
            let noticed = tokio::time::timeout_at(look_again, notices.recv()).await;
            if noticed.is_err() && Instant::now() >= until {
                return Err(EngineError::WaitTimedOut(task));
            }
        }
    }

    /// Looks for work now: another server has told that there is some.
    pub fn nudge(&self) {
        self.shared.lease.look_now.notify_one();
    }

    /// Whether the server has its lease. Without one it refuses whatever would change a task, until it has a new one.
    pub fn has_lease(&self) -> bool {
        self.shared.lease.current().is_ok()
    }

    /// RUNNING tasks that are left alone because their rows cannot be read, with what is wrong. The next start tries again,
    /// and an engine that shares its database each minute.
    pub fn unreadable(&self) -> BTreeMap<TaskId, String> {
        self.shared.set_aside_tasks()
    }

    /// Notices of every commit of this engine's from now on. A subscriber that falls far behind loses the oldest.
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.shared.notices.subscribe()
    }

    /// Whether steps are claimed: until the engine drains or shuts down.
    pub fn is_claiming(&self) -> bool {
        !self.shared.draining.is_cancelled()
    }

    /// Stops claiming, and waits at most `limit` until no attempt is under way. What attempts come to meanwhile is
    /// recorded, and what becomes READY by it stays so for the next start; tasks may still be submitted and steered.
    /// → attempts still under way: [`Self::shutdown`] gives them back
    pub async fn drain(&self, limit: Duration) -> usize {
        self.shared.draining.cancel();
        self.shared.tracker.close();
        // Attempts that are still at work are counted, so that it was not in time needs no word.
        let _: Result<(), _> = tokio::time::timeout(limit, self.shared.tracker.wait()).await;
        self.shared.running().len()
    }

    /// Stops claiming, asks running attempts to stop and waits for them at most the grace. What has not ended by then, or
    /// ended in error, is given back as READY, for another server or the next start, and counts as no crash; only what
    /// must not be repeated ([`crate::OnCrash::Fail`]) is FAILED. An attempt that has somebody else do the work stops
    /// waiting for it, and leaves it at it: whoever goes on finds it again by its [`crate::AttemptKey`]. What cannot be
    /// given back within the grace is taken over as after a crash.
    pub async fn shutdown(&self) {
        self.shared.shutdown.cancel();
        self.shared.tracker.close();
        self.shared.tracker.wait().await;
        let giving_back = handover::give_back(&self.shared);
        if tokio::time::timeout(self.shared.options.grace, giving_back)
            .await
            .is_err()
        {
            tracing::warn!("the state database is slow: not everything under way was given back");
        }
        self.shared.logs.flush().await;
        self.shared.closed.cancel();
        self.shared.background.close();
        self.shared.background.wait().await;
        if self.shared.options.sharing.is_some() {
            let owner = &self.shared.lease.tenure().owner;
            if let Err(error) = self.shared.store.end_lease(owner).await {
                tracing::warn!(%error, "the lease was not given back: other servers take over once it is over");
            }
        }
    }
}

/// One lock per thing: exclusive if any of them was.
fn strongest(locks: Vec<Lock>) -> Vec<Lock> {
    let sorted: BTreeSet<_> = locks.into_iter().collect();
    let mut kept: Vec<Lock> = Vec::new();
    for lock in sorted {
        // `false` sorts first, so the exclusive one replaces it.
        match kept.last_mut() {
            Some(last) if (&last.kind, &last.name) == (&lock.kind, &lock.name) => *last = lock,
            _ => kept.push(lock),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "testing")]
    use std::sync::atomic::{AtomicI64, Ordering};

    /// A commit through a forgotten cell would leave old rows in the one in its place, and the result of the attempt it
    /// began would be judged by them, and lost.
    #[cfg(feature = "testing")]
    #[tokio::test]
    async fn who_waited_for_a_forgotten_cell_takes_the_one_in_its_place() {
        let store = Arc::new(crate::testing::MemoryStore::<String>::new());
        let registry = Registry::new([]).unwrap();
        let engine = Engine::start(store, registry, Options::new("a")).await.unwrap();
        let task = TaskId(1);
        let (cell, kept) = engine.shared.lock(task).await;
        let held = Arc::strong_count(&cell);
        let shared = Arc::clone(&engine.shared);
        let waiting = tokio::spawn(async move { shared.lock(task).await.0 });
        while Arc::strong_count(&cell) == held {
            tokio::task::yield_now().await;
        }
        engine.shared.forget(task, &cell);
        drop(kept);
        assert!(!Arc::ptr_eq(&waiting.await.unwrap(), &cell));
    }

    /// Another server may go on with it, and nobody would say here that it does not wait any more.
    #[cfg(feature = "testing")]
    #[tokio::test]
    async fn a_task_whose_rows_are_forgotten_does_not_hold_the_clock() {
        let readings = AtomicI64::new(0);
        let options = Options {
            wall_clock: WallClock::new(move || 1_000_000 * readings.fetch_add(1, Ordering::SeqCst)),
            ..Options::new("a")
        };
        let store = Arc::new(crate::testing::MemoryStore::<String>::new());
        let engine = Engine::start(store, Registry::new([]).unwrap(), options).await.unwrap();
        let (shared, task) = (&engine.shared, TaskId(1));
        let follows = || shared.clock.steady_ms() + 500_000 < shared.clock.steady_ms();
        let (cell, _kept) = shared.lock(task).await;
        shared.clock.hold(task);
        assert!(!follows());
        shared.forget(task, &cell);
        assert!(follows());
        shared.clock.hold(task);
        shared.forget_everything();
        assert!(follows());
    }

    #[test]
    fn the_strongest_lock_is_kept() {
        let asked = vec![
            Lock::exclusive("p", 1),
            Lock::shared("p", 1),
            Lock::shared("q", 1),
            Lock::shared("q", 1),
        ];
        assert_eq!(strongest(asked), [Lock::exclusive("p", 1), Lock::shared("q", 1)]);
    }
}
