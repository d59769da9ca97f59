//! Pausing, cancelling and abandoning a whole task, by example.

use obfleet_engine::core::{Command, Reject, fsck, ways_out};
use obfleet_engine::{Cause, Halt, Outcome, SubtaskStatus as St, TaskOperation, TaskStatus, WayOut};

use crate::hand::{Hand, nothing};
use crate::support::{ann, barrier, env, node};

fn pause() -> Command {
    Command::Pause { actor: ann() }
}

fn unpause() -> Command {
    Command::Unpause { actor: ann() }
}

fn cancel() -> Command {
    Command::CancelTask { actor: ann() }
}

fn abandon() -> Command {
    Command::Abandon {
        actor: ann(),
        reason: "the host burnt down".into(),
    }
}

fn finish(hand: &mut Hand, index: usize, epoch: i64) -> Vec<&'static str> {
    let subtask = hand.state.subtasks[index].id;
    let delta = nothing();
    hand.try_do(Command::Finish { subtask, epoch, delta }, 9).unwrap()
}

#[test]
fn a_paused_task_begins_nothing_and_goes_on_where_it_stopped() {
    let mut hand = Hand::new(vec![node(0), barrier(), node(0)], &[(0, 1), (1, 2)]);
    let epoch = hand.claim(0);
    assert_eq!(hand.run(pause()), ["TASK_PAUSED"]);
    assert_eq!(hand.try_do(pause(), 0), Err(Reject::Halted(Halt::Paused)));
    assert_eq!(finish(&mut hand, 0, epoch), ["SUB_SUCCEEDED", "SUB_READY"]);
    assert_eq!(hand.statuses(), [St::Successful, St::Ready, St::Pending]);
    assert_eq!(hand.state.claimable(i64::MAX).count(), 0);
    let subtask = hand.state.subtasks[1].id;
    assert_eq!(
        hand.try_do(Command::Claim { subtask }, 0),
        Err(Reject::Halted(Halt::Paused))
    );

    assert_eq!(hand.run(unpause()), ["TASK_UNPAUSED"]);
    assert!(matches!(hand.try_do(unpause(), 0), Err(Reject::TaskState { .. })));
    hand.claim(1);
    let done = hand.finish(2, nothing());
    assert_eq!(done, ["SUB_SUCCEEDED", "TASK_DONE"]);
    assert_eq!(fsck(&hand.state, &hand.events), Ok(()));
}

#[test]
fn a_pause_outlives_a_crash_and_ends_when_the_task_rests() {
    let mut hand = Hand::new(vec![node(0)], &[]);
    hand.claim(0);
    hand.run(pause());
    let dead = [env(0).owner.incarnation].into();
    assert_eq!(hand.try_do(Command::Orphan { dead }, 9).unwrap(), ["SUB_ORPHANED"]);
    assert_eq!(
        (hand.statuses(), hand.state.task.halt),
        (vec![St::Ready], Some(Halt::Paused))
    );
    hand.run(unpause());
    let epoch = hand.claim(0);
    hand.run(pause());
    assert_eq!(finish(&mut hand, 0, epoch), ["SUB_SUCCEEDED", "TASK_DONE"]);
    assert_eq!(hand.state.task.halt, None);
}

#[test]
fn unpausing_claims_what_there_is_room_for() {
    let mut hand = Hand::new(vec![node(0), node(0)], &[]);
    hand.run(pause());
    assert_eq!(hand.try_do(unpause(), 1).unwrap(), ["TASK_UNPAUSED", "SUB_CLAIMED"]);
}

#[test]
fn unpausing_leaves_a_barrier_to_be_claimed_by_command() {
    let mut hand = Hand::new(vec![barrier(), node(0)], &[]);
    hand.run(pause());
    assert_eq!(hand.try_do(unpause(), 9).unwrap(), ["TASK_UNPAUSED", "SUB_CLAIMED"]);
    assert_eq!(hand.statuses(), [St::Ready, St::Running]);
    let subtask = hand.state.subtasks[0].id;
    let claim = Command::Claim { subtask };
    assert_eq!(hand.try_do(claim, 9).unwrap(), ["SUB_CLAIMED", "SUB_SUCCEEDED"]);
}

