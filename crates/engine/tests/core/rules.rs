//! Single rules, by example.

use obfleet_engine::context::{CONTEXT_LIMIT, input_of, merged};
use obfleet_engine::core::{Change, Command, Event, Finding, Reject, decide, fsck};
use obfleet_engine::state::SubtaskSpec;
use obfleet_engine::{
    Cause, Context, ContextDelta, Failure, OnCrash, Outcome, SubtaskOperation, SubtaskStatus as St, TaskOperation,
    TaskStatus,
};

use crate::hand::{Hand, nothing};
use crate::support::{ann, barrier, claimed_by, env, node};

const DIAMOND: [(usize, usize); 4] = [(0, 1), (0, 2), (1, 3), (2, 3)];

#[test]
fn a_new_task_shows_its_root_ready_even_a_barrier() {
    let hand = Hand::new(vec![barrier(), node(0)], &[(0, 1)]);
    assert_eq!(hand.statuses(), [St::Ready, St::Pending]);
    assert_eq!(hand.state.task.status, TaskStatus::Running);
    assert_eq!(hand.state.subtasks[0].run_time, 1);
}

#[test]
fn barriers_pass_and_the_next_is_claimed_in_one_commit() {
    let mut hand = Hand::new(
        vec![barrier(), node(0), barrier(), barrier()],
        &[(0, 1), (1, 2), (2, 3)],
    );
    let subtask = hand.state.subtasks[0].id;
    let kinds = hand.try_do(Command::Claim { subtask }, 1).unwrap();
    assert_eq!(kinds, ["SUB_CLAIMED", "SUB_SUCCEEDED", "SUB_READY", "SUB_CLAIMED"]);

    let (subtask, epoch) = (hand.state.subtasks[1].id, hand.state.subtasks[1].epoch);
    let kinds = hand.run(Command::Finish {
        subtask,
        epoch,
        delta: nothing(),
    });
    let barrier = ["SUB_READY", "SUB_CLAIMED", "SUB_SUCCEEDED"];
    assert_eq!(
        kinds,
        [&["SUB_SUCCEEDED"][..], &barrier, &barrier, &["TASK_DONE"]].concat()
    );
    assert_eq!(hand.state.task.outcome, Some(Outcome::Completed));
    assert!(hand.state.task.locks.is_empty());
}

#[test]
fn rollback_undoes_in_reverse_the_failed_node_included() {
    let mut hand = Hand::new(vec![node(0), barrier(), node(0), node(0)], &[(0, 1), (1, 2), (2, 3)]);
    hand.finish(0, nothing());
    assert_eq!(hand.fail(2, nothing()), ["SUB_FAILED", "TASK_FAILED"]);
    assert_eq!(
        hand.run(Command::Rollback { actor: ann() }),
        ["TASK_ROLLBACK", "SUB_READY"]
    );
    assert_eq!(hand.state.subtasks[2].operation, SubtaskOperation::Rollback);
    let undone = hand.finish(2, nothing());
    assert_eq!(
        undone,
        ["SUB_UNDONE", "SUB_READY", "SUB_CLAIMED", "SUB_UNDONE", "SUB_READY"]
    );
    assert_eq!(hand.finish(0, nothing()), ["SUB_UNDONE", "TASK_DONE"]);
    assert_eq!(hand.statuses(), [St::Pending; 4]);
    let task = &hand.state.task;
    assert_eq!(
        (task.status, task.operation),
        (TaskStatus::Successful, TaskOperation::Rollback)
    );
    assert_eq!(task.outcome, Some(Outcome::RolledBack));
}

