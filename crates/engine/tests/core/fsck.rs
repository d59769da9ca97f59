//! What `fsck` says of rows and events that disagree.

use std::sync::Arc;

use obfleet_engine::core::{Change, Finding, fsck};
use obfleet_engine::state::{Graph, TaskState};
use obfleet_engine::{ContextDelta, SubtaskId};

use crate::hand::{Hand, nothing};
use crate::support::node;

/// Two steps in a row, the first one done.
fn half_way() -> Hand {
    let mut hand = Hand::new(vec![node(0), node(0)], &[(0, 1)]);
    hand.finish(0, nothing());
    hand
}

#[test]
fn a_log_that_does_not_begin_at_its_beginning() {
    let hand = half_way();
    assert_eq!(fsck(&hand.state, &[]), Err(Finding::NoBeginning));
    let mut late = hand.events.clone();
    late[0].seq = 2;
    assert_eq!(fsck(&hand.state, &late), Err(Finding::NoBeginning));
    let mut backward = hand.events;
    let Change::TaskCreated { edges, .. } = &mut backward[0].change else {
        panic!("a task is created first")
    };
    *edges = vec![(1, 0)];
    assert_eq!(fsck(&hand.state, &backward), Err(Finding::BadGraph));
}

#[test]
fn rows_of_another_graph() {
    let hand = half_way();
    let found = |damage: fn(&mut TaskState)| {
        let mut state = hand.state.clone();
        damage(&mut state);
        fsck(&state, &hand.events)
    };
    let no_edge = found(|state| state.graph = Arc::new(Graph::new(2, &[]).unwrap()));
    assert_eq!(no_edge, Err(Finding::Graph));
    let lost_row = found(|state| drop(state.subtasks.pop()));
    assert_eq!(lost_row, Err(Finding::Graph));
}

#[test]
fn every_member_that_differs_is_named_and_long_ones_are_cut() {
    let mut hand = half_way();
    let long = "ü".repeat(200);
    let row = Arc::make_mut(&mut hand.state.subtasks[1]);
    row.run_time = 4;
    row.delta = ContextDelta::new().with("k", &long);
    let Err(Finding::Subtask { subtask, differences }) = fsck(&hand.state, &hand.events) else {
        panic!("the row differs")
    };
    assert_eq!(subtask, SubtaskId(2));
    let cut = format!(r#"{{"set":{{"k":"{}"#, &long[..2 * (120 - 13)]);
    let told = format!("delta is {cut}…, by the events {{}}; run_time is 4, by the events 1");
    assert_eq!(differences, told);
}
