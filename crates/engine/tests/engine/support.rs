//! Actions made of closures, and an engine to run them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use obfleet_engine::core::fsck;
use obfleet_engine::testing::{MemoryStore, check_invariants};
use obfleet_engine::{
    Action, ActionError, Attempt, Engine, Options, Output, Registry, Spec, Store, Submission, SubtaskView, TaskId,
    TaskView, Template, TemplateBuilder,
};

pub type Done = Result<Output<String>, ActionError>;
type Body = Box<dyn Fn(&Attempt) -> Done + Send + Sync>;

/// Longest any task of these tests may take.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// What happened, in order.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub fn note(&self, entry: impl Into<String>) {
        self.0.lock().unwrap().push(entry.into());
    }

    pub fn entries(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// An action that does at once what its closures say.
pub struct Step {
    spec: Spec,
    run: Body,
    undo: Body,
}

impl Step {
    pub fn new(class: &'static str, run: impl Fn(&Attempt) -> Done + Send + Sync + 'static) -> Self {
        let spec = Spec {
            backoff_ms: 1,
            ..Spec::new(class, class, 30)
        };
        Self {
            spec,
            run: Box::new(run),
            undo: Box::new(|_| Ok(Output::nothing())),
        }
    }

    /// Notes its class in the journal when run, and `-class` when undone.
    pub fn noting(class: &'static str, journal: &Journal) -> Self {
        let (runs, undos) = (journal.clone(), journal.clone());
        let noted = Self::new(class, move |_| {
            runs.note(class);
            Ok(Output::nothing())
        });
        noted.undo(move |_| {
            undos.note(format!("-{class}"));
            Ok(Output::nothing())
        })
    }

    pub fn undo(mut self, undo: impl Fn(&Attempt) -> Done + Send + Sync + 'static) -> Self {
        self.undo = Box::new(undo);
        self
    }

    pub fn spec(mut self, change: impl Fn(&mut Spec)) -> Self {
        change(&mut self.spec);
        self
    }
}

#[async_trait]
impl Action<String> for Step {
    fn spec(&self) -> Spec {
        self.spec.clone()
    }

    async fn run(&self, attempt: &Attempt) -> Done {
        (self.run)(attempt)
    }

    async fn undo(&self, attempt: &Attempt) -> Done {
        (self.undo)(attempt)
    }
}

pub fn fail(message: &str) -> Done {
    Err(ActionError::new(message))
}

/// A chain of classes, in order.
pub fn chain(classes: &[&str]) -> Template {
    let mut template = TemplateBuilder::new();
    let mut last = Vec::new();
    for class in classes {
        last = vec![template.then(&last, *class, None)];
    }
    template.build().unwrap()
}

pub fn submission(template: Template) -> Submission<String> {
    Submission::new("Test", "admin", template)
}

/// An engine, and the memory under it.
pub struct World {
    pub engine: Engine<String>,
    pub memory: Arc<MemoryStore<String>>,
}

pub fn options() -> Options {
    Options {
        grace: Duration::from_millis(100),
        ..Options::new("server-1")
    }
}

pub fn registry(actions: Vec<Arc<dyn Action<String>>>) -> Registry<String> {
    Registry::new(actions).unwrap()
}

impl World {
    pub async fn of_steps(steps: Vec<Step>) -> Self {
        Self::of(
            steps
                .into_iter()
                .map(|step| Arc::new(step) as Arc<dyn Action<String>>)
                .collect(),
        )
        .await
    }

    pub async fn of(actions: Vec<Arc<dyn Action<String>>>) -> Self {
        let memory = Arc::new(MemoryStore::new());
        Self::on(&memory, actions).await
    }

    pub async fn on(memory: &Arc<MemoryStore<String>>, actions: Vec<Arc<dyn Action<String>>>) -> Self {
        Self::through(memory, memory.clone(), actions).await
    }

    /// With something between the engine and the memory.
    pub async fn through(
        memory: &Arc<MemoryStore<String>>,
        store: Arc<dyn Store<String>>,
        actions: Vec<Arc<dyn Action<String>>>,
    ) -> Self {
        let engine = Engine::start(store, registry(actions), options()).await.unwrap();
        Self {
            engine,
            memory: Arc::clone(memory),
        }
    }

    pub async fn submit(&self, template: Template) -> TaskId {
        self.engine.submit(submission(template)).await.unwrap().id
    }

    /// The task once it has come to rest, its rows and events checked.
    pub async fn rest(&self, task: TaskId) -> TaskView {
        let view = self.engine.wait(task, DEADLINE).await.unwrap();
        let state = self.memory.load(task).await.unwrap().unwrap();
        assert_eq!(check_invariants(&state), Ok(()));
        assert_eq!(fsck(&state, &self.memory.all_events(task)), Ok(()));
        view
    }

    pub async fn log(&self, view: &TaskView, index: usize) -> String {
        self.engine.log(view.id, view.subtasks[index].id).await.unwrap()
    }

    /// Waits until a subtask satisfies `wanted`.
    pub async fn until(&self, task: TaskId, index: usize, wanted: impl Fn(&SubtaskView) -> bool) -> SubtaskView {
        let mut notices = self.engine.subscribe();
        let wait = async {
            loop {
                let view = self.engine.task(task).await.unwrap();
                if wanted(&view.subtasks[index]) {
                    return view.subtasks[index].clone();
                }
                drop(notices.recv().await);
            }
        };
        tokio::time::timeout(DEADLINE, wait)
            .await
            .expect("the subtask gets there in time")
    }
}
