//! Steps that a server gives back because it is stopped.

use std::collections::BTreeSet;

use obfleet_engine::core::{Command, decide, fsck};
use obfleet_engine::state::SubtaskSpec;
use obfleet_engine::testing::check_invariants;
use obfleet_engine::{Cause, OnCrash, SubtaskOperation, SubtaskStatus as St, TaskStatus};

use crate::hand::{Hand, nothing};
use crate::support::{ann, env, node};

fn crash() -> Command {
    let dead = BTreeSet::from([env(0).owner.incarnation]);
    Command::Orphan { dead }
}

#[test]
fn ten_rolling_restarts_never_fail_a_long_step() {
    let mut hand = Hand::new(vec![node(0)], &[]);
    for _ in 0..10 {
        let epoch = hand.claim(0);
        assert_eq!(hand.run(Command::Release), ["SUB_RELEASED"]);
        let row = &hand.state.subtasks[0];
        assert_eq!((row.status, row.epoch), (St::Ready, epoch + 1));
        assert_eq!((row.crash_count, row.run_time), (0, 1));
        assert_eq!(row.ready_from, Some(St::Failed), "half its work may be done");
        assert_eq!((&row.owner, row.deadline_at), (&None, None));
    }
    hand.finish(0, nothing());
    assert_eq!(hand.state.task.status, TaskStatus::Successful);
    assert_eq!(fsck(&hand.state, &hand.events), Ok(()));
}

#[test]
fn stops_between_crashes_neither_count_nor_forgive() {
    let mut hand = Hand::new(vec![node(0)], &[]);
    for crashes in 1..=3 {
        for end in [Command::Release, crash(), Command::Release] {
            hand.claim(0);
            hand.run(end);
        }
        assert_eq!(hand.state.subtasks[0].crash_count, crashes);
    }
    hand.claim(0);
    assert_eq!(hand.run(crash()), ["SUB_FAILED", "TASK_FAILED"]);
    let failure = hand.state.subtasks[0].failure.clone().unwrap();
    assert_eq!(failure.cause, Cause::Interrupted);
    assert!(failure.message.contains("died"), "{}", failure.message);
}

#[test]
fn what_must_not_be_repeated_fails_when_its_server_stops() {
    let once = SubtaskSpec {
        on_crash: OnCrash::Fail,
        ..node(0)
    };
    let mut hand = Hand::new(vec![once, node(0)], &[]);
    let epoch = hand.claim(0);
    hand.claim(1);
    assert_eq!(
        hand.run(Command::Release),
        ["SUB_FAILED", "SUB_RELEASED", "SUB_PARKED", "TASK_FAILED"]
    );
    for row in &hand.state.subtasks {
        assert_eq!((row.status, row.epoch), (St::Failed, epoch + 1));
        let failure = row.failure.clone().unwrap();
        assert_eq!(failure.cause, Cause::Interrupted);
        assert!(failure.message.contains("was stopped"), "{}", failure.message);
    }
    assert_eq!(check_invariants(&hand.state), Ok(()));
    assert_eq!(fsck(&hand.state, &hand.events), Ok(()));
}

#[test]
fn what_is_being_cancelled_ends_cancelled_when_its_server_stops() {
    let mut hand = Hand::new(vec![node(3)], &[]);
    hand.claim(0);
    let subtask = hand.state.subtasks[0].id;
    hand.run(Command::Cancel { subtask, actor: ann() });
    assert_eq!(hand.run(Command::Release), ["SUB_FAILED", "TASK_FAILED"]);
    assert_eq!(hand.state.subtasks[0].failure.as_ref().unwrap().cause, Cause::Cancelled);
}

/// A retry that began and was given back has run: parked, it counts, and its undo must look after it.
#[test]
fn a_retry_that_was_given_back_has_begun() {
    let mut hand = Hand::new(vec![node(0), node(0)], &[]);
    hand.fail(0, nothing());
    hand.run(Command::RetryTask { actor: ann() });
    hand.claim(0);
    hand.run(Command::Release);
    hand.fail(1, nothing());
    let row = &hand.state.subtasks[0];
    assert_eq!((row.status, row.operation), (St::Failed, SubtaskOperation::Retry));
    assert_eq!(row.run_time, 2, "the retry counts");
    assert_eq!(row.failure.as_ref().unwrap().cause, Cause::Interrupted);
    assert_eq!(fsck(&hand.state, &hand.events), Ok(()));
}

#[test]
fn a_server_gives_back_its_own_alone_under_whichever_lease() {
    let mut hand = Hand::new(vec![node(0)], &[]);
    hand.claim(0);
    let mut other = env(0);
    other.owner.server = "another".to_owned();
    assert!(decide(&hand.state, Command::Release, &other).is_err());
    let mut later = env(0);
    later.owner.incarnation = "another".to_owned();
    let given_back = decide(&hand.state, Command::Release, &later).unwrap();
    assert_eq!(given_back.events[0].change.kind(), "SUB_RELEASED");
}
