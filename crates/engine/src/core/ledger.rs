//! A decision in the making: the state so far and the events that led to it.

use super::apply::{Broken, apply};
use super::command::Env;
use super::event::{Change, Event};
use crate::state::{Subtask, TaskState};

pub(super) struct Ledger<'a> {
    pub state: TaskState,
    pub events: Vec<Event>,
    pub env: &'a Env,
}

impl<'a> Ledger<'a> {
    pub fn new(state: TaskState, env: &'a Env) -> Self {
        Self {
            state,
            events: Vec::new(),
            env,
        }
    }

    pub fn subtask(&self, index: usize) -> &Subtask {
        &self.state.subtasks[index]
    }

    /// Applies a change and records its event. An error is a fault in the rules, never the caller's.
    pub fn emit(&mut self, change: Change) -> Result<(), Broken> {
        let event = Event {
            seq: self.state.task.rev + 1,
            at: self.env.wall_ms,
            by: self.env.owner.clone(),
            change,
        };
        apply(&mut self.state, &event)?;
        self.events.push(event);
        Ok(())
    }
}
