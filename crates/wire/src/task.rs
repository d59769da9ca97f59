//! Asynchronous tasks in OCP's two shapes: [`TaskInstance`], answered by the routes that start one, and
//! [`WrappedTaskInstance`], answered by `GET /api/v2/tasks/instances/{id}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The values a task's subtasks share, in OCP's form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskContext {
    /// Lists, one element per parallel branch.
    pub list_map: BTreeMap<String, Vec<String>>,
    /// Always false for the task itself.
    pub parallel: bool,
    /// Always -1 for the task itself.
    pub parallel_idx: i64,
    /// Single values.
    pub string_map: BTreeMap<String, String>,
}

/// A task as answered by the route that started it: `creator` is a name, there is a `context`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskInstance {
    /// The proxy cluster the task works on; *extension* beside OCP's flat members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<i64>,
    /// Values shared by the subtasks.
    pub context: TaskContext,
    /// Login name of the user who started it.
    pub creator: String,
    /// Address of the server that accepted it.
    pub executor: String,
    /// The host, for tasks that work on one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_id: Option<i64>,
    /// The task's id.
    pub id: i64,
    /// `Upgrade obproxy`, `Install obproxy`, `Offline obproxy`.
    pub name: String,
    /// The proxy cluster made by a create: read by the Terraform provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub obproxy_cluster_id: Option<i64>,
    /// EXECUTE, RETRY or ROLLBACK.
    pub operation: String,
    /// Whether a rollback is refused.
    pub prohibit_rollback: bool,
    /// When it was accepted.
    pub start_time: Timestamp,
    /// RUNNING, FAILED or SUCCESSFUL.
    pub status: String,
    /// The steps; their order is given by upstreams and downstreams alone.
    pub subtasks: Vec<SubtaskInstance>,
    /// -1: started by hand.
    pub task_definition_id: i64,
    /// MANUAL.
    #[serde(rename = "type")]
    pub task_type: String,
}

/// One step of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubtaskInstance {
    /// What runs; absent in the wrapped shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_name: Option<String>,
    /// When the row was made; wrapped shape only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_time: Option<Timestamp>,
    /// Same as `name`.
    pub description: String,
    /// Ids of the steps that wait for this one.
    pub downstreams: Vec<i64>,
    /// Server that ran it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executor: Option<String>,
    /// *Extension*: why its last attempt ended badly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<StepFailure>,
    /// When its last attempt ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Timestamp>,
    /// The step's id.
    pub id: i64,
    /// The step's name in OCP's words where the step is OCP's.
    pub name: String,
    /// JAVA_TASK, the only value OCP knows.
    pub node_type: String,
    /// *Extension*: the proxy it is about, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obproxy_id: Option<i64>,
    /// EXECUTE, RETRY, ROLLBACK, SKIP, ROLLBACK_SKIP or CANCEL.
    pub operation: String,
    /// Branch number, -1 when the step is not one of several.
    pub parallel_idx: i64,
    /// Whether the task can't be rolled back once this step ran.
    pub prohibit_rollback: bool,
    /// Attempts so far, from 1.
    pub run_time: i64,
    /// Number unique in the task.
    pub series_id: i64,
    /// When its first attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// PENDING, READY, RUNNING, CANCELING, FAILED or SUCCESSFUL.
    pub status: String,
    /// The task it belongs to.
    pub task_id: i64,
    /// Seconds an attempt may take, 0 for no limit.
    pub timeout: i64,
    /// Ids of the steps it waits for.
    pub upstreams: Vec<i64>,
    /// *Extension*: why a READY step does not begin: this server's release does not know it, and none that does has taken it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
}

/// *Extension*: why an attempt ended badly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFailure {
    /// ERROR, PANIC, TIMEOUT, CANCELLED, INTERRUPTED, CONTEXT, UNKNOWN_CLASS or UNRECORDED.
    pub cause: String,
    /// A sentence for the operator.
    pub message: String,
}

/// *Extension*: the body of `POST …/abandon`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbandonTask {
    /// Why the task is given up; kept in its history.
    pub reason: String,
}

/// A user as the wrapped shape names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Creator {
    /// The user's id.
    pub id: i64,
    /// The user's login name.
    pub name: String,
}

/// A proxy cluster as the wrapped shape names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRef {
    /// The cluster's id.
    pub id: i64,
    /// The cluster's name.
    pub name: String,
}

/// A task as answered by the task routes: `creator` is an object, there is no context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WrappedTaskInstance {
    /// The proxy cluster the task works on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterRef>,
    /// When the row was made.
    pub create_time: Timestamp,
    /// Who started it.
    pub creator: Creator,
    /// Address of the server that accepted it.
    pub executor: String,
    /// When it came to rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Timestamp>,
    /// *Extension*: PAUSED or CANCELING while nothing of a RUNNING task may begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub halt: Option<String>,
    /// The host, for tasks that work on one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_id: Option<i64>,
    /// The task's id.
    pub id: i64,
    /// The task's name.
    pub name: String,
    /// EXECUTE, RETRY or ROLLBACK.
    pub operation: String,
    /// *Extension*: COMPLETED, ROLLED_BACK, STUCK, CANCELLED or ABANDONED, once it is known. FAILED and ROLLED_BACK: it went
    /// back by itself, and nothing of it is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Whether a rollback is refused.
    pub prohibit_rollback: bool,
    /// When it was accepted.
    pub start_time: Timestamp,
    /// RUNNING, FAILED or SUCCESSFUL.
    pub status: String,
    /// The steps.
    pub subtasks: Vec<SubtaskInstance>,
    /// -1: started by hand.
    pub task_definition_id: i64,
    /// MANUAL.
    #[serde(rename = "type")]
    pub task_type: String,
    /// *Extension*: what may be done about a FAILED task, of RETRY, ROLLBACK, SKIP and ABANDON.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ways_out: Vec<String>,
}

/// *Extension*: a running task that the server leaves alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableTask {
    /// The task's id.
    pub id: i64,
    /// What of its rows cannot be read.
    pub reason: String,
}

/// *Extension*: the answer to `GET /tasks/unreadable`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableTasks {
    /// By id.
    pub contents: Vec<UnreadableTask>,
}

/// The answer to `GET …/subtasks/{sid}/log`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskLog {
    /// All attempts, each under its header line.
    pub log: String,
}

/// *Extension*: one move of a task or of one of its steps. Members that a kind has no use for are absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskEvent {
    /// Who wanted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The key of a value an attempt recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// What would run it, if a release knew it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_name: Option<String>,
    /// What an attempt added to the context; values that may be secret are masked.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, Vec<String>>,
    /// When the attempt will be given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The attempt's fence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// Why an attempt ended badly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<StepFailure>,
    /// What: TASK_CREATED, SUB_READY, SUB_CLAIMED, SUB_SUCCEEDED, …
    pub kind: String,
    /// Not to be begun before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// What the step is to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// How the task came to rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Why, in that person's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Number of the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_time: Option<i64>,
    /// Position in the task's history, from 1 without gaps.
    pub seq: i64,
    /// The server that decided it.
    pub server: String,
    /// The status a step was parked in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The step it is about; absent for the task itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subtask_id: Option<i64>,
    /// When, in milliseconds since the epoch and as OCP writes times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
}

/// *Extension*: the answer to `GET …/events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskEvents {
    /// In the order of `seq`.
    pub contents: Vec<TaskEvent>,
    /// Ask for what comes `after` this.
    pub last_seq: i64,
}
