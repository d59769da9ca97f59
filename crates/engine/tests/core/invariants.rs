//! The alarms ring: each invariant is broken on purpose, and `check_invariants` names it.

use std::sync::Arc;

use obfleet_engine::context::CONTEXT_LIMIT;
use obfleet_engine::core::Command;
use obfleet_engine::state::{Subtask, SubtaskSpec, Task};
use obfleet_engine::testing::check_invariants;
use obfleet_engine::{Cause, ContextDelta, Failure, Halt, Lock, Outcome, SubtaskStatus as St, TaskState, TaskStatus};

use crate::hand::{Hand, nothing};
use crate::support::{ann, barrier, env, node};

/// A chain of two whose first step runs.
fn running() -> TaskState {
    let mut hand = Hand::new(vec![node(0); 2], &[(0, 1)]);
    hand.claim(0);
    hand.state
}

/// The same chain at rest: the first step FAILED.
fn failed() -> TaskState {
    let mut hand = Hand::new(vec![node(0); 2], &[(0, 1)]);
    hand.fail(0, nothing());
    hand.state
}

/// The same chain, over.
fn completed() -> TaskState {
    let mut hand = Hand::new(vec![node(0); 2], &[(0, 1)]);
    hand.finish(0, nothing());
    hand.finish(1, nothing());
    hand.state
}

/// The chain undone whole.
fn rolled_back() -> TaskState {
    let mut hand = Hand::new(vec![node(0); 2], &[(0, 1)]);
    hand.fail(0, nothing());
    hand.run(Command::Rollback { actor: ann() });
    hand.finish(0, nothing());
    hand.state
}

/// The second step of the chain has failed to be undone.
fn stuck() -> TaskState {
    let mut hand = Hand::new(vec![node(0); 2], &[(0, 1)]);
    hand.finish(0, nothing());
    hand.fail(1, nothing());
    hand.run(Command::Rollback { actor: ann() });
    hand.fail(1, nothing());
    hand.state
}

fn row(state: &mut TaskState, index: usize) -> &mut Subtask {
    Arc::make_mut(&mut state.subtasks[index])
}

/// What is found once a sound state has been damaged.
fn found(mut state: TaskState, damage: impl FnOnce(&mut TaskState)) -> String {
    assert_eq!(check_invariants(&state), Ok(()));
    damage(&mut state);
    check_invariants(&state).unwrap_err()
}

fn found_in_task(state: TaskState, damage: impl FnOnce(&mut Task)) -> String {
    found(state, |state| damage(&mut state.task))
}

fn found_in_row(state: TaskState, index: usize, damage: impl FnOnce(&mut Subtask)) -> String {
    found(state, |state| damage(row(state, index)))
}

fn set_ready(row: &mut Subtask) {
    row.status = St::Ready;
    row.ready_from = Some(St::Pending);
}

fn failure() -> Failure {
    Failure {
        cause: Cause::Error,
        message: "no".into(),
    }
}

#[test]
fn a_step_before_its_upstreams() {
    assert_eq!(
        found_in_row(running(), 1, set_ready),
        "I4: subtask 1 is READY before its upstreams succeeded"
    );
    assert_eq!(
        found_in_row(completed(), 0, |row| row.status = St::Pending),
        "I4: subtask 1 is SUCCESSFUL before its upstreams succeeded"
    );
}

#[test]
fn an_undo_before_its_downstreams() {
    let found = found_in_row(stuck(), 0, |row| row.status = St::Pending);
    assert_eq!(found, "I5: subtask 0 was undone before its downstreams");
}

#[test]
fn a_claim_and_its_owner_apart() {
    let told = found_in_row(running(), 0, |row| row.owner = None);
    assert_eq!(told, "subtask 0: I3: RUNNING with owner None");
    let told = found_in_row(failed(), 0, |row| row.owner = Some(env(0).owner));
    assert!(told.starts_with("subtask 0: I3: FAILED with owner Some"), "{told}");
}

#[test]
fn an_attempt_without_its_deadline() {
    let told = "subtask 0: I3: an attempt without its deadline";
    assert_eq!(found_in_row(running(), 0, |row| row.deadline_at = None), told);

    let endless = SubtaskSpec {
        timeout_s: 0,
        ..node(0)
    };
    let mut hand = Hand::new(vec![endless], &[]);
    hand.claim(0);
    assert_eq!(hand.state.subtasks[0].deadline_at, None);
    assert_eq!(check_invariants(&hand.state), Ok(()), "a step may run without one");
    hand.run(Command::Cancel {
        subtask: hand.state.subtasks[0].id,
        actor: ann(),
    });
    let told_of = found_in_row(hand.state, 0, |row| row.deadline_at = None);
    assert_eq!(told_of, told, "but it must stop in time");
}

#[test]
fn a_barrier_that_does_something() {
    let hand = Hand::new(vec![barrier()], &[]);
    let held = found_in_row(hand.state.clone(), 0, |row| {
        (row.status, row.ready_from) = (St::Running, None);
        (row.owner, row.deadline_at) = (Some(env(0).owner), Some(1));
    });
    assert_eq!(held, "subtask 0: E4b: a barrier stands RUNNING");
    let failed = found_in_row(hand.state, 0, |row| {
        (row.status, row.ready_from) = (St::Failed, None);
        row.failure = Some(failure());
    });
    assert_eq!(failed, "subtask 0: E4b: a barrier stands FAILED");
}

