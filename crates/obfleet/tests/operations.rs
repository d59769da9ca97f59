//! Everything an operator does with proxies and hosts, on real processes, while server and agents are killed and steps are stopped.
//!
//! The short test takes a few points. The long one, of `cargo xtask test --long`, takes every point.

#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex},
    time::Instant,
};

use obfleet_lab::{
    fire::{
        operation::Operation,
        point::{Blow, Point},
        trial::Range,
    },
    machine,
    tally::{self, Tally},
};

const EXE: &str = env!("CARGO_BIN_EXE_obfleet");
/// Minutes the long test may take, unless told otherwise.
const BUDGET: u64 = 20;
/// Stages side by side: most of an operation is waiting.
const STAGES: usize = 6;
/// How many points of an operation are taken before the next operation's.
const TURN: usize = 4;
/// How often a point whose moment was too short is tried.
const TRIES: u32 = 2;

/// A kill, a cancelled step that is tried again, and a kill on the way back: the step of each.
const FEW: [(&str, &str); 4] = [
    ("add/both@6", "Start obproxy process"),
    ("stop/cancel@6:retry", "Stop obproxy"),
    ("stop/agent@7:undo", "Prevent obproxy from accepting new request"),
    ("add-host/server@3", "Install ocp agent"),
];

#[tokio::test]
async fn a_few_are_struck() {
    let mut range = Range::start(&tally::struck(EXE)).await.unwrap();
    for (name, step) in FEW {
        let point: Point = name.parse().unwrap();
        if point.operation.is_over_ssh() && !machine::can_be_had() {
            continue;
        }
        let told = range.trial(point).await.unwrap();
        println!("{name}: {told}");
        assert!(told.met.unwrap().contains(step), "{name} is at another step");
    }
}

/// Nothing is told by a test that was cut off before its end, so this one goes point by point and tells each.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: cargo xtask test --long"]
async fn every_operation() {
    // One by its name, or all whose names contain this.
    let only = tally::wanted().unwrap_or_default();
    let can_be_done = |one: &Operation| !one.is_over_ssh() || machine::can_be_had();
    let wanted = Operation::ALL
        .into_iter()
        .filter(|one| is_wanted(*one, &only) && can_be_done(one));
    let work = Arc::new(Work {
        left: Mutex::new(wanted.map(Share::of).collect()),
        only: only.clone(),
        end: tally::end(BUDGET),
    });
    let mut stages = tokio::task::JoinSet::new();
    for _ in 0..STAGES {
        stages.spawn(work_off(Arc::clone(&work)));
    }
    let mut tally = Tally::default();
    for of_stage in stages.join_all().await {
        tally.add(of_stage);
    }
    for share in work.left.lock().unwrap().iter() {
        match &share.points {
            Some(points) => tally.left.extend(points.iter().map(ToString::to_string)),
            None => eprintln!("{}/: nothing of it was run for want of time", share.operation.name()),
        }
    }
    tally.judge();
}

/// What is left of an operation. Which points it has is learnt when its turn comes first.
#[derive(Debug)]
struct Share {
    operation: Operation,
    points: Option<VecDeque<Point>>,
    /// How many turns it has had.
    turns: u32,
}

impl Share {
    fn of(operation: Operation) -> Self {
        Self {
            operation,
            points: None,
            turns: 0,
        }
    }
}

/// What is left to do, for all stages.
#[derive(Debug)]
struct Work {
    left: Mutex<Vec<Share>>,
    only: String,
    end: Instant,
}

impl Work {
    /// A few points of one of those that had the fewest turns, rather of one that this stage knows; or one whose points nobody
    /// knows yet.
    fn take(&self, known: &HashSet<Operation>) -> Option<Share> {
        if Instant::now() >= self.end {
            return None;
        }
        let mut left = self.left.lock().unwrap();
        let rank = |share: &Share| (share.turns, !known.contains(&share.operation));
        let next = (0..left.len()).min_by_key(|at| rank(&left[*at]))?;
        let mut taken = left.remove(next);
        taken.turns += 1;
        if let Some(points) = &mut taken.points {
            let rest = points.split_off(points.len().min(TURN));
            if !rest.is_empty() {
                left.push(Share {
                    points: Some(rest),
                    ..taken
                });
            }
        }
        Some(taken)
    }

    /// For all, now that its points are known.
    fn put_back(&self, share: Share) {
        self.left.lock().unwrap().push(share);
    }
}

fn is_wanted(operation: Operation, only: &str) -> bool {
    match only.split_once('/') {
        Some((name, _)) => operation.name() == name,
        None => true,
    }
}

/// Takes a few points of one operation after another, until there are no more or the time is over.
async fn work_off(work: Arc<Work>) -> Tally {
    let mut tally = Tally::default();
    let mut range = None;
    // What an operation leaves undisturbed is looked at once on each stage.
    let mut known = HashSet::new();
    while let Some(share) = work.take(&known) {
        let operation = share.operation;
        let all = match range_of(&mut range).await.points(operation).await {
            Ok(all) => all,
            Err(error) => {
                let name = format!("{}/", operation.name());
                eprintln!("{name}: FAILED undisturbed: {error:#}");
                (range, known) = (None, HashSet::new());
                tally.fail(name);
                tally
                    .left
                    .extend(share.points.iter().flatten().map(ToString::to_string));
                continue;
            }
        };
        known.insert(operation);
        let Some(mut points) = share.points else {
            let points = Some(mixed(all, &work.only));
            work.put_back(Share { points, ..share });
            continue;
        };
        while Instant::now() < work.end
            && let Some(point) = points.pop_front()
        {
            run(point, &mut range, &mut tally).await;
        }
        tally.left.extend(points.iter().map(ToString::to_string));
        if range.is_none() {
            known.clear();
        }
    }
    tally
}

async fn run(point: Point, range: &mut Option<Range>, tally: &mut Tally) {
    let (name, begun) = (point.to_string(), Instant::now());
    for _ in 0..TRIES {
        match range_of(range).await.trial(point).await {
            Ok(told) if told.met.is_some() => {
                eprintln!("{name}: {:.1} s; {told}", begun.elapsed().as_secs_f32());
                tally.run.push(name);
                return;
            }
            Ok(_) => {}
            Err(error) => {
                eprintln!("{name}: FAILED after {} s: {error:#}", begun.elapsed().as_secs());
                // Whatever it is like now, the next point begins on a sound stage.
                *range = None;
                tally.fail(name);
                return;
            }
        }
    }
    tally.missed.push(name);
}

async fn range_of(range: &mut Option<Range>) -> &mut Range {
    match range {
        Some(range) => range,
        None => range.insert(Range::start(&tally::struck(EXE)).await.unwrap()),
    }
}

/// In an order that is the same each time: the few with a real cause, then the others, mixed, so that a run that is cut off
/// has seen some of each.
fn mixed(mut points: Vec<Point>, only: &str) -> VecDeque<Point> {
    match only.parse::<Point>() {
        Ok(only) => points.retain(|point| *point == only),
        Err(_) => points.retain(|point| point.to_string().contains(only)),
    }
    points.sort_by_cached_key(|point| {
        let has_cause = matches!(point.blow, Blow::Cause(..));
        (!has_cause, tally::mixed(&point.to_string()))
    });
    points.into()
}
