//! A step of a flow: a row of the flow's table, and the engine's [`Action`] made of it.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use obfleet_engine::{Action, ActionError, Attempt, Output, Spec};

use crate::{flows::crew::Crew, inventory::InventoryChange};

/// What a step leaves behind.
pub type StepResult = Result<Output<InventoryChange>, ActionError>;

/// What a step does, in either direction.
type Work = for<'a> fn(&'a Crew, &'a Attempt) -> BoxFuture<'a, StepResult>;

/// One kind of node: its class, name and time, what it does and how that is undone.
#[derive(Clone)]
pub struct Step {
    spec: Spec,
    run: Work,
    undo: Option<Work>,
}

impl Step {
    /// A step that leaves nothing to undo. `timeout_s` is per attempt, in seconds.
    pub fn new(class_name: &'static str, name: &'static str, timeout_s: u32, run: Work) -> Self {
        Self {
            spec: Spec::new(class_name, name, timeout_s),
            run,
            undo: None,
        }
    }

    /// How it is undone, from whatever state it is in.
    #[must_use]
    pub fn undone_by(mut self, undo: Work) -> Self {
        self.undo = Some(undo);
        self
    }

    /// The action.
    pub fn with(self, crew: Arc<Crew>) -> impl Action<InventoryChange> {
        StepAction { step: self, crew }
    }
}

struct StepAction {
    step: Step,
    crew: Arc<Crew>,
}

#[async_trait]
impl Action<InventoryChange> for StepAction {
    fn spec(&self) -> Spec {
        self.step.spec.clone()
    }

    async fn run(&self, attempt: &Attempt) -> StepResult {
        (self.step.run)(&self.crew, attempt).await
    }

    async fn undo(&self, attempt: &Attempt) -> StepResult {
        match self.step.undo {
            Some(undo) => undo(&self.crew, attempt).await,
            None => Ok(Output::nothing()),
        }
    }
}