#[test]
fn a_failed_undo_is_repeated_and_then_stuck_until_skipped_or_rolled_back_again() {
    let mut hand = Hand::new(
        vec![SubtaskSpec {
            undo_retries: 1,
            ..node(0)
        }],
        &[],
    );
    hand.fail(0, nothing());
    hand.run(Command::Rollback { actor: ann() });
    assert_eq!(hand.fail(0, nothing()), ["SUB_FAILED", "SUB_RETRY"]);
    assert_eq!(
        hand.state.subtasks[0].run_time, 1,
        "undo retries are not attempts users know of"
    );
    assert_eq!(hand.fail(0, nothing()), ["SUB_FAILED", "TASK_FAILED"]);
    assert_eq!(hand.state.task.outcome, Some(Outcome::Stuck));
    assert!(!hand.state.task.locks.is_empty(), "a stuck task keeps its locks");
    assert!(matches!(
        hand.try_do(Command::RetryTask { actor: ann() }, 0),
        Err(Reject::TaskState { .. })
    ));

    hand.run(Command::Rollback { actor: ann() });
    hand.fail(0, nothing());
    hand.fail(0, nothing());
    let subtask = hand.state.subtasks[0].id;
    assert_eq!(
        hand.run(Command::Skip { subtask, actor: ann() }),
        ["SUB_SKIPPED", "TASK_RESUMED", "TASK_DONE"]
    );
    assert_eq!(hand.state.subtasks[0].operation, SubtaskOperation::RollbackSkip);
    assert_eq!(hand.state.task.outcome, Some(Outcome::RolledBack));
}

#[test]
fn a_failing_task_parks_what_has_not_begun_and_waits_for_the_rest() {
    let mut hand = Hand::new(vec![node(0), node(0), node(2)], &[]);
    let running = hand.claim(1);
    let retried = hand.fail(2, nothing());
    assert_eq!(
        retried,
        ["SUB_FAILED", "SUB_RETRY"],
        "a retry is left, so nothing is parked"
    );
    assert_eq!(hand.state.subtasks[2].run_time, 2);
    assert_eq!(hand.fail(0, nothing()), ["SUB_FAILED", "SUB_PARKED"]);
    assert_eq!(hand.statuses(), [St::Failed, St::Running, St::Failed]);
    assert_eq!(
        hand.state.subtasks[2].run_time, 1,
        "a retry that never began does not count"
    );
    assert_eq!(hand.state.task.status, TaskStatus::Running);
    let subtask = hand.state.subtasks[1].id;
    assert_eq!(
        hand.run(Command::Finish {
            subtask,
            epoch: running,
            delta: nothing()
        }),
        ["SUB_SUCCEEDED", "TASK_FAILED"]
    );
}

#[test]
fn a_crashed_attempt_that_is_parked_will_be_undone() {
    let mut hand = Hand::new(vec![node(0), node(0)], &[]);
    hand.claim(0);
    let dead = [env(0).owner.incarnation].into();
    hand.run(Command::Orphan { dead });
    assert_eq!(hand.fail(1, nothing()), ["SUB_FAILED", "SUB_PARKED", "TASK_FAILED"]);
    assert_eq!(hand.statuses(), [St::Failed, St::Failed]);
    assert_eq!(
        hand.state.subtasks[0].failure.as_ref().unwrap().cause,
        Cause::Interrupted
    );
    assert_eq!(
        hand.run(Command::Rollback { actor: ann() }),
        ["TASK_ROLLBACK", "SUB_READY", "SUB_READY"]
    );
}

#[test]
fn a_step_whose_server_keeps_dying_fails_in_the_end() {
    let mut hand = Hand::new(vec![node(0)], &[]);
    let dead = || Command::Orphan {
        dead: [env(0).owner.incarnation].into(),
    };
    for _ in 0..3 {
        hand.claim(0);
        assert_eq!(hand.run(dead()), ["SUB_ORPHANED"]);
        assert_eq!(hand.state.subtasks[0].run_time, 1);
    }
    hand.claim(0);
    assert_eq!(hand.run(dead()), ["SUB_FAILED", "TASK_FAILED"]);
    assert_eq!(
        hand.state.subtasks[0].failure.as_ref().unwrap().cause,
        Cause::Interrupted
    );
    assert!(hand.try_do(dead(), 0).is_err(), "nothing is left to take over");
}

