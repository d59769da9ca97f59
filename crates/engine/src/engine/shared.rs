//! What all parts of a running engine share, and the one way a task moves: decide, commit, follow up.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clock::Clock;
use super::lease::{Lease, Tenure};
use super::logs::LogWriter;
use super::runner::Running;
use super::unknown::Unknown;
use super::wakes::Wakes;
use super::{Notice, Options};
use crate::core::{Change, Classes, Command, Decision, Env, Event, decide};
use crate::error::EngineError;
use crate::registry::Registry;
use crate::state::{Subtask, SubtaskId, SubtaskStatus, TaskId, TaskState, TaskStatus};
use crate::store::{Commit, Store, StoreError};

/// Commits tried in a row when somebody else keeps committing on the same task.
const MAX_STALE: u32 = 16;

/// Wait before the database is asked again whether it took a commit.
const LANDED_RETRY: Duration = Duration::from_millis(100);

/// Notices kept for slow subscribers.
const NOTICES: usize = 1024;

/// One task's rows as of its last commit; `None` when they must be read again. Its lock orders the task's commits.
pub(super) type Cell = Arc<tokio::sync::Mutex<Option<TaskState>>>;

/// What came of a command.
pub(super) enum Moved {
    /// It is done: the task is like this now.
    To(TaskState),
    /// The task, which is like this, was left as it is.
    Not(TaskState),
}

pub(super) struct Shared<C> {
    pub store: Arc<dyn Store<C>>,
    pub registry: Registry<C>,
    /// What `registry` knows.
    pub classes: Classes,
    pub options: Options,
    pub clock: Clock,
    pub lease: Lease,
    pub notices: broadcast::Sender<Notice>,
    /// Fires when attempts must stop.
    pub shutdown: CancellationToken,
    /// Fires when nothing more is to be claimed: with the shutdown at the latest.
    pub draining: CancellationToken,
    /// Attempts and what belongs to them.
    pub tracker: TaskTracker,
    /// Fires when the lease is not needed any more.
    pub closed: CancellationToken,
    /// What runs until then.
    pub background: TaskTracker,
    pub logs: LogWriter,
    pub slots: Arc<Semaphore>,
    pub wakes: Arc<Wakes>,
    running: Mutex<HashMap<SubtaskId, Running<C>>>,
    cells: Mutex<HashMap<TaskId, Cell>>,
    pub unknown: Unknown,
    /// Tasks whose rows cannot be read, with what is wrong.
    unreadable: Mutex<BTreeMap<TaskId, String>>,
}

