//! `kill -9` of server, agents and guards in the middle of live upgrades, by real processes.
//!
//! The short test strikes once for each class of step, several times in one upgrade. The long one, of
//! `cargo xtask test --long`, strikes at every point, each in an upgrade of its own.

#![expect(clippy::unwrap_used, reason = "a helper that panics is a failed test")]

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex},
    time::Instant,
};

use obfleet_lab::{
    chaos::{
        ordeal::Arena,
        point::{self, Moment, Phase, Point, Step, Victim},
    },
    tally::{self, Tally},
};

const EXE: &str = env!("CARGO_BIN_EXE_obfleet");
/// Minutes the long test may take, unless told otherwise.
const BUDGET: u64 = 40;
/// Fleets side by side: most of an upgrade is waiting.
const FLEETS: usize = 2;
/// How often a point whose moment was too short is tried.
const TRIES: u32 = 3;

/// The point at the step with this name.
fn at(steps: &[Step], victim: Victim, name: &str, branch: Option<usize>, moment: Moment) -> Point {
    let step = steps.iter().find(|step| step.name == name && step.branch == branch);
    let step = step.unwrap_or_else(|| panic!("no step {name} {branch:?} in {steps:?}"));
    Point {
        fault: None,
        victim,
        step: step.number,
        moment,
    }
}

const RESTART: &str = "Hot restart obproxy";
const DRAIN: &str = "Wait hot restart obproxy finish";
/// From here on there is nothing but the server's own bookkeeping, which may be over before it is seen.
const FINISH: &str = "Set obproxy version";

/// One for each class of step, in the order in which the upgrade comes to them.
fn one_for_each_class(steps: &[Step], victim: Victim) -> Vec<Point> {
    [
        ("Prepare upgrade obproxy", Some(0), Moment::Begun),
        ("Upgrade Obproxy Rpm", Some(1), Moment::Begun),
        ("Check new binary", Some(0), Moment::Begun),
        (RESTART, Some(0), Moment::Guard(Phase::Triggered)),
        (DRAIN, Some(0), Moment::Guard(Phase::Draining)),
        ("Check proxy version", Some(0), Moment::Begun),
        (RESTART, Some(1), Moment::Guard(Phase::Judging)),
        (FINISH, Some(0), Moment::Begun),
    ]
    .map(|(name, branch, moment)| at(steps, victim, name, branch, moment))
    .to_vec()
}

#[tokio::test]
async fn whoever_is_killed_the_upgrade_comes_to_its_end() {
    let mut arena = Arena::start(Path::new(EXE)).await.unwrap();
    let steps = arena.steps().await.unwrap();
    let one = |victim, branch, name, phase| vec![at(&steps, victim, name, Some(branch), Moment::Guard(phase))];
    let finish = at(&steps, Victim::Server, FINISH, Some(0), Moment::Begun).step;
    let ordeals = [
        one_for_each_class(&steps, Victim::Server),
        one_for_each_class(&steps, Victim::Agent),
        one(Victim::Guard, 0, RESTART, Phase::Preparing),
        one(Victim::Everybody, 1, RESTART, Phase::Triggered),
        one(Victim::Guard, 0, DRAIN, Phase::Draining),
    ];
    for points in ordeals {
        let told = arena.ordeal(&points).await.unwrap();
        println!("{told}");
        assert!(told.missed.iter().all(|point| point.step >= finish), "{told}");
    }
}

/// Nothing is told by a test that was cut off before its end, so this one goes point by point and tells each.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: cargo xtask test --long"]
async fn every_point() {
    let one: Option<Point> = tally::wanted().map(|name| name.parse().unwrap());
    let end = tally::end(BUDGET);
    let mut arena = Arena::start(&tally::struck(EXE)).await.unwrap();
    let points = match one {
        Some(point) => vec![point],
        None => mixed(point::all(&arena.steps().await.unwrap())),
    };
    let all = points.len();
    let left = Arc::new(Mutex::new(VecDeque::from(points)));
    let mut fleets = tokio::task::JoinSet::new();
    let mut first = Some(arena);
    for _ in 0..FLEETS.min(all) {
        fleets.spawn(work_off(Arc::clone(&left), first.take(), end));
    }
    let mut tally = Tally::default();
    for of_fleet in fleets.join_all().await {
        tally.add(of_fleet);
    }
    tally.left = left.lock().unwrap().iter().map(ToString::to_string).collect();
    tally.judge();
}

/// Takes points from the list until it is empty or the time is over.
async fn work_off(left: Arc<Mutex<VecDeque<Point>>>, mut arena: Option<Arena>, end: Instant) -> Tally {
    let mut tally = Tally::default();
    while Instant::now() < end {
        let Some(point) = left.lock().unwrap().pop_front() else {
            break;
        };
        let (name, begun) = (point.to_string(), Instant::now());
        let outcome = try_point(&mut arena, point).await;
        let seconds = begun.elapsed().as_secs();
        match outcome {
            Ok(Some(told)) => {
                eprintln!("{name}: {seconds} s; {told}");
                tally.run.push(name);
            }
            Ok(None) => tally.missed.push(name),
            Err(error) => {
                eprintln!("{name}: FAILED after {seconds} s: {error:#}");
                // Whatever it is like now, the next point begins on a sound fleet.
                arena = None;
                tally.fail(name);
            }
        }
    }
    tally
}

async fn try_point(arena: &mut Option<Arena>, point: Point) -> anyhow::Result<Option<String>> {
    for _ in 0..TRIES {
        let arena = match arena {
            Some(arena) => arena,
            None => arena.insert(Arena::start(&tally::struck(EXE)).await?),
        };
        let told = arena.ordeal(&[point]).await?;
        if told.missed.is_empty() {
            return Ok(Some(told.to_string()));
        }
    }
    Ok(None)
}

/// All kinds mixed, so that a run that is cut off has seen some of each.
fn mixed(mut points: Vec<Point>) -> Vec<Point> {
    points.sort_by_cached_key(|point| tally::mixed(&point.to_string()));
    points
}
