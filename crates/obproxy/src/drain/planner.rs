//! Which sessions to close at a look: pure, so that every promise of the drain can be tested.
//!
//! A drain with the window `W` has three parts:
//!
//! 1. **The window**, until `W`. A session is closed when two looks at least 200 ms apart found it at rest with the same
//!    transaction count, and only so many a second. Who is inside a transaction is left to end it. As long as there is
//!    time for it, a session is left to the best moment: between the look and the close lie some milliseconds, in which
//!    it may wake up, and one that always rests for a quarter of a second would be closed at the very end of its rest.
//!    So it is closed early in a rest, or when it rests for much longer than it used to.
//! 2. **The hurry**, for a few seconds more. Who is still there is long inside one transaction, or rests but shortly.
//!    Looks come quickly now, so a rest is seen when it begins: a session is closed as soon as a second look confirms
//!    that its rest has just begun, because that is when it is least likely to end. There is no pace.
//! 3. **The last call**, for `W` again: a session is closed at the first look that finds it at rest.
//!
//! From `W` on, a session inside a transaction is cut when that has been seen for `W`, and not before. Whoever was inside
//! when the last call began has rested or is overdue at its end, so nothing shorter than `W` is cut, but for sessions
//! whose rests are too short to be seen. What is left then is cut, too: a drain ends.

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    time::Duration,
};

use obfleet_wire::agent::{DrainPolicy, DrainReport, Straggler};

use super::seen::{Habit, Seen};
use crate::admin::Session;

/// In the window, a session is at rest only when two looks at least this far apart agree on it.
const CONFIRM_AFTER: Duration = Duration::from_millis(200);

/// A session of which no whole rest was seen yet is watched for this long, but not for more than a tenth of the window.
const LEARN_FOR: Duration = Duration::from_secs(3);

/// In the hurry: between two statements of a client that is at work there is less.
const CONFIRM_IN_HURRY_AFTER: Duration = Duration::from_millis(10);

/// In the hurry: a rest not older than this has just begun.
const JUST_BEGUN: Duration = Duration::from_millis(100);

/// Length of the hurry, but not more than half a window.
const HURRY: Duration = Duration::from_secs(5);

/// A session still there this long after it was closed is closed again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How long sessions that were cut may take to disappear: the proxy needs up to 0.3 s for an idle one.
const CUT_GRACE: Duration = Duration::from_secs(2);

/// Between two looks in the window: short against it, long against the cost of listing thousands of sessions.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Between two looks afterwards: short against the rests of a busy client.
const QUICK_LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The closes of a second are spread over it: no more than a tenth of them within this.
const PACE_SLICE: Duration = Duration::from_millis(100);

/// What to do after a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// No session is left.
    Empty,
    /// Close these, in this order, while the look is fresh, and tell each to [`DrainPlanner::closing`] first. May be
    /// empty.
    Close(Vec<u64>),
    /// Sessions are left that were told to close long ago: whoever ends the process ends them.
    GiveUp,
}

/// How far a drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Window,
    Hurry,
    LastCall,
    Over,
    GivenUp,
}

/// Decides look by look. Times are durations since the drain began.
#[derive(Debug)]
pub struct DrainPlanner {
    policy: DrainPolicy,
    seen: HashMap<u64, Seen>,
    /// When sessions were closed within the last second.
    recent: VecDeque<Duration>,
    last_look: Option<Duration>,
    closed_at_boundary: u64,
    cut: Vec<(u64, Straggler)>,
}

/// How long a drain with this policy takes at most.
pub fn longest(policy: DrainPolicy) -> Duration {
    end(policy).saturating_add(CUT_GRACE)
}

fn window(policy: DrainPolicy) -> Duration {
    Duration::from_millis(policy.window_ms)
}

fn hurry_ends(policy: DrainPolicy) -> Duration {
    window(policy).saturating_add(HURRY.min(window(policy) / 2))
}

fn end(policy: DrainPolicy) -> Duration {
    hurry_ends(policy).saturating_add(window(policy))
}

fn part(policy: DrainPolicy, now: Duration) -> Part {
    let ends = [
        (window(policy), Part::Window),
        (hurry_ends(policy), Part::Hurry),
        (end(policy), Part::LastCall),
        (longest(policy), Part::Over),
    ];
    ends.into_iter()
        .find(|(end, _)| now < *end)
        .map_or(Part::GivenUp, |(_, part)| part)
}

impl DrainPlanner {
    /// A drain that begins now.
    pub fn new(policy: DrainPolicy) -> Self {
        Self {
            policy,
            seen: HashMap::new(),
            recent: VecDeque::new(),
            last_look: None,
            closed_at_boundary: 0,
            cut: Vec::new(),
        }
    }

