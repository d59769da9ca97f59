//! Steps between READY and their end, and how tasks end: read off the rows and events that pass the store.
//!
//! A *hop* is the way of a step from READY to RUNNING, durable: it begins with the commit that makes the step READY (or,
//! after a backoff, when that is over) and ends when the commit that claims it is on disk. Where one commit does both,
//! the hop is that commit.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use obfleet_engine::{
    Outcome, Owner, SubtaskId, SubtaskStatus, TaskId, TaskState, TaskStatus,
    core::{Change, Event},
    state::{Subtask, Task},
};
use obfleet_wire::time::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::short_times;

/// Instruments of steps and tasks.
pub struct StepMetrics {
    active: Mutex<HashMap<TaskId, ActiveTask>>,
    us: Mutex<Option<Owner>>,
    hops: Histogram,
    queue: Gauge,
    backing_off: Gauge,
    running: Gauge,
    orphans: Counter,
    failed_attempts: Family<Cause, Counter>,
    ended: Family<Ended, Counter>,
    tasks: Family<Status, Gauge>,
    unreadable: Gauge,
}

/// A task that has not come to rest.
#[derive(Debug, Default)]
struct ActiveTask {
    /// Nothing of it is claimed, so nothing of it waits in the queue.
    halted: bool,
    steps: HashMap<SubtaskId, Active>,
}

/// A step that keeps its task from coming to rest.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Active {
    /// READY, and to be claimed from then on.
    Ready(Instant),
    /// RUNNING or CANCELING under this epoch; `ours` in this process.
    Running { epoch: i64, ours: bool },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cause {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: &'static str,
}

/// How a task ended that stands still after a step of its way forward failed.
const FAILED: &str = "FAILED";

