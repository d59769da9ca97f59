//! How many requests a user may make in a minute, and what the answers tell of it.
//!
//! Counted after the login, whatever the user logs in with, so that nobody uses up what is somebody else's; who is nobody is
//! slowed down by [`throttle`](super::throttle). Each server counts for itself: the bound is for its own good.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, HeaderValue};

use crate::http::error::seconds;

/// Requests are counted for so long, beginning with the first.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Users in mind before those whose minute is over are forgotten.
const MANY: usize = 1_000;

/// The requests of late.
#[derive(Debug)]
pub struct Rates {
    limit: u32,
    windows: Mutex<HashMap<i64, Window>>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    used: u32,
}

/// What a user may still do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Requests in a minute.
    pub limit: u32,
    /// Requests that are left of them; `None` when this one is beyond them.
    pub remaining: Option<u32>,
    /// Until all are there again.
    pub reset: Duration,
}

impl Rates {
    /// So many requests a minute for each user; 0 for as many as they like.
    pub fn new(limit: u32) -> Self {
        Self {
            limit,
            windows: Mutex::default(),
        }
    }

    /// Counts a request of this user's; `None` when none are counted.
    pub fn take(&self, user: i64, now: Instant) -> Option<Allowance> {
        if self.limit == 0 {
            return None;
        }
        let is_over = |window: &Window| now.saturating_duration_since(window.began) >= WINDOW;
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MANY && !windows.contains_key(&user) {
            windows.retain(|_, window| !is_over(window));
        }
        let fresh = || Window { began: now, used: 0 };
        let window = windows.entry(user).or_insert_with(fresh);
        if is_over(window) {
            *window = fresh();
        }
        let remaining = self.limit.saturating_sub(window.used).checked_sub(1);
        window.used = window.used.saturating_add(u32::from(remaining.is_some()));
        Some(Allowance {
            limit: self.limit,
            remaining,
            reset: WINDOW.saturating_sub(now.saturating_duration_since(window.began)),
        })
    }
}

impl Allowance {
    /// Tells it in an answer, as OCP does.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let remaining = self.remaining.unwrap_or_default();
        headers.insert("ratelimit-limit", HeaderValue::from(self.limit));
        headers.insert("ratelimit-remaining", HeaderValue::from(remaining));
        headers.insert("ratelimit-reset", HeaderValue::from(seconds(self.reset)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(rates: &Rates, user: i64, now: Instant) -> Option<u32> {
        rates.take(user, now).unwrap().remaining
    }

    #[test]
    fn a_user_has_so_many_requests_a_minute() {
        let (rates, start) = (Rates::new(3), Instant::now());
        let later = |seconds| start + Duration::from_secs(seconds);
        let used: Vec<_> = [0, 1, 2, 3, 59].map(|at| left(&rates, 1, later(at))).into();
        assert_eq!(used, [Some(2), Some(1), Some(0), None, None]);
        assert_eq!(left(&rates, 2, later(3)), Some(2), "somebody else's");
        assert_eq!(rates.take(1, later(50)).unwrap().reset, Duration::from_secs(10));
        assert_eq!(
            left(&rates, 1, later(60)),
            Some(2),
            "what was refused does not count on"
        );
        assert_eq!(Rates::new(0).take(1, start), None);
    }

    #[test]
    fn users_whose_minute_is_over_are_forgotten() {
        let (rates, start) = (Rates::new(1), Instant::now());
        let many = i64::try_from(MANY).unwrap();
        for user in 0..many {
            let _ = rates.take(user, start);
        }
        assert_eq!(left(&rates, 0, start), None, "those who are counted still are");
        assert_eq!(left(&rates, many, start + WINDOW), Some(0));
        assert_eq!(rates.windows.lock().unwrap().len(), 1);
    }
}
