//! Steps of classes that this server's release does not know: left READY for a server that knows them, and told of once.
//!
//! Servers of two releases share a database while obfleet is upgraded, and an upgrade may be taken back. A task whose only
//! work is not for us would be found by every look: it is passed over until it changes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::shared::Shared;
use crate::core::{Change, Command, Event};
use crate::error::EngineError;
use crate::state::{Subtask, SubtaskId, SubtaskStatus, TaskId, TaskState};
use crate::store::DueTask;

/// Events read at once.
const EVENTS: u32 = 1000;

/// A subtask and its epoch: what a server tells once.
type Strange = (SubtaskId, i64);

/// What this process has seen of steps it cannot run.
#[derive(Default)]
pub(super) struct Unknown {
    told: Mutex<HashSet<Strange>>,
    passed_over: Mutex<HashMap<TaskId, NotForUs>>,
}

/// A task that has something due, but nothing for this server.
struct NotForUs {
    rev: i64,
    /// When a step that is for this server will be due, without any commit.
    until: Option<i64>,
}

impl Unknown {
    fn told(&self) -> MutexGuard<'_, HashSet<Strange>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn passed_over(&self) -> MutexGuard<'_, HashMap<TaskId, NotForUs>> {
        self.passed_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many tasks a look finds in vain.
    pub fn count(&self) -> usize {
        self.passed_over().len()
    }

    /// Leaves only those tasks that may have something for this server, and forgets what is not due any more.
    pub fn pass_over(&self, due: &mut Vec<DueTask>, now_ms: i64) {
        let mut passed_over = self.passed_over();
        let listed: HashSet<_> = due.iter().map(|due| due.task).collect();
        passed_over.retain(|task, _| listed.contains(task));
        due.retain(|due| {
            passed_over
                .get(&due.task)
                .is_none_or(|known| known.rev != due.rev || known.until.is_some_and(|at| at <= now_ms))
        });
    }
}

impl<C: Send + Sync + 'static> Shared<C> {
    /// Whether a subtask may be claimed here and now.
    pub fn is_for_us(&self, state: &TaskState, now_ms: i64) -> bool {
        self.claimable(state, now_ms).next().is_some()
    }

    /// Subtasks that may be claimed here and now, in series order.
    pub fn claimable<'a>(&'a self, state: &'a TaskState, now_ms: i64) -> impl Iterator<Item = usize> + 'a {
        let known = |index: &usize| self.classes.know(&state.subtasks[*index].spec);
        state.claimable(now_ms).filter(known)
    }

    /// Sees to what of a task is due, but not for this server: has it told of, and the task passed over if nothing else is due.
    pub fn leave_to_others(self: &Arc<Self>, state: &TaskState, now_ms: i64) {
        let due = state.claimable(now_ms).map(|index| &state.subtasks[index]);
        // Most often one class after the other is the same, and known: this is asked after every commit.
        let mut known = None;
        let strange = due.filter(|row| {
            let class = Some(&row.spec.class_name);
            let strange = class != known && !self.classes.know(&row.spec);
            if !strange {
                known = class;
            }
            strange
        });
        let strange: Vec<Strange> = strange.map(|row| (row.id, row.epoch)).collect();
        if strange.is_empty() {
            return;
        }
        let task = state.task.id;
        if self.options.sharing.is_some() && !self.is_for_us(state, now_ms) {
            let ours = state.subtasks.iter().filter(|row| self.classes.know(&row.spec));
            let until = ours.filter_map(|row| row.waits_until(now_ms)).min();
            let rev = state.task.rev;
            self.unknown.passed_over().insert(task, NotForUs { rev, until });
        }
        let mut told = self.unknown.told();
        let untold: Vec<_> = strange.into_iter().filter(|strange| told.insert(*strange)).collect();
        drop(told);
        if !untold.is_empty() {
            let shared = Arc::clone(self);
            self.tracker.spawn(async move { shared.tell(task, untold).await });
        }
    }

    /// Has the task's history say that this server does not know these classes.
    async fn tell(self: Arc<Self>, task: TaskId, untold: Vec<Strange>) {
        let told = match self.told_before(task).await {
            Ok(told) => told,
            Err(error) => return self.untold(task, &untold, &error),
        };
        let subtasks: BTreeSet<_> = untold
            .iter()
            .filter(|strange| !told.contains(strange))
            .map(|(subtask, _)| *subtask)
            .collect();
        if subtasks.is_empty() {
            return;
        }
        tracing::warn!(%task, ?subtasks, "this release does not know the class of steps: they are left to a server that does");
        let command = Command::Disclaim { subtasks };
        if let Err(error @ EngineError::Store(_)) = self.advance(task, None, command, &[], None).await {
            self.untold(task, &untold, &error);
        }
    }

    /// What this server has told of the task in an earlier life.
    async fn told_before(&self, task: TaskId) -> Result<HashSet<Strange>, EngineError> {
        let mut told = HashSet::new();
        let mut after = 0;
        loop {
            let events = self.store.events(task, after, EVENTS).await?;
            let Some(last) = events.last() else {
                return Ok(told);
            };
            after = last.seq;
            told.extend(events.iter().filter_map(|event| self.told_by(event)));
        }
    }

    fn told_by(&self, event: &Event) -> Option<Strange> {
        match &event.change {
            Change::SubUnknown { subtask, epoch, .. } if event.by.server == self.options.server => {
                Some((*subtask, *epoch))
            }
            _ => None,
        }
    }

    /// It will be tried again with the next reason to look at the task.
    fn untold(&self, task: TaskId, untold: &[Strange], error: &EngineError) {
        tracing::warn!(%task, %error, "that steps wait for another release could not be noted");
        let mut told = self.unknown.told();
        untold.iter().for_each(|strange| {
            told.remove(strange);
        });
        self.unknown.passed_over().remove(&task);
    }

    /// Why a subtask waits, for operators; `None` unless it waits for another release.
    pub fn why_waiting(&self, row: &Subtask) -> Option<String> {
        let strange = row.status == SubtaskStatus::Ready && !self.classes.know(&row.spec);
        strange.then(|| format!(
            "server {} (obfleet {}) does not know the class {}. The step begins as soon as a server runs whose release \
             does. To go on without, cancel the task, and then roll it back or abandon it",
            self.options.server,
            env!("CARGO_PKG_VERSION"),
            row.spec.class_name
        ))
    }
}
