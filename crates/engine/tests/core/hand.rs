//! A task moved by hand.

use obfleet_engine::core::{Command, Event, Reject, decide};
use obfleet_engine::state::SubtaskSpec;
use obfleet_engine::{Cause, ContextDelta, Failure, SubtaskStatus as St, TaskState};

use crate::support::{env, task, task_that};

/// A task being moved by hand, with the kinds of events each move made.
pub struct Hand {
    pub state: TaskState,
    pub events: Vec<Event>,
}

impl Hand {
    pub fn new(nodes: Vec<SubtaskSpec>, edges: &[(usize, usize)]) -> Self {
        let (state, events) = task(nodes, edges);
        Self { state, events }
    }

    /// Of a task that goes back by itself.
    pub fn of_one_that_undoes_itself(nodes: Vec<SubtaskSpec>, edges: &[(usize, usize)]) -> Self {
        let (state, events) = task_that(true, nodes, edges);
        Self { state, events }
    }

    pub fn try_do(&mut self, command: Command, slots: usize) -> Result<Vec<&'static str>, Reject> {
        let decision = decide(&self.state, command, &env(slots))?;
        let kinds = decision.events.iter().map(|event| event.change.kind()).collect();
        self.events.extend(decision.events);
        self.state = decision.state;
        Ok(kinds)
    }

    pub fn run(&mut self, command: Command) -> Vec<&'static str> {
        self.try_do(command, 0).expect("the command is admitted")
    }

    pub fn claim(&mut self, index: usize) -> i64 {
        self.run(Command::Claim {
            subtask: self.state.subtasks[index].id,
        });
        self.state.subtasks[index].epoch
    }

    pub fn finish(&mut self, index: usize, delta: ContextDelta) -> Vec<&'static str> {
        let epoch = self.claim(index);
        self.run(Command::Finish {
            subtask: self.state.subtasks[index].id,
            epoch,
            delta,
        })
    }

    pub fn fail(&mut self, index: usize, delta: ContextDelta) -> Vec<&'static str> {
        let epoch = self.claim(index);
        let failure = Failure {
            cause: Cause::Error,
            message: "no".into(),
        };
        self.run(Command::Fail {
            subtask: self.state.subtasks[index].id,
            epoch,
            failure,
            delta,
        })
    }

    pub fn statuses(&self) -> Vec<St> {
        self.state.subtasks.iter().map(|row| row.status).collect()
    }
}

pub fn nothing() -> ContextDelta {
    ContextDelta::new()
}
