//! Which sessions to close at a look: pure, so that every promise of the drain can be tested.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use obfleet_wire::agent::{DrainPolicy, DrainReport, Straggler};

use crate::admin::Session;

/// A session is idle only when two looks at least this far apart agree on it.
const CONFIRM_AFTER: Duration = Duration::from_millis(200);

/// A session still there this long after it was closed is closed again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What to do after a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// No session is left.
    Empty,
    /// Close these; none of them is inside a transaction. May be empty.
    Close(Vec<u64>),
    /// The window is over: close all that is left.
    Cut(Vec<u64>),
}

/// What is known of a session from earlier looks.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Whether it was between transactions, and its transaction count; these two change together.
    idle: bool,
    trans_count: u64,
    /// The first look that showed it so.
    since: Duration,
    /// When it was last told to close.
    closing: Option<Duration>,
}

/// Decides look by look. Times are durations since the drain began.
#[derive(Debug)]
pub struct DrainPlanner {
    policy: DrainPolicy,
    seen: HashMap<u64, Seen>,
    /// When sessions were closed within the last second.
    recent: VecDeque<Duration>,
    last_look: Duration,
    closed_at_boundary: u64,
    cut: Option<Vec<Straggler>>,
}

impl DrainPlanner {
    /// A drain that begins now.
    pub fn new(policy: DrainPolicy) -> Self {
        Self {
            policy,
            seen: HashMap::new(),
            recent: VecDeque::new(),
            last_look: Duration::ZERO,
            closed_at_boundary: 0,
            cut: None,
        }
    }

    /// What to do with the sessions there are now.
    pub fn look(&mut self, now: Duration, sessions: &[Session]) -> Step {
        self.remember(now, sessions);
        if sessions.is_empty() {
            return Step::Empty;
        }
        if self.cut.is_some() || now >= Duration::from_millis(self.policy.window_ms) {
            return self.cut(now, sessions);
        }
        let mut ready: Vec<(Duration, u64)> = self
            .seen
            .iter()
            .filter(|(_, seen)| seen.idle && now.saturating_sub(seen.since) >= CONFIRM_AFTER)
            .filter(|(_, seen)| seen.closing.is_none_or(|at| now.saturating_sub(at) >= RETRY_AFTER))
            .map(|(id, seen)| (seen.since, *id))
            .collect();
        ready.sort_unstable();
        ready.truncate(self.allowance(now));
        self.last_look = now;
        let ids: Vec<u64> = ready.into_iter().map(|(_, id)| id).collect();
        for id in &ids {
            self.recent.push_back(now);
            if let Some(seen) = self.seen.get_mut(id) {
                seen.closing = Some(now);
            }
        }
        Step::Close(ids)
    }

    /// A session of [`Step::Close`] was there and was closed.
    pub fn closed(&mut self) {
        self.closed_at_boundary += 1;
    }

    /// What was done so far; its duration is the caller's to fill in.
    pub fn report(&self) -> DrainReport {
        DrainReport {
            closed_at_boundary: self.closed_at_boundary,
            cut: self.cut.clone().unwrap_or_default(),
            took_ms: 0,
        }
    }

    fn remember(&mut self, now: Duration, sessions: &[Session]) {
        let before = std::mem::take(&mut self.seen);
        for session in sessions {
            let fresh = Seen {
                idle: session.between_transactions(),
                trans_count: session.trans_count,
                since: now,
                closing: None,
            };
            let same = |old: &&Seen| old.idle == fresh.idle && old.trans_count == fresh.trans_count;
            let seen = before.get(&session.id).filter(same).copied().unwrap_or(fresh);
            self.seen.insert(session.id, seen);
        }
    }

    /// How many may be closed at this look: no more than the policy's number within any second, spread over it.
    fn allowance(&mut self, now: Duration) -> usize {
        while self
            .recent
            .front()
            .is_some_and(|at| now.saturating_sub(*at) >= Duration::from_secs(1))
        {
            self.recent.pop_front();
        }
        let pace = u128::from(self.policy.closes_per_second);
        let share = (pace * now.saturating_sub(self.last_look).as_micros()).div_ceil(1_000_000);
        let left = pace.saturating_sub(self.recent.len() as u128);
        usize::try_from(share.min(left)).unwrap_or(usize::MAX)
    }

