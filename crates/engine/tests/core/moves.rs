//! Which moves are legal: `apply` refuses every other, whoever asks, so that neither a wrong rule nor a damaged log gets
//! into the rows.

use std::sync::Arc;

use obfleet_engine::core::{Broken, Change, Event, apply};
use obfleet_engine::state::Subtask;
use obfleet_engine::{
    Cause, ContextDelta, Failure, Halt, Outcome, SubtaskId, SubtaskOperation as Op, SubtaskStatus as St, TaskOperation,
    TaskState, TaskStatus,
};

use crate::hand::nothing;
use crate::support::{ann, env, node, task};

const STATUSES: [St; 6] = [
    St::Pending,
    St::Ready,
    St::Running,
    St::Canceling,
    St::Failed,
    St::Successful,
];

const SUBTASK: SubtaskId = SubtaskId(1);

/// A RUNNING task of one subtask, in which any row may be brought about.
fn one_node() -> TaskState {
    let (mut state, _) = task(vec![node(0)], &[]);
    row(&mut state).epoch = 7;
    state
}

fn row(state: &mut TaskState) -> &mut Subtask {
    Arc::make_mut(&mut state.subtasks[0])
}

fn standing(status: St) -> TaskState {
    let mut state = one_node();
    row(&mut state).status = status;
    state
}

fn make(state: &mut TaskState, change: Change) -> Result<(), String> {
    let (seq, at, by) = (state.task.rev + 1, 2_000, env(0).owner);
    let event = Event { seq, at, by, change };
    apply(state, &event).map_err(|broken| broken.reason)
}

fn failure() -> Failure {
    Failure {
        cause: Cause::Error,
        message: "no".into(),
    }
}

fn claimed(epoch: i64) -> Change {
    Change::SubClaimed {
        subtask: SUBTASK,
        epoch,
        owner: env(0).owner,
        executor: "server".into(),
        deadline_at: Some(9_000),
    }
}

fn orphaned(epoch: i64) -> Change {
    Change::SubOrphaned {
        subtask: SUBTASK,
        epoch,
    }
}

fn released(epoch: i64) -> Change {
    Change::SubReleased {
        subtask: SUBTASK,
        epoch,
    }
}

fn failed(epoch: i64) -> Change {
    Change::SubFailed {
        subtask: SUBTASK,
        epoch,
        failure: failure(),
        delta: nothing(),
    }
}

fn stopped(deadline_at: i64) -> Change {
    Change::SubCanceling {
        subtask: SUBTASK,
        deadline_at,
        actor: Some(ann()),
    }
}

fn skipped(subtask: SubtaskId) -> Change {
    Change::SubSkipped {
        subtask,
        actor: Some(ann()),
    }
}

fn parked(to: St) -> Change {
    Change::SubParked {
        subtask: SUBTASK,
        to,
        run_time: 1,
    }
}

fn retried(not_before: Option<i64>) -> Change {
    Change::SubRetry {
        subtask: SUBTASK,
        operation: Op::Retry,
        run_time: 2,
        undo_tries: 1,
        not_before,
    }
}

/// Each change of a subtask, with where it may come from.
fn moves_of_subtasks() -> Vec<(Change, &'static [St])> {
    let (subtask, delta) = (SUBTASK, nothing);
    vec![
        (
            Change::SubReady {
                subtask,
                operation: Op::Execute,
            },
            &[St::Pending, St::Successful, St::Failed],
        ),
        (claimed(8), &[St::Ready]),
        (
            Change::SubCheckpoint {
                subtask,
                key: "k".into(),
                value: "v".into(),
            },
            &[St::Running],
        ),
        (
            Change::SubSucceeded {
                subtask,
                delta: delta(),
            },
            &[St::Running],
        ),
        (
            Change::SubUndone {
                subtask,
                delta: delta(),
            },
            &[St::Running],
        ),
        (failed(7), &[St::Running, St::Canceling]),
        (retried(None), &[St::Failed]),
        (orphaned(8), &[St::Running]),
        (released(8), &[St::Running]),
        (stopped(1), &[St::Running]),
        (skipped(subtask), &[St::Failed]),
        (parked(St::Pending), &[St::Ready]),
    ]
}

#[test]
fn a_subtask_moves_only_from_where_it_may() {
    for (change, from) in moves_of_subtasks() {
        for status in STATUSES {
            let made = make(&mut standing(status), change.clone());
            let legal = from.contains(&status);
            assert_eq!(made.is_ok(), legal, "{} of a {status} one: {made:?}", change.kind());
            assert!(legal || made == Err(format!("the subtask is {status}")));
        }
    }
}