#[test]
fn what_is_taken_over_beside_a_step_that_failed_is_parked_too() {
    let fails = SubtaskSpec {
        on_crash: OnCrash::Fail,
        ..node(0)
    };
    let mut hand = Hand::new(vec![fails, node(0)], &[]);
    hand.claim(0);
    hand.claim(1);
    let dead = [env(0).owner.incarnation].into();
    assert_eq!(
        hand.try_do(Command::Orphan { dead }, 9).unwrap(),
        ["SUB_FAILED", "SUB_ORPHANED", "SUB_PARKED", "TASK_FAILED"]
    );
    assert_eq!(hand.statuses(), [St::Failed, St::Failed]);
}

#[test]
fn only_the_holder_of_the_epoch_may_write() {
    let mut hand = Hand::new(vec![node(0)], &[]);
    let old = hand.claim(0);
    let subtask = hand.state.subtasks[0].id;
    let note = |epoch| Command::Checkpoint {
        subtask,
        epoch,
        key: "k".into(),
        value: "v".into(),
    };
    hand.run(note(old));
    hand.run(Command::Orphan {
        dead: [env(0).owner.incarnation].into(),
    });
    let new = hand.claim(0);
    assert!(new > old);
    for late in [
        note(old),
        Command::Finish {
            subtask,
            epoch: old,
            delta: nothing(),
        },
        Command::Expire { subtask, epoch: old },
    ] {
        assert_eq!(hand.try_do(late, 0), Err(Reject::Fenced));
    }
    assert_eq!(
        hand.state.subtasks[0].checkpoint["k"], "v",
        "checkpoints outlive the attempt"
    );
    hand.run(Command::Expire { subtask, epoch: new });
    assert_eq!(
        hand.try_do(
            Command::Finish {
                subtask,
                epoch: new,
                delta: nothing()
            },
            0
        ),
        Err(Reject::Fenced)
    );
    let row = &hand.state.subtasks[0];
    assert_eq!(
        (row.status, row.failure.as_ref().unwrap().cause),
        (St::Failed, Cause::Timeout)
    );
    assert!(row.epoch > new, "a forced end raises the fence");
}

#[test]
fn another_process_is_not_orphaned() {
    let mut hand = Hand::new(vec![node(0), node(0)], &[]);
    hand.claim(0);
    let subtask = hand.state.subtasks[1].id;
    hand.state = decide(&hand.state, Command::Claim { subtask }, &claimed_by("another", 0))
        .unwrap()
        .state;
    hand.run(Command::Orphan {
        dead: ["another".to_owned()].into(),
    });
    assert_eq!(hand.statuses(), [St::Running, St::Ready]);
}

#[test]
fn backing_off_doubles_and_is_kept() {
    let mut hand = Hand::new(
        vec![SubtaskSpec {
            backoff_ms: 100,
            ..node(9)
        }],
        &[],
    );
    hand.fail(0, nothing());
    assert_eq!(hand.state.subtasks[0].not_before, Some(1_100));
    let subtask = hand.state.subtasks[0].id;
    assert_eq!(hand.try_do(Command::Claim { subtask }, 0), Err(Reject::NotDue));
    assert_eq!(hand.state.claimable(1_099).count(), 0);
    assert_eq!(hand.state.claimable(1_100).collect::<Vec<_>>(), [0]);
}

#[test]
fn cancelling_ends_in_failure_whatever_the_attempt_says() {
    let mut hand = Hand::new(vec![node(5), node(0)], &[]);
    let epoch = hand.claim(0);
    let subtask = hand.state.subtasks[0].id;
    hand.run(Command::Cancel { subtask, actor: ann() });
    assert_eq!(hand.state.subtasks[0].status, St::Canceling);
    assert_eq!(hand.state.subtasks[0].deadline_at, Some(11_000));
    let delta = ContextDelta::new().with("created", "yes");
    let kinds = hand.run(Command::Finish { subtask, epoch, delta });
    assert_eq!(
        kinds,
        ["SUB_FAILED", "SUB_PARKED", "TASK_FAILED"],
        "a cancelled run is not repeated by itself"
    );
    let row = &hand.state.subtasks[0];
    assert_eq!(
        (row.operation, row.failure.as_ref().unwrap().cause),
        (SubtaskOperation::Cancel, Cause::Cancelled)
    );
    assert_eq!(row.delta.set["created"], "yes", "undo must know what was done");
    assert!(matches!(
        hand.try_do(Command::Cancel { subtask, actor: ann() }, 0),
        Err(Reject::SubtaskState { .. })
    ));
}

