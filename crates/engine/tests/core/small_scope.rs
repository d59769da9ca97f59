//! Every interleaving of engine and operator moves in small graphs: no state breaks an invariant, and every RUNNING task
//! has a move of the engine's own.

use std::collections::{BTreeSet, HashSet, VecDeque};

use obfleet_engine::core::{Change, Command, Event, Reject, decide};
use obfleet_engine::state::SubtaskSpec;
use obfleet_engine::testing::check_invariants;
use obfleet_engine::{
    Cause, ContextDelta, Failure, Halt, Outcome, SubtaskOperation, SubtaskStatus, TaskOperation, TaskState, TaskStatus,
};

use crate::support::{ann, barrier, claimed_by, node, task_that};

/// How far the search goes: without bounds an operator could retry for ever.
#[derive(Clone, Copy)]
struct Bounds {
    run_time: u32,
    crashes: u32,
}

/// Status, operation, attempts, retries of the undo, crashes, where READY came from, whether a failure is on record.
type Row = (
    SubtaskStatus,
    SubtaskOperation,
    u32,
    u32,
    u32,
    Option<SubtaskStatus>,
    bool,
);

/// What tells states apart for the future: epochs and revs only ever grow.
type Key = (TaskStatus, TaskOperation, Option<Outcome>, Option<Halt>, Vec<Row>);

fn key(state: &TaskState) -> Key {
    let rows = state.subtasks.iter();
    let rows = rows.map(|r| {
        (
            r.status,
            r.operation,
            r.run_time,
            r.undo_tries,
            r.crash_count,
            r.ready_from,
            r.failure.is_some(),
        )
    });
    let task = &state.task;
    (task.status, task.operation, task.outcome, task.halt, rows.collect())
}

fn failure() -> Failure {
    Failure {
        cause: Cause::Error,
        message: "no".into(),
    }
}

/// Moves the engine makes by itself.
fn engine_moves(state: &TaskState, bounds: Bounds) -> Vec<(usize, Command)> {
    let mut moves = Vec::new();
    for (index, row) in state.subtasks.iter().enumerate() {
        let (subtask, epoch) = (row.id, row.epoch);
        let delta = ContextDelta::new;
        match row.status {
            SubtaskStatus::Ready => moves.push((index, Command::Claim { subtask })),
            SubtaskStatus::Running | SubtaskStatus::Canceling => {
                moves.push((
                    index,
                    Command::Finish {
                        subtask,
                        epoch,
                        delta: delta(),
                    },
                ));
                moves.push((
                    index,
                    Command::Fail {
                        subtask,
                        epoch,
                        failure: failure(),
                        delta: delta(),
                    },
                ));
                moves.push((index, Command::Expire { subtask, epoch }));
                moves.push((index, Command::Release));
                if row.crash_count < bounds.crashes {
                    moves.push((
                        index,
                        Command::Orphan {
                            dead: BTreeSet::from([incarnation(index)]),
                        },
                    ));
                }
            }
            _ => {}
        }
    }
    moves
}

/// Moves an operator may make.
fn operator_moves(state: &TaskState, bounds: Bounds) -> Vec<(usize, Command)> {
    let mut moves = Vec::new();
    let mut retries_left = true;
    for (index, row) in state.subtasks.iter().enumerate() {
        let subtask = row.id;
        moves.push((index, Command::Cancel { subtask, actor: ann() }));
        moves.push((index, Command::Skip { subtask, actor: ann() }));
        if row.run_time < bounds.run_time {
            moves.push((index, Command::RetrySubtask { subtask, actor: ann() }));
        } else {
            retries_left = false;
        }
    }
    if retries_left {
        moves.push((0, Command::RetryTask { actor: ann() }));
    }
    moves.push((0, Command::Rollback { actor: ann() }));
    moves.push((0, Command::Pause { actor: ann() }));
    moves.push((0, Command::Unpause { actor: ann() }));
    moves.push((0, Command::CancelTask { actor: ann() }));
    let reason = "lost".to_owned();
    moves.push((0, Command::Abandon { actor: ann(), reason }));
    moves
}

/// Each subtask is claimed by a process of its own, so that one can die without the others.
fn incarnation(index: usize) -> String {
    format!("process {index}")
}

/// Visits every state within bounds; returns how many there are.
fn explore(nodes: Vec<SubtaskSpec>, edges: &[(usize, usize)], slots: usize, bounds: Bounds) -> usize {
    explore_from(task_that(false, nodes, edges).0, slots, bounds)
}

