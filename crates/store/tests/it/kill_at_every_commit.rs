//! A process running the delete flow's eight steps is killed before and after each of its commits. Whatever the moment, a
//! fresh engine on the same file ends the task by itself, and nothing that was recorded as done is done again.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::{Signal, raise};
use obfleet_engine::core::fsck;
use obfleet_engine::store::{Commit, Created, NewTask};
use obfleet_engine::testing::{StoreLayer, check_invariants};
use obfleet_engine::{
    Action, ActionError, Attempt, Context, Engine, Lock, Options, Outcome, Output, Registry, Spec, Store as _,
    StoreError, Submission, SubtaskOperation, SubtaskStatus, TaskFilter, TaskId, TaskOperation, TaskState, TaskStatus,
    TemplateBuilder, barrier,
};
use obfleet_store::TaskStore;

use crate::support::{notes, open};

const PREPARE: &str = "PrepareOfflineObproxyTask";
const UNINSTALL: &str = "UninstallObproxyTask";
const DELETE_INFO: &str = "DeleteObproxyMetaInfoTask";
const EXPORTER: &str = "OfflineObproxyExporterTask";
const UNRESERVE: &str = "UnReserveHostTask";

/// What each step leaves in the domain's table, once.
const STEPS: [(&str, &str, u32); 5] = [
    (PREPARE, "Prepare offline obproxy", 1800),
    (UNINSTALL, "Stop and uninstall obproxy", 1800),
    (DELETE_INFO, "Delete obproxy info", 300),
    (EXPORTER, "Offline obproxy exporter", 30),
    (UNRESERVE, "Unreserve host", 1800),
];

/// Environment of the child: directory, scenario, commit, and whether to die before or after it.
const DIRECTORY: &str = "OBFLEET_KILL_DIRECTORY";
const SCENARIO: &str = "OBFLEET_KILL_SCENARIO";
const POINT: &str = "OBFLEET_KILL_POINT";
const MOMENT: &str = "OBFLEET_KILL_MOMENT";

const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq, Debug)]
enum Scenario {
    /// All steps succeed.
    Forward,
    /// The last step fails, and the task is rolled back.
    Back,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Moment {
    Before,
    After,
}

/// Kills its process around one commit.
struct Deadly {
    store: TaskStore<String>,
    commits: AtomicUsize,
    point: usize,
    moment: Moment,
}

impl Deadly {
    fn die_at(&self, number: usize, moment: Moment) {
        if number == self.point && moment == self.moment {
            raise(Signal::SIGKILL).expect("a process may kill itself");
        }
    }
}

#[async_trait]
impl StoreLayer for Deadly {
    type Change = String;
    type Below = TaskStore<String>;

    async fn below(&self) -> Result<&Self::Below, StoreError> {
        Ok(&self.store)
    }

    async fn on_create(&self, below: &Self::Below, new: NewTask<'_, String>) -> Result<Created, StoreError> {
        let number = self.commits.fetch_add(1, Ordering::SeqCst);
        self.die_at(number, Moment::Before);
        let created = below.create(new).await;
        self.die_at(number, Moment::After);
        created
    }

    async fn on_commit(&self, below: &Self::Below, commit: Commit<'_, String>) -> Result<(), StoreError> {
        let number = self.commits.fetch_add(1, Ordering::SeqCst);
        self.die_at(number, Moment::Before);
        let committed = below.commit(commit).await;
        self.die_at(number, Moment::After);
        committed
    }
}

/// Writes down every effect, durably, before it is reported.
struct Journaled {
    class: &'static str,
    name: &'static str,
    timeout_s: u32,
    fails: bool,
    journal: PathBuf,
}

impl Journaled {
    fn effect(&self, what: &str) -> Result<(), ActionError> {
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().create(true).append(true).open(&self.journal)?;
            writeln!(file, "{what} {}", self.class)?;
            file.sync_all()
        };
        write().map_err(|error| ActionError::new(error.to_string()))
    }
}

#[async_trait]
impl Action<String> for Journaled {
    fn spec(&self) -> Spec {
        Spec {
            backoff_ms: 1,
            ..Spec::new(self.class, self.name, self.timeout_s)
        }
    }

    async fn run(&self, attempt: &Attempt) -> Result<Output<String>, ActionError> {
        if self.class == UNINSTALL {
            attempt
                .checkpoint("installation", attempt.item("obproxy_server_ids")?)
                .await?;
        }
        self.effect("run")?;
        if self.fails {
            return Err(ActionError::new("the host cannot be reached"));
        }
        Ok(Output::changes(vec![format!("run {}", self.class)]))
    }