#[test]
fn a_step_that_prohibits_rollback_does_so_once_begun() {
    let last = SubtaskSpec {
        prohibit_rollback: true,
        ..node(0)
    };
    let mut hand = Hand::new(vec![node(0), last], &[(0, 1)]);
    assert!(!hand.state.prohibits_rollback());
    hand.finish(0, nothing());
    assert!(!hand.state.prohibits_rollback(), "READY is not begun");
    hand.fail(1, nothing());
    assert!(hand.state.prohibits_rollback());
    assert_eq!(
        hand.try_do(Command::Rollback { actor: ann() }, 0),
        Err(Reject::RollbackProhibited)
    );

    let mut hand = Hand::new(vec![node(0)], &[]);
    hand.state.task.context = Context::new().with("prohibit_rollback", "true");
    hand.fail(0, nothing());
    assert_eq!(
        hand.try_do(Command::Rollback { actor: ann() }, 0),
        Err(Reject::RollbackProhibited)
    );
}

#[test]
fn retrying_or_skipping_one_of_two_failures() {
    let mut hand = Hand::new(vec![node(0), node(0), node(0)], &[(0, 2), (1, 2)]);
    let running = hand.claim(1);
    hand.fail(0, nothing());
    let (first, second) = (hand.state.subtasks[0].id, hand.state.subtasks[1].id);
    let failure = Failure {
        cause: Cause::Error,
        message: "no".into(),
    };
    hand.run(Command::Fail {
        subtask: second,
        epoch: running,
        failure,
        delta: nothing(),
    });
    assert_eq!(hand.state.task.status, TaskStatus::Failed);
    let mut skipped = Hand {
        state: hand.state.clone(),
        events: hand.events.clone(),
    };
    let kinds = skipped.run(Command::Skip {
        subtask: first,
        actor: ann(),
    });
    assert_eq!(
        kinds,
        ["SUB_SKIPPED"],
        "with the other one FAILED the task stays where it is"
    );

    assert_eq!(
        hand.run(Command::RetrySubtask {
            subtask: first,
            actor: ann()
        }),
        ["TASK_RESUMED", "SUB_RETRY"]
    );
    assert_eq!(
        (hand.state.task.operation, hand.state.subtasks[0].run_time),
        (TaskOperation::Execute, 2)
    );
    assert_eq!(
        hand.finish(0, nothing()),
        ["SUB_SUCCEEDED", "TASK_FAILED"],
        "the other one still stands FAILED"
    );
    assert_eq!(
        hand.run(Command::Skip {
            subtask: second,
            actor: ann()
        }),
        ["SUB_SKIPPED", "TASK_RESUMED", "SUB_READY"]
    );
    assert_eq!(hand.finish(2, nothing()), ["SUB_SUCCEEDED", "TASK_DONE"]);
}

#[test]
fn context_flows_down_the_graph_in_series_order() {
    let mut hand = Hand::new(vec![node(0); 4], &DIAMOND);
    hand.state.task.context = Context::new().with_list("hosts", ["1"]);
    hand.finish(0, ContextDelta::new().with("a", "0").with("kept", "0"));
    hand.finish(2, ContextDelta::new().with("a", "same").with_items("hosts", ["3", "1"]));
    hand.finish(1, ContextDelta::new().with("a", "same").with_items("hosts", ["2"]));
    let input = input_of(&hand.state, 3).unwrap();
    assert_eq!(input.string_map["a"], "same", "a later writer replaces an earlier one");
    assert_eq!(input.string_map["kept"], "0");
    assert_eq!(input.list_map["hosts"], ["1", "2", "3"], "whoever finished first");
    assert_eq!(
        input_of(&hand.state, 2).unwrap().list_map["hosts"],
        ["1", "3"],
        "siblings do not see each other"
    );
    assert_eq!(merged(&hand.state), input);
}

