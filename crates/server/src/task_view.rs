//! Tasks of the engine in OCP's two shapes.

use std::slice;

use obfleet_engine::{Context, SubtaskView, TaskView};
use obfleet_fleet::flows::keys;
use obfleet_wire::{
    task::{ClusterRef, Creator, SubtaskInstance, TaskContext, TaskInstance, WrappedTaskInstance},
    time::Timestamp,
};

use crate::{event_view::why, masking};

/// The shape answered by the route that started the task.
pub fn started(task: &TaskView) -> TaskInstance {
    TaskInstance {
        cluster_id: task.cluster_id,
        context: context(&task.context),
        creator: task.creator.clone(),
        executor: task.executor.clone(),
        host_id: task.host_id,
        id: task.id.0,
        name: task.name.clone(),
        obproxy_cluster_id: None,
        operation: task.operation.to_string(),
        prohibit_rollback: task.prohibit_rollback,
        start_time: Timestamp(task.start_time),
        status: task.status.to_string(),
        subtasks: task.subtasks.iter().map(|subtask| in_started(task, subtask)).collect(),
        task_definition_id: task.task_definition_id,
        task_type: task.task_type.to_string(),
    }
}

/// What may be secret is masked.
fn context(context: &Context) -> TaskContext {
    let lists = context.list_map.iter();
    let lists = lists.map(|(key, list)| (key.clone(), masking::values(key, list)));
    let texts = context.string_map.iter();
    let texts = texts.filter_map(|(key, text)| Some((key.clone(), masking::values(key, slice::from_ref(text)).pop()?)));
    TaskContext {
        list_map: lists.collect(),
        parallel: false,
        parallel_idx: -1,
        string_map: texts.collect(),
    }
}

/// The shape answered by the task routes.
pub fn wrapped(task: &TaskView, creator: Creator, cluster: Option<ClusterRef>) -> WrappedTaskInstance {
    WrappedTaskInstance {
        cluster,
        create_time: Timestamp(task.create_time),
        creator,
        executor: task.executor.clone(),
        finish_time: task.finish_time.map(Timestamp),
        halt: task.halt.map(|halt| halt.to_string()),
        host_id: task.host_id,
        id: task.id.0,
        name: task.name.clone(),
        operation: task.operation.to_string(),
        outcome: task.outcome.map(|outcome| outcome.to_string()),
        prohibit_rollback: task.prohibit_rollback,
        start_time: Timestamp(task.start_time),
        status: task.status.to_string(),
        subtasks: task.subtasks.iter().map(|subtask| in_wrapped(task, subtask)).collect(),
        task_definition_id: task.task_definition_id,
        task_type: task.task_type.to_string(),
        ways_out: task.ways_out.iter().map(ToString::to_string).collect(),
    }
}

/// A subtask within [`wrapped`], and as answered when it is retried.
pub fn in_wrapped(task: &TaskView, subtask: &SubtaskView) -> SubtaskInstance {
    SubtaskInstance {
        class_name: None,
        create_time: Some(Timestamp(subtask.create_time)),
        ..in_started(task, subtask)
    }
}

fn in_started(task: &TaskView, subtask: &SubtaskView) -> SubtaskInstance {
    let ids = |ids: &[obfleet_engine::SubtaskId]| ids.iter().map(|id| id.0).collect();
    SubtaskInstance {
        class_name: Some(subtask.class_name.clone()),
        create_time: None,
        description: subtask.name.clone(),
        downstreams: ids(&subtask.downstreams),
        executor: subtask.executor.clone(),
        failure: subtask.failure.as_ref().map(why),
        finish_time: subtask.finish_time.map(Timestamp),
        id: subtask.id.0,
        name: subtask.name.clone(),
        node_type: subtask.node_type.to_owned(),
        obproxy_id: proxy_of(task, subtask),
        operation: subtask.operation.to_string(),
        parallel_idx: subtask.parallel_idx,
        prohibit_rollback: subtask.prohibit_rollback,
        run_time: i64::from(subtask.run_time),
        series_id: i64::from(subtask.series_id),
        start_time: subtask.start_time.map(Timestamp),
        status: subtask.status.to_string(),
        task_id: task.id.0,
        timeout: i64::from(subtask.timeout_s),
        upstreams: ids(&subtask.upstreams),
        waiting: subtask.waiting.clone(),
    }
}

/// The proxy of a branch, or of a task that has but one.
fn proxy_of(task: &TaskView, subtask: &SubtaskView) -> Option<i64> {
    let branches = task.context.list_map.get(keys::PROXY_IDS);
    let id = match usize::try_from(subtask.parallel_idx) {
        Ok(branch) => branches?.get(branch)?,
        Err(_) => task.context.string_map.get(keys::PROXY_ID)?,
    };
    id.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_shown_without_what_may_be_secret() {
        let given = Context::new()
            .with("package_version", "4.3.1.0")
            .with("proxyro_password", "s3cret")
            .with("warning", "probe failed: password = 's3cret'")
            .with_list("host_ids", ["1", "2"])
            .with_list("agentTokens", ["t0ken", "t0ken2"]);
        let shown = context(&given);
        assert_eq!(shown.string_map["package_version"], "4.3.1.0");
        assert_eq!(shown.string_map["proxyro_password"], masking::MASK);
        assert_eq!(shown.string_map["warning"], "probe failed: password = '******'");
        assert_eq!(shown.list_map["host_ids"], ["1", "2"]);
        assert_eq!(
            shown.list_map["agentTokens"],
            [masking::MASK; 2],
            "branches still find their place"
        );
        let text = serde_json::to_string(&shown).unwrap();
        assert!(!text.contains("s3cret") && !text.contains("t0ken"), "{text}");
    }
}
