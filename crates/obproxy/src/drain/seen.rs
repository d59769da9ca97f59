//! What the looks of a drain have shown of one session. Times are durations since the drain began.

use std::time::Duration;

use obfleet_wire::agent::Straggler;

use crate::admin::Session;

/// One session, as it was at the last look.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    user: String,
    client: String,
    /// Whether it was between transactions, and its transaction count; these two change together.
    pub(super) idle: bool,
    trans_count: u64,
    /// The first look that showed it so.
    since: Duration,
    /// The look before that one; `None` when there was none.
    otherwise_at: Option<Duration>,
    /// Its rests before; `None` until one was seen from beginning to end.
    pub(super) habit: Option<Habit>,
    /// When it was last told to close.
    pub(super) closing: Option<Duration>,
}

/// How long the rests of a session were that were seen from beginning to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Habit {
    /// No rest was shorter.
    pub(super) shortest: Duration,
    /// No rest was longer.
    pub(super) longest: Duration,
}

impl Seen {
    /// At a look, which follows the one at `last_look` that left `before`.
    pub(super) fn at(now: Duration, session: &Session, last_look: Option<Duration>, before: Option<Self>) -> Self {
        let idle = session.between_transactions();
        match before {
            Some(same) if same.idle == idle && same.trans_count == session.trans_count => same,
            before => Self {
                user: session.full_user(),
                client: session.host.clone(),
                idle,
                trans_count: session.trans_count,
                since: now,
                otherwise_at: last_look,
                habit: before.as_ref().and_then(|before| before.habit_after(last_look, now)),
                closing: before.and_then(|before| before.closing),
            },
        }
    }

    /// How long it is in its present state, at least.
    pub(super) fn lasted(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }

    /// How long it is in its present state, at most; `None` when nobody saw that begin.
    pub(super) fn lasted_at_most(&self, now: Duration) -> Option<Duration> {
        self.otherwise_at.map(|at| now.saturating_sub(at))
    }

    /// It, as one that is cut.
    pub(super) fn straggler(&self, now: Duration) -> Straggler {
        Straggler {
            user: self.user.clone(),
            client: self.client.clone(),
            age_ms: u64::try_from(self.lasted(now).as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// The habit, now that its state has ended between the two looks.
    fn habit_after(&self, last_look: Option<Duration>, now: Duration) -> Option<Habit> {
        let (true, Some(at_least), Some(at_most)) = (
            self.idle,
            last_look.map(|last_look| self.lasted(last_look)),
            self.lasted_at_most(now),
        ) else {
            return self.habit;
        };
        Some(Habit {
            shortest: self.habit.map_or(at_least, |habit| habit.shortest.min(at_least)),
            longest: self.habit.map_or(at_most, |habit| habit.longest.max(at_most)),
        })
    }
}
