//! What the agent runs.
use obfleet_wire::agent::AgentStatus;
use std::sync::Mutex;

/// s
pub(crate) struct StatusBoard {
    last: Mutex<Option<AgentStatus>>,
}
impl StatusBoard {
    /// r
    pub(crate) fn read(&self) -> AgentStatus {
        self.last.lock().unwrap().clone().unwrap()
    }
}
