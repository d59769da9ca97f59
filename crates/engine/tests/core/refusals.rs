//! A refused command says what stands in its way, and changes nothing; it never comes as far as a move that `apply`
//! would have to refuse.

use obfleet_engine::core::{Command, Reject};
use obfleet_engine::{SubtaskId, SubtaskStatus as St, TaskOperation, TaskStatus};

use crate::hand::{Hand, nothing};
use crate::support::{ann, node};

const FIRST: SubtaskId = SubtaskId(1);

fn chain() -> Hand {
    Hand::new(vec![node(0), node(0)], &[(0, 1)])
}

fn task_is(status: TaskStatus, operation: TaskOperation) -> Reject {
    Reject::TaskState { status, operation }
}

fn subtask_is(status: St) -> Reject {
    Reject::SubtaskState { status }
}

fn refused(hand: &mut Hand, command: Command) -> Reject {
    let before = hand.state.clone();
    let reject = hand.try_do(command, 9).expect_err("there is something in the way");
    assert_eq!(hand.state, before);
    reject
}

fn claim(subtask: SubtaskId) -> Command {
    Command::Claim { subtask }
}

fn cancel(subtask: SubtaskId) -> Command {
    Command::Cancel { subtask, actor: ann() }
}

fn retry(subtask: SubtaskId) -> Command {
    Command::RetrySubtask { subtask, actor: ann() }
}

fn skip(subtask: SubtaskId) -> Command {
    Command::Skip { subtask, actor: ann() }
}

#[test]
fn a_claim_of_what_is_not_ready() {
    let mut hand = chain();
    assert_eq!(refused(&mut hand, claim(SubtaskId(2))), subtask_is(St::Pending));
    hand.claim(0);
    assert_eq!(refused(&mut hand, claim(FIRST)), subtask_is(St::Running));
    let mut failed = chain();
    failed.fail(0, nothing());
    let resting = task_is(TaskStatus::Failed, TaskOperation::Execute);
    assert_eq!(refused(&mut failed, claim(FIRST)), resting);
}

#[test]
fn a_note_of_an_attempt_that_was_asked_to_stop() {
    let mut hand = chain();
    let epoch = hand.claim(0);
    hand.run(cancel(FIRST));
    let note = Command::Checkpoint {
        subtask: FIRST,
        epoch,
        key: "k".into(),
        value: "v".into(),
    };
    assert_eq!(refused(&mut hand, note), Reject::Fenced);
}

#[test]
fn a_write_of_an_attempt_that_has_ended() {
    let mut hand = chain();
    let epoch = hand.claim(0);
    let finish = Command::Finish {
        subtask: FIRST,
        epoch,
        delta: nothing(),
    };
    hand.run(finish.clone());
    assert_eq!(
        refused(&mut hand, finish),
        Reject::Fenced,
        "its epoch is the row's still"
    );
    let expire = Command::Expire { subtask: FIRST, epoch };
    assert_eq!(refused(&mut hand, expire), Reject::Fenced);
}

#[test]
fn orders_about_a_step_that_stands_otherwise() {
    let mut hand = chain();
    for order in [cancel(FIRST), retry(FIRST), skip(FIRST)] {
        assert_eq!(refused(&mut hand, order), subtask_is(St::Ready));
    }
    hand.claim(0);
    for order in [retry(FIRST), skip(FIRST)] {
        assert_eq!(refused(&mut hand, order), subtask_is(St::Running));
    }
}

#[test]
fn orders_about_a_step_of_another_task() {
    let mut hand = chain();
    let (subtask, epoch) = (SubtaskId(77), 0);
    let finish = Command::Finish {
        subtask,
        epoch,
        delta: nothing(),
    };
    for order in [claim(subtask), cancel(subtask), retry(subtask), skip(subtask), finish] {
        assert_eq!(refused(&mut hand, order), Reject::NoSuchSubtask(subtask));
    }
}

#[test]
fn orders_about_a_task_that_stands_otherwise() {
    let mut hand = chain();
    hand.claim(0);
    let goes_on = task_is(TaskStatus::Running, TaskOperation::Execute);
    let actor = ann;
    for order in [
        Command::RetryTask { actor: actor() },
        Command::Rollback { actor: actor() },
        Command::Abandon {
            actor: actor(),
            reason: "lost".into(),
        },
        Command::Unpause { actor: actor() },
        Command::Orphan {
            dead: ["nobody".to_owned()].into(),
        },
    ] {
        assert_eq!(refused(&mut hand, order), goes_on);
    }

    let mut stuck = chain();
    stuck.fail(0, nothing());
    stuck.run(Command::Rollback { actor: actor() });
    stuck.fail(0, nothing());
    let goes_back = task_is(TaskStatus::Failed, TaskOperation::Rollback);
    for order in [
        Command::RetryTask { actor: actor() },
        retry(FIRST),
        Command::Pause { actor: actor() },
        Command::Unpause { actor: actor() },
        Command::CancelTask { actor: actor() },
    ] {
        assert_eq!(refused(&mut stuck, order), goes_back);
    }
}
