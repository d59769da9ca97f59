//! The first rows of a task.

use std::collections::BTreeMap;
use std::sync::Arc;

use obfleet_engine::core::{Draft, fsck};
use obfleet_engine::state::{Graph, SubtaskSpec};
use obfleet_engine::{Context, Lock, SubtaskId, SubtaskStatus as St, TaskId, TaskType};

use crate::support::{env, node};

fn element(parallel_idx: u32) -> SubtaskSpec {
    SubtaskSpec {
        parallel_idx: Some(parallel_idx),
        ..node(0)
    }
}

#[test]
fn ids_ascend_and_each_parallel_step_has_its_element_of_every_list() {
    let graph = Graph::new(4, &[(0, 1), (0, 2), (0, 3)]).unwrap();
    let draft = Draft {
        name: "Test".into(),
        task_type: TaskType::Manual,
        creator: "admin".into(),
        cluster_id: Some(3),
        host_id: None,
        client_token: None,
        request_digest: None,
        undo_on_failure: false,
        context: Context::new()
            .with("port", "1")
            .with_list("hosts", ["a", "b"])
            .with_list("zones", ["z"]),
        locks: vec![Lock::shared("thing", 2), Lock::exclusive("thing", 1)],
        nodes: vec![node(0), element(0), element(1), element(2)],
        graph: Arc::new(graph),
    };
    let (state, events) = draft.into_state(TaskId(5), SubtaskId(40), &env(0)).unwrap();

    let ids: Vec<_> = state.subtasks.iter().map(|row| (row.id.0, row.series_id)).collect();
    assert_eq!(ids, [(40, 0), (41, 1), (42, 2), (43, 3)]);
    let items = |pairs: &[(&str, &str)]| -> BTreeMap<_, _> {
        pairs
            .iter()
            .map(|&(key, item)| (key.to_owned(), item.to_owned()))
            .collect()
    };
    let given: Vec<_> = state.subtasks.iter().map(|row| row.spec.items.clone()).collect();
    assert_eq!(
        given,
        [
            items(&[]),
            items(&[("hosts", "a"), ("zones", "z")]),
            items(&[("hosts", "b")]),
            items(&[])
        ]
    );
    let statuses: Vec<_> = state.subtasks.iter().map(|row| row.status).collect();
    assert_eq!(statuses, [St::Ready, St::Pending, St::Pending, St::Pending]);
    assert_eq!(
        state.task.locks,
        [Lock::exclusive("thing", 1), Lock::shared("thing", 2)],
        "in one order whoever asks"
    );
    assert_eq!((state.task.create_time, state.task.rev), (1_000, 2));
    let seqs: Vec<_> = events.iter().map(|event| (event.seq, event.at)).collect();
    assert_eq!(seqs, [(1, 1_000), (2, 1_000)]);
    assert_eq!(fsck(&state, &events), Ok(()));
}
