//! Steps of classes that the deciding server does not know, and records that this release cannot read.

use obfleet_engine::core::{Change, Command, Env, Event, Finding, Reject, decide, fsck};
use obfleet_engine::state::{Subtask, SubtaskSpec, Task};
use obfleet_engine::{Outcome, SubtaskStatus as St, TaskState, TaskStatus};
use serde_json::{Value, json};

use crate::hand::Hand;
use crate::support::{ann, barrier, env, node, of_release};

fn new() -> SubtaskSpec {
    SubtaskSpec {
        class_name: "new".into(),
        ..node(0)
    }
}

/// A server of the earlier release.
fn old(slots: usize) -> Env {
    of_release(env(slots), false)
}

fn by_old(hand: &mut Hand, command: Command, slots: usize) -> Result<Vec<&'static str>, Reject> {
    let decision = decide(&hand.state, command, &old(slots))?;
    let kinds = decision.events.iter().map(|event| event.change.kind()).collect();
    hand.events.extend(decision.events);
    hand.state = decision.state;
    Ok(kinds)
}

#[test]
fn a_step_of_an_unknown_class_is_not_claimed() {
    let mut hand = Hand::new(vec![node(0), new(), barrier(), node(0)], &[(0, 1), (0, 2), (0, 3)]);
    let (first, second) = (hand.state.subtasks[0].id, hand.state.subtasks[1].id);
    let epoch = hand.claim(0);
    let finish = Command::Finish {
        subtask: first,
        epoch,
        delta: crate::hand::nothing(),
    };
    // With one slot: what is not claimed takes none, and a barrier needs no action.
    by_old(&mut hand, finish, 1).unwrap();
    assert_eq!(
        hand.statuses(),
        [St::Successful, St::Ready, St::Successful, St::Running]
    );
    let claim = Command::Claim { subtask: second };
    assert_eq!(
        by_old(&mut hand, claim.clone(), 0),
        Err(Reject::UnknownClass("new".into()))
    );
    assert_eq!(hand.run(claim), ["SUB_CLAIMED"]);
}

#[test]
fn who_does_not_know_a_step_says_so_and_changes_nothing() {
    let mut hand = Hand::new(vec![new(), node(0), new()], &[(1, 2)]);
    let before = hand.state.clone();
    let all = || Command::Disclaim {
        subtasks: before.subtasks.iter().map(|row| row.id).collect(),
    };
    assert_eq!(by_old(&mut hand, all(), 0).unwrap(), ["SUB_UNKNOWN"]);
    let told = &hand.events.last().unwrap().change;
    let expected = Change::SubUnknown {
        subtask: before.subtasks[0].id,
        epoch: 0,
        class_name: "new".into(),
    };
    assert_eq!(*told, expected);
    assert_eq!(hand.state.subtasks, before.subtasks);
    assert_eq!(fsck(&hand.state, &hand.events), Ok(()));
    assert!(hand.try_do(all(), 0).is_err(), "who knows them has nothing to say");
}

/// Nobody knows the class: an operator has ways out all the same.
#[test]
fn a_task_that_waits_for_another_release_can_be_given_up() {
    for undone in [false, true] {
        let mut hand = Hand::new(vec![new()], &[]);
        let stop = Command::CancelTask { actor: ann() };
        assert_eq!(
            by_old(&mut hand, stop, 1).unwrap(),
            ["TASK_CANCELING", "SUB_PARKED", "TASK_FAILED"]
        );
        let leave = if undone {
            Command::Rollback { actor: ann() }
        } else {
            Command::Abandon {
                actor: ann(),
                reason: "no such release".into(),
            }
        };
        by_old(&mut hand, leave, 1).unwrap();
        let outcome = if undone {
            Outcome::RolledBack
        } else {
            Outcome::Abandoned
        };
        assert_eq!(hand.state.task.outcome, Some(outcome));
        assert_eq!(hand.state.task.locks, []);
    }
}

/// A retry that a crash or a stop has interrupted is told apart from one that never began, whatever is said of it meanwhile.
#[test]
fn saying_so_does_not_touch_what_the_step_remembers() {
    let mut hand = Hand::new(vec![new()], &[]);
    hand.fail(0, crate::hand::nothing());
    hand.run(Command::RetryTask { actor: ann() });
    let before = hand.state.subtasks.clone();
    let subtasks = [before[0].id].into();
    by_old(&mut hand, Command::Disclaim { subtasks }, 0).unwrap();
    assert_eq!(hand.state.subtasks, before);
    assert_eq!(hand.state.task.status, TaskStatus::Running);
}

fn with_more(value: &impl serde::Serialize) -> Value {
    let mut value = serde_json::to_value(value).unwrap();
    value["ofALaterRelease"] = json!({"any": ["thing"]});
    value
}

/// A later release may write more into a record: an earlier one passes over it.
#[test]
fn members_of_a_later_release_are_passed_over() {
    let hand = Hand::new(vec![node(0)], &[]);
    let TaskState { task, subtasks, .. } = &hand.state;
    assert_eq!(&serde_json::from_value::<Task>(with_more(task)).unwrap(), task);
    let row: Subtask = serde_json::from_value(with_more(&*subtasks[0])).unwrap();
    assert_eq!(row, *subtasks[0]);
    let spec: SubtaskSpec = serde_json::from_value(with_more(&row.spec)).unwrap();
    assert_eq!(spec, row.spec);
    for event in &hand.events {
        let read: Change = serde_json::from_value(with_more(&event.change)).unwrap();
        assert_eq!(read, event.change);
    }
}

#[test]
fn an_event_of_a_later_release_is_shown_by_its_kind_and_never_applied() {
    let mut hand = Hand::new(vec![node(0)], &[]);
    let subtask = hand.state.subtasks[0].id;
    let written = json!({"kind": "SUB_DREAMT", "subtask": subtask, "of": "sheep"});
    let change: Change = serde_json::from_value(written).unwrap();
    let expected = Change::Unreadable {
        kind: "SUB_DREAMT".into(),
        subtask: Some(subtask),
    };
    assert_eq!((change.subtask(), &change), (Some(subtask), &expected));
    let of_task: Change = serde_json::from_value(json!({"kind": "TASK_DREAMT"})).unwrap();
    assert_eq!(of_task.subtask(), None);

    let (seq, by) = (hand.state.task.rev + 1, env(0).owner);
    hand.events.push(Event {
        seq,
        at: 2_000,
        by,
        change,
    });
    hand.state.task.rev = seq;
    let Err(Finding::Broken(broken)) = fsck(&hand.state, &hand.events) else {
        panic!("an event that nobody understands was applied");
    };
    assert_eq!(broken.seq, seq);
    assert!(broken.reason.contains("SUB_DREAMT"), "{}", broken.reason);
}
