//! Which sessions to close at a look: pure, so that every promise of the drain can be tested.
//!
//! A drain with the window `W` has three parts:
//!
//! 1. **The window**, until `W`. A session is closed when two looks at least 200 ms apart found it at rest with the same
//!    transaction count, and only so many a second. Who is inside a transaction is left to end it.
//! 2. **The hurry**, for a few seconds more. Who is still there is long inside one transaction, or never rests for
//!    200 ms. Looks come quickly now, so a rest is seen when it begins: a session is closed as soon as a second look
//!    confirms that its rest has just begun, because that is when it is least likely to end. There is no pace.
//! 3. **The last call**, for `W` again: a session is closed at the first look that finds it at rest.
//!
//! From `W` on, a session inside a transaction is cut when that has been seen for `W`, and not before. Whoever was inside
//! when the last call began has rested or is overdue at its end, so nothing shorter than `W` is cut, but for sessions
//! whose rests are too short to be seen. What is left then is cut, too: a drain ends.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use obfleet_wire::agent::{DrainPolicy, DrainReport, Straggler};

use crate::admin::Session;

/// In the window, a session is at rest only when two looks at least this far apart agree on it.
const CONFIRM_AFTER: Duration = Duration::from_millis(200);

/// The same for a rest whose beginning was not seen, at the first look: it may be about to end. Who rests for less than
/// this shows when, and is closed early in one of its next rests.
const CONFIRM_UNSEEN_AFTER: Duration = Duration::from_secs(1);

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

