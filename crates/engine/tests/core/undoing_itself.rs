//! Tasks that go back by themselves when a step fails.

use obfleet_engine::core::{Command, Reject, fsck, ways_out};
use obfleet_engine::state::SubtaskSpec;
use obfleet_engine::testing::check_invariants;
use obfleet_engine::{Cause, Failure, Outcome, SubtaskStatus as St, TaskOperation, TaskStatus, WayOut};

use crate::hand::{Hand, nothing};
use crate::support::{ann, barrier, node};

fn chain() -> Hand {
    Hand::of_one_that_undoes_itself(vec![node(0), barrier(), node(0), node(0)], &[(0, 1), (1, 2), (2, 3)])
}

fn stands(hand: &Hand) -> (TaskStatus, TaskOperation, Option<Outcome>) {
    let task = &hand.state.task;
    (task.status, task.operation, task.outcome)
}

/// The reason that a subtask gives.
fn reason(hand: &Hand, index: usize) -> Option<&str> {
    let failure: &Option<Failure> = &hand.state.subtasks[index].failure;
    failure.as_ref().map(|failure| failure.message.as_str())
}

#[test]
fn a_failure_turns_the_task_back_and_in_the_end_it_is_failed_and_holds_nothing() {
    let mut hand = chain();
    hand.finish(0, nothing());
    assert_eq!(hand.fail(2, nothing()), ["SUB_FAILED", "TASK_ROLLBACK", "SUB_READY"]);
    assert_eq!(stands(&hand), (TaskStatus::Running, TaskOperation::Rollback, None));
    assert!(!hand.state.task.locks.is_empty(), "until everything is undone");
    hand.finish(2, nothing());
    assert_eq!(hand.finish(0, nothing()), ["SUB_UNDONE", "TASK_DONE"]);
    let over = (TaskStatus::Failed, TaskOperation::Rollback, Some(Outcome::RolledBack));
    assert_eq!(stands(&hand), over);
    assert_eq!(hand.statuses(), [St::Pending; 4]);
    assert!(hand.state.task.locks.is_empty());
    assert_eq!(
        (reason(&hand, 2), reason(&hand, 0)),
        (Some("no"), None),
        "it still says why"
    );
    assert_eq!(check_invariants(&hand.state), Ok(()));
    assert_eq!(fsck(&hand.state, &hand.events), Ok(()));
}

#[test]
fn what_is_rolled_back_is_moved_by_nobody() {
    let mut hand = Hand::of_one_that_undoes_itself(vec![node(0)], &[]);
    hand.fail(0, nothing());
    hand.finish(0, nothing());
    assert!(ways_out(&hand.state).is_empty());
    let reason = "lost".to_owned();
    for late in [
        Command::RetryTask { actor: ann() },
        Command::Rollback { actor: ann() },
        Command::Abandon { actor: ann(), reason },
    ] {
        assert_eq!(hand.try_do(late, 0), Err(Reject::RolledBack));
    }
    let subtask = hand.state.subtasks[0].id;
    let skip = Command::Skip { subtask, actor: ann() };
    assert!(matches!(hand.try_do(skip, 0), Err(Reject::SubtaskState { .. })));
}

#[test]
fn an_automatic_retry_comes_first_and_siblings_end_first() {
    let mut hand = Hand::of_one_that_undoes_itself(vec![node(1), node(0)], &[]);
    let sibling = hand.claim(1);
    assert_eq!(hand.fail(0, nothing()), ["SUB_FAILED", "SUB_RETRY"]);
    assert_eq!(hand.fail(0, nothing()), ["SUB_FAILED"], "something still runs");
    let subtask = hand.state.subtasks[1].id;
    let delta = nothing();
    let end = Command::Finish {
        subtask,
        epoch: sibling,
        delta,
    };
    assert_eq!(
        hand.run(end),
        ["SUB_SUCCEEDED", "TASK_ROLLBACK", "SUB_READY", "SUB_READY"]
    );
}

#[test]
fn an_undo_that_fails_leaves_the_task_to_an_operator() {
    let mut hand = Hand::of_one_that_undoes_itself(vec![node(0)], &[]);
    hand.fail(0, nothing());
    assert_eq!(hand.fail(0, nothing()), ["SUB_FAILED", "TASK_FAILED"]);
    assert_eq!(
        stands(&hand),
        (TaskStatus::Failed, TaskOperation::Rollback, Some(Outcome::Stuck))
    );
    assert_eq!(ways_out(&hand.state), [WayOut::Rollback, WayOut::Skip, WayOut::Abandon]);
    hand.run(Command::Rollback { actor: ann() });
    hand.finish(0, nothing());
    assert_eq!(
        stands(&hand),
        (TaskStatus::Failed, TaskOperation::Rollback, Some(Outcome::RolledBack))
    );
}

#[test]
fn an_undo_that_failed_once_tells_of_no_failure_of_the_run() {
    let spec = SubtaskSpec {
        undo_retries: 1,
        ..node(0)
    };
    let mut hand = Hand::of_one_that_undoes_itself(vec![spec], &[]);
    hand.fail(0, nothing());
    assert_eq!(hand.fail(0, nothing()), ["SUB_FAILED", "SUB_RETRY"]);
    hand.finish(0, nothing());
    assert_eq!(reason(&hand, 0), None);
}

#[test]
fn a_server_that_stops_in_the_undo_takes_no_reason_away() {
    let mut hand = Hand::of_one_that_undoes_itself(vec![node(0)], &[]);
    hand.fail(0, nothing());
    hand.claim(0);
    assert_eq!(hand.run(Command::Release), ["SUB_RELEASED"]);
    hand.finish(0, nothing());
    assert_eq!(reason(&hand, 0), Some("no"));
}

#[test]
fn who_halts_or_forbids_it_decides_what_becomes_of_it() {
    // Paused: nothing begins, no undo either.
    let mut hand = Hand::of_one_that_undoes_itself(vec![node(0)], &[]);
    let epoch = hand.claim(0);
    hand.run(Command::Pause { actor: ann() });
    let (subtask, delta) = (hand.state.subtasks[0].id, nothing());
    let failure = Failure {
        cause: Cause::Error,
        message: "no".into(),
    };
    let fail = Command::Fail {
        subtask,
        epoch,
        failure,
        delta,
    };
    assert_eq!(hand.run(fail), ["SUB_FAILED", "TASK_FAILED"]);

    // Cancelled: it stands, and may be retried.
    let mut hand = Hand::of_one_that_undoes_itself(vec![node(0)], &[]);
    assert_eq!(
        hand.run(Command::CancelTask { actor: ann() }),
        ["TASK_CANCELING", "SUB_PARKED", "TASK_FAILED"]
    );
    assert!(ways_out(&hand.state).contains(&WayOut::Retry));

    // What has begun cannot be undone.
    let spec = SubtaskSpec {
        prohibit_rollback: true,
        ..node(0)
    };
    let mut hand = Hand::of_one_that_undoes_itself(vec![spec], &[]);
    assert_eq!(hand.fail(0, nothing()), ["SUB_FAILED", "TASK_FAILED"]);
}
