//! The promises of a drain, by example and at random.

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

/// Allows so few closes that there is no time to wait for the best moment.
const HASTY: DrainPolicy = DrainPolicy {
    window_ms: 10_000,
    closes_per_second: 1,
};

/// The session, among more than can be closed in time.
fn in_a_crowd(idle: bool, trans_count: u64) -> Vec<Session> {
    let others = (100..120).map(|id| session(id, false, 0));
    [session(1, idle, trans_count)].into_iter().chain(others).collect()
}

#[test]
fn closes_after_two_looks_that_agree() {
    let mut planner = DrainPlanner::new(HASTY);
    look(&mut planner, 0, &in_a_crowd(false, 4));
    assert_eq!(look(&mut planner, 100, &in_a_crowd(true, 5)), none());
    assert_eq!(look(&mut planner, 200, &in_a_crowd(true, 5)), none());
    let closed = Step::Close(vec![1]);
    assert_eq!(look(&mut planner, 300, &in_a_crowd(true, 5)), closed);
    assert_eq!(look(&mut planner, 400, &in_a_crowd(true, 5)), none(), "on its way");
    assert_eq!(look(&mut planner, 1_400, &in_a_crowd(true, 5)), closed, "once more");
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

/// A client that always works for 400 ms and then rests.
fn with_rests_of(rest: u64, id: u64, ms: u64) -> Session {
    let (number, within) = (ms / (400 + rest), ms % (400 + rest));
    session(id, within >= 400, number + u64::from(within >= 400))
}

#[test]
fn who_rests_shortly_is_left_alone_and_who_rests_for_long_is_closed_early() {
    let mut planner = DrainPlanner::new(POLICY);
    let mut closed = Vec::new();
    for ms in (0..9_000).step_by(50) {
        let mut there = vec![with_rests_of(300, 1, ms), with_rests_of(900, 2, ms)];
        there.retain(|session| !closed.iter().any(|(id, _)| *id == session.id));
        if let Step::Close(ids) = look(&mut planner, ms, &there) {
            closed.extend(ids.into_iter().map(|id| (id, ms)));
        }
    }
    // 200 ms into the second rest.
    assert_eq!(closed, [(2, 1_300 + 400 + 200)]);
}

#[test]
fn who_has_fallen_asleep_for_longer_than_ever_is_closed() {
    let mut planner = DrainPlanner::new(POLICY);
    for (ms, idle, count) in [
        (0, false, 1),
        (100, true, 2),
        (400, true, 2),
        (500, false, 2),
        (600, true, 3),
    ] {
        look(&mut planner, ms, &[session(1, idle, count)]);
    }
    // Its rest may have lasted from 0 to 500 ms.
    assert_eq!(look(&mut planner, 1_599, &[session(1, true, 3)]), none());
    assert_eq!(look(&mut planner, 1_600, &[session(1, true, 3)]), Step::Close(vec![1]));
}

#[test]
fn who_was_not_seen_to_rest_before_is_watched_for_longer() {
    let mut planner = DrainPlanner::new(POLICY);
    for ms in [0, 100, 500, 900] {
        assert_eq!(look(&mut planner, ms, &[session(1, true, 5)]), none(), "{ms}");
    }
    assert_eq!(look(&mut planner, 1_000, &[session(1, true, 5)]), Step::Close(vec![1]));
}

#[test]
fn a_transaction_between_the_looks_starts_the_wait_again() {
    let mut planner = DrainPlanner::new(HASTY);
    look(&mut planner, 0, &in_a_crowd(true, 5));
    assert_eq!(look(&mut planner, 200, &in_a_crowd(true, 6)), none());
    assert_eq!(look(&mut planner, 300, &in_a_crowd(false, 6)), none());
    assert_eq!(look(&mut planner, 400, &in_a_crowd(true, 7)), none());
    assert_eq!(look(&mut planner, 600, &in_a_crowd(true, 7)), Step::Close(vec![1]));
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
struct Pattern {
    inside: u64,
    rest: u64,
    phase: u64,
}

impl Pattern {
    /// Its session at this time, in milliseconds, and when its present state began.
    fn at(self, id: u64, ms: u64) -> (Session, u64) {
        let cycle = self.inside + self.rest;
        let (number, within) = ((ms + self.phase) / cycle, (ms + self.phase) % cycle);
        let idle = within >= self.inside;
        let lasted = if idle { within - self.inside } else { within };
        (session(id, idle, number + u64::from(idle)), ms.saturating_sub(lasted))
    }
}

fn patterns() -> impl Strategy<Value = Vec<Pattern>> {
    let lengths = || prop_oneof![1u64..50, 50u64..500, 500u64..6_000];
    let pattern = (lengths(), lengths(), 0u64..10_000);
    proptest::collection::vec(
        pattern.prop_map(|(inside, rest, phase)| Pattern { inside, rest, phase }),
        1..12,
    )
}

proptest! {
    /// Clients of all patterns, looks at uneven times, and closes that sometimes do not help.
    #[test]
    fn keeps_every_promise(
        pace in 0u32..30,
        patterns in patterns(),
        delays in proptest::collection::vec(0u64..60, 1..50),
        deaf in 0u64..12,
    ) {
        const WINDOW: u64 = 2_000;
        let policy = DrainPolicy { window_ms: WINDOW, closes_per_second: pace };
        let mut planner = DrainPlanner::new(policy);
        let mut there: Vec<u64> = (0..patterns.len() as u64).collect();
        let mut looks: HashMap<u64, Vec<(u64, bool, u64)>> = HashMap::new();
        let mut paced: Vec<u64> = Vec::new();
        let mut now = 0;
        for delay in delays.into_iter().cycle() {
            let sessions: Vec<Session> = there.iter().map(|id| patterns[*id as usize].at(*id, now).0).collect();
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
            patterns[id].rest > 100 && patterns[id].inside < WINDOW
        };
        prop_assert!(!planner.report().cut.iter().any(visible), "{:?}", planner.report());
    }
}