    /// Ends the window: at the first look after it, sessions inside a transaction are listed.
    fn cut(&mut self, now: Duration, sessions: &[Session]) -> Step {
        if self.cut.is_none() {
            let (idle, inside): (Vec<_>, Vec<_>) = sessions.iter().partition(|session| session.between_transactions());
            self.closed_at_boundary += idle
                .iter()
                .filter(|session| self.seen[&session.id].closing.is_none())
                .count() as u64;
            let straggler = |session: &&Session| Straggler {
                user: session.full_user(),
                client: session.host.clone(),
                age_ms: u64::try_from((now - self.seen[&session.id].since).as_millis()).unwrap_or(u64::MAX),
            };
            self.cut = Some(inside.iter().map(straggler).collect());
        }
        Step::Cut(sessions.iter().map(|session| session.id).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: DrainPolicy = DrainPolicy {
        window_ms: 10_000,
        closes_per_second: 10,
    };

    fn session(id: u64, idle: bool, trans_count: u64) -> Session {
        Session {
            id,
            user: "app".into(),
            host: format!("10.0.0.1:{id}"),
            trans_count,
            state: if idle { "MCS_KEEP_ALIVE" } else { "MCS_ACTIVE_READER" }.into(),
            tenant: "t".into(),
            cluster: "c".into(),
            pid: 1,
        }
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn closes_after_two_looks_that_agree() {
        let mut planner = DrainPlanner::new(POLICY);
        assert_eq!(planner.look(at(0), &[session(1, true, 5)]), Step::Close(vec![]));
        assert_eq!(planner.look(at(100), &[session(1, true, 5)]), Step::Close(vec![]));
        assert_eq!(planner.look(at(200), &[session(1, true, 5)]), Step::Close(vec![1]));
        planner.closed();
        assert_eq!(
            planner.look(at(300), &[session(1, true, 5)]),
            Step::Close(vec![]),
            "it is on its way"
        );
        assert_eq!(planner.look(at(400), &[]), Step::Empty);
        assert_eq!(
            planner.report(),
            DrainReport {
                closed_at_boundary: 1,
                ..DrainReport::default()
            }
        );
    }

    #[test]
    fn a_transaction_between_the_looks_starts_the_wait_again() {
        let mut planner = DrainPlanner::new(POLICY);
        planner.look(at(0), &[session(1, true, 5)]);
        assert_eq!(planner.look(at(200), &[session(1, true, 6)]), Step::Close(vec![]));
        assert_eq!(planner.look(at(300), &[session(1, false, 6)]), Step::Close(vec![]));
        assert_eq!(planner.look(at(400), &[session(1, true, 7)]), Step::Close(vec![]));
        assert_eq!(planner.look(at(600), &[session(1, true, 7)]), Step::Close(vec![1]));
    }

    #[test]
    fn lists_who_is_still_inside_and_then_cuts() {
        let mut planner = DrainPlanner::new(POLICY);
        planner.look(at(4_000), &[session(1, false, 5)]);
        planner.look(at(9_900), &[session(1, false, 5), session(2, true, 0)]);
        let step = planner.look(at(10_000), &[session(1, false, 5), session(2, true, 0)]);
        assert_eq!(step, Step::Cut(vec![1, 2]));
        let report = planner.report();
        assert_eq!(report.closed_at_boundary, 1);
        assert_eq!(
            report.cut,
            [Straggler {
                user: "app@t#c".into(),
                client: "10.0.0.1:1".into(),
                age_ms: 6_000
            }]
        );
        assert_eq!(planner.look(at(10_100), &[session(1, false, 5)]), Step::Cut(vec![1]));
        assert_eq!(planner.report(), report, "listed once");
    }

    proptest! {
        /// Random sessions that go in and out of transactions and disappear a look after they are closed.
        #[test]
        fn keeps_every_promise(
            pace in 0u32..30,
            gaps in proptest::collection::vec(20u64..400, 1..80),
            moves in proptest::collection::vec((0u64..12, 0u8..3), 0..300),
        ) {
            let policy = DrainPolicy { window_ms: 8_000, closes_per_second: pace };
            let mut planner = DrainPlanner::new(policy);
            let mut world: HashMap<u64, Session> = (0..12).map(|id| (id, session(id, id % 2 == 0, 0))).collect();
            let mut history: HashMap<u64, Vec<(u64, bool, u64)>> = HashMap::new();
            let mut closes: Vec<u64> = Vec::new();
            let mut moves = moves.into_iter();
            let mut now = 0;
            for gap in gaps {
                now += gap;
                for (id, change) in moves.by_ref().take(4) {
                    if let Some(session) = world.get_mut(&id) {
                        let idle = session.between_transactions();
                        *session = self::session(id, !idle, session.trans_count + u64::from(!idle));
                        if change == 0 {
                            world.remove(&id);
                        }
                    }
                }
                let sessions: Vec<Session> = world.values().cloned().collect();
                for session in &sessions {
                    let entry = (now, session.between_transactions(), session.trans_count);
                    history.entry(session.id).or_default().push(entry);
                }
                match planner.look(at(now), &sessions) {
                    Step::Empty => prop_assert!(sessions.is_empty()),
                    Step::Close(ids) => {
                        prop_assert!(now < policy.window_ms);
                        for id in ids {
                            let looks = &history[&id];
                            let (_, idle, count) = looks[looks.len() - 1];
                            prop_assert!(idle, "closed inside a transaction");
                            let since = looks.iter().rev().take_while(|l| l.1 && l.2 == count).last().map(|l| l.0);
                            prop_assert!(since.is_some_and(|since| now - since >= 200), "closed after one look");
                            closes.push(now);
                            planner.closed();
                            world.remove(&id);
                        }
                    }
                    Step::Cut(ids) => {
                        prop_assert!(now >= policy.window_ms);
                        prop_assert_eq!(ids.len(), sessions.len());
                        break;
                    }
                }
            }
            for first in &closes {
                let within = closes.iter().filter(|t| **t >= *first && **t < first + 1_000).count();
                prop_assert!(within <= pace as usize, "{} closes in a second", within);
            }
        }
    }
}