    /// What to do with the sessions there are now.
    pub fn look(&mut self, now: Duration, sessions: &[Session]) -> Step {
        self.remember(now, sessions);
        let part = part(self.policy, now);
        if sessions.is_empty() {
            return Step::Empty;
        }
        if part == Part::GivenUp {
            return Step::GiveUp;
        }
        let hasty = sessions.len() as u128 > self.closes_left(now);
        let mut ready: Vec<(bool, Reverse<Duration>, u64)> = self
            .seen
            .iter()
            .filter(|(_, seen)| seen.closing.is_none_or(|at| now.saturating_sub(at) >= RETRY_AFTER))
            .filter(|(_, seen)| self.is_ready(part, hasty, now, seen))
            .map(|(id, seen)| (!seen.idle, Reverse(seen.lasted(now)), *id))
            .collect();
        // Who has rested longest first: it is the least likely to wake up. Who is inside a transaction last.
        ready.sort_unstable();
        if part == Part::Window {
            ready.truncate(self.allowance(now));
        }
        Step::Close(ready.into_iter().map(|(_, _, id)| id).collect())
    }

    /// A session of [`Step::Close`] is told to close now: it is counted, or listed if it is inside a transaction.
    pub fn closing(&mut self, id: u64, now: Duration) {
        let Some(seen) = self.seen.get_mut(&id) else { return };
        self.recent.push_back(now);
        if seen.closing.replace(now).is_some() {
            return;
        }
        if seen.idle {
            self.closed_at_boundary += 1;
        } else {
            self.cut.push((id, seen.straggler(now)));
        }
    }

    /// The session had left by itself before it was told to close.
    pub fn had_left(&mut self, id: u64) {
        let Some(seen) = self.seen.remove(&id) else { return };
        if seen.idle {
            self.closed_at_boundary = self.closed_at_boundary.saturating_sub(1);
        }
        self.cut.retain(|(cut, _)| *cut != id);
    }

    /// How long to wait until the next look.
    pub fn look_interval(&self, now: Duration) -> Duration {
        match part(self.policy, now) {
            Part::Window => LOOK_INTERVAL,
            _ => QUICK_LOOK_INTERVAL,
        }
    }

    /// What was done so far; its duration is the caller's to fill in.
    pub fn report(&self) -> DrainReport {
        DrainReport {
            closed_at_boundary: self.closed_at_boundary,
            cut: self.cut.iter().map(|(_, straggler)| straggler.clone()).collect(),
            took_ms: 0,
        }
    }

    fn remember(&mut self, now: Duration, sessions: &[Session]) {
        let mut before = std::mem::take(&mut self.seen);
        let last_look = self.last_look.replace(now);
        for session in sessions {
            let seen = Seen::at(now, session, last_look, before.remove(&session.id));
            self.seen.insert(session.id, seen);
        }
    }

    fn is_ready(&self, part: Part, hasty: bool, now: Duration, seen: &Seen) -> bool {
        let lasted = seen.lasted(now);
        if !seen.idle {
            return part == Part::Over || part > Part::Window && lasted >= window(self.policy);
        }
        let confirmed = lasted >= CONFIRM_AFTER && (hasty || self.sleeps_well(now, seen));
        let just_begun = seen.lasted_at_most(now).is_some_and(|lasted| lasted <= JUST_BEGUN);
        match part {
            Part::Window => confirmed,
            Part::Hurry => confirmed || just_begun && lasted >= CONFIRM_IN_HURRY_AFTER,
            Part::LastCall | Part::Over | Part::GivenUp => true,
        }
    }

    /// Whether nothing speaks for a session at rest to wake up soon.
    fn sleeps_well(&self, now: Duration, seen: &Seen) -> bool {
        match seen.habit {
            None => seen.lasted(now) >= LEARN_FOR.min(window(self.policy) / 10),
            Some(Habit { shortest, longest }) => {
                let early = seen.lasted_at_most(now).is_some_and(|lasted| lasted <= shortest / 2);
                early || seen.lasted(now) >= longest.saturating_mul(2)
            }
        }
    }

    /// How many sessions the pace allows to close until the last call. With more than these there is no time to wait
    /// for the best moment: they would all be closed at once then.
    fn closes_left(&self, now: Duration) -> u128 {
        let left = hurry_ends(self.policy).saturating_sub(now);
        u128::from(self.policy.closes_per_second) * left.as_millis() / 1000
    }

    /// How many may be closed at this look: no more than the policy's number within any second, spread over it.
    fn allowance(&mut self, now: Duration) -> usize {
        let pace = self.policy.closes_per_second as usize;
        let since = |at: &Duration| now.saturating_sub(*at);
        while self
            .recent
            .front()
            .is_some_and(|at| since(at) >= Duration::from_secs(1))
        {
            self.recent.pop_front();
        }
        let in_slice = self.recent.iter().rev().take_while(|at| since(at) < PACE_SLICE).count();
        let in_second = pace.saturating_sub(self.recent.len());
        in_second.min(pace.div_ceil(10).saturating_sub(in_slice))
    }
}

#[cfg(test)]
mod tests;
