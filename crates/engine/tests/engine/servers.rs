//! Several servers on one database. Time is the test's: leases of 3 s run out at once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use obfleet_engine::testing::{MemoryStore, conformance};
use obfleet_engine::{
    Cause, Engine, EngineError, Lock, Output, Peers, Store as _, StoreError, Submission, TaskId, TaskStatus,
};
use tokio::time::{Instant, advance, sleep};

use crate::link::Way;
use crate::site::{PATIENCE, Site, eventually, fan};
use crate::support::{Step, World, chain, submission};

/// When the work of a dead server goes on at the latest.
const FAILOVER: Duration = Duration::from_millis(3500);

#[tokio::test]
async fn the_store_in_memory_conforms() {
    conformance(&MemoryStore::new(), "created".to_owned()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_alone_on_its_database_has_its_lease_for_good() {
    let world = World::of_steps(vec![Step::new("work", |_| Ok(Output::nothing()))]).await;
    advance(Duration::from_secs(10 * 365 * 24 * 3600)).await;
    let task = world.submit(chain(&["work"])).await;
    assert_eq!(world.rest(task).await.status, TaskStatus::Successful);
    assert!(world.engine.has_lease());
}

#[tokio::test(start_paused = true)]
async fn what_is_submitted_here_runs_there_too() {
    let site = Site::new();
    let a = site.start_with("a", |setup| setup.slots = 1).await;
    let _b = site.start_with("b", |setup| setup.slots = 1).await;
    let task = a.submit(fan("together", 2)).await;
    let state = site.rest(task).await;
    assert_eq!(state.task.status, TaskStatus::Successful);
    let executors: BTreeSet<_> = state.subtasks.iter().map(|row| row.executor.clone().unwrap()).collect();
    assert_eq!(executors, BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    let seen = a.engine.wait(task, PATIENCE).await.unwrap();
    assert_eq!(seen.status, TaskStatus::Successful, "what others did is seen here");
}

#[tokio::test(start_paused = true)]
async fn a_server_looks_again_at_once_while_there_is_more() {
    let site = Site::new();
    site.resource.hold("a");
    let a = site.start_with("a", |setup| setup.slots = 1).await;
    a.submit(chain(&["work"])).await;
    let mut tasks = Vec::new();
    for _ in 0..20 {
        tasks.push(a.submit(chain(&["work"])).await);
    }
    let begun = Instant::now();
    let _b = site.start_with("b", |setup| setup.slots = 1).await;
    for task in tasks {
        site.rest(task).await;
    }
    // At the pace of looks for nothing, 200 ms, it would take four times as long.
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_dead_servers_work_goes_on_elsewhere_in_time() {
    let site = Site::new();
    site.resource.hold("a");
    let a = site.start("a").await;
    let task = a.submit(chain(&["work", "work"])).await;
    site.resource.attempted(1).await;
    let b = site.start("b").await;
    a.link.set(Way::Frozen);
    let begun = Instant::now();
    site.resource.attempted(2).await;
    assert!(begun.elapsed() <= FAILOVER, "{:?}", begun.elapsed());
    let state = site.rest(task).await;
    assert_eq!(state.task.status, TaskStatus::Successful);
    assert_eq!(site.resource.servers(), ["a", "b", "b"]);
    assert_eq!(state.subtasks[0].run_time, 1, "users need not know");
    assert_eq!(site.memory.changes().len(), 2);
    assert!(b.engine.has_lease());
}

#[tokio::test(start_paused = true)]
async fn a_write_that_arrives_after_the_lease_changes_nothing() {
    let site = Site::new();
    site.resource.hold("a");
    let a = site.start_with("a", |setup| setup.deaf = true).await;
    let task = a.submit(chain(&["work"])).await;
    site.resource.attempted(1).await;
    // The result of the attempt is under way when the server stops, and so is a submission.
    a.link.set(Way::Frozen);
    site.resource.let_go("a");
    let submission = tokio::spawn({
        let engine = a.engine.clone();
        async move { engine.submit(submission(chain(&["work"]))).await.map(drop) }
    });
    a.has_lease(false).await;
    sleep(FAILOVER).await;
    a.link.set(Way::Open);
    let refused = submission.await.unwrap();
    assert!(
        matches!(refused, Err(EngineError::Store(StoreError::LeaseLost))),
        "{refused:?}"
    );
    // Nobody else was there: it takes the subtask up again itself, as a new incarnation.
    let state = site.rest(task).await;
    assert_eq!(
        (state.task.status, state.subtasks[0].epoch),
        (TaskStatus::Successful, 3)
    );
    assert_eq!(site.memory.changes().len(), 1, "the late result was not counted");
    assert_eq!(
        site.memory.load_running().await.unwrap().tasks,
        [],
        "the late submission was not counted"
    );
    a.has_lease(true).await;
}

#[tokio::test(start_paused = true)]
async fn a_stopped_server_finds_its_work_done_by_another() {
    let site = Site::new();
    site.resource.hold("a");
    let a = site.start("a").await;
    let task = a.submit(chain(&["work", "work", "work"])).await;
    site.resource.attempted(1).await;
    let _b = site.start("b").await;
    a.link.set(Way::Frozen);
    let state = site.rest(task).await;
    a.link.set(Way::Open);
    site.resource.let_go("a");
    a.has_lease(true).await;
    assert_eq!(
        site.state(task).await,
        state,
        "the server that came back has changed nothing"
    );
    let next = a.submit(chain(&["work"])).await;
    assert_eq!(
        site.rest(next).await.task.status,
        TaskStatus::Successful,
        "and it works again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_is_waited_out() {
    let site = Site::new();
    site.resource.hold("a");
    let a = site.start("a").await;
    let task = a.submit(chain(&["work"])).await;
    site.resource.attempted(1).await;
    a.link.set(Way::Broken);
    site.resource.let_go("a");
    sleep(Duration::from_secs(1)).await;
    assert!(a.engine.has_lease());
    a.link.set(Way::Open);
    let state = site.rest(task).await;
    assert_eq!(
        (state.task.status, state.subtasks[0].epoch),
        (TaskStatus::Successful, 1),
        "it ran once"
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_long_outage_everything_goes_on_from_the_rows() {
    let site = Site::new();
    site.resource.hold("a");
    let a = site.start("a").await;
    let task = a.submit(chain(&["work", "work"])).await;
    site.resource.attempted(1).await;
    a.link.set(Way::Broken);
    a.has_lease(false).await;
    assert!(matches!(
        a.engine.retry(task, "admin").await,
        Err(EngineError::Store(_))
    ));
    sleep(Duration::from_secs(60)).await;
    site.resource.let_go("a");
    a.link.set(Way::Open);
    let state = site.rest(task).await;
    assert_eq!(state.task.status, TaskStatus::Successful);
    assert_eq!(site.memory.changes().len(), 2);
}

/// More of them than deaths of servers that a step may have.
#[tokio::test(start_paused = true)]
async fn long_outages_are_no_deaths() {
    let site = Site::new();
    site.resource.hold("a");
    let a = site.start("a").await;
    let task = a.submit(chain(&["work"])).await;
    for attempt in 1..=6 {
        site.resource.attempted(attempt).await;
        a.link.set(Way::Broken);
        a.has_lease(false).await;
        a.link.set(Way::Open);
        a.has_lease(true).await;
    }
    site.resource.let_go("a");
    let state = site.rest(task).await;
    assert_eq!(state.task.status, TaskStatus::Successful);
    assert_eq!(site.memory.changes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_takes_its_own_back_without_waiting() {
    let site = Site::new();
    site.resource.hold("a");
    let first = site.start("a").await;
    let task = first.submit(chain(&["work"])).await;
    site.resource.attempted(1).await;
    first.link.set(Way::Frozen);
    site.resource.let_go("a");
    let begun = Instant::now();
    let _second = site.start("a").await;
    assert_eq!(site.rest(task).await.task.status, TaskStatus::Successful);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    // The first would be a second server of the same name: it stays without a lease as long as the other has it.
    first.link.set(Way::Open);
    first.has_lease(false).await;
    sleep(FAILOVER * 3).await;
    assert!(!first.engine.has_lease());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_shuts_down_hands_over_at_once() {
    let site = Site::new();
    site.resource.hold("a");
    let a = site.start("a").await;
    let task = a.submit(chain(&["work"])).await;
    site.resource.attempted(1).await;
    let _b = site.start("b").await;
    a.engine.shutdown().await;
    let begun = Instant::now();
    assert_eq!(site.rest(task).await.task.status, TaskStatus::Successful);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_step_is_cancelled_from_any_server() {
    let site = Site::new();
    site.resource.hold("a");
    let a = site.start("a").await;
    let task = a.submit(chain(&["work"])).await;
    site.resource.attempted(1).await;
    let b = site.start("b").await;
    let running = site.running(task).await;
    b.engine
        .cancel_subtask(task, running.subtasks[0].id, "admin")
        .await
        .unwrap();
    let state = site.rest(task).await;
    let failure = state.subtasks[0].failure.as_ref().unwrap();
    assert_eq!(failure.cause, Cause::Cancelled);
    assert_eq!(failure.message, "stopped", "it was told, not given up");
    b.engine.retry(task, "admin").await.unwrap();
    site.resource.let_go("a");
    assert_eq!(site.rest(task).await.task.status, TaskStatus::Successful);
}

#[tokio::test(start_paused = true)]
async fn a_look_leaves_alone_what_runs() {
    let site = Site::new();
    site.resource.hold("a");
    let a = site.start("a").await;
    let _b = site.start("b").await;
    let task = a.submit(chain(&["work"])).await;
    let looked_at = site.running(task).await;
    let requests = a.link.requests();
    eventually(|| a.link.requests() > requests + 20).await;
    assert_eq!(site.state(task).await, looked_at);
    site.resource.let_go("a");
    assert_eq!(site.rest(task).await.task.status, TaskStatus::Successful);
}

#[tokio::test(start_paused = true)]
async fn what_another_server_did_is_no_reason_to_refuse() {
    let site = Site::new();
    site.resource.hold("a");
    site.resource.hold("b");
    let a = site.start_with("a", |setup| setup.slots = 1).await;
    let b = site.start_with("b", |setup| setup.slots = 1).await;
    let task = a.submit(fan("work", 2)).await;
    site.resource.attempted(2).await;
    // The rows that b remembers know nothing of what becomes of a's step.
    let state = site.state(task).await;
    let of_a = state
        .subtasks
        .iter()
        .find(|row| row.executor.as_deref() == Some("a"))
        .unwrap()
        .id;
    a.engine.cancel_subtask(task, of_a, "admin").await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = b.engine.skip(task, of_a, "admin").await {
        assert!(Instant::now() < deadline, "{error}");
        sleep(Duration::from_millis(5)).await;
    }
    site.resource.let_go("b");
    assert_eq!(site.rest(task).await.task.status, TaskStatus::Successful);
}

/// Tells the other server at once.
#[derive(Default)]
struct Telling(Mutex<Option<Engine<String>>>);

impl std::fmt::Debug for Telling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Telling")
    }
}

impl Peers for Telling {
    fn nudge(&self, _: TaskId) {
        if let Some(engine) = &*self.0.lock().unwrap() {
            engine.nudge();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_with_no_slot_left_tells_another() {
    let site = Site::new();
    let telling = Arc::new(Telling::default());
    let b = site.start_with("b", |setup| {
        setup.slots = 1;
        setup.sharing.look = Duration::from_secs(300);
    });
    let b = b.await;
    *telling.0.lock().unwrap() = Some(b.engine);
    let a = site.start_with("a", |setup| {
        setup.slots = 1;
        setup.sharing.look = Duration::from_secs(300);
        setup.sharing.peers = telling;
    });
    let a = a.await;
    let begun = Instant::now();
    let task = a.submit(fan("together", 2)).await;
    site.rest(task).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_cannot_be_read_is_left_alone() {
    let site = Site::new();
    site.resource.hold("a");
    let a = site.start("a").await;
    let (damaged, sound) = (a.submit(chain(&["work"])).await, a.submit(chain(&["work"])).await);
    site.resource.attempted(2).await;
    a.link.set(Way::Frozen);
    site.memory.damage(damaged);
    let b = site.start("b").await;
    assert_eq!(site.rest(sound).await.task.status, TaskStatus::Successful);
    eventually(|| b.engine.unreadable().contains_key(&damaged)).await;
    assert_eq!(b.engine.unreadable().len(), 1);
    sleep(Duration::from_secs(150)).await;
    assert_eq!(b.engine.unreadable().len(), 1);
    site.memory.mend(damaged);
    assert_eq!(site.rest(damaged).await.task.status, TaskStatus::Successful);
    assert!(b.engine.unreadable().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_idle_server_asks_little() {
    const SECONDS: u32 = 60;
    let site = Site::new();
    let a = site.start("a").await;
    let task = a.submit(chain(&["work"])).await;
    site.rest(task).await;
    let before = a.link.requests();
    sleep(Duration::from_secs(1) * SECONDS).await;
    let asked = a.link.requests() - before;
    assert!(asked <= 10 * SECONDS as usize, "{asked} requests in {SECONDS} s");
}

/// A lot of small tasks on three servers whose links freeze and break in turn.
#[tokio::test(start_paused = true)]
async fn whatever_happens_to_three_servers_every_step_succeeds_once() {
    const TASKS: i64 = 40;
    let site = Site::new();
    let mut servers = Vec::new();
    for name in ["a", "b", "c"] {
        let server = site.start_with(name, |setup| (setup.slots, setup.deaf) = (2, true));
        servers.push(server.await);
    }
    let mut tasks = Vec::new();
    for (number, server) in (0..TASKS).zip(servers.iter().cycle()) {
        let locked = Submission {
            locks: vec![Lock::exclusive("thing", number)],
            ..submission(chain(&["work", "work", "work", "work"]))
        };
        tasks.push(server.engine.submit(locked).await.unwrap().id);
        if number % 6 == 0 {
            let troubled = &servers[usize::try_from(number / 6).unwrap() % 3];
            let (name, way) = (
                ["a", "b", "c"][usize::try_from(number / 6).unwrap() % 3],
                [Way::Frozen, Way::Broken],
            );
            site.resource.hold(name);
            sleep(Duration::from_millis(30)).await;
            troubled.link.set(way[usize::try_from(number / 18).unwrap() % 2]);
            site.resource.let_go(name);
            sleep(FAILOVER).await;
            troubled.link.set(Way::Open);
            troubled.has_lease(true).await;
        }
    }
    for task in tasks {
        assert_eq!(site.rest(task).await.task.status, TaskStatus::Successful);
    }
    let changes = site.memory.changes();
    let distinct: BTreeSet<_> = changes.iter().map(|(_, change)| change).collect();
    assert_eq!(changes.len(), distinct.len(), "a result was counted twice");
    assert_eq!(distinct.len(), usize::try_from(TASKS * 4).unwrap());
}