    async fn undo(&self, attempt: &Attempt) -> Result<Output<String>, ActionError> {
        if self.class == UNINSTALL && attempt.checkpointed("installation") != Some("2") {
            return Err(ActionError::new("undo does not see the checkpoint"));
        }
        self.effect("undo")?;
        Ok(Output::changes(vec![format!("undo {}", self.class)]))
    }
}

fn registry(directory: &Path, scenario: Scenario) -> Registry<String> {
    let actions = STEPS.map(|(class, name, timeout_s)| {
        let fails = scenario == Scenario::Back && class == UNRESERVE;
        Arc::new(Journaled {
            class,
            name,
            timeout_s,
            fails,
            journal: directory.join("journal"),
        }) as Arc<dyn Action<String>>
    });
    Registry::new(actions).unwrap()
}

fn submission() -> Submission<String> {
    let mut template = TemplateBuilder::new();
    let start = template.node(barrier::START_NODE, None);
    let prepare = template.then(&[start], PREPARE, Some(0));
    let wait = template.barrier(&[prepare]);
    let uninstall = template.then(&[wait], UNINSTALL, Some(0));
    let delete = template.then(&[uninstall], DELETE_INFO, None);
    let exporter = template.then(&[delete], EXPORTER, Some(0));
    let unreserve = template.then(&[exporter], UNRESERVE, None);
    template.then(&[unreserve], barrier::FINISH_TASK, None);
    let mut submission = Submission::new("Offline obproxy", "admin", template.build().unwrap());
    submission.context = Context::new()
        .with_list("obproxy_server_ids", ["2"])
        .with_list("host_ids", ["2"]);
    submission.locks = vec![Lock::exclusive("obproxy", 2)];
    submission.client_token = Some("the task".into());
    submission
}

/// The task from wherever it stands to its end, asking for the rollback where the scenario wants it.
async fn to_the_end(engine: &Engine<String>, task: TaskId, scenario: Scenario) {
    let view = engine.wait(task, DEADLINE).await.unwrap();
    if scenario == Scenario::Back && view.status == TaskStatus::Failed {
        assert_eq!(
            view.operation,
            TaskOperation::Execute,
            "the rollback itself is not to fail: {view:?}"
        );
        engine.rollback(task, "admin").await.unwrap();
        engine.wait(task, DEADLINE).await.unwrap();
    }
}

#[test]
#[ignore = "the child of killed_around_every_commit"]
fn child() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let directory = PathBuf::from(variable(DIRECTORY));
    let scenario = if variable(SCENARIO) == "Back" {
        Scenario::Back
    } else {
        Scenario::Forward
    };
    let moment = if variable(MOMENT) == "After" {
        Moment::After
    } else {
        Moment::Before
    };
    let point = variable(POINT).parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (_, store) = open(&directory).await;
        let store = Deadly {
            store,
            commits: AtomicUsize::new(0),
            point,
            moment,
        };
        let engine = Engine::start(Arc::new(store), registry(&directory, scenario), Options::new("server"));
        let engine = engine.await.unwrap();
        let task = engine.submit(submission()).await.unwrap().id;
        to_the_end(&engine, task, scenario).await;
    });
}