fn explore_from(first: TaskState, slots: usize, bounds: Bounds) -> usize {
    let mut seen = HashSet::from([key(&first)]);
    let mut open = VecDeque::from([first]);
    while let Some(state) = open.pop_front() {
        let of_engine = engine_moves(&state, bounds);
        let mut moved = 0;
        for (number, (index, command)) in of_engine
            .iter()
            .cloned()
            .chain(operator_moves(&state, bounds))
            .enumerate()
        {
            let decision = match decide(&state, command.clone(), &claimed_by(&incarnation(index), slots)) {
                Ok(decision) => decision,
                Err(Reject::Broken(broken)) => panic!("{broken}\nby {command:?}\nfrom {:?}", key(&state)),
                Err(_) => continue,
            };
            moved += usize::from(number < of_engine.len());
            let after = decision.state;
            if let Err(broken) = check_invariants(&after) {
                panic!("{broken}\nby {command:?}\nfrom {:?}\nto {:?}", key(&state), key(&after));
            }
            assert!(!decision.events.is_empty(), "a move without an event: {command:?}");
            assert!(
                !state.task.outcome.is_some_and(Outcome::is_final),
                "E18, E22: {command:?} moves a task that is over"
            );
            let failed = |state: &TaskState| state.task.status == TaskStatus::Failed;
            let now_stands = failed(&after) && !failed(&state) && after.task.outcome.is_none();
            assert!(
                !(now_stands && after.task.undo_on_failure) || state.task.halt == Some(Halt::Paused),
                "E15b: {command:?} leaves a task that goes back by itself to an operator"
            );
            let claims = |event: &Event| matches!(event.change, Change::SubClaimed { .. });
            assert!(
                after.task.halt.is_none() || !decision.events.iter().any(claims),
                "E19: {command:?} claims in a halted task"
            );
            assert!(
                state
                    .subtasks
                    .iter()
                    .zip(&after.subtasks)
                    .all(|(then, now)| then.epoch <= now.epoch),
                "I2: an epoch fell by {command:?}"
            );
            if seen.insert(key(&after)) {
                open.push_back(after);
            }
        }
        let paused = state.task.halt == Some(Halt::Paused);
        assert!(
            moved > 0 || paused || state.task.status != TaskStatus::Running,
            "G10: nothing moves a RUNNING task in {:?}",
            key(&state)
        );
    }
    seen.len()
}

#[test]
fn chain_of_three() {
    let bounds = Bounds {
        run_time: 3,
        crashes: 1,
    };
    let states = explore(vec![node(1); 3], &[(0, 1), (1, 2)], 0, bounds);
    assert!(states > 10_000, "only {states} states");
}

#[test]
fn chain_of_three_claimed_within_commits() {
    let bounds = Bounds {
        run_time: 3,
        crashes: 2,
    };
    let states = explore(vec![node(1); 3], &[(0, 1), (1, 2)], 1, bounds);
    assert!(states > 5_000, "only {states} states");
}

#[test]
fn what_goes_back_by_itself() {
    let bounds = Bounds {
        run_time: 2,
        crashes: 1,
    };
    let (chain, _) = task_that(true, vec![node(1); 3], &[(0, 1), (1, 2)]);
    let states = explore_from(chain, 0, bounds);
    assert!(states > 5_000, "only {states} states");
    let (roots, _) = task_that(true, vec![node(0); 3], &[(0, 2), (1, 2)]);
    let states = explore_from(roots, 1, bounds);
    assert!(states > 1_000, "only {states} states");
}

#[test]
fn two_roots() {
    let bounds = Bounds {
        run_time: 3,
        crashes: 1,
    };
    let states = explore(vec![node(1); 2], &[], 0, bounds);
    assert!(states > 3_000, "only {states} states");
}

#[test]
fn diamond() {
    let bounds = Bounds {
        run_time: 2,
        crashes: 1,
    };
    let states = explore(vec![node(0); 4], &[(0, 1), (0, 2), (1, 3), (2, 3)], 0, bounds);
    assert!(states > 10_000, "only {states} states");
}

#[test]
fn diamond_between_barriers() {
    let bounds = Bounds {
        run_time: 2,
        crashes: 1,
    };
    let nodes = vec![barrier(), node(1), node(1), barrier()];
    let states = explore(nodes, &[(0, 1), (0, 2), (1, 3), (2, 3)], 0, bounds);
    assert!(states > 2_000, "only {states} states");
}
