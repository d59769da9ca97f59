//! A moment on two clocks: deadlines are kept by the one that never jumps, and shown by the one on the wall.
//!
//! Both are read once, when the deadline is set: the proxy shows the same time for ever after, to the nanosecond.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A moment, ordered by the clock that never jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    instant: Instant,
    since_epoch: Duration,
}

impl Moment {
    /// This moment.
    pub fn now() -> Self {
        Self {
            instant: Instant::now(),
            since_epoch: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    /// This much later; `None` where a clock cannot tell so far.
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        Some(Self {
            instant: self.instant.checked_add(duration)?,
            since_epoch: self.since_epoch.checked_add(duration)?,
        })
    }

    /// Nanoseconds since the epoch, as the proxy shows times.
    pub fn epoch_nanos(self) -> u128 {
        self.since_epoch.as_nanos()
    }
}
