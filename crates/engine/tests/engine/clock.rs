//! Somebody sets the wall clock by an hour, forward or back, while steps run and wait: only the times that are shown follow.
//! Time is paused, so waits take as long as they say and no longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use obfleet_engine::core::{Change, Event};
use obfleet_engine::testing::MemoryStore;
use obfleet_engine::{
    Action, Attempt, Cause, Engine, Options, Outcome, Output, Sharing, Spec, SubtaskStatus, TaskId, TaskStatus,
    WallClock,
};
use tokio::time::{Instant, sleep};

use crate::site::eventually;
use crate::support::{Done, Journal, Step, World, chain, fail, registry};

const HOUR: i64 = 3_600_000;

/// The last is short enough that a wait could be longer by it and still be one there may be.
const JUMPS: [i64; 3] = [HOUR, -HOUR, -10_000];

/// The wall clock when a test begins.
const BEGIN: i64 = 1_800_000_000_000;

/// Milliseconds that a timer may be late.
const TICK: i64 = 2;

const PATIENCE: Duration = Duration::from_secs(24 * 3600);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A wall clock that can be set.
#[derive(Clone)]
struct Wall {
    begun: Instant,
    set: Arc<AtomicI64>,
}

impl Wall {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            set: Arc::default(),
        }
    }

    fn jump(&self, by: i64) {
        self.set.fetch_add(by, Ordering::SeqCst);
    }

    fn clock(&self) -> WallClock {
        let wall = self.clone();
        WallClock::new(move || {
            let passed = i64::try_from(wall.begun.elapsed().as_millis()).unwrap();
            BEGIN + passed + wall.set.load(Ordering::SeqCst)
        })
    }
}

fn options(wall: &Wall) -> Options {
    Options {
        wall_clock: wall.clock(),
        ..Options::new("server-1")
    }
}

fn sharing(wall: &Wall, server: &str) -> Options {
    Options {
        sharing: Some(Sharing::default()),
        wall_clock: wall.clock(),
        ..Options::new(server)
    }
}

async fn start(memory: &Arc<MemoryStore<String>>, actions: Vec<Arc<dyn Action<String>>>, options: Options) -> World {
    let engine = Engine::start(memory.clone(), registry(actions), options).await.unwrap();
    let memory = Arc::clone(memory);
    World { engine, memory }
}

/// An engine on a wall clock that can be set, with one action.
async fn world(action: impl Action<String>) -> (World, Wall) {
    let wall = Wall::new();
    let world = start(&Arc::default(), vec![Arc::new(action)], options(&wall)).await;
    (world, wall)
}

/// Runs until it is aborted, without listening.
struct Deaf;

#[async_trait]
impl Action<String> for Deaf {
    fn spec(&self) -> Spec {
        Spec::new("deaf", "Deaf", 30)
    }

    async fn run(&self, _: &Attempt) -> Done {
        std::future::pending().await
    }
}

/// Fails once, and is tried again 20 s later.
fn flaky() -> Step {
    let runs = AtomicUsize::new(0);
    let step = Step::new("flaky", move |_| match runs.fetch_add(1, Ordering::SeqCst) {
        0 => fail("not yet"),
        _ => Ok(Output::nothing()),
    });
    step.spec(|spec| (spec.retries, spec.backoff_ms) = (1, 20_000))
}

/// When the event of a kind happened for the `nth` time, by the wall clock.
fn at(world: &World, task: TaskId, kind: &str, nth: usize) -> i64 {
    let events: Vec<Event> = world.memory.all_events(task);
    let mut of_kind = events.iter().filter(|event| event.change.kind() == kind);
    of_kind
        .nth(nth)
        .unwrap_or_else(|| panic!("{kind} {nth} in {events:#?}"))
        .at
}

#[track_caller]
fn assert_took(took: i64, expected: Duration) {
    let expected = i64::try_from(expected.as_millis()).unwrap();
    assert!(
        (expected..=expected + TICK).contains(&took),
        "{took} ms instead of {expected}"
    );
}