/// Each change of a task, with the halts under which it may happen to a RUNNING one; `None` if it happens to FAILED ones.
fn moves_of_tasks() -> Vec<(Change, Option<&'static [Option<Halt>]>)> {
    const PAUSED: Option<Halt> = Some(Halt::Paused);
    const ANY: &[Option<Halt>] = &[None, PAUSED, Some(Halt::Canceling)];
    let reason = "lost".to_owned();
    vec![
        (Change::TaskPaused { actor: ann() }, Some(&[None])),
        (Change::TaskUnpaused { actor: ann() }, Some(&[PAUSED])),
        (Change::TaskCanceling { actor: ann() }, Some(&[None, PAUSED])),
        (Change::TaskFailed { outcome: None }, Some(ANY)),
        (
            Change::TaskDone {
                outcome: Outcome::Completed,
            },
            Some(ANY),
        ),
        (Change::TaskRetry { actor: Some(ann()) }, None),
        (Change::TaskResumed { actor: Some(ann()) }, None),
        (Change::TaskRollback { actor: Some(ann()) }, None),
        (Change::TaskAbandoned { actor: ann(), reason }, None),
    ]
}

#[test]
fn a_task_moves_only_from_where_it_may() {
    for (change, halts) in moves_of_tasks() {
        let kind = change.kind();
        for status in [TaskStatus::Running, TaskStatus::Failed, TaskStatus::Successful] {
            let mut state = one_node();
            state.task.status = status;
            let legal = match halts {
                Some(_) => status == TaskStatus::Running,
                None => status == TaskStatus::Failed,
            };
            state.task.halt = halts.and_then(|halts| halts[0]);
            let made = make(&mut state, change.clone());
            assert_eq!(made.is_ok(), legal, "{kind} of a {status} one: {made:?}");
            assert!(legal || made == Err(format!("the task is {status}")));
        }
        for halt in [None, Some(Halt::Paused), Some(Halt::Canceling)] {
            let Some(halts) = halts else { continue };
            let mut state = one_node();
            state.task.halt = halt;
            let made = make(&mut state, change.clone());
            assert_eq!(made.is_ok(), halts.contains(&halt), "{kind} with {halt:?}: {made:?}");
        }
    }
}

#[test]
fn a_task_that_is_over_does_not_move() {
    for (outcome, told) in [
        (Outcome::Abandoned, "the task is abandoned"),
        (Outcome::RolledBack, "the task is rolled back"),
    ] {
        for (change, _) in moves_of_tasks().into_iter().filter(|(_, halts)| halts.is_none()) {
            let mut state = one_node();
            state.task.status = TaskStatus::Failed;
            state.task.outcome = Some(outcome);
            let kind = change.kind();
            assert_eq!(make(&mut state, change), Err(told.to_owned()), "{kind}");
        }
    }
}

#[test]
fn only_a_task_that_goes_back_by_itself_turns_back_while_it_runs() {
    let by_nobody = || Change::TaskRollback { actor: None };
    for (undo_on_failure, halt, row, legal) in [
        (true, None, St::Failed, true),
        (false, None, St::Failed, false),
        (true, None, St::Successful, false),
        (true, Some(Halt::Paused), St::Failed, false),
        (true, Some(Halt::Canceling), St::Failed, false),
    ] {
        let mut state = standing(row);
        state.task.undo_on_failure = undo_on_failure;
        state.task.halt = halt;
        let made = make(&mut state, by_nobody());
        assert_eq!(made.is_ok(), legal, "{undo_on_failure} {halt:?} {row}: {made:?}");
    }
}

#[test]
fn a_halted_task_has_nothing_claimed() {
    for (halt, told) in [(Halt::Paused, "PAUSED"), (Halt::Canceling, "CANCELING")] {
        let mut state = standing(St::Ready);
        state.task.halt = Some(halt);
        assert_eq!(make(&mut state, claimed(8)), Err(format!("the task is {told}")));
    }
}

#[test]
fn an_epoch_only_rises() {
    for epoch in [6, 7] {
        let refused = Err(format!("epoch {epoch} does not exceed 7"));
        assert_eq!(make(&mut standing(St::Ready), claimed(epoch)), refused);
        assert_eq!(make(&mut standing(St::Running), orphaned(epoch)), refused);
        assert_eq!(make(&mut standing(St::Running), released(epoch)), refused);
    }
    assert!(make(&mut standing(St::Running), failed(6)).is_err());
    for epoch in [7, 8] {
        let mut state = standing(St::Running);
        assert_eq!(make(&mut state, failed(epoch)), Ok(()));
        assert_eq!(state.subtasks[0].epoch, epoch);
    }
}

