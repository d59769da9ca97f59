//! What time it is, in two senses. **Wall time** is shown: when something began, ended, or will. It may jump, because
//! somebody sets the clock. **Steady time** says when a retry is due: it is the wall time at which a wait began, advanced by
//! the monotonic clock, so that a jump makes no wait shorter or longer. Deadlines, graces and leases need neither: they are
//! timers on the monotonic clock.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::state::TaskId;

/// Where the wall time comes from: the system, unless a test has another.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl WallClock {
    /// The system's.
    pub fn system() -> Self {
        Self::new(|| chrono::Utc::now().timestamp_millis())
    }

    /// One that reads `now_ms`: milliseconds since the epoch.
    pub fn new(now_ms: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    /// Milliseconds since the epoch.
    pub fn now_ms(&self) -> i64 {
        (self.0)()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WallClock").field(&self.now_ms()).finish()
    }
}

/// An engine's clock.
pub(super) struct Clock {
    wall: WallClock,
    steady: Mutex<Steady>,
}

/// While tasks wait, steady time runs on from its anchor. Otherwise it follows the wall clock: a server whose clock is set
/// right then means by a time what other servers mean.
struct Steady {
    wall_ms: i64,
    read: Instant,
    waiting: HashSet<TaskId>,
}

impl Clock {
    pub fn new(wall: WallClock) -> Self {
        let steady = Steady {
            wall_ms: wall.now_ms(),
            read: Instant::now(),
            waiting: HashSet::new(),
        };
        Self {
            wall,
            steady: Mutex::new(steady),
        }
    }

    /// What is shown, in milliseconds since the epoch.
    pub fn wall_ms(&self) -> i64 {
        self.wall.now_ms()
    }

    /// What waits go by, in milliseconds since the epoch.
    pub fn steady_ms(&self) -> i64 {
        let mut steady = self.steady();
        if steady.waiting.is_empty() {
            (steady.wall_ms, steady.read) = (self.wall.now_ms(), Instant::now());
        }
        let passed = i64::try_from(steady.read.elapsed().as_millis()).unwrap_or(i64::MAX);
        steady.wall_ms.saturating_add(passed)
    }

    /// Steady time must run on while a task waits, from here until [`Self::release`].
    pub fn hold(&self, task: TaskId) {
        self.steady().waiting.insert(task);
    }

    /// The task does not wait any more.
    pub fn release(&self, task: TaskId) {
        self.steady().waiting.remove(&task);
    }

    /// No task does.
    pub fn release_all(&self) {
        self.steady().waiting.clear();
    }

    fn steady(&self) -> MutexGuard<'_, Steady> {
        self.steady.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn steady_time_runs_on_while_a_task_waits_and_follows_the_wall_clock_otherwise() {
        let wall = Arc::new(AtomicI64::new(1_000_000));
        let set = |to| wall.store(to, Ordering::SeqCst);
        let read = Arc::clone(&wall);
        let clock = Clock::new(WallClock::new(move || read.load(Ordering::SeqCst)));
        assert_eq!(clock.steady_ms(), 1_000_000);
        let (first, second) = (TaskId(1), TaskId(2));
        clock.hold(first);
        clock.hold(second);
        for wall in [9_000_000, 1] {
            set(wall);
            let before = clock.steady_ms();
            tokio::time::advance(Duration::from_millis(250)).await;
            assert_eq!((clock.steady_ms(), clock.wall_ms()), (before + 250, wall));
        }
        clock.release(first);
        assert_eq!(clock.steady_ms(), 1_000_500, "the second waits");
        clock.release(second);
        assert_eq!(clock.steady_ms(), 1);
        clock.hold(first);
        set(2);
        assert_eq!(clock.steady_ms(), 1);
        clock.release_all();
        assert_eq!(clock.steady_ms(), 2);
    }
}
