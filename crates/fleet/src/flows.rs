//! The tasks: what a plan becomes. Each flow has its template (the graph, in OCP's words where OCP has the step) and
//! its steps (what each node does, and how it is undone).
//!
//! A step reads the context it was submitted with, asks an agent, and returns inventory changes; it decides nothing
//! that the plan could have decided.

pub mod add_host;
pub mod backends;
pub mod balance;
pub mod crew;
pub mod delete_host;
pub mod hot_restart;
pub mod install;
pub mod keys;
pub mod move_out;
pub mod ob_links;
pub mod offline;
pub mod operate;
pub mod parameters;
pub mod remove;
pub mod restart;
pub mod shared;
pub mod start;
pub mod step;
pub mod stop;
pub mod sys_password;
pub mod take_over;
pub mod upgrade;

use std::sync::Arc;

use obfleet_engine::Action;

use crate::{flows::crew::Crew, inventory::InventoryChange};

/// Every action of every flow, for the engine's registry.
pub fn actions(crew: &Arc<Crew>) -> Vec<Arc<dyn Action<InventoryChange>>> {
    let steps = [
        add_host::steps(),
        delete_host::steps(),
        install::steps(),
        upgrade::steps(),
        hot_restart::steps(),
        offline::steps(),
        ob_links::steps(),
        parameters::steps(),
        stop::steps(),
        start::steps(),
        restart::steps(),
        remove::steps(),
        operate::steps(),
        balance::steps(),
        sys_password::steps(),
        take_over::steps(),
        move_out::steps(),
        shared::steps(),
    ];
    let steps = steps.into_iter().flatten();
    steps
        .map(|step| Arc::new(step.with(Arc::clone(crew))) as Arc<dyn Action<InventoryChange>>)
        .collect()
}