#[test]
fn unordered_writers_of_one_key_conflict_and_are_named() {
    let mut hand = Hand::new(vec![node(0); 4], &DIAMOND);
    hand.finish(0, nothing());
    hand.finish(
        1,
        ContextDelta::new().with("port", "1").with("prohibit_rollback", "true"),
    );
    hand.finish(
        2,
        ContextDelta::new().with("port", "2").with("prohibit_rollback", "false"),
    );
    let conflict = input_of(&hand.state, 3).unwrap_err();
    assert_eq!(
        (conflict.key.as_str(), conflict.first.0, conflict.second.0),
        ("port", 2, 3)
    );
    let told = conflict.to_string();
    assert!(
        told.contains("port") && told.contains("subtasks 2 (Work) and 3 (Work)"),
        "{told}"
    );
}

#[test]
fn prohibit_rollback_merges_with_or() {
    let mut hand = Hand::new(vec![node(0); 4], &DIAMOND);
    hand.finish(0, nothing());
    hand.finish(1, ContextDelta::new().with("prohibit_rollback", "true"));
    hand.finish(2, ContextDelta::new().with("prohibit_rollback", "false"));
    assert!(input_of(&hand.state, 3).unwrap().prohibits_rollback());
}

#[test]
fn a_failed_attempts_findings_reach_its_undo() {
    let mut hand = Hand::new(vec![node(0)], &[]);
    hand.fail(0, ContextDelta::new().with("installed", "/slot"));
    hand.run(Command::Rollback { actor: ann() });
    assert_eq!(input_of(&hand.state, 0).unwrap().string_map["installed"], "/slot");
}

#[test]
fn results_that_outgrow_the_context_fail_the_step() {
    let mut hand = Hand::new(vec![node(3), node(0)], &[(0, 1)]);
    let large = || "x".repeat(CONTEXT_LIMIT + 1);
    let epoch = hand.claim(0);
    let subtask = hand.state.subtasks[0].id;
    let note = Command::Checkpoint {
        subtask,
        epoch,
        key: "k".into(),
        value: large(),
    };
    assert_eq!(hand.try_do(note, 0), Err(Reject::TooLarge));
    let kinds = hand.run(Command::Finish {
        subtask,
        epoch,
        delta: ContextDelta::new().with("k", large()),
    });
    assert_eq!(kinds, ["SUB_FAILED", "TASK_FAILED"], "trying again would not help");
    assert_eq!(hand.state.subtasks[0].failure.as_ref().unwrap().cause, Cause::Context);
}

#[test]
fn fsck_finds_every_kind_of_damage() {
    let mut hand = Hand::new(vec![node(0), node(0)], &[(0, 1)]);
    hand.finish(0, ContextDelta::new().with("a", "1"));
    assert_eq!(fsck(&hand.state, &hand.events), Ok(()));

    let mut lost = hand.events.clone();
    lost.remove(2);
    assert!(matches!(fsck(&hand.state, &lost), Err(Finding::Broken(_))));
    assert_eq!(fsck(&hand.state, &hand.events[1..]), Err(Finding::NoBeginning));
    let short = &hand.events[..hand.events.len() - 1];
    let finding = fsck(&hand.state, short).unwrap_err();
    assert!(matches!(finding, Finding::Task { .. }));
    let (row, folded) = (hand.state.task.rev, hand.state.task.rev - 1);
    let differences = format!("lead to: rev is {row}, by the events {folded}");
    assert!(finding.to_string().ends_with(&differences), "{finding}");

    let mut row = hand.state.clone();
    std::sync::Arc::make_mut(&mut row.subtasks[0]).delta = nothing();
    assert!(matches!(fsck(&row, &hand.events), Err(Finding::Subtask { .. })));

    let mut stored: Vec<Event> =
        serde_json::from_str(&serde_json::to_string(&hand.events).unwrap()).expect("events survive JSON");
    assert_eq!(stored, hand.events);
    if let Change::SubSucceeded { delta, .. } = &mut stored[3].change {
        delta.set.insert("a".into(), "2".into());
    }
    assert!(matches!(fsck(&hand.state, &stored), Err(Finding::Subtask { .. })));
}