#[test]
fn a_ready_step_from_nowhere_and_a_failure_without_a_reason() {
    let ready = Hand::new(vec![node(0)], &[]).state;
    let told = "subtask 0: READY and where it came from belong together";
    assert_eq!(found_in_row(ready, 0, |row| row.ready_from = None), told);
    let told_of = found_in_row(failed(), 0, |row| row.ready_from = Some(St::Pending));
    assert_eq!(told_of, told);
    let told = found_in_row(failed(), 0, |row| row.failure = None);
    assert_eq!(told, "subtask 0: FAILED without a reason");
}

#[test]
fn a_running_task_that_stands_still() {
    let told = found_in_task(failed(), |task| {
        task.status = TaskStatus::Running;
        task.end_time = None;
    });
    assert_eq!(told, "G10: a RUNNING task with nothing under way");
}

#[test]
fn a_failed_task_that_is_not_quiet_or_without_a_cause() {
    let told = found_in_task(running(), |task| {
        task.status = TaskStatus::Failed;
        task.end_time = Some(1);
    });
    assert_eq!(told, "G9: a FAILED task is not quiet");
    let nothing_failed = |outcome| {
        let mut state = failed();
        row(&mut state, 0).status = St::Pending;
        state.task.outcome = outcome;
        check_invariants(&state)
    };
    for outcome in [None, Some(Outcome::Stuck)] {
        let told = "a FAILED task without a FAILED subtask".to_owned();
        assert_eq!(nothing_failed(outcome), Err(told));
    }
    assert_eq!(nothing_failed(Some(Outcome::Cancelled)), Ok(()));
    let mut abandoned = failed();
    abandoned.task.outcome = Some(Outcome::Abandoned);
    abandoned.task.locks.clear();
    row(&mut abandoned, 0).status = St::Pending;
    assert_eq!(
        check_invariants(&abandoned),
        Ok(()),
        "an operator's word is cause enough"
    );
}

#[test]
fn a_finished_task_with_something_left() {
    for over in [completed(), rolled_back()] {
        let lock = vec![Lock::exclusive("thing", 1)];
        let told = found_in_task(over, |task| task.locks = lock);
        assert_eq!(told, "I6: a finished task holds locks");
    }
    let told = found_in_row(completed(), 1, |row| row.status = St::Pending);
    assert_eq!(told, "I6: a finished task has a subtask that is not SUCCESSFUL");
    let told = found_in_row(rolled_back(), 1, |row| row.status = St::Successful);
    // Its upstream is undone already, so the order of the undo is what is noticed.
    assert_eq!(told, "I5: subtask 0 was undone before its downstreams");
    let told = found_in_row(rolled_back(), 0, |row| row.status = St::Successful);
    assert_eq!(told, "I6: a finished task has a subtask that is not PENDING");
}

#[test]
fn an_end_time_of_a_task_that_goes_on_and_none_of_one_that_rests() {
    let told = "a task has an end time exactly when it is at rest";
    assert_eq!(found_in_task(running(), |task| task.end_time = Some(1)), told);
    assert_eq!(found_in_task(failed(), |task| task.end_time = None), told);
    assert_eq!(found_in_task(completed(), |task| task.end_time = None), told);
}

#[test]
fn a_halt_where_there_is_nothing_to_halt() {
    for halt in [Halt::Paused, Halt::Canceling] {
        let told = found_in_task(failed(), |task| task.halt = Some(halt));
        assert_eq!(told, "only a RUNNING task is halted");
    }
    let told = "E21: a cancelled task has something READY or RUNNING";
    assert_eq!(found_in_task(running(), |task| task.halt = Some(Halt::Canceling)), told);
    let ready = Hand::new(vec![node(0)], &[]).state;
    assert_eq!(found_in_task(ready, |task| task.halt = Some(Halt::Canceling)), told);

    let mut paused = running();
    paused.task.halt = Some(Halt::Paused);
    assert_eq!(check_invariants(&paused), Ok(()), "what runs goes on");
}

#[test]
fn an_abandoned_task_that_moves_or_holds_something() {
    let told = "E22: an abandoned task is not at rest, or holds locks";
    let abandon = |task: &mut Task| task.outcome = Some(Outcome::Abandoned);
    assert_eq!(found_in_task(failed(), abandon), told, "it holds its locks");
    assert_eq!(found_in_task(completed(), abandon), told);
    let running_without_locks = |task: &mut Task| {
        abandon(task);
        task.locks.clear();
    };
    assert_eq!(found_in_task(running(), running_without_locks), told);
}

#[test]
fn a_context_over_its_limit() {
    let fill = |bytes: usize| ContextDelta::new().with("k", "x".repeat(bytes - 1));
    let mut full = failed();
    row(&mut full, 0).delta = fill(CONTEXT_LIMIT);
    let told = found_in_row(full, 0, |row| row.delta = fill(CONTEXT_LIMIT + 1));
    assert_eq!(told, "I9: the context is over its limit");
}
