//! Servers on one store, each behind a link of its own, and the actions they run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use obfleet_engine::core::{Change, fsck};
use obfleet_engine::testing::{MemoryStore, check_invariants};
use obfleet_engine::{
    Action, ActionError, Attempt, Engine, Options, Output, Sharing, Spec, Store as _, SubtaskStatus, TaskId, TaskState,
    TaskStatus, Template, TemplateBuilder,
};
use tokio::sync::{Barrier, Notify};
use tokio::time::{Instant, sleep};

use crate::link::Link;
use crate::support::{Done, registry, submission};

/// Virtual: reached at once when nothing else happens.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// What the actions of all servers share: a resource that refuses lower epochs, as agents do, and the means to hold them up.
#[derive(Default)]
pub struct Resource {
    epochs: Mutex<BTreeMap<i64, i64>>,
    /// Server, subtask's position, and epoch of every attempt that was let in.
    attempts: Mutex<Vec<(String, usize, i64)>>,
    hold: Mutex<BTreeSet<String>>,
    release: Notify,
}

impl Resource {
    /// Attempts on this server wait until [`Self::let_go`].
    pub fn hold(&self, server: &str) {
        self.hold.lock().unwrap().insert(server.to_owned());
    }

    pub fn let_go(&self, server: &str) {
        self.hold.lock().unwrap().remove(server);
        self.release.notify_waiters();
    }

    pub fn servers(&self) -> Vec<String> {
        let attempts = self.attempts.lock().unwrap();
        attempts.iter().map(|(server, ..)| server.clone()).collect()
    }

    pub async fn attempted(&self, count: usize) {
        eventually(|| self.attempts.lock().unwrap().len() >= count).await;
    }
}

/// Waits until something is so.
pub async fn eventually(mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "it does not come to be");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Does its work on the resource, wherever it runs.
struct Work {
    class: &'static str,
    takes: Duration,
    server: &'static str,
    resource: Arc<Resource>,
    deaf: bool,
}

#[async_trait]
impl Action<String> for Work {
    fn spec(&self) -> Spec {
        Spec::new(self.class, self.class, 600)
    }

    async fn run(&self, attempt: &Attempt) -> Done {
        let (subtask, epoch) = (attempt.key().subtask.0, attempt.epoch());
        {
            let mut epochs = self.resource.epochs.lock().unwrap();
            let highest = epochs.entry(subtask).or_default();
            if epoch < *highest {
                return Err(ActionError::new("fenced"));
            }
            *highest = epoch;
            let mut attempts = self.resource.attempts.lock().unwrap();
            attempts.push((self.server.to_owned(), usize::try_from(subtask).unwrap(), epoch));
        }
        sleep(self.takes).await;
        loop {
            let released = self.resource.release.notified();
            if !self.resource.hold.lock().unwrap().contains(self.server) {
                break;
            }
            tokio::select! {
                () = released => {}
                () = attempt.cancelled().cancelled(), if !self.deaf => return Err(ActionError::new("stopped")),
            }
        }
        Ok(Output::changes(vec![format!("{subtask}")]))
    }
}

/// A store, its servers to come, and what their actions work on.
pub struct Site {
    pub memory: Arc<MemoryStore<String>>,
    pub resource: Arc<Resource>,
    both: Arc<Barrier>,
}

/// How a server is started.
pub struct Setup {
    pub slots: usize,
    /// The classes of step it knows, besides `together`.
    pub classes: &'static [&'static str],
    /// How long each of them takes at least.
    pub takes: Duration,
    pub sharing: Sharing,
    /// Its actions do not listen when they are told to stop.
    pub deaf: bool,
}

pub struct Server {
    pub engine: Engine<String>,
    pub link: Arc<Link>,
}

impl Site {
    pub fn new() -> Self {
        Self {
            memory: Arc::new(MemoryStore::new()),
            resource: Arc::default(),
            both: Arc::new(Barrier::new(2)),
        }
    }

    pub async fn start(&self, name: &'static str) -> Server {
        self.start_with(name, |_| {}).await
    }

    /// Starts a server that differs from the usual.
    pub async fn start_with(&self, name: &'static str, change: impl FnOnce(&mut Setup)) -> Server {
        let mut setup = Setup {
            slots: 8,
            classes: &["work"],
            takes: Duration::ZERO,
            sharing: Sharing::default(),
            deaf: false,
        };
        change(&mut setup);
        let link = Link::new(&self.memory);
        let options = Options {
            slots: setup.slots,
            sharing: Some(setup.sharing),
            grace: Duration::from_millis(100),
            ..Options::new(name)
        };
        let mut actions: Vec<Arc<dyn Action<String>>> = vec![Arc::new(Together(Arc::clone(&self.both)))];
        for class in setup.classes {
            actions.push(Arc::new(Work {
                class,
                takes: setup.takes,
                server: name,
                resource: Arc::clone(&self.resource),
                deaf: setup.deaf,
            }));
        }
        let engine = Engine::start(link.clone(), registry(actions), options).await.unwrap();
        Server { engine, link }
    }

    pub async fn state(&self, task: TaskId) -> TaskState {
        self.memory.load(task).await.unwrap().unwrap()
    }

    /// The task once it has come to rest, whoever did it: sound, each subtask with at most one success, no lock left.
    pub async fn rest(&self, task: TaskId) -> TaskState {
        let deadline = Instant::now() + PATIENCE;
        let state = loop {
            let state = self.state(task).await;
            if state.task.status != TaskStatus::Running {
                break state;
            }
            assert!(
                Instant::now() < deadline,
                "task {task} does not come to rest: {state:#?}"
            );
            sleep(Duration::from_millis(5)).await;
        };
        let events = self.memory.all_events(task);
        assert_eq!(check_invariants(&state), Ok(()));
        assert_eq!(fsck(&state, &events), Ok(()));
        let mut succeeded = BTreeSet::new();
        for event in &events {
            if let Change::SubSucceeded { subtask, .. } = event.change {
                assert!(succeeded.insert(subtask), "subtask {subtask} succeeded twice");
            }
        }
        assert!(state.task.locks.is_empty() || state.task.status == TaskStatus::Failed);
        state
    }

    pub async fn running(&self, task: TaskId) -> TaskState {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.state(task).await;
            if state.subtasks.iter().any(|row| row.status == SubtaskStatus::Running) {
                return state;
            }
            assert!(Instant::now() < deadline, "task {task} does not begin");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Server {
    pub async fn submit(&self, template: Template) -> TaskId {
        self.engine.submit(submission(template)).await.unwrap().id
    }

    pub async fn has_lease(&self, wanted: bool) {
        eventually(|| self.engine.has_lease() == wanted).await;
    }
}

/// Ends when two of its kind run at once.
struct Together(Arc<Barrier>);

#[async_trait]
impl Action<String> for Together {
    fn spec(&self) -> Spec {
        Spec::new("together", "Together", 600)
    }

    async fn run(&self, _: &Attempt) -> Done {
        self.0.wait().await;
        Ok(Output::nothing())
    }
}

pub fn fan(class: &str, width: usize) -> Template {
    let mut template = TemplateBuilder::new();
    for _ in 0..width {
        template.node(class, None);
    }
    template.build().unwrap()
}
