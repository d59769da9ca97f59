//! From a submission to the first rows (E1).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::Env;
use super::event::{Change, Event};
use super::ledger::Ledger;
use super::{apply::Broken, settle::ready_roots};
use crate::context::{Context, ContextDelta};
use crate::state::{
    Graph, Subtask, SubtaskId, SubtaskOperation, SubtaskSpec, SubtaskStatus, Task, TaskId, TaskOperation, TaskState,
    TaskStatus, TaskType,
};
use crate::submission::Lock;

/// A task that only lacks its ids. A store gives them inside the creating transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// What users see.
    pub name: String,
    /// Who starts tasks of this kind.
    pub task_type: TaskType,
    /// Login name of the submitter.
    pub creator: String,
    /// The OBProxy cluster it is about.
    pub cluster_id: Option<i64>,
    /// The host it is about.
    pub host_id: Option<i64>,
    /// Idempotency key.
    pub client_token: Option<String>,
    /// Digest of the request that came with the key.
    pub request_digest: Option<String>,
    /// Whether it goes back by itself when a step fails.
    pub undo_on_failure: bool,
    /// Base context.
    pub context: Context,
    /// Locks to take, one per thing.
    pub locks: Vec<Lock>,
    /// Nodes in topological order.
    pub nodes: Vec<DraftNode>,
    /// The edges.
    pub graph: Arc<Graph>,
}

/// A subtask that only lacks its id. Its `items` are filled from the context.
pub type DraftNode = SubtaskSpec;

impl Draft {
    /// The first rows and events: everything PENDING, the roots READY. Subtasks get `first_subtask` and the ids after it.
    pub fn into_state(
        mut self,
        id: TaskId,
        first_subtask: SubtaskId,
        env: &Env,
    ) -> Result<(TaskState, Vec<Event>), Broken> {
        self.locks.sort_unstable();
        let task = Task {
            id,
            rev: 1,
            name: self.name,
            task_type: self.task_type,
            creator: self.creator,
            executor: env.executor.clone(),
            cluster_id: self.cluster_id,
            host_id: self.host_id,
            client_token: self.client_token,
            request_digest: self.request_digest,
            context: self.context,
            status: TaskStatus::Running,
            operation: TaskOperation::Execute,
            outcome: None,
            halt: None,
            locks: self.locks,
            undo_on_failure: self.undo_on_failure,
            create_time: env.wall_ms,
            end_time: None,
        };
        let nodes = self.nodes.into_iter().zip(0_u32..);
        let subtasks: Vec<Subtask> = nodes
            .map(|(spec, series_id)| {
                let items = items(&task.context, spec.parallel_idx);
                let spec = SubtaskSpec { items, ..spec };
                pending(SubtaskId(first_subtask.0 + i64::from(series_id)), series_id, spec)
            })
            .collect();
        let created = Event {
            seq: 1,
            at: env.wall_ms,
            by: env.owner.clone(),
            change: Change::TaskCreated {
                task: Box::new(task.clone()),
                subtasks: subtasks.clone(),
                edges: self.graph.edges().collect(),
            },
        };
        let state = TaskState {
            task,
            subtasks: subtasks.into_iter().map(Arc::new).collect(),
            graph: self.graph,
        };
        let mut ledger = Ledger::new(state, env);
        ledger.events.push(created);
        ready_roots(&mut ledger)?;
        Ok((ledger.state, ledger.events))
    }
}

fn items(context: &Context, parallel_idx: Option<u32>) -> BTreeMap<String, String> {
    let Some(index) = parallel_idx else {
        return BTreeMap::new();
    };
    let at = |list: &Vec<String>| list.get(index as usize).cloned();
    context
        .list_map
        .iter()
        .filter_map(|(key, list)| Some((key.clone(), at(list)?)))
        .collect()
}

fn pending(id: SubtaskId, series_id: u32, spec: SubtaskSpec) -> Subtask {
    Subtask {
        id,
        series_id,
        spec,
        status: SubtaskStatus::Pending,
        operation: SubtaskOperation::Execute,
        run_time: 1,
        epoch: 0,
        crash_count: 0,
        undo_tries: 0,
        owner: None,
        executor: None,
        deadline_at: None,
        not_before: None,
        ready_from: None,
        start_time: None,
        end_time: None,
        delta: ContextDelta::new(),
        checkpoint: BTreeMap::new(),
        failure: None,
    }
}