#[test]
fn events_follow_each_other_and_name_what_is_there() {
    let (state, mut events) = task(vec![node(0)], &[]);
    let last = events.remove(1);
    assert_eq!(state.task.rev, 2);
    for seq in [1, 2, 4] {
        let event = Event { seq, ..last.clone() };
        let broken = Broken {
            seq,
            kind: "SUB_READY",
            reason: "it comes after 2".into(),
        };
        assert_eq!(apply(&mut state.clone(), &event), Err(broken));
    }
    assert_eq!(
        make(&mut state.clone(), skipped(SubtaskId(2))),
        Err("no subtask 2".into())
    );
    let created = events.remove(0).change;
    assert_eq!(
        make(&mut state.clone(), created),
        Err("TASK_CREATED does not move a task".into())
    );
}

#[test]
fn a_claim_names_its_holder_and_ends_the_wait() {
    let mut state = standing(St::Failed);
    make(&mut state, retried(Some(1_500))).unwrap();
    assert_eq!(
        (row(&mut state).not_before, row(&mut state).undo_tries),
        (Some(1_500), 1)
    );
    make(&mut state, claimed(8)).unwrap();
    let claimed_row = state.subtasks[0].clone();
    assert_eq!(claimed_row.owner, Some(env(0).owner));
    assert_eq!(claimed_row.executor.as_deref(), Some("server"));
    assert_eq!((claimed_row.deadline_at, claimed_row.not_before), (Some(9_000), None));
    assert_eq!((claimed_row.ready_from, claimed_row.start_time), (None, Some(2_000)));

    row(&mut state).start_time = Some(5);
    make(&mut state, orphaned(9)).unwrap();
    let left = state.subtasks[0].clone();
    assert_eq!((&left.owner, left.deadline_at), (&None, None));
    assert_eq!((left.crash_count, left.ready_from), (1, Some(St::Failed)));
    make(&mut state, claimed(10)).unwrap();
    assert_eq!(state.subtasks[0].start_time, Some(5), "of its first claim");
    assert_eq!(
        state.subtasks[0].crash_count, 1,
        "crashes in a row are counted over claims"
    );
}

#[test]
fn an_end_leaves_nothing_of_the_attempt_behind() {
    let ends = [
        (
            Change::SubSucceeded {
                subtask: SUBTASK,
                delta: ContextDelta::new().with("a", "1"),
            },
            St::Successful,
        ),
        (
            Change::SubUndone {
                subtask: SUBTASK,
                delta: ContextDelta::new().with("a", "1"),
            },
            St::Pending,
        ),
        (
            Change::SubFailed {
                subtask: SUBTASK,
                epoch: 8,
                failure: failure(),
                delta: ContextDelta::new().with("a", "1"),
            },
            St::Failed,
        ),
    ];
    for (change, status) in ends {
        let mut state = standing(St::Ready);
        make(&mut state, claimed(8)).unwrap();
        let row = row(&mut state);
        row.delta = ContextDelta::new().with("kept", "0");
        (row.crash_count, row.failure) = (2, Some(failure()));
        make(&mut state, change).unwrap();
        let row = &state.subtasks[0];
        assert_eq!((row.status, &row.owner, row.deadline_at), (status, &None, None));
        assert_eq!((row.crash_count, row.end_time), (0, Some(2_000)));
        assert_eq!(row.failure.is_some(), status == St::Failed);
        assert_eq!(row.delta, ContextDelta::new().with("kept", "0").with("a", "1"));
    }
}

#[test]
fn what_is_ready_again_begins_from_nothing() {
    let ready = Change::SubReady {
        subtask: SUBTASK,
        operation: Op::Rollback,
    };
    for (change, from, operation) in [
        (ready, St::Successful, Op::Rollback),
        (retried(None), St::Failed, Op::Retry),
    ] {
        let mut state = standing(from);
        let row = row(&mut state);
        (row.crash_count, row.end_time, row.not_before) = (3, Some(1), Some(1));
        make(&mut state, change).unwrap();
        let row = &state.subtasks[0];
        assert_eq!(
            (row.status, row.ready_from, row.operation),
            (St::Ready, Some(from), operation)
        );
        assert_eq!((row.crash_count, row.end_time, row.not_before), (0, None, None));
    }
}

