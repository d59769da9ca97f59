//! The tasks: what a plan becomes. Each flow has its template (the graph, in OCP's words where OCP has the step) and
//! its steps (what each node does, and how it is undone).
//!
//! A step reads the context it was submitted with, asks an agent, and returns inventory changes; it decides nothing
//! that the plan could have decided.

pub mod backends;
pub mod crew;
pub mod install;
pub mod keys;
pub mod ob_links;
pub mod offline;
pub mod parameters;
pub mod shared;
pub mod step;
pub mod upgrade;

use std::sync::Arc;

use obfleet_engine::Action;

use crate::{flows::crew::Crew, inventory::InventoryChange};

/// Every action of every flow, for the engine's registry.
pub fn actions(crew: &Arc<Crew>) -> Vec<Arc<dyn Action<InventoryChange>>> {
    let steps = [
        install::steps(),
        upgrade::steps(),
        offline::steps(),
        ob_links::steps(),
        parameters::steps(),
        shared::steps(),
    ];
    steps
        .into_iter()
        .flatten()
        .map(|step| Arc::new(step.with(Arc::clone(crew))) as Arc<dyn Action<InventoryChange>>)
        .collect()
}
