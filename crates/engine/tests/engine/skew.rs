//! Servers of two releases, after one another and beside each other: `work` is known to both, `new` to the later one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use obfleet_engine::core::Change;
use obfleet_engine::testing::MemoryStore;
use obfleet_engine::{Action, Outcome, SubtaskStatus, TaskId, TaskState, TaskStatus};
use tokio::time::sleep;

use crate::site::{Server, Site, eventually};
use crate::support::{Journal, Step, World, chain};

const BOTH: &[&str] = &["new", "work"];

/// Who claimed steps of a class, by the task's events.
fn claimers(site: &Site, state: &TaskState, class: &str) -> BTreeSet<String> {
    let events = site.memory.all_events(state.task.id);
    let of_class = |subtask| state.subtasks[state.index_of(subtask).unwrap()].spec.class_name == class;
    let claims = events.iter().filter_map(|event| match &event.change {
        Change::SubClaimed { subtask, owner, .. } if of_class(*subtask) => Some(owner.server.clone()),
        _ => None,
    });
    claims.collect()
}

/// Servers that said of a step of the task that they do not know it, one entry for each time.
fn tellers(memory: &MemoryStore<String>, task: TaskId) -> Vec<String> {
    let events = memory.all_events(task).into_iter();
    let tellers = events.filter_map(|event| match event.change {
        Change::SubUnknown { .. } => Some(event.by.server),
        _ => None,
    });
    tellers.collect()
}

/// A server that submits, and does nothing itself.
async fn submitter(site: &Site) -> Server {
    let server = site.start_with("submitter", |setup| setup.classes = BOTH).await;
    server.engine.drain(Duration::ZERO).await;
    server
}

#[tokio::test(start_paused = true)]
async fn under_load_each_step_runs_on_a_server_that_knows_it() {
    let site = Site::new();
    let _earlier = site.start_with("earlier", |setup| {
        setup.slots = 2;
        setup.takes = Duration::from_millis(50);
    });
    let _earlier = _earlier.await;
    let later = site.start_with("later", |setup| {
        (setup.slots, setup.classes) = (2, BOTH);
        setup.takes = Duration::from_millis(50);
    });
    let later = later.await;
    let mut tasks = Vec::new();
    for _ in 0..40 {
        tasks.push(later.submit(chain(&["work", "new", "work"])).await);
    }
    let mut of_work = BTreeSet::new();
    for task in tasks {
        let state = site.rest(task).await;
        assert_eq!(state.task.status, TaskStatus::Successful);
        assert!(
            state
                .subtasks
                .iter()
                .all(|row| row.run_time == 1 && row.failure.is_none())
        );
        assert_eq!(claimers(&site, &state, "new"), ["later".to_owned()].into());
        of_work.extend(claimers(&site, &state, "work"));
        let tellers = tellers(&site.memory, task);
        assert!(
            tellers.len() <= 1 && tellers.iter().all(|server| server == "earlier"),
            "{tellers:?}"
        );
    }
    assert_eq!(
        of_work,
        ["earlier".to_owned(), "later".to_owned()].into(),
        "both are under load"
    );
}

#[tokio::test(start_paused = true)]
async fn what_another_server_made_ready_is_found() {
    let site = Site::new();
    let _earlier = site.start("earlier").await;
    let _later = site.start_with("later", |setup| setup.classes = &["new"]).await;
    let task = submitter(&site)
        .await
        .submit(chain(&["new", "work", "new", "work"]))
        .await;
    let state = site.rest(task).await;
    assert_eq!(state.task.status, TaskStatus::Successful);
    assert_eq!(claimers(&site, &state, "work"), ["earlier".to_owned()].into());
    assert_eq!(claimers(&site, &state, "new"), ["later".to_owned()].into());
}

#[tokio::test(start_paused = true)]
async fn what_no_server_knows_waits_is_told_of_and_can_be_given_up() {
    let site = Site::new();
    let first = submitter(&site).await;
    let (waits, leaves) = (first.submit(chain(&["new"])).await, first.submit(chain(&["new"])).await);
    first.engine.shutdown().await;
    for (name, lives) in [("earlier", 1), ("earlier", 2), ("another", 1)] {
        let server = site.start_with(name, |setup| setup.slots = 1).await;
        let told = || tellers(&site.memory, waits).iter().any(|server| server == name);
        eventually(told).await;
        sleep(Duration::from_secs(60) * lives).await;
        let view = server.engine.task(waits).await.unwrap();
        assert_eq!(
            (view.status, view.subtasks[0].status),
            (TaskStatus::Running, SubtaskStatus::Ready)
        );
        let why = view.subtasks[0].waiting.clone().unwrap();
        assert!(why.contains(name) && why.contains("class new"), "{why}");
        server.engine.shutdown().await;
    }
    assert_eq!(tellers(&site.memory, waits), ["earlier", "another"], "each once");

    let earlier = site.start("earlier").await;
    earlier.engine.cancel_task(leaves, "admin").await.unwrap();
    earlier.engine.rollback(leaves, "admin").await.unwrap();
    assert_eq!(site.rest(leaves).await.task.outcome, Some(Outcome::RolledBack));

    let _later = site.start_with("later", |setup| setup.classes = BOTH).await;
    let state = site.rest(waits).await;
    assert_eq!(
        (state.task.status, state.subtasks[0].run_time),
        (TaskStatus::Successful, 1)
    );
    assert_eq!(earlier.engine.task(waits).await.unwrap().subtasks[0].waiting, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_for_a_server_costs_it_little_and_hides_nothing() {
    const SECONDS: u32 = 60;
    let site = Site::new();
    let submitter = submitter(&site).await;
    for _ in 0..50 {
        submitter.submit(chain(&["new"])).await;
    }
    let earlier = site.start_with("earlier", |setup| setup.slots = 1).await;
    let task = submitter.submit(chain(&["work"])).await;
    assert_eq!(site.rest(task).await.task.status, TaskStatus::Successful);
    sleep(Duration::from_secs(5)).await;
    let before = earlier.link.requests();
    sleep(Duration::from_secs(1) * SECONDS).await;
    let asked = earlier.link.requests() - before;
    assert!(asked <= 10 * SECONDS as usize, "{asked} requests in {SECONDS} s");
}

/// Alone on its database nobody looks again and again.
#[tokio::test]
async fn a_task_goes_on_with_the_release_that_knows_its_steps() {
    let (memory, journal) = (Arc::new(MemoryStore::new()), Journal::default());
    let known = |class| Arc::new(Step::noting(class, &journal)) as Arc<dyn Action<String>>;
    let later = World::on(&memory, vec![known("work"), known("new")]).await;
    later.engine.drain(Duration::ZERO).await;
    let task = later.submit(chain(&["work", "new", "work"])).await;
    later.engine.shutdown().await;

    for _ in 0..2 {
        let earlier = World::on(&memory, vec![known("work")]).await;
        let row = earlier.until(task, 1, |row| row.status == SubtaskStatus::Ready).await;
        assert!(row.waiting.unwrap().contains("class new"));
        eventually(|| tellers(&memory, task).len() == 1).await;
        earlier.engine.shutdown().await;
    }
    assert_eq!(tellers(&memory, task), ["server-1"], "not once for each start");
    assert_eq!(journal.entries(), ["work"]);

    let later = World::on(&memory, vec![known("work"), known("new")]).await;
    let view = later.rest(task).await;
    assert_eq!(view.status, TaskStatus::Successful);
    assert!(
        view.subtasks
            .iter()
            .all(|row| row.run_time == 1 && row.failure.is_none())
    );
    assert_eq!(journal.entries(), ["work", "new", "work"]);
}