#[test]
fn what_is_parked_says_why_it_stands_failed() {
    for (to, end_time) in [
        (St::Pending, None),
        (St::Successful, Some(2_000)),
        (St::Failed, Some(2_000)),
    ] {
        let mut state = standing(St::Ready);
        row(&mut state).not_before = Some(3_000);
        row(&mut state).ready_from = Some(to);
        make(&mut state, parked(to)).unwrap();
        let row = &state.subtasks[0];
        assert_eq!((row.status, row.end_time, row.not_before), (to, end_time, None));
        assert_eq!(row.ready_from, None);
        let cause = row.failure.as_ref().map(|failure| failure.cause);
        assert_eq!(cause, (to == St::Failed).then_some(Cause::Interrupted));
    }
    let mut state = standing(St::Ready);
    row(&mut state).failure = Some(failure());
    make(&mut state, parked(St::Failed)).unwrap();
    assert_eq!(state.subtasks[0].failure, Some(failure()), "the first reason stays");
}

#[test]
fn a_stop_keeps_what_the_attempt_was_doing_if_it_undoes() {
    for (doing, then, passed_over) in [
        (Op::Retry, Op::Cancel, (Op::Skip, St::Successful)),
        (Op::Rollback, Op::Rollback, (Op::RollbackSkip, St::Pending)),
    ] {
        let mut state = standing(St::Running);
        row(&mut state).operation = doing;
        make(&mut state, stopped(4_000)).unwrap();
        let row = state.subtasks[0].clone();
        assert_eq!(
            (row.status, row.operation, row.deadline_at),
            (St::Canceling, then, Some(4_000))
        );
        make(&mut state, failed(7)).unwrap();
        make(&mut state, skipped(SUBTASK)).unwrap();
        let row = state.subtasks[0].clone();
        assert_eq!((row.operation, row.status), passed_over);
        assert_eq!((row.failure.clone(), row.end_time), (None, Some(2_000)));
    }
}

#[test]
fn a_rollback_begins_with_every_undo_untried() {
    let (mut state, _) = task(vec![node(0); 2], &[]);
    state.task.status = TaskStatus::Failed;
    state.task.outcome = Some(Outcome::Stuck);
    state.task.end_time = Some(1);
    for (subtask, status) in state.subtasks.iter_mut().zip([St::Failed, St::Pending]) {
        let row = Arc::make_mut(subtask);
        (row.status, row.undo_tries, row.crash_count) = (status, 3, 3);
    }
    make(&mut state, Change::TaskRollback { actor: Some(ann()) }).unwrap();
    let told: Vec<_> = state
        .subtasks
        .iter()
        .map(|row| (row.operation, row.undo_tries, row.crash_count))
        .collect();
    assert_eq!(told, [(Op::Rollback, 0, 0), (Op::Execute, 3, 3)]);
    let task = &state.task;
    assert_eq!(
        (task.status, task.operation, task.outcome, task.end_time),
        (TaskStatus::Running, TaskOperation::Rollback, None, None)
    );
}

#[test]
fn an_abandoned_task_ends_when_it_is_given_up() {
    let mut state = one_node();
    make(&mut state, Change::TaskFailed { outcome: None }).unwrap();
    state.task.end_time = Some(1);
    let (actor, reason) = (ann(), "lost".to_owned());
    make(&mut state, Change::TaskAbandoned { actor, reason }).unwrap();
    let task = &state.task;
    assert_eq!(
        (task.status, task.outcome, task.end_time, task.locks.len()),
        (TaskStatus::Failed, Some(Outcome::Abandoned), Some(2_000), 0)
    );
}

#[test]
fn a_task_at_rest_is_halted_by_nobody() {
    let failed = Change::TaskFailed {
        outcome: Some(Outcome::Stuck),
    };
    let done = Change::TaskDone {
        outcome: Outcome::RolledBack,
    };
    for (change, status, outcome, locks) in [
        (failed, TaskStatus::Failed, Outcome::Stuck, 1),
        (done, TaskStatus::Successful, Outcome::RolledBack, 0),
    ] {
        let mut state = one_node();
        state.task.halt = Some(Halt::Paused);
        make(&mut state, change).unwrap();
        let task = &state.task;
        assert_eq!((task.status, task.outcome), (status, Some(outcome)));
        assert_eq!((task.halt, task.end_time, task.locks.len()), (None, Some(2_000), locks));
    }
}
