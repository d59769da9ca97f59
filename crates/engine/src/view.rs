//! A task as it is shown: every member of OCP's TaskInstance, none of the engine's bookkeeping.

use crate::context::{Context, merged};
use crate::core::ways_out;
use crate::state::{
    Failure, Halt, Outcome, Subtask, SubtaskId, SubtaskOperation, SubtaskStatus, TaskId, TaskOperation, TaskState,
    TaskStatus, TaskType, WayOut,
};
use crate::submission::Lock;

/// A task. Times are milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskView {
    /// Id.
    pub id: TaskId,
    /// Name.
    pub name: String,
    /// Type.
    pub task_type: TaskType,
    /// Login name of the submitter.
    pub creator: String,
    /// The server that took the submission.
    pub executor: String,
    /// The OBProxy cluster it is about.
    pub cluster_id: Option<i64>,
    /// The host it is about.
    pub host_id: Option<i64>,
    /// Where it stands.
    pub status: TaskStatus,
    /// What it is being made to do.
    pub operation: TaskOperation,
    /// How it came to rest (ours, not OCP's).
    pub outcome: Option<Outcome>,
    /// What keeps it from beginning anything (ours, not OCP's).
    pub halt: Option<Halt>,
    /// Locks it holds (ours, not OCP's).
    pub locks: Vec<Lock>,
    /// What an operator may do about it while it is FAILED (ours, not OCP's).
    pub ways_out: Vec<WayOut>,
    /// Whether rolling it back would be refused.
    pub prohibit_rollback: bool,
    /// Always -1: submitted by hand.
    pub task_definition_id: i64,
    /// When it was submitted.
    pub create_time: i64,
    /// The same.
    pub start_time: i64,
    /// When it came to rest.
    pub finish_time: Option<i64>,
    /// Base context and everything the subtasks added. `parallel` is false and `parallelIdx` -1 on a task's.
    pub context: Context,
    /// Subtasks by series id, which is a topological order.
    pub subtasks: Vec<SubtaskView>,
}

/// A subtask. Times are milliseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubtaskView {
    /// Id.
    pub id: SubtaskId,
    /// Position in topological order, from 0.
    pub series_id: u32,
    /// Name; also its `description`.
    pub name: String,
    /// Class name.
    pub class_name: String,
    /// Always `JAVA_TASK`, as OCP says.
    pub node_type: &'static str,
    /// Seconds per attempt; 0 is none.
    pub timeout_s: u32,
    /// Where it stands.
    pub status: SubtaskStatus,
    /// What the current or last attempt does.
    pub operation: SubtaskOperation,
    /// The server that claimed it last.
    pub executor: Option<String>,
    /// Attempts, from 1.
    pub run_time: u32,
    /// When the task was submitted.
    pub create_time: i64,
    /// First claim.
    pub start_time: Option<i64>,
    /// End of the last attempt.
    pub finish_time: Option<i64>,
    /// Index into the lists; -1 when it has none.
    pub parallel_idx: i64,
    /// What it waits for.
    pub upstreams: Vec<SubtaskId>,
    /// What waits for it.
    pub downstreams: Vec<SubtaskId>,
    /// Once it has begun, the task may not be rolled back.
    pub prohibit_rollback: bool,
    /// Why the last attempt ended badly (ours, not OCP's).
    pub failure: Option<Failure>,
    /// Why it is READY and does not begin here: an engine says so of what it does not know (ours, not OCP's).
    pub waiting: Option<String>,
}

impl TaskView {
    /// One of its subtasks.
    pub fn subtask(&self, id: SubtaskId) -> Option<&SubtaskView> {
        self.subtasks.iter().find(|subtask| subtask.id == id)
    }

    /// Whether nothing will move any more without an operator.
    pub fn is_at_rest(&self) -> bool {
        self.status != TaskStatus::Running
    }
}

impl From<&TaskState> for TaskView {
    fn from(state: &TaskState) -> Self {
        let task = &state.task;
        Self {
            id: task.id,
            name: task.name.clone(),
            task_type: task.task_type,
            creator: task.creator.clone(),
            executor: task.executor.clone(),
            cluster_id: task.cluster_id,
            host_id: task.host_id,
            status: task.status,
            operation: task.operation,
            outcome: task.outcome,
            halt: task.halt,
            locks: task.locks.clone(),
            ways_out: ways_out(state),
            prohibit_rollback: state.prohibits_rollback(),
            task_definition_id: -1,
            create_time: task.create_time,
            start_time: task.create_time,
            finish_time: task.end_time,
            context: merged(state),
            subtasks: state
                .subtasks
                .iter()
                .map(|subtask| subtask_view(state, subtask))
                .collect(),
        }
    }
}

fn subtask_view(state: &TaskState, subtask: &Subtask) -> SubtaskView {
    let index = subtask.series_id as usize;
    let ids = |indexes: &[usize]| indexes.iter().map(|&i| state.subtasks[i].id).collect();
    SubtaskView {
        id: subtask.id,
        series_id: subtask.series_id,
        name: subtask.spec.name.clone(),
        class_name: subtask.spec.class_name.clone(),
        node_type: "JAVA_TASK",
        timeout_s: subtask.spec.timeout_s,
        status: subtask.status,
        operation: subtask.operation,
        executor: subtask.executor.clone(),
        run_time: subtask.run_time,
        create_time: state.task.create_time,
        start_time: subtask.start_time,
        finish_time: subtask.end_time,
        parallel_idx: subtask.spec.parallel_idx.map_or(-1, i64::from),
        upstreams: ids(state.graph.upstreams(index)),
        downstreams: ids(state.graph.downstreams(index)),
        prohibit_rollback: subtask.spec.prohibit_rollback,
        failure: subtask.failure.clone(),
        waiting: None,
    }
}