#[test]
fn cancelling_stops_what_runs_parks_what_is_ready_and_begins_nothing_more() {
    let mut hand = Hand::new(vec![node(5), node(0), node(0)], &[(1, 2)]);
    let first = hand.claim(0);
    assert_eq!(hand.run(cancel()), ["TASK_CANCELING", "SUB_CANCELING", "SUB_PARKED"]);
    assert_eq!(hand.statuses(), [St::Canceling, St::Pending, St::Pending]);
    for again in [cancel(), pause(), unpause()] {
        assert_eq!(hand.try_do(again, 0), Err(Reject::Halted(Halt::Canceling)));
    }
    assert!(
        matches!(hand.try_do(abandon(), 0), Err(Reject::TaskState { .. })),
        "something still runs"
    );
    assert_eq!(finish(&mut hand, 0, first), ["SUB_FAILED", "TASK_FAILED"]);
    let task = &hand.state.task;
    assert_eq!(
        (task.status, task.outcome, task.halt),
        (TaskStatus::Failed, Some(Outcome::Cancelled), None)
    );
    assert!(!task.locks.is_empty(), "it can still be retried");
    assert_eq!(hand.state.subtasks[0].failure.as_ref().unwrap().cause, Cause::Cancelled);

    assert_eq!(
        hand.run(Command::RetryTask { actor: ann() }),
        ["TASK_RETRY", "SUB_RETRY", "SUB_READY"]
    );
    assert_eq!(hand.state.task.outcome, None);
    hand.finish(0, nothing());
    hand.finish(1, nothing());
    assert_eq!(hand.finish(2, nothing()), ["SUB_SUCCEEDED", "TASK_DONE"]);
    assert_eq!(fsck(&hand.state, &hand.events), Ok(()));
}

#[test]
fn cancelled_before_anything_ran_a_task_can_be_taken_up_either_way() {
    let cancelled = || {
        let mut hand = Hand::new(vec![barrier(), node(0)], &[(0, 1)]);
        hand.run(pause());
        assert_eq!(hand.run(cancel()), ["TASK_CANCELING", "SUB_PARKED", "TASK_FAILED"]);
        assert_eq!(
            ways_out(&hand.state),
            [WayOut::Retry, WayOut::Rollback, WayOut::Abandon]
        );
        hand
    };
    assert_eq!(
        cancelled().run(Command::Rollback { actor: ann() }),
        ["TASK_ROLLBACK", "TASK_DONE"]
    );
    let mut retried = cancelled();
    let kinds = retried.run(Command::RetryTask { actor: ann() });
    assert_eq!(kinds[..2], ["TASK_RETRY", "SUB_READY"]);
    retried.finish(1, nothing());
    assert_eq!(retried.state.task.outcome, Some(Outcome::Completed));
}

#[test]
fn a_cancelled_rollback_can_only_go_on_backwards() {
    let mut hand = Hand::new(vec![node(0), node(0)], &[(0, 1)]);
    hand.finish(0, nothing());
    hand.fail(1, nothing());
    hand.run(Command::Rollback { actor: ann() });
    hand.finish(1, nothing());
    assert_eq!(hand.run(cancel()), ["TASK_CANCELING", "SUB_PARKED", "TASK_FAILED"]);
    let task = &hand.state.task;
    assert_eq!(
        (task.operation, task.outcome),
        (TaskOperation::Rollback, Some(Outcome::Cancelled))
    );
    assert_eq!(ways_out(&hand.state), [WayOut::Rollback, WayOut::Abandon]);
    assert_eq!(
        hand.run(Command::Rollback { actor: ann() }),
        ["TASK_ROLLBACK", "SUB_READY"]
    );
    assert_eq!(hand.finish(0, nothing()), ["SUB_UNDONE", "TASK_DONE"]);
}

#[test]
fn an_abandoned_task_frees_its_locks_and_is_never_moved_again() {
    let mut hand = Hand::new(vec![node(0)], &[]);
    assert!(matches!(hand.try_do(abandon(), 0), Err(Reject::TaskState { .. })));
    hand.fail(0, nothing());
    assert_eq!(
        ways_out(&hand.state),
        [WayOut::Retry, WayOut::Rollback, WayOut::Skip, WayOut::Abandon]
    );
    assert_eq!(hand.run(abandon()), ["TASK_ABANDONED"]);
    let task = &hand.state.task;
    assert_eq!(
        (task.status, task.outcome),
        (TaskStatus::Failed, Some(Outcome::Abandoned))
    );
    assert!(task.locks.is_empty());
    assert!(ways_out(&hand.state).is_empty());
    let subtask = hand.state.subtasks[0].id;
    for late in [
        Command::RetryTask { actor: ann() },
        Command::RetrySubtask { subtask, actor: ann() },
        Command::Skip { subtask, actor: ann() },
        Command::Rollback { actor: ann() },
        abandon(),
    ] {
        assert_eq!(hand.try_do(late, 0), Err(Reject::Abandoned));
    }
    assert_eq!(fsck(&hand.state, &hand.events), Ok(()));
    let stored = serde_json::to_string(&hand.events.last().unwrap().change).unwrap();
    assert!(
        stored.contains("the host burnt down") && stored.contains("ann"),
        "{stored}"
    );
}

#[test]
fn a_stuck_rollback_says_why_and_offers_two_ways_out() {
    let mut hand = Hand::new(vec![node(0)], &[]);
    hand.fail(0, nothing());
    hand.run(Command::Rollback { actor: ann() });
    hand.fail(0, nothing());
    assert_eq!(hand.state.task.outcome, Some(Outcome::Stuck));
    assert_eq!(ways_out(&hand.state), [WayOut::Rollback, WayOut::Skip, WayOut::Abandon]);
    assert_eq!(hand.state.subtasks[0].failure.as_ref().unwrap().message, "no");
}
