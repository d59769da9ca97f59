//! Tasks to test on.

use std::collections::BTreeMap;
use std::sync::Arc;

use obfleet_engine::core::{Classes, Draft, Env, Event};
use obfleet_engine::state::{Graph, SubtaskSpec};
use obfleet_engine::{Context, Lock, OnCrash, Owner, RetryMode, SubtaskId, TaskId, TaskState, TaskType};

/// An operator.
pub fn ann() -> String {
    "ann".to_owned()
}

pub fn env(slots: usize) -> Env {
    claimed_by("server", slots)
}

pub fn claimed_by(incarnation: &str, slots: usize) -> Env {
    let owner = Owner {
        server: "server".into(),
        incarnation: incarnation.into(),
    };
    Env {
        wall_ms: 1_000,
        steady_ms: 1_000,
        owner,
        executor: "server".into(),
        slots,
        classes: Classes::All,
        cancel_grace_ms: 10_000,
    }
}

/// A server's that knows whatever there is, or only the class `work`.
pub fn of_release(env: Env, knows_new: bool) -> Env {
    let old = Classes::Only(Arc::new(["work".to_owned()].into()));
    let classes = if knows_new { Classes::All } else { old };
    Env { classes, ..env }
}

/// A node that retries by itself `retries` times, run and undo alike, without waiting.
pub fn node(retries: u32) -> SubtaskSpec {
    SubtaskSpec {
        name: "Work".into(),
        class_name: "work".into(),
        timeout_s: 30,
        prohibit_rollback: false,
        retries,
        undo_retries: retries,
        backoff_ms: 0,
        retry_mode: RetryMode::RunAgain,
        on_crash: OnCrash::Resume,
        barrier: false,
        parallel_idx: None,
        items: BTreeMap::new(),
    }
}

pub fn barrier() -> SubtaskSpec {
    SubtaskSpec {
        name: "Wait node".into(),
        barrier: true,
        ..node(0)
    }
}

pub fn task(nodes: Vec<SubtaskSpec>, edges: &[(usize, usize)]) -> (TaskState, Vec<Event>) {
    task_that(false, nodes, edges)
}

/// A task that goes back by itself, or not.
pub fn task_that(undo_on_failure: bool, nodes: Vec<SubtaskSpec>, edges: &[(usize, usize)]) -> (TaskState, Vec<Event>) {
    let graph = Graph::new(nodes.len(), edges).expect("edges go forward");
    let draft = Draft {
        name: "Test".into(),
        task_type: TaskType::Manual,
        creator: "admin".into(),
        cluster_id: None,
        host_id: None,
        client_token: None,
        request_digest: None,
        undo_on_failure,
        context: Context::new(),
        locks: vec![Lock::exclusive("thing", 1)],
        nodes,
        graph: Arc::new(graph),
    };
    draft
        .into_state(TaskId(1), SubtaskId(1), &env(0))
        .expect("a draft has a first state")
}
