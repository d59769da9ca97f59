//! Bytes and milliseconds: what is counted, and what happens at a limit and one beyond it.

use std::sync::Arc;

use obfleet_engine::context::{CONTEXT_LIMIT, total_size};
use obfleet_engine::core::{Change, Command, Env, Reject, decide};
use obfleet_engine::state::{MAX_WAIT_MS, Subtask, SubtaskSpec};
use obfleet_engine::{Cause, Context, ContextDelta, Failure, SubtaskStatus as St, TaskState};

use crate::hand::{Hand, nothing};
use crate::support::{ann, barrier, env, node};

fn row(state: &mut TaskState, index: usize) -> &mut Subtask {
    Arc::make_mut(&mut state.subtasks[index])
}

/// One byte of key and the rest in the value.
fn filling(bytes: usize) -> ContextDelta {
    ContextDelta::new().with("k", "x".repeat(bytes - 1))
}

fn note(state: &TaskState, bytes: usize) -> Command {
    Command::Checkpoint {
        subtask: state.subtasks[0].id,
        epoch: state.subtasks[0].epoch,
        key: "key".into(),
        value: "x".repeat(bytes - "key".len()),
    }
}

/// A running step in a task that has room for `left` bytes.
fn running_with_room_for(left: usize) -> Hand {
    let mut hand = Hand::new(vec![node(0), node(0)], &[]);
    hand.claim(0);
    row(&mut hand.state, 1).delta = filling(CONTEXT_LIMIT - left);
    hand
}

#[test]
fn everything_that_is_kept_of_a_context_is_counted() {
    let mut hand = Hand::new(vec![node(0), node(0)], &[]);
    let state = &mut hand.state;
    assert_eq!(total_size(state), 0);
    state.task.context = Context::new().with("a", "123").with_list("list", ["12", "1234", "1"]);
    assert_eq!(total_size(state), 4 + 11);
    row(state, 0).delta = ContextDelta::new().with("bc", "1").with_items("l", ["12345", "12"]);
    assert_eq!(total_size(state), 15 + 3 + 8);
    row(state, 1).checkpoint = [("xyz".to_owned(), "12".to_owned()), ("k".to_owned(), String::new())].into();
    assert_eq!(total_size(state), 26 + 5 + 1);
    assert_eq!(CONTEXT_LIMIT, 262_144, "256 KiB, as the manual says");
}

#[test]
fn a_result_may_fill_the_context_but_not_more() {
    let finish = |bytes: usize| {
        let mut hand = running_with_room_for(100);
        let (subtask, epoch) = (hand.state.subtasks[0].id, hand.state.subtasks[0].epoch);
        let delta = filling(bytes);
        hand.run(Command::Finish { subtask, epoch, delta });
        hand.state.subtasks[0].clone()
    };
    assert_eq!(finish(99).status, St::Successful);
    assert_eq!(finish(100).status, St::Successful);
    let refused = finish(101);
    let failure = refused.failure.as_ref().unwrap();
    assert_eq!((refused.status, failure.cause), (St::Failed, Cause::Context));
    assert_eq!(refused.delta, nothing());
}

#[test]
fn findings_of_a_failure_that_do_not_fit_are_dropped_and_the_reason_kept() {
    let fail = |bytes: usize| {
        let mut hand = running_with_room_for(100);
        let (subtask, epoch) = (hand.state.subtasks[0].id, hand.state.subtasks[0].epoch);
        let failure = Failure {
            cause: Cause::Error,
            message: "no".into(),
        };
        hand.run(Command::Fail {
            subtask,
            epoch,
            failure,
            delta: filling(bytes),
        });
        let row = &hand.state.subtasks[0];
        assert_eq!(row.failure.as_ref().unwrap().message, "no");
        row.delta.size()
    };
    assert_eq!([fail(99), fail(100), fail(101)], [99, 100, 0]);
}

#[test]
fn a_note_may_fill_the_context_but_not_more() {
    for (bytes, admitted) in [(99, true), (100, true), (101, false)] {
        let hand = running_with_room_for(100);
        let decided = decide(&hand.state, note(&hand.state, bytes), &env(0));
        match decided {
            Ok(decision) => assert!(admitted && total_size(&decision.state) == CONTEXT_LIMIT - 100 + bytes),
            Err(reject) => assert!(!admitted && reject == Reject::TooLarge, "{bytes}: {reject}"),
        }
    }
}

#[test]
fn a_deadline_counts_from_the_claim_and_barriers_and_endless_steps_have_none() {
    let endless = SubtaskSpec {
        timeout_s: 0,
        ..node(0)
    };
    let mut hand = Hand::new(vec![node(0), endless, barrier()], &[]);
    for index in 0..3 {
        hand.claim(index);
    }
    let deadlines = hand.events.iter().filter_map(|event| match event.change {
        Change::SubClaimed { deadline_at, .. } => Some(deadline_at),
        _ => None,
    });
    assert_eq!(deadlines.collect::<Vec<_>>(), [Some(1_000 + 30_000), None, None]);
}

#[test]
fn a_wait_is_over_at_its_end() {
    let mut hand = Hand::new(
        vec![SubtaskSpec {
            backoff_ms: 100,
            ..node(1)
        }],
        &[],
    );
    hand.fail(0, nothing());
    let subtask = hand.state.subtasks[0].id;
    let claim_at = |steady_ms| {
        let env = Env { steady_ms, ..env(0) };
        decide(&hand.state, Command::Claim { subtask }, &env).map(drop)
    };
    assert_eq!(claim_at(1_099), Err(Reject::NotDue));
    assert_eq!(claim_at(1_100), Ok(()));
    assert_eq!(claim_at(1_101), Ok(()));
    let longest = 1_100 - MAX_WAIT_MS;
    assert_eq!(claim_at(longest), Err(Reject::NotDue));
    assert_eq!(claim_at(longest - 1), Ok(()), "no retry waits for that long");
}

#[test]
fn each_wait_is_twice_the_last_and_at_most_half_a_minute() {
    let waits = |spec: SubtaskSpec, tries: &[u32]| {
        let wait = |&tries: &u32| {
            let mut hand = Hand::new(vec![spec.clone()], &[]);
            row(&mut hand.state, 0).run_time = tries;
            hand.fail(0, nothing());
            hand.state.subtasks[0].not_before.unwrap() - 1_000
        };
        tries.iter().map(wait).collect::<Vec<_>>()
    };
    let step = |backoff_ms| SubtaskSpec {
        backoff_ms,
        ..node(u32::MAX)
    };
    assert_eq!(waits(step(100), &[1, 2, 3, 4]), [100, 200, 400, 800]);
    assert_eq!(
        waits(step(100), &[9, 10, 64, 65, 1_000]),
        [25_600, 30_000, 30_000, 30_000, 30_000]
    );
    assert_eq!(waits(step(u64::MAX), &[1, 2]), [30_000, 30_000]);
    assert_eq!(waits(step(0), &[1, 9]), [0, 0]);
}

#[test]
fn an_undo_waits_by_its_own_tries() {
    let spec = SubtaskSpec {
        backoff_ms: 100,
        retries: 0,
        undo_retries: 9,
        ..node(0)
    };
    let mut hand = Hand::new(vec![spec], &[]);
    hand.fail(0, nothing());
    hand.run(Command::Rollback { actor: ann() });
    for wait in [100, 200, 400] {
        hand.fail(0, nothing());
        assert_eq!(hand.state.subtasks[0].not_before, Some(1_000 + wait));
        row(&mut hand.state, 0).not_before = None;
    }
    assert_eq!(hand.state.subtasks[0].undo_tries, 3);
}