async fn until_ready_again(world: &World, task: TaskId) {
    let row = |row: &obfleet_engine::SubtaskView| row.status == SubtaskStatus::Ready;
    world.until(task, 0, |view| row(view) && view.run_time == 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_kept() {
    for jump in JUMPS {
        let (world, wall) = world(Deaf).await;
        let task = world.submit(chain(&["deaf"])).await;
        sleep(seconds(10)).await;
        wall.jump(jump);
        let view = world.engine.wait(task, PATIENCE).await.unwrap();
        assert_eq!(view.subtasks[0].failure.as_ref().unwrap().cause, Cause::Timeout);
        let took = at(&world, task, "SUB_FAILED", 0) - at(&world, task, "SUB_CLAIMED", 0) - jump;
        assert_took(took, seconds(30));
        assert_eq!(at(&world, task, "SUB_CLAIMED", 0), BEGIN, "shown by the wall clock");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_as_long_as_it_should() {
    for jump in JUMPS {
        let (world, wall) = world(flaky()).await;
        let task = world.submit(chain(&["flaky"])).await;
        until_ready_again(&world, task).await;
        sleep(seconds(5)).await;
        wall.jump(jump);
        let view = world.engine.wait(task, PATIENCE).await.unwrap();
        assert_eq!(view.status, TaskStatus::Successful);
        let took = at(&world, task, "SUB_CLAIMED", 1) - at(&world, task, "SUB_RETRY", 0) - jump;
        assert_took(took, seconds(20));
    }
}

/// A clock that goes back and forth while two steps wait, of which one begins to wait after the first jump.
#[tokio::test(start_paused = true)]
async fn waits_that_overlap_are_kept_over_several_jumps() {
    let wall = Wall::new();
    let both = vec![
        Arc::new(flaky()) as Arc<dyn Action<String>>,
        Arc::new(flaky().spec(|spec| (spec.class_name, spec.backoff_ms) = ("other", 25_000))),
    ];
    let world = start(&Arc::default(), both, options(&wall)).await;
    let first = world.submit(chain(&["flaky"])).await;
    until_ready_again(&world, first).await;
    sleep(seconds(5)).await;
    wall.jump(HOUR);
    let second = world.submit(chain(&["other"])).await;
    until_ready_again(&world, second).await;
    sleep(seconds(5)).await;
    wall.jump(-2 * HOUR);
    for (task, took, jumped) in [(first, 20, -HOUR), (second, 25, -2 * HOUR)] {
        world.engine.wait(task, PATIENCE).await.unwrap();
        let shown = at(&world, task, "SUB_CLAIMED", 1) - at(&world, task, "SUB_RETRY", 0);
        assert_took(shown - jumped, seconds(took));
    }
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_failed_waits_as_long_as_it_should() {
    for jump in JUMPS {
        let undos = AtomicUsize::new(0);
        let step = Step::new("stubborn", |_| fail("no")).undo(move |_| match undos.fetch_add(1, Ordering::SeqCst) {
            0 => fail("not yet"),
            _ => Ok(Output::nothing()),
        });
        let (world, wall) = world(step.spec(|spec| (spec.retries, spec.backoff_ms) = (0, 20_000))).await;
        let task = world.submit(chain(&["stubborn"])).await;
        world.engine.wait(task, PATIENCE).await.unwrap();
        world.engine.rollback(task, "admin").await.unwrap();
        let retried = |event: &Event| matches!(event.change, Change::SubRetry { .. });
        eventually(|| world.memory.all_events(task).iter().any(retried)).await;
        sleep(seconds(5)).await;
        wall.jump(jump);
        let view = world.engine.wait(task, PATIENCE).await.unwrap();
        assert_eq!(view.outcome, Some(Outcome::RolledBack));
        let took = at(&world, task, "SUB_CLAIMED", 2) - at(&world, task, "SUB_RETRY", 0) - jump;
        assert_took(took, seconds(20));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_attempt_has_its_grace() {
    for jump in JUMPS {
        let (world, wall) = world(Deaf).await;
        let task = world.submit(chain(&["deaf"])).await;
        world.until(task, 0, |row| row.status == SubtaskStatus::Running).await;
        world.engine.cancel_task(task, "admin").await.unwrap();
        sleep(seconds(3)).await;
        wall.jump(jump);
        let view = world.engine.wait(task, PATIENCE).await.unwrap();
        assert_eq!(view.outcome, Some(Outcome::Cancelled));
        let took = at(&world, task, "SUB_FAILED", 0) - at(&world, task, "SUB_CANCELING", 0) - jump;
        assert_took(took, seconds(10));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_and_nothing_is_taken_over() {
    for jump in JUMPS {
        let (memory, wall, journal) = (Arc::default(), Wall::new(), Journal::default());
        let long = || {
            vec![
                Arc::new(Deaf) as Arc<dyn Action<String>>,
                Arc::new(Step::noting("work", &journal)),
            ]
        };
        let ours = start(&memory, long(), sharing(&wall, "ours")).await;
        let other = start(&memory, long(), sharing(&Wall::new(), "other")).await;
        other.engine.drain(Duration::ZERO).await;
        let task = ours.submit(chain(&["deaf"])).await;
        ours.until(task, 0, |row| row.status == SubtaskStatus::Running).await;
        let by = memory.all_events(task)[0].by.clone();
        for _ in 0..20 {
            sleep(seconds(1)).await;
            wall.jump(jump);
            assert!(ours.engine.has_lease() && other.engine.has_lease());
        }
        let view = other.engine.task(task).await.unwrap();
        assert_eq!(
            (view.subtasks[0].status, view.subtasks[0].run_time),
            (SubtaskStatus::Running, 1)
        );
        assert!(
            memory.all_events(task).iter().all(|event| event.by == by),
            "the same incarnation"
        );
        ours.engine.cancel_task(task, "admin").await.unwrap();
        ours.engine.wait(task, PATIENCE).await.unwrap();
    }
}

/// However a jump falls between two readings: of a claim and the start of its attempt, of a decision and its timer.
#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_at_every_reading_changes_nothing() {
    let readings = AtomicI64::new(0);
    let jumping = WallClock::new(move || BEGIN + readings.fetch_add(1, Ordering::SeqCst) % 3 * HOUR);
    let both = vec![Arc::new(flaky()) as Arc<dyn Action<String>>, Arc::new(Deaf)];
    let options = Options {
        wall_clock: jumping,
        ..Options::new("server-1")
    };
    let world = start(&Arc::default(), both, options).await;
    for (class, takes) in [("deaf", 30), ("flaky", 20)] {
        let begun = Instant::now();
        let task = world.submit(chain(&[class])).await;
        world.engine.wait(task, PATIENCE).await.unwrap();
        let took = i64::try_from(begun.elapsed().as_millis()).unwrap();
        assert_took(took, seconds(takes));
    }
}

/// The wait is over, and its step waits for a slot: a clock that is set back then does not begin the wait anew.
#[tokio::test(start_paused = true)]
async fn what_was_due_stays_due() {
    let (memory, wall) = (Arc::default(), Wall::new());
    let both = vec![Arc::new(flaky()) as Arc<dyn Action<String>>, Arc::new(Deaf)];
    let options = Options {
        slots: 1,
        ..options(&wall)
    };
    let world = start(&memory, both, options).await;
    let task = world.submit(chain(&["flaky"])).await;
    until_ready_again(&world, task).await;
    let deaf = world.submit(chain(&["deaf"])).await;
    sleep(seconds(25)).await;
    assert_eq!(at(&world, deaf, "SUB_CLAIMED", 0), BEGIN);
    wall.jump(-45_000);
    world.engine.wait(task, PATIENCE).await.unwrap();
    let begun = at(&world, task, "SUB_CLAIMED", 1) + 45_000 - BEGIN;
    let freed = at(&world, deaf, "SUB_FAILED", 0) + 45_000 - BEGIN;
    assert!(
        begun < freed + 11_000,
        "the slot came free {freed} ms after the begin, and was taken at {begun}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_restart_under_another_clock_makes_no_retry_wait_for_longer_than_the_longest_wait() {
    for (jump, least, most) in [(-HOUR, 10, 30), (0, 20, 20), (HOUR, 10, 10)] {
        let (memory, wall) = (Arc::default(), Wall::new());
        let step = Arc::new(flaky());
        let flaky = || vec![step.clone() as Arc<dyn Action<String>>];
        let first = start(&memory, flaky(), options(&wall)).await;
        let task = first.submit(chain(&["flaky"])).await;
        until_ready_again(&first, task).await;
        let failed = Instant::now();
        first.engine.shutdown().await;
        sleep(seconds(10)).await;
        wall.jump(jump);
        let second = start(&memory, flaky(), options(&wall)).await;
        second.engine.wait(task, PATIENCE).await.unwrap();
        let waited = failed.elapsed().as_secs_f64();
        let expected = f64::from(least)..=f64::from(most) + 0.1;
        assert!(expected.contains(&waited), "{waited} s after a jump by {jump} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_began_before_a_restart_is_kept_over_a_jump_after_it() {
    for jump in JUMPS {
        let (memory, wall) = (Arc::default(), Wall::new());
        let step = Arc::new(flaky());
        let flaky = || vec![step.clone() as Arc<dyn Action<String>>];
        let first = start(&memory, flaky(), options(&wall)).await;
        let task = first.submit(chain(&["flaky"])).await;
        until_ready_again(&first, task).await;
        first.engine.shutdown().await;
        let second = start(&memory, flaky(), options(&wall)).await;
        sleep(seconds(5)).await;
        wall.jump(jump);
        second.engine.wait(task, PATIENCE).await.unwrap();
        let took = at(&second, task, "SUB_CLAIMED", 1) - at(&second, task, "SUB_RETRY", 0) - jump;
        assert_took(took, seconds(20));
    }
}

/// A server whose clock was set right, while nothing waited on it, and that dies later: others keep the waits it began.
#[tokio::test(start_paused = true)]
async fn what_begins_to_wait_after_a_jump_means_the_same_to_other_servers() {
    for jump in JUMPS {
        let (memory, wall) = (Arc::default(), Wall::new());
        wall.jump(-jump);
        let step = Arc::new(flaky());
        let flaky = || vec![step.clone() as Arc<dyn Action<String>>];
        let first = start(&memory, flaky(), sharing(&wall, "first")).await;
        sleep(seconds(60)).await;
        wall.jump(jump);
        let task = first.submit(chain(&["flaky"])).await;
        until_ready_again(&first, task).await;
        first.engine.shutdown().await;
        let second = start(&memory, flaky(), sharing(&wall, "second")).await;
        second.engine.wait(task, PATIENCE).await.unwrap();
        let took = at(&second, task, "SUB_CLAIMED", 1) - at(&second, task, "SUB_RETRY", 0);
        // Other servers look now and then.
        assert!((20_000..20_500).contains(&took), "{took} ms");
    }
}