impl<C: Send + Sync + 'static> Shared<C> {
    pub fn new(
        store: Arc<dyn Store<C>>,
        registry: Registry<C>,
        options: Options,
        tenure: Tenure,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            logs: LogWriter::start(Arc::clone(&store), options.wall_clock.clone()),
            store,
            classes: registry.classes(),
            registry,
            lease: Lease::new(tenure),
            notices: broadcast::Sender::new(NOTICES),
            draining: shutdown.child_token(),
            shutdown,
            tracker: TaskTracker::new(),
            closed: CancellationToken::new(),
            background: TaskTracker::new(),
            slots: Arc::new(Semaphore::new(options.slots.max(1))),
            clock: Clock::new(options.wall_clock.clone()),
            options,
            wakes: Arc::default(),
            running: Mutex::new(HashMap::new()),
            cells: Mutex::new(HashMap::new()),
            unknown: Unknown::default(),
            unreadable: Mutex::new(BTreeMap::new()),
        }
    }

    pub fn env(&self, tenure: &Tenure, slots: usize) -> Env {
        let grace = i64::try_from(self.options.grace.as_millis()).unwrap_or(i64::MAX);
        Env {
            wall_ms: self.clock.wall_ms(),
            steady_ms: self.clock.steady_ms(),
            owner: tenure.owner.clone(),
            executor: self.options.executor.clone(),
            slots,
            classes: self.classes.clone(),
            cancel_grace_ms: grace,
        }
    }

    pub fn running(&self) -> MutexGuard<'_, HashMap<SubtaskId, Running<C>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cells(&self) -> MutexGuard<'_, HashMap<TaskId, Cell>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cell(&self, task: TaskId) -> Cell {
        Arc::clone(self.cells().entry(task).or_default())
    }

    /// The task's cell, locked. One that was forgotten while it was waited for is let go: whoever commits through it
    /// would leave old rows in the one that took its place, and a result judged by old rows is lost.
    pub(super) async fn lock(&self, task: TaskId) -> (Cell, OwnedMutexGuard<Option<TaskState>>) {
        loop {
            let cell = self.cell(task);
            let kept = Arc::clone(&cell).lock_owned().await;
            if self.cells().get(&task).is_some_and(|known| Arc::ptr_eq(known, &cell)) {
                return (cell, kept);
            }
        }
    }

    async fn load(&self, task: TaskId) -> Result<TaskState, EngineError> {
        self.store.load(task).await?.ok_or(EngineError::TaskNotFound(task))
    }

    /// Drops every task's rows: they are read again when they are needed.
    pub fn forget_everything(&self) {
        self.cells().clear();
        self.clock.release_all();
    }

    fn unreadable(&self) -> MutexGuard<'_, BTreeMap<TaskId, String>> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a task alone whose rows cannot be read; the others go on.
    pub fn set_aside(&self, task: TaskId, reason: String) {
        tracing::error!(%task, reason, "the task cannot be read and is left alone");
        self.unreadable().insert(task, reason);
    }

    /// No longer leaves a task alone.
    pub fn readable_again(&self, task: TaskId) {
        tracing::info!(%task, "the task can be read again");
        self.unreadable().remove(&task);
    }

    /// Whether a task is left alone.
    pub fn is_set_aside(&self, task: TaskId) -> bool {
        self.unreadable().contains_key(&task)
    }

    /// The tasks that are left alone, with what is wrong.
    pub fn set_aside_tasks(&self) -> BTreeMap<TaskId, String> {
        self.unreadable().clone()
    }

    /// Tells of the store's failing at a task, and leaves the task alone if it would fail again.
    pub fn note(&self, task: TaskId, error: &StoreError) {
        match error {
            StoreError::Corrupt(reason) => self.set_aside(task, reason.clone()),
            // Told by whoever keeps the lease.
            StoreError::LeaseLost => {}
            error => tracing::warn!(%task, error = error as &dyn std::error::Error, "the task did not move"),
        }
    }

    /// A task as of its last commit, by whichever server.
    pub async fn state(&self, task: TaskId) -> Result<TaskState, EngineError> {
        if self.options.sharing.is_some() {
            return self.load(task).await;
        }
        let known = self.cells().get(&task).cloned();
        let cached = match known {
            Some(cell) => cell.lock().await.clone(),
            None => None,
        };
        match cached {
            Some(state) => Ok(state),
            None => self.load(task).await,
        }
    }

    /// Takes up a task whose rows were just written or read, and does what `events` call for.
    pub async fn adopt(self: &Arc<Self>, state: TaskState, events: &[Event]) {
        let (cell, mut kept) = self.lock(state.task.id).await;
        self.follow_up(&state, events, None);
        self.keep(&mut kept, state, &cell);
    }

    /// Moves a task: decides `command`, commits it with `changes`, follows up. `slot` is a slot the caller holds, which
    /// a claim of the same commit may take over.
    pub async fn advance(
        self: &Arc<Self>,
        task: TaskId,
        subtask: Option<SubtaskId>,
        command: Command,
        changes: &[C],
        slot: Option<OwnedSemaphorePermit>,
    ) -> Result<TaskState, EngineError> {
        let moved = self
            .advance_by(task, subtask, |_, _| Some(command.clone()), changes, slot)
            .await?;
        match moved {
            Moved::To(state) | Moved::Not(state) => Ok(state),
        }
    }

    /// Like [`Self::advance`], with the command chosen by looking at the rows; `None` leaves the task as it is.
    pub async fn advance_by(
        self: &Arc<Self>,
        task: TaskId,
        subtask: Option<SubtaskId>,
        choose: impl Fn(&TaskState, i64) -> Option<Command>,
        changes: &[C],
        mut slot: Option<OwnedSemaphorePermit>,
    ) -> Result<Moved, EngineError> {
        let (cell, mut kept) = self.lock(task).await;
        for _ in 0..MAX_STALE {
            let tenure = match self.lease.current() {
                Ok(tenure) => tenure,
                Err(lost) => {
                    self.forget(task, &cell);
                    return Err(lost.into());
                }
            };
            let remembered = kept.take();
            let may_be_old = remembered.is_some() && self.options.sharing.is_some();
            let before = match remembered {
                Some(state) => state,
                None => match self.load(task).await {
                    Ok(state) => state,
                    Err(error) => {
                        self.forget(task, &cell);
                        return Err(error);
                    }
                },
            };
            let Some(command) = choose(&before, self.clock.steady_ms()) else {
                // Another server may have made something of it.
                if may_be_old {
                    continue;
                }
                self.keep(&mut kept, before.clone(), &cell);
                return Ok(Moved::Not(before));
            };
            let mut room = self.room(&before, slot.take());
            let slots = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let asked = usize::from(claims_by_command(&before, &command));
            let decided = decide(&before, command, &self.env(&tenure, slots.saturating_sub(asked)));
            let decision = match decided {
                Ok(decision) => decision,
                // Another server may have changed what the rejection goes by.
                Err(_) if may_be_old => {
                    slot = room;
                    continue;
                }
                Err(reject) => {
                    self.keep(&mut kept, before, &cell);
                    return Err(EngineError::rejected(task, subtask, reject));
                }
            };
            // From here on, not from when it is committed: a wait begins with the decision.
            self.hold_clock(&decision.state);
            // Room that no claim needs goes back before the commit waits for the disk.
            let needed = claims(&decision).count().min(slots);
            let taken = room.as_mut().and_then(|room| room.split(needed));
            drop(room);
            let changes = if decision.takes_changes() { changes } else { &[] };
            match self.commit(&tenure, &before, &decision, changes).await {
                Ok(()) => {
                    let after = decision.state;
                    self.follow_up(&after, &decision.events, taken);
                    self.keep(&mut kept, after.clone(), &cell);
                    return Ok(Moved::To(after));
                }
                Err(StoreError::Stale) => slot = taken,
                Err(error) => {
                    self.forget(task, &cell);
                    return Err(error.into());
                }
            }
        }
        self.forget(task, &cell);
        Err(EngineError::Store(StoreError::Stale))
    }

    /// The caller's slot and as many free ones as the task could possibly claim; none for an engine that drains.
    fn room(&self, state: &TaskState, slot: Option<OwnedSemaphorePermit>) -> Option<OwnedSemaphorePermit> {
        if self.draining.is_cancelled() {
            return None;
        }
        let wanted = state.subtasks.len().min(self.slots.available_permits());
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let free = Arc::clone(&self.slots).try_acquire_many_owned(wanted).ok();
        match (slot, free) {
            (Some(mut slot), Some(free)) => {
                slot.merge(free);
                Some(slot)
            }
            (slot, free) => slot.or(free),
        }
    }

    /// Commits; when the database failed, asks until it answers whether it happened all the same: a claim nobody knows of
    /// would be an attempt that nobody makes.
    async fn commit(
        &self,
        tenure: &Tenure,
        before: &TaskState,
        decision: &Decision,
        changes: &[C],
    ) -> Result<(), StoreError> {
        let commit = Commit::of(&tenure.owner, before, decision, changes);
        let nonce = commit.nonce;
        let failed = match self.store.commit(commit).await {
            Err(StoreError::Unavailable(failed)) => failed,
            Err(StoreError::LeaseLost) => {
                tenure.lose();
                return Err(StoreError::LeaseLost);
            }
            other => return other,
        };
        loop {
            match self.store.landed(before.task.id, before.task.rev + 1, nonce).await {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(StoreError::Unavailable(failed)),
                Err(error) => tracing::warn!(task = %before.task.id, %error, "the state database is away in a commit"),
            }
            tokio::select! {
                // If it was a claim, it is dead with its lease, or for the next start to take over.
                () = tenure.stop.cancelled() => return Err(StoreError::Unavailable(failed)),
                () = sleep(LANDED_RETRY) => {}
            }
        }
    }

    /// Has steady time run on for as long as something waits that will be claimed here.
    fn hold_clock(&self, state: &TaskState) {
        let ours = |row: &Subtask| row.status == SubtaskStatus::Ready && self.classes.know(&row.spec);
        let waits = |row: &Subtask| row.not_before.is_some() && ours(row);
        let goes_on = state.task.status == TaskStatus::Running && state.task.halt.is_none();
        if goes_on && state.subtasks.iter().any(|row| waits(row)) {
            self.clock.hold(state.task.id);
        } else {
            self.clock.release(state.task.id);
        }
    }

    /// Remembers a task's rows as long as this server is likely to ask for them soon, and to be the one that changes them.
    fn keep(&self, kept: &mut Option<TaskState>, state: TaskState, cell: &Cell) {
        let concerns_us = |state: &TaskState| {
            let tenure = self.lease.tenure();
            let ours = |row: &Subtask| row.status == SubtaskStatus::Ready || row.owner.as_ref() == Some(&tenure.owner);
            state.subtasks.iter().any(|row| ours(row))
        };
        let running = state.task.status == TaskStatus::Running;
        if running && (self.options.sharing.is_none() || concerns_us(&state)) {
            self.hold_clock(&state);
            *kept = Some(state);
        } else {
            self.forget(state.task.id, cell);
        }
    }

    /// Drops a cell from the map, by who holds its lock: whoever waits for it takes the one in its place.
    pub(super) fn forget(&self, task: TaskId, cell: &Cell) {
        let mut cells = self.cells();
        if cells.get(&task).is_some_and(|known| Arc::ptr_eq(known, cell)) {
            cells.remove(&task);
            self.clock.release(task);
        }
    }
}

/// Whether the command itself claims a subtask that will run.
fn claims_by_command(state: &TaskState, command: &Command) -> bool {
    let Command::Claim { subtask } = command else {
        return false;
    };
    state
        .index_of(*subtask)
        .is_some_and(|index| !state.subtasks[index].spec.barrier)
}

/// Attempts that a decision begins: indexes of the subtasks claimed and still RUNNING at its end.
pub(super) fn claims(decision: &Decision) -> impl Iterator<Item = usize> + '_ {
    started(&decision.state, &decision.events)
}

/// The same of a state and the events that led to it.
pub(super) fn started<'a>(state: &'a TaskState, events: &'a [Event]) -> impl Iterator<Item = usize> + 'a {
    let claimed = events.iter().filter_map(|event| match &event.change {
        Change::SubClaimed { subtask, epoch, .. } => Some((state.index_of(*subtask)?, *epoch)),
        _ => None,
    });
    claimed
        .filter(|&(index, epoch)| {
            let row = &state.subtasks[index];
            row.status == SubtaskStatus::Running && row.epoch == epoch
        })
        .map(|(index, _)| index)
}
