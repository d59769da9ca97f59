//! What a commit calls for once it is durable.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::Notice;
use super::shared::{Shared, started};
use crate::core::{Change, Event};
use crate::state::{SubtaskId, SubtaskStatus, TaskId, TaskState, TaskStatus};

impl<C: Send + Sync + 'static> Shared<C> {
    /// Starts the attempts that `events` claimed (each takes one of `slots`), stops those they ended or cancelled, tells
    /// subscribers, and wakes the dispatcher for what is still READY.
    pub fn follow_up(self: &Arc<Self>, state: &TaskState, events: &[Event], mut slots: Option<OwnedSemaphorePermit>) {
        for event in events {
            match &event.change {
                Change::SubCanceling { subtask, .. } => self.ask_to_stop(state, *subtask),
                Change::SubFailed { subtask, epoch, .. } => self.stop_below(*subtask, *epoch),
                Change::SubOrphaned { subtask, epoch } => self.stop_below(*subtask, *epoch),
                Change::SubClaimed { subtask, epoch, .. } => self.log_barrier(state, *subtask, *epoch),
                _ => {}
            }
        }
        let attempts: Vec<_> = started(state, events)
            .map(|index| (index, slots.as_mut().and_then(|slots| slots.split(1))))
            .collect();
        drop(slots);
        self.notify(state, events);
        self.wake_for(state);
        // Last, so that what is woken here does not come before them.
        for (index, slot) in attempts {
            self.start_attempt(state, index, slot);
        }
    }

    /// Has the attempt of a CANCELING subtask stop, here or where it runs.
    fn ask_to_stop(self: &Arc<Self>, state: &TaskState, subtask: SubtaskId) {
        let row = state.index_of(subtask).map(|index| &state.subtasks[index]);
        let Some((row, owner)) = row.and_then(|row| Some((row, row.owner.as_ref()?))) else {
            return;
        };
        if *owner == self.lease.tenure().owner {
            self.cancel_attempt(subtask, row.epoch);
        } else {
            self.tell_peers(state.task.id);
        }
    }

    fn tell_peers(&self, task: TaskId) {
        if let Some(sharing) = &self.options.sharing {
            sharing.peers.nudge(task);
        }
    }

    fn notify(&self, state: &TaskState, events: &[Event]) {
        let notice = Notice {
            task: state.task.id,
            name: state.task.name.clone(),
            status: state.task.status,
            operation: state.task.operation,
            events: events.into(),
        };
        // Nobody listening is fine.
        drop(self.notices.send(notice));
    }

    /// Wakes the dispatcher for what may be claimed now, and sets a timer for what must wait.
    pub fn wake_for(self: &Arc<Self>, state: &TaskState) {
        if state.task.status != TaskStatus::Running || self.draining.is_cancelled() {
            return;
        }
        let now = self.clock.steady_ms();
        let for_us = self.is_for_us(state, now);
        if for_us {
            self.wakes.wake(state.task.id);
        }
        let left = state.claimable(now).next().is_some();
        if left && (!for_us || self.slots.available_permits() == 0) {
            self.tell_peers(state.task.id);
        }
        self.leave_to_others(state, now);
        let ready = state
            .subtasks
            .iter()
            .filter(|subtask| subtask.status == SubtaskStatus::Ready);
        if let Some(at) = ready.filter_map(|subtask| subtask.waits_until(now)).min() {
            self.wake_in(state.task.id, Duration::from_millis(at.abs_diff(now)));
        }
    }

    /// Wakes the dispatcher for a task after a while.
    pub fn wake_in(self: &Arc<Self>, task: TaskId, wait: Duration) {
        let shared = Arc::clone(self);
        self.tracker.spawn(async move {
            tokio::select! {
                () = shared.draining.cancelled() => {}
                () = tokio::time::sleep(wait) => shared.wakes.wake(task),
            }
        });
    }

    fn log_barrier(&self, state: &TaskState, subtask: SubtaskId, epoch: i64) {
        let row = state.index_of(subtask).map(|index| &state.subtasks[index]);
        if let Some(row) = row.filter(|row| row.spec.barrier) {
            self.logs.attempt(state.task.id, row, epoch).header();
        }
    }
}