/// Runs the child; whether it was killed (rather than ending well).
fn run_child(directory: &Path, scenario: Scenario, point: usize, moment: Moment) -> bool {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill_at_every_commit::child", "--ignored"])
        .env(DIRECTORY, directory)
        .env(SCENARIO, format!("{scenario:?}"))
        .env(POINT, point.to_string())
        .env(MOMENT, format!("{moment:?}"))
        .output()
        .unwrap();
    let killed = output.status.signal() == Some(Signal::SIGKILL as i32);
    assert!(
        killed || output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    killed
}

fn journal(directory: &Path) -> Vec<String> {
    match std::fs::read_to_string(directory.join("journal")) {
        Ok(text) => text.lines().map(str::to_owned).collect(),
        Err(_) => Vec::new(),
    }
}

/// Effects whose end is recorded: repeating one of them would be an error.
fn recorded(state: &TaskState) -> BTreeSet<String> {
    let ended = state.subtasks.iter().filter(|row| !row.spec.barrier).filter_map(|row| {
        let undone = row.status == SubtaskStatus::Pending && row.operation == SubtaskOperation::Rollback;
        match row.status {
            SubtaskStatus::Successful => Some(format!("run {}", row.spec.class_name)),
            _ if undone => Some(format!("undo {}", row.spec.class_name)),
            _ => None,
        }
    });
    ended.collect()
}

async fn the_task(store: &TaskStore<String>) -> Option<TaskState> {
    store.list(&TaskFilter::default()).await.unwrap().items.pop()
}

/// What is recorded as done and must not happen again, and how much had happened by then.
struct Recorded {
    done: BTreeSet<String>,
    journaled: usize,
}

impl Recorded {
    async fn in_store(directory: &Path, store: &TaskStore<String>) -> Self {
        let done = the_task(store).await.as_ref().map(recorded).unwrap_or_default();
        Self {
            done,
            journaled: journal(directory).len(),
        }
    }

    async fn in_file(directory: &Path) -> Self {
        let (database, store) = open(directory).await;
        let recorded = Self::in_store(directory, &store).await;
        database.close().await;
        recorded
    }

    fn check(&self, directory: &Path, what: &str) {
        for effect in &journal(directory)[self.journaled..] {
            assert!(
                !self.done.contains(effect),
                "{what}: {effect} was recorded and happened again"
            );
        }
    }
}

/// A fresh engine takes over; returns what the domain's table holds in the end.
async fn take_over(directory: &Path, scenario: Scenario, what: &str) -> Vec<String> {
    let (database, store) = open(directory).await;
    let store = Arc::new(store);
    let found = the_task(&store).await;
    let recorded = Recorded::in_store(directory, &store).await;

    let engine = Engine::start(store.clone(), registry(directory, scenario), Options::new("server"))
        .await
        .unwrap();
    let task = match &found {
        Some(state) => state.task.id,
        // Killed before the creating commit: the submitter got no answer and asks again.
        None => engine.submit(submission()).await.unwrap().id,
    };
    to_the_end(&engine, task, scenario).await;
    engine.shutdown().await;

    recorded.check(directory, what);
    let state = the_task(&store).await.unwrap();
    assert_eq!(state.task.id, task, "{what}: one task");
    assert_eq!(check_invariants(&state), Ok(()), "{what}");
    assert_eq!(
        fsck(&state, &store.events(task, 0, u32::MAX).await.unwrap()),
        Ok(()),
        "{what}"
    );
    let outcome = if scenario == Scenario::Back {
        Outcome::RolledBack
    } else {
        Outcome::Completed
    };
    assert_eq!(
        (state.task.status, state.task.outcome),
        (TaskStatus::Successful, Some(outcome)),
        "{what}"
    );
    let notes = notes(&database).await;
    database.close().await;
    notes
}

/// Each change exactly once: the runs that succeeded, and all undos after a rollback.
fn expected_notes(scenario: Scenario) -> Vec<String> {
    let of = |what: &'static str, classes: &'static [(&'static str, &'static str, u32)]| {
        classes.iter().map(move |(class, ..)| format!("{what} {class}"))
    };
    let mut notes: Vec<_> = match scenario {
        Scenario::Forward => of("run", &STEPS).collect(),
        Scenario::Back => of("run", &STEPS[..4]).chain(of("undo", &STEPS)).collect(),
    };
    notes.sort_unstable();
    notes
}

/// Kills at commit 0, 1, 2, …, and the next process at its first, until a run ends untouched; returns how many commits
/// that took.
fn kill_around_every_commit(scenario: Scenario, moment: Moment) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for point in 0.. {
        let directory = tempfile::tempdir().unwrap();
        let killed = run_child(directory.path(), scenario, point, moment);
        let what = format!("{scenario:?}, killed {moment:?} commit {point}");
        if killed {
            // The first commit of a resuming process is the one that takes over: it dies there too.
            let recorded = runtime.block_on(Recorded::in_file(directory.path()));
            run_child(directory.path(), scenario, 0, moment);
            recorded.check(directory.path(), &what);
        }
        let notes = runtime.block_on(take_over(directory.path(), scenario, &what));
        assert_eq!(notes, expected_notes(scenario), "{what}");
        if !killed {
            let runs = journal(directory.path());
            assert_eq!(
                runs.len(),
                BTreeSet::from_iter(&runs).len(),
                "undisturbed, nothing happens twice"
            );
            return point;
        }
    }
    unreachable!("a run has finitely many commits")
}

#[test]
fn killed_around_every_commit() {
    // Create; Start with Prepare's claim; one per step; one for the checkpoint.
    let forward = [Moment::Before, Moment::After].map(|moment| kill_around_every_commit(Scenario::Forward, moment));
    assert_eq!(forward, [8, 8]);
}

#[test]
fn killed_around_every_commit_of_a_rollback() {
    // As above, then the rollback with the failed step's claim, and one per undo.
    let back = [Moment::Before, Moment::After].map(|moment| kill_around_every_commit(Scenario::Back, moment));
    assert_eq!(back, [14, 14]);
}