/// What is known of a session from earlier looks.
#[derive(Debug, Clone)]
struct Seen {
    user: String,
    client: String,
    /// Whether it was between transactions, and its transaction count; these two change together.
    idle: bool,
    trans_count: u64,
    /// The first look that showed it so.
    since: Duration,
    /// The look before that one; `None` when there was none.
    otherwise_at: Option<Duration>,
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
        let mut ready: Vec<(bool, Duration, u64)> = self
            .seen
            .iter()
            .filter(|(_, seen)| seen.closing.is_none_or(|at| now.saturating_sub(at) >= RETRY_AFTER))
            .filter(|(_, seen)| self.is_ready(part, now, seen))
            .map(|(id, seen)| (!seen.idle, seen.since, *id))
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
            let straggler = Straggler {
                user: seen.user.clone(),
                client: seen.client.clone(),
                age_ms: u64::try_from(now.saturating_sub(seen.since).as_millis()).unwrap_or(u64::MAX),
            };
            self.cut.push((id, straggler));
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
            let idle = session.between_transactions();
            let old = before.remove(&session.id);
            let seen = match old {
                Some(old) if old.idle == idle && old.trans_count == session.trans_count => old,
                old => Seen {
                    user: session.full_user(),
                    client: session.host.clone(),
                    idle,
                    trans_count: session.trans_count,
                    since: now,
                    otherwise_at: last_look,
                    closing: old.and_then(|old| old.closing),
                },
            };
            self.seen.insert(session.id, seen);
        }
    }

    fn is_ready(&self, part: Part, now: Duration, seen: &Seen) -> bool {
        let lasted = now.saturating_sub(seen.since);
        if !seen.idle {
            return part == Part::Over || part > Part::Window && lasted >= window(self.policy);
        }
        let confirm_after = match seen.otherwise_at {
            Some(_) => CONFIRM_AFTER,
            None => CONFIRM_UNSEEN_AFTER,
        };
        let just_begun = seen.otherwise_at.is_some_and(|at| now.saturating_sub(at) <= JUST_BEGUN);
        match part {
            Part::Window => lasted >= confirm_after,
            Part::Hurry => lasted >= confirm_after || just_begun && lasted >= CONFIRM_IN_HURRY_AFTER,
            Part::LastCall | Part::Over | Part::GivenUp => true,
        }
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

    /// Looks, and closes what it is told to.
    fn look(planner: &mut DrainPlanner, ms: u64, sessions: &[Session]) -> Step {
        let step = planner.look(at(ms), sessions);
        if let Step::Close(ids) = &step {
            ids.iter().for_each(|id| planner.closing(*id, at(ms)));
        }
        step
    }

    fn none() -> Step {
        Step::Close(vec![])
    }

    #[test]
    fn closes_after_two_looks_that_agree() {
        let mut planner = DrainPlanner::new(POLICY);
        look(&mut planner, 0, &[session(1, false, 4)]);
        assert_eq!(look(&mut planner, 100, &[session(1, true, 5)]), none());
        assert_eq!(look(&mut planner, 200, &[session(1, true, 5)]), none());
        assert_eq!(look(&mut planner, 300, &[session(1, true, 5)]), Step::Close(vec![1]));
        assert_eq!(
            look(&mut planner, 400, &[session(1, true, 5)]),
            none(),
            "it is on its way"
        );
        assert_eq!(
            look(&mut planner, 1_400, &[session(1, true, 5)]),
            Step::Close(vec![1]),
            "once more"
        );
        assert_eq!(look(&mut planner, 1_500, &[]), Step::Empty);
        assert_eq!(
            planner.report(),
            DrainReport {
                closed_at_boundary: 1,
                ..DrainReport::default()
            },
            "counted once"
        );
    }

    #[test]
    fn a_rest_whose_beginning_was_not_seen_is_watched_for_longer() {
        let mut planner = DrainPlanner::new(POLICY);
        for ms in [0, 100, 500, 900] {
            assert_eq!(look(&mut planner, ms, &[session(1, true, 5)]), none(), "{ms}");
        }
        assert_eq!(look(&mut planner, 1_000, &[session(1, true, 5)]), Step::Close(vec![1]));
    }

    #[test]
    fn a_transaction_between_the_looks_starts_the_wait_again() {
        let mut planner = DrainPlanner::new(POLICY);
        look(&mut planner, 0, &[session(1, true, 5)]);
        assert_eq!(look(&mut planner, 200, &[session(1, true, 6)]), none());
        assert_eq!(look(&mut planner, 300, &[session(1, false, 6)]), none());
        assert_eq!(look(&mut planner, 400, &[session(1, true, 7)]), none());
        assert_eq!(look(&mut planner, 600, &[session(1, true, 7)]), Step::Close(vec![1]));
    }

    #[test]
    fn in_the_hurry_a_session_is_closed_when_its_rest_has_just_begun() {
        let mut planner = DrainPlanner::new(POLICY);
        look(&mut planner, 9_980, &[session(1, true, 5), session(2, false, 5)]);
        // The first may wake up any moment; the second has just fallen asleep.
        let sessions = [session(1, true, 5), session(2, true, 6)];
        assert_eq!(look(&mut planner, 10_000, &sessions), none(), "one look is not enough");
        assert_eq!(look(&mut planner, 10_020, &sessions), Step::Close(vec![2]));
        look(&mut planner, 10_100, &[session(1, false, 5)]);
        look(&mut planner, 10_120, &[session(1, true, 6)]);
        assert_eq!(look(&mut planner, 10_140, &[session(1, true, 6)]), Step::Close(vec![1]));
        assert_eq!(planner.report().closed_at_boundary, 2);
    }

    #[test]
    fn at_the_last_call_any_rest_will_do() {
        let mut planner = DrainPlanner::new(POLICY);
        look(&mut planner, 14_980, &[session(1, false, 5)]);
        assert_eq!(look(&mut planner, 15_000, &[session(1, true, 6)]), Step::Close(vec![1]));
    }

    #[test]
    fn a_transaction_is_cut_when_it_has_lasted_as_long_as_the_window() {
        let mut planner = DrainPlanner::new(POLICY);
        let sessions = [session(1, false, 5), session(2, false, 0)];
        look(&mut planner, 0, &sessions[..1]);
        look(&mut planner, 4_000, &sessions);
        assert_eq!(look(&mut planner, 9_990, &sessions), none());
        assert_eq!(look(&mut planner, 10_000, &sessions), Step::Close(vec![1]));
        assert_eq!(look(&mut planner, 13_990, &sessions[1..]), none(), "too young");
        assert_eq!(look(&mut planner, 14_010, &sessions[1..]), Step::Close(vec![2]));
        let straggler = |id, age_ms| Straggler {
            user: "app@t#c".into(),
            client: format!("10.0.0.1:{id}"),
            age_ms,
        };
        assert_eq!(planner.report().cut, [straggler(1, 10_000), straggler(2, 10_010)]);
        planner.had_left(2);
        assert_eq!(planner.report().cut, [straggler(1, 10_000)]);
    }

    #[test]
    fn who_is_never_seen_to_rest_is_cut_at_the_end() {
        let mut planner = DrainPlanner::new(POLICY);
        for ms in (0..25_000).step_by(20) {
            assert_eq!(look(&mut planner, ms, &[session(1, false, ms)]), none());
        }
        assert_eq!(
            look(&mut planner, 25_000, &[session(1, false, 0)]),
            Step::Close(vec![1])
        );
        assert_eq!(planner.report().cut.len(), 1);
        assert_eq!(look(&mut planner, 27_000, &[session(1, false, 0)]), Step::GiveUp);
        assert_eq!(longest(POLICY), at(27_000));
    }

    /// What a client does, over and over.
    #[derive(Debug, Clone, Copy)]
    struct Habit {
        inside: u64,
        rest: u64,
        phase: u64,
    }

    impl Habit {
        /// Its session at this time, in milliseconds, and when its present state began.
        fn at(self, id: u64, ms: u64) -> (Session, u64) {
            let cycle = self.inside + self.rest;
            let (number, within) = ((ms + self.phase) / cycle, (ms + self.phase) % cycle);
            let idle = within >= self.inside;
            let lasted = if idle { within - self.inside } else { within };
            (session(id, idle, number + u64::from(idle)), ms.saturating_sub(lasted))
        }
    }

    fn habits() -> impl Strategy<Value = Vec<Habit>> {
        let lengths = || prop_oneof![1u64..50, 50u64..500, 500u64..6_000];
        let habit = (lengths(), lengths(), 0u64..10_000);
        proptest::collection::vec(
            habit.prop_map(|(inside, rest, phase)| Habit { inside, rest, phase }),
            1..12,
        )
    }

    proptest! {
        /// Clients of all habits, looks at uneven times, and closes that sometimes do not help.
        #[test]
        fn keeps_every_promise(
            pace in 0u32..30,
            habits in habits(),
            delays in proptest::collection::vec(0u64..60, 1..50),
            deaf in 0u64..12,
        ) {
            const WINDOW: u64 = 2_000;
            let policy = DrainPolicy { window_ms: WINDOW, closes_per_second: pace };
            let mut planner = DrainPlanner::new(policy);
            let mut there: Vec<u64> = (0..habits.len() as u64).collect();
            let mut looks: HashMap<u64, Vec<(u64, bool, u64)>> = HashMap::new();
            let mut paced: Vec<u64> = Vec::new();
            let mut now = 0;
            for delay in delays.into_iter().cycle() {
                let sessions: Vec<Session> = there.iter().map(|id| habits[*id as usize].at(*id, now).0).collect();
                for session in &sessions {
                    let entry = (now, session.between_transactions(), session.trans_count);
                    looks.entry(session.id).or_default().push(entry);
                }
                match planner.look(at(now), &sessions) {
                    Step::Empty => {
                        prop_assert!(sessions.is_empty());
                        break;
                    }
                    Step::GiveUp => {
                        prop_assert!(at(now) >= longest(policy));
                        break;
                    }
                    Step::Close(ids) => {
                        prop_assert!(at(now) < longest(policy), "does not end");
                        for id in ids {
                            planner.closing(id, at(now));
                            let (_, idle, count) = *looks[&id].last().unwrap();
                            let same = looks[&id].iter().rev().take_while(|look| look.1 == idle && look.2 == count);
                            let seen_for = now - same.last().map_or(now, |look| look.0);
                            if now < WINDOW {
                                prop_assert!(idle, "closed inside a transaction in the window");
                                prop_assert!(seen_for >= 200, "closed after one look");
                                paced.push(now);
                            }
                            if !idle && at(now) < end(policy) {
                                prop_assert!(seen_for >= WINDOW, "cut at an age of {seen_for} ms");
                            }
                            if id != deaf {
                                there.retain(|other| *other != id);
                            }
                        }
                    }
                }
                now += u64::try_from(planner.look_interval(at(now)).as_millis()).unwrap() + delay;
            }
            for first in &paced {
                let within = |ms| paced.iter().filter(|t| **t >= *first && **t < first + ms).count();
                prop_assert!(within(1_000) <= pace as usize, "{} closes in a second", within(1_000));
                prop_assert!(within(100) <= pace.div_ceil(10) as usize, "{} closes at once", within(100));
            }
            // Who rests long enough to be seen is never cut, whatever the length of its transactions below the window.
            let visible = |straggler: &Straggler| {
                let id: usize = straggler.client.rsplit(':').next().unwrap().parse().unwrap();
                habits[id].rest > 100 && habits[id].inside < WINDOW
            };
            prop_assert!(!planner.report().cut.iter().any(visible), "{:?}", planner.report());
        }
    }
}
