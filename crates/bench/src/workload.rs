//! An engine with steps that do nothing, and the tasks made of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use obfleet_engine::{
    Action, ActionError, Attempt, Engine, Notice, Options, Output, Registry, Spec, Store, Submission, TaskId,
    TaskStatus, Template, TemplateBuilder, TemplateError, barrier,
};
use obfleet_fleet::inventory::InventoryChange;
use tokio::sync::{broadcast, oneshot};
use tokio::task::AbortHandle;

/// Longest any task of a measurement may take.
const DEADLINE: Duration = Duration::from_secs(120);

const STEP: &str = "bench.Step";

/// Nodes of [`chain8`].
pub const CHAIN_NODES: usize = 8;

/// Commits that [`chain8`] cannot do without: its submission, and the end of each of the five steps that are not barriers.
pub const CHAIN_COMMITS: usize = 6;

/// The chain of OCP's documented task of taking a proxy offline: eight nodes one after the other, three of them barriers.
pub fn chain8() -> Result<Template, TemplateError> {
    chain(&[
        barrier::START_NODE,
        STEP,
        barrier::WAIT_NODE,
        STEP,
        STEP,
        STEP,
        STEP,
        barrier::FINISH_TASK,
    ])
}

/// Steps one after the other.
pub fn steps(count: usize) -> Result<Template, TemplateError> {
    chain(&vec![STEP; count])
}

fn chain(classes: &[&str]) -> Result<Template, TemplateError> {
    let mut template = TemplateBuilder::new();
    let mut last = Vec::new();
    for class in classes {
        last = vec![template.then(&last, *class, None)];
    }
    template.build()
}

/// Steps side by side between two barriers.
pub fn fan_out(width: u32) -> Result<Template, TemplateError> {
    fan_out_of(STEP, width)
}

/// Steps of this class side by side between two barriers.
pub fn fan_out_of(class: &str, width: u32) -> Result<Template, TemplateError> {
    let mut template = TemplateBuilder::new();
    let start = template.node(barrier::START_NODE, None);
    let fan = template.fan_out(&[start], width, class);
    template.then(&fan, barrier::FINISH_TASK, None);
    template.build()
}

/// A task that nothing else stands in the way of.
pub fn submission(template: Template) -> Submission<InventoryChange> {
    Submission::new("Bench", "bench", template)
}

/// When steps ran, in order.
#[derive(Clone, Default)]
struct Moments(Arc<Mutex<Vec<Instant>>>);

impl Moments {
    fn lock(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes when it ran and has ended by then.
#[derive(Default)]
pub struct Step {
    moments: Moments,
}

#[async_trait]
impl Action<InventoryChange> for Step {
    fn spec(&self) -> Spec {
        Spec::new(STEP, "Step", 30)
    }

    async fn run(&self, _: &Attempt) -> Result<Output<InventoryChange>, ActionError> {
        self.moments.lock().push(Instant::now());
        Ok(Output::nothing())
    }
}

/// A running engine. Clones are handles to the same one.
#[derive(Clone)]
pub struct Workload {
    engine: Engine<InventoryChange>,
    moments: Moments,
    ends: Ends,
    listener: AbortHandle,
}

impl Workload {
    /// With the settings of a server.
    pub async fn start(store: Arc<dyn Store<InventoryChange>>) -> Result<Self> {
        let moments = Moments::default();
        let step = Step {
            moments: moments.clone(),
        };
        let registry = Registry::new([Arc::new(step) as Arc<dyn Action<InventoryChange>>])?;
        let engine = Engine::start(store, registry, Options::new("127.0.0.1")).await?;
        let ends = Ends::default();
        let listener = tokio::spawn(ends.clone().listen(engine.subscribe())).abort_handle();
        Ok(Self {
            engine,
            moments,
            ends,
            listener,
        })
    }

    /// The engine itself.
    pub fn engine(&self) -> &Engine<InventoryChange> {
        &self.engine
    }

    /// Submits a task and waits until the engine tells that it is over; how long that took.
    pub async fn run(&self, template: Template) -> Result<Duration> {
        let begun = Instant::now();
        let task = self.engine.submit(submission(template)).await?.id;
        let ended = self.ends.wait(task);
        let ended = tokio::time::timeout(DEADLINE, ended).await;
        let (status, at) = ended.with_context(|| format!("task {task} is not over yet"))??;
        ensure!(status == TaskStatus::Successful, "task {task} is {status}");
        Ok(at - begun)
    }

    /// Runs steps one after the other; the time from the end of each to the beginning of the next, in which the engine
    /// makes the one and the other durable.
    pub async fn hops(&self, count: usize) -> Result<Vec<Duration>> {
        self.moments.lock().clear();
        self.run(steps(count + 1)?).await?;
        let moments = self.moments.lock();
        Ok(moments.windows(2).map(|pair| pair[1] - pair[0]).collect())
    }

    /// Ends the engine.
    pub async fn stop(self) {
        self.engine.shutdown().await;
        self.listener.abort();
    }
}

/// When tasks were told to be over.
#[derive(Clone, Default)]
struct Ends(Arc<Mutex<HashMap<TaskId, End>>>);

type Ended = (TaskStatus, Instant);

enum End {
    Awaited(oneshot::Sender<Ended>),
    Told(Ended),
}

impl Ends {
    async fn listen(self, mut notices: broadcast::Receiver<Notice>) {
        loop {
            match notices.recv().await {
                Ok(notice) if notice.status == TaskStatus::Running => {}
                Ok(notice) => self.tell(notice.task, (notice.status, Instant::now())),
                // A lost end shows as a task that is not over by the deadline.
                Err(broadcast::error::RecvError::Lagged(lost)) => eprintln!("{lost} notices were lost"),
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, End>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, task: TaskId, ended: Ended) {
        let mut ends = self.lock();
        match ends.remove(&task) {
            // Whoever waited may have given up.
            Some(End::Awaited(waiter)) => drop(waiter.send(ended)),
            _ => drop(ends.insert(task, End::Told(ended))),
        }
    }

    async fn wait(&self, task: TaskId) -> Result<Ended> {
        let told = {
            let mut ends = self.lock();
            match ends.remove(&task) {
                Some(End::Told(ended)) => return Ok(ended),
                _ => {
                    let (waiter, told) = oneshot::channel();
                    ends.insert(task, End::Awaited(waiter));
                    told
                }
            }
        };
        Ok(told.await?)
    }
}

#[cfg(test)]
mod tests {
    use obfleet_engine::TaskFilter;

    use super::*;
    use crate::place::{Place, StoreKind};

    #[tokio::test]
    async fn tasks_run_to_their_end_also_in_a_store_that_was_filled() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(StoreKind::Sqlite, dir.path()).await.unwrap();
        let fill = async |store| {
            let workload = Workload::start(store).await?;
            workload.run(chain8()?).await?;
            workload.run(fan_out(3)?).await?;
            workload.stop().await;
            Ok(())
        };
        place.fill(fill).await.unwrap();

        let open = place.open().await.unwrap();
        let workload = Workload::start(open.store()).await.unwrap();
        assert_eq!(workload.hops(3).await.unwrap().len(), 3);
        let page = workload.engine().list(&TaskFilter::default()).await.unwrap();
        let nodes: Vec<_> = page.items.iter().map(|task| task.subtasks.len()).collect();
        assert_eq!(nodes, [4, 5, CHAIN_NODES]);
        assert!(page.items.iter().all(|task| task.status == TaskStatus::Successful));
        workload.stop().await;
        open.close().await;
    }
}
