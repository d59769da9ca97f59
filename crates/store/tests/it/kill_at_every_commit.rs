//! A process running the delete flow's eight steps is killed before and after each of its commits. Whatever the moment, a
//! fresh engine on the same database ends the task by itself, and nothing that was recorded as done is done again.

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
    Action, ActionError, Attempt, Context, Engine, Lock, Options, Outcome, Output, Registry, Sharing, Spec, Store as _,
    StoreError, Submission, SubtaskOperation, SubtaskStatus, TaskId, TaskOperation, TaskState, TaskStatus,
    TemplateBuilder, barrier,
};
use obfleet_store::{Database, Location, TaskStore};
use tempfile::TempDir;

use crate::on_every_database;
use crate::support::{Kind, Notes, Place, location_of, notes_of};

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

/// Environment of the child: file or URL of the database, directory of the journal, task, scenario, commit, and whether to die
/// before or after it.
const DATABASE: &str = "OBFLEET_KILL_DATABASE";
const DIRECTORY: &str = "OBFLEET_KILL_DIRECTORY";
const TOKEN: &str = "OBFLEET_KILL_TOKEN";
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

impl Scenario {
    /// Commits that a run cannot do without. There may be more: one that fails and is tried again counts each time.
    fn least_commits(self) -> usize {
        match self {
            // Create; Start with Prepare's claim; one per step; one for the checkpoint.
            Self::Forward => 8,
            // As above, then the rollback with the failed step's claim, and one per undo.
            Self::Back => 14,
        }
    }
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

fn submission(token: &str) -> Submission<String> {
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
    submission.client_token = Some(token.into());
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

/// A server shares its database with others.
fn options(location: &Location) -> Options {
    Options {
        sharing: matches!(location, Location::Server(_)).then(Sharing::default),
        ..Options::new("server")
    }
}

#[test]
#[ignore = "the child of killed_around_every_commit"]
fn child() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let location = location_of(&variable(DATABASE));
    let directory = PathBuf::from(variable(DIRECTORY));
    let scenario = match variable(SCENARIO).as_str() {
        "Back" => Scenario::Back,
        _ => Scenario::Forward,
    };
    let moment = match variable(MOMENT).as_str() {
        "After" => Moment::After,
        _ => Moment::Before,
    };
    let point = variable(POINT).parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Deadly {
            store: Database::at(&location).await.unwrap().task_store(Notes),
            commits: AtomicUsize::new(0),
            point,
            moment,
        };
        let registry = registry(&directory, scenario);
        let engine = Engine::start(Arc::new(store), registry, options(&location));
        let engine = engine.await.unwrap();
        let task = engine.submit(submission(&variable(TOKEN))).await.unwrap().id;
        to_the_end(&engine, task, scenario).await;
    });
}

/// One task, in whose run one commit is chosen.
struct Round<'a> {
    place: &'a Place,
    scenario: Scenario,
    moment: Moment,
    point: usize,
    /// Of the journal.
    directory: TempDir,
}

/// What is recorded as done and must not happen again, and how much had happened by then.
struct Recorded {
    done: BTreeSet<String>,
    journaled: usize,
}

impl Round<'_> {
    /// Names the task, and this round in failures.
    fn token(&self) -> String {
        format!("{:?}, killed {:?} commit {}", self.scenario, self.moment, self.point)
    }

    /// Runs the child, which dies at this commit of its own; whether it was killed (rather than ending well).
    fn run_child(&self, point: usize) -> bool {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill_at_every_commit::child", "--ignored"])
            .env(DATABASE, self.place.address())
            .env(DIRECTORY, self.directory.path())
            .env(TOKEN, self.token())
            .env(SCENARIO, format!("{:?}", self.scenario))
            .env(POINT, point.to_string())
            .env(MOMENT, format!("{:?}", self.moment))
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

    fn journal(&self) -> Vec<String> {
        match std::fs::read_to_string(self.directory.path().join("journal")) {
            Ok(text) => text.lines().map(str::to_owned).collect(),
            Err(_) => Vec::new(),
        }
    }

    async fn task(&self, store: &TaskStore<String>) -> Option<TaskState> {
        let task = store.find_by_token(&self.token()).await.unwrap()?;
        store.load(task).await.unwrap()
    }

    async fn recorded(&self, store: &TaskStore<String>) -> Recorded {
        Recorded {
            done: self.task(store).await.as_ref().map(recorded).unwrap_or_default(),
            journaled: self.journal().len(),
        }
    }

    fn check(&self, recorded: &Recorded) {
        for effect in &self.journal()[recorded.journaled..] {
            let again = recorded.done.contains(effect);
            assert!(!again, "{}: {effect} was recorded and happened again", self.token());
        }
    }

    /// A fresh engine takes over, and all is well in the end.
    async fn take_over(&self, database: &Database, store: &Arc<TaskStore<String>>) {
        let what = self.token();
        let found = self.task(store).await;
        let recorded = self.recorded(store).await;

        let registry = registry(self.directory.path(), self.scenario);
        let engine = Engine::start(store.clone(), registry, options(&self.place.location()));
        let engine = engine.await.unwrap();
        let task = match &found {
            Some(state) => state.task.id,
            // Killed before the creating commit: the submitter got no answer and asks again.
            None => engine.submit(submission(&what)).await.unwrap().id,
        };
        to_the_end(&engine, task, self.scenario).await;
        engine.shutdown().await;

        self.check(&recorded);
        let state = self.task(store).await.unwrap();
        assert_eq!(state.task.id, task, "{what}: one task");
        assert_eq!(check_invariants(&state), Ok(()), "{what}");
        let events = store.events(task, 0, u32::MAX).await.unwrap();
        assert_eq!(fsck(&state, &events), Ok(()), "{what}");
        let outcome = match self.scenario {
            Scenario::Back => Outcome::RolledBack,
            Scenario::Forward => Outcome::Completed,
        };
        assert_eq!(
            (state.task.status, state.task.outcome),
            (TaskStatus::Successful, Some(outcome)),
            "{what}"
        );
        assert_eq!(notes_of(database, task).await, expected_notes(self.scenario), "{what}");
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

/// Kills at commit 0, 1, 2, …, and the next process at its first, until one ends untouched.
async fn kill_around_every_commit(kind: Kind, scenario: Scenario) {
    let place = Place::new(kind).await;
    let (database, store) = place.open().await;
    let store = Arc::new(store);
    for moment in [Moment::Before, Moment::After] {
        for point in 0.. {
            let round = Round {
                place: &place,
                scenario,
                moment,
                point,
                directory: tempfile::tempdir().unwrap(),
            };
            assert!(point < 2 * scenario.least_commits(), "{}: no end of it", round.token());
            let killed = round.run_child(point);
            if killed {
                // The first commit of a resuming process is the one that takes over: it dies there too.
                let recorded = round.recorded(&store).await;
                round.run_child(0);
                round.check(&recorded);
            } else {
                assert!(point >= scenario.least_commits(), "{}: it ended before", round.token());
                let runs = round.journal();
                let distinct = BTreeSet::from_iter(&runs).len();
                assert_eq!(runs.len(), distinct, "undisturbed, nothing happens twice");
            }
            round.take_over(&database, &store).await;
            if !killed {
                break;
            }
        }
    }
}

on_every_database!(killed_around_every_commit);

async fn killed_around_every_commit(kind: Kind) {
    kill_around_every_commit(kind, Scenario::Forward).await;
}

on_every_database!(killed_around_every_commit_of_a_rollback);

async fn killed_around_every_commit_of_a_rollback(kind: Kind) {
    kill_around_every_commit(kind, Scenario::Back).await;
}
