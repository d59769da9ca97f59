//! Everything an operator does with proxies and hosts, on real processes, while server and agents are killed and steps are stopped.
//!
//! The short test takes a few points. The long one, of `cargo xtask test --long`, takes every point.

#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

use std::{collections::VecDeque, path::Path, time::Instant};

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
const STAGES: usize = 4;
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
    let mut range = Range::start(Path::new(EXE)).await.unwrap();
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
    let end = tally::end(BUDGET);
    let mut stages = tokio::task::JoinSet::new();
    for number in 0..STAGES {
        // What an operation leaves undisturbed is looked at once on each stage, so each has operations of its own.
        let own = Operation::ALL.into_iter().skip(number).step_by(STAGES);
        let can_be_done = |one: &Operation| !one.is_over_ssh() || machine::can_be_had();
        let own: Vec<_> = own.filter(|one| is_wanted(*one, &only) && can_be_done(one)).collect();
        stages.spawn(work_off(own, only.clone(), end));
    }
    let mut tally = Tally::default();
    for of_stage in stages.join_all().await {
        tally.add(of_stage);
    }
    tally.judge();
}

fn is_wanted(operation: Operation, only: &str) -> bool {
    match only.split_once('/') {
        Some((name, _)) => operation.name() == name,
        None => true,
    }
}

/// Takes the points of some operations, one of each operation after another, until there are no more or the time is over.
/// Which points an operation has is learnt when its turn comes first.
async fn work_off(operations: Vec<Operation>, only: String, end: Instant) -> Tally {
    let mut tally = Tally::default();
    let mut range = None;
    let mut left: VecDeque<(Operation, Option<VecDeque<Point>>)> =
        operations.into_iter().map(|one| (one, None)).collect();
    while Instant::now() < end
        && let Some((operation, points)) = left.pop_front()
    {
        let points = match points {
            Some(points) => Ok(points),
            None => range_of(&mut range)
                .await
                .points(operation)
                .await
                .map(|all| mixed(all, &only)),
        };
        match points {
            Ok(mut points) => {
                if let Some(point) = points.pop_front() {
                    run(point, &mut range, &mut tally).await;
                    left.push_back((operation, Some(points)));
                }
            }
            Err(error) => {
                let name = format!("{}/", operation.name());
                eprintln!("{name}: FAILED undisturbed: {error:#}");
                range = None;
                tally.fail(name);
            }
        }
    }
    for (operation, points) in left {
        match points {
            Some(points) => tally.left.extend(points.iter().map(ToString::to_string)),
            None => eprintln!("{}/: nothing of it was run for want of time", operation.name()),
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
        None => range.insert(Range::start(Path::new(EXE)).await.unwrap()),
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