impl StepMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            active: Mutex::default(),
            us: Mutex::default(),
            hops: short_times(),
            queue: Gauge::default(),
            backing_off: Gauge::default(),
            running: Gauge::default(),
            orphans: Counter::default(),
            failed_attempts: Family::default(),
            ended: Family::default(),
            tasks: Family::default(),
            unreadable: Gauge::default(),
        };
        registry.register_with_unit(
            "hop_duration",
            "Time of steps from READY to RUNNING, both durable",
            Unit::Seconds,
            metrics.hops.clone(),
        );
        registry.register(
            "queue_depth",
            "Steps that are READY and wait to be claimed",
            metrics.queue.clone(),
        );
        registry.register(
            "steps_backing_off",
            "Steps that are READY but wait for their next try",
            metrics.backing_off.clone(),
        );
        registry.register(
            "running_attempts",
            "Attempts under way in this server",
            metrics.running.clone(),
        );
        registry.register(
            "orphans_taken_over",
            "Attempts of a dead server that this one took over",
            metrics.orphans.clone(),
        );
        registry.register(
            "failed_attempts",
            "Attempts that ended badly, by cause",
            metrics.failed_attempts.clone(),
        );
        registry.register(
            "tasks_ended",
            "Tasks that came to rest; FAILED and STUCK (a rollback that failed) need an operator",
            metrics.ended.clone(),
        );
        registry.register(
            "tasks",
            "Tasks in the database that are under way or stand still",
            metrics.tasks.clone(),
        );
        registry.register(
            "unreadable_tasks",
            "Running tasks that this server leaves alone because it cannot read their rows",
            metrics.unreadable.clone(),
        );
        metrics
    }

    fn active(&self) -> MutexGuard<'_, HashMap<TaskId, ActiveTask>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who this process is to the engine, since its last lease.
    pub(super) fn begin_as(&self, owner: &Owner) {
        *self.us.lock().unwrap_or_else(PoisonError::into_inner) = Some(owner.clone());
    }

    /// A commit that began then is durable now: the task, the rows that changed, and the events.
    pub(super) fn committed<'a>(
        &self,
        task: &Task,
        rows: impl IntoIterator<Item = &'a Subtask>,
        events: &[Event],
        begun: Instant,
    ) {
        events.iter().for_each(|event| self.count_event(&event.change));
        let mut active = self.active();
        let known = active.entry(task.id).or_default();
        let halted = task.halt.is_some();
        if std::mem::replace(&mut known.halted, halted) && !halted {
            // They could not be claimed before.
            for step in known.steps.values_mut() {
                if let Active::Ready(due) = step {
                    *due = begun.max(*due);
                }
            }
        }
        let steps = &mut known.steps;
        for row in rows {
            let before = steps.get(&row.id).copied();
            let Some(now) = self.active_of(row, begun) else {
                steps.remove(&row.id);
                continue;
            };
            match (before, now) {
                (Some(Active::Ready(_)), Active::Ready(_)) => continue,
                (Some(Active::Ready(since)), Active::Running { ours: true, .. }) => self.hopped(since),
                (Some(Active::Running { epoch, .. }), Active::Running { epoch: now, .. }) if epoch == now => {}
                (_, Active::Running { ours: true, .. }) => self.hopped(begun),
                _ => {}
            }
            steps.insert(row.id, now);
        }
        if is_at_rest(task) {
            active.remove(&task.id);
        }
    }

    /// The rows of a task as they were read: what was known of it may be old.
    pub(super) fn loaded(&self, state: &TaskState) {
        let mut active = self.active();
        let known = active.remove(&state.task.id).unwrap_or_default().steps;
        if is_at_rest(&state.task) {
            return;
        }
        let now = Instant::now();
        let steps = state.subtasks.iter().filter_map(|row| {
            let seen = self.active_of(row, now)?;
            Some((
                row.id,
                match (known.get(&row.id), seen) {
                    (Some(before @ Active::Ready(_)), Active::Ready(_)) => *before,
                    _ => seen,
                },
            ))
        });
        let task = ActiveTask {
            halted: state.task.halt.is_some(),
            steps: steps.collect(),
        };
        active.insert(state.task.id, task);
    }

    fn active_of(&self, row: &Subtask, now: Instant) -> Option<Active> {
        match row.status {
            SubtaskStatus::Ready => {
                let now_ms = Timestamp::now().millis();
                let wait = row.waits_until(now_ms).map_or(0, |at| at - now_ms);
                Some(Active::Ready(
                    now + Duration::from_millis(u64::try_from(wait).unwrap_or(0)),
                ))
            }
            SubtaskStatus::Running | SubtaskStatus::Canceling => Some(Active::Running {
                epoch: row.epoch,
                ours: row.owner.is_some() && row.owner == *self.us.lock().unwrap_or_else(PoisonError::into_inner),
            }),
            SubtaskStatus::Pending | SubtaskStatus::Failed | SubtaskStatus::Successful => None,
        }
    }

    fn hopped(&self, since: Instant) {
        self.hops.observe(since.elapsed().as_secs_f64());
    }

    fn count_event(&self, change: &Change) {
        match change {
            Change::SubOrphaned { .. } => {
                self.orphans.inc();
            }
            Change::SubFailed { failure, .. } => {
                let cause = failure.cause.as_str();
                self.failed_attempts.get_or_create(&Cause { cause }).inc();
            }
            Change::TaskFailed { outcome } => {
                let outcome = outcome.map_or(FAILED, |outcome| outcome.as_str());
                self.ended.get_or_create(&Ended { outcome }).inc();
            }
            Change::TaskDone { outcome } => {
                let outcome = outcome.as_str();
                self.ended.get_or_create(&Ended { outcome }).inc();
            }
            Change::TaskAbandoned { .. } => {
                let outcome = Outcome::Abandoned.as_str();
                self.ended.get_or_create(&Ended { outcome }).inc();
            }
            _ => {}
        }
    }

    /// So many tasks have this status now; `None` when nobody knows.
    pub fn stand(&self, status: TaskStatus, count: Option<u64>) {
        let key = Status {
            status: status.as_str(),
        };
        match count {
            Some(count) => {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                self.tasks.get_or_create(&key).set(count);
            }
            None => {
                self.tasks.remove(&key);
            }
        }
    }

    /// So many tasks are left alone.
    pub fn left_alone(&self, count: usize) {
        self.unreadable.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Brings the gauges up to date, for a scrape.
    pub(super) fn count(&self) {
        let now = Instant::now();
        let (mut queue, mut backing_off, mut running) = (0, 0, 0);
        let active = self.active();
        let steps = active
            .values()
            .flat_map(|task| task.steps.values().map(|step| (task.halted, step)));
        for (halted, step) in steps {
            match step {
                Active::Ready(_) if halted => {}
                Active::Ready(due) if *due <= now => queue += 1,
                Active::Ready(_) => backing_off += 1,
                Active::Running { ours: true, .. } => running += 1,
                Active::Running { .. } => {}
            }
        }
        self.queue.set(queue);
        self.backing_off.set(backing_off);
        self.running.set(running);
    }
}

/// Whether nothing of it is at work or to be done, until an operator says so.
fn is_at_rest(task: &Task) -> bool {
    task.status != TaskStatus::Running
}

#[cfg(test)]
mod tests;
