//! Why a step stands FAILED, in the words an operator reads.

use obfleet_engine::core::Command;
use obfleet_engine::{Cause, Failure};

use crate::hand::{Hand, nothing};
use crate::support::{ann, env, node};

fn reason(hand: &Hand, index: usize) -> Failure {
    hand.state.subtasks[index].failure.clone().expect("it stands FAILED")
}

#[test]
fn what_is_given_up_says_whether_it_was_asked_to_stop() {
    let given_up = |stopped: bool| {
        let mut hand = Hand::new(vec![node(0)], &[]);
        let epoch = hand.claim(0);
        let subtask = hand.state.subtasks[0].id;
        if stopped {
            hand.run(Command::Cancel { subtask, actor: ann() });
        }
        hand.run(Command::Expire { subtask, epoch });
        reason(&hand, 0)
    };
    let late = given_up(false);
    assert_eq!(late.cause, Cause::Timeout);
    assert_eq!(late.message, "the step did not end within its 30 s");
    let stopped = given_up(true);
    assert_eq!(stopped.cause, Cause::Cancelled);
    assert!(
        stopped.message.starts_with("cancelled by an operator"),
        "{}",
        stopped.message
    );
}

#[test]
fn what_is_parked_says_how_the_server_under_it_ended() {
    let died = Command::Orphan {
        dead: [env(0).owner.incarnation].into(),
    };
    for (end, how) in [(died, "died"), (Command::Release, "was stopped")] {
        let mut hand = Hand::new(vec![node(0), node(0)], &[]);
        hand.claim(0);
        hand.run(end);
        hand.fail(1, nothing());
        let parked = reason(&hand, 0);
        assert_eq!(parked.cause, Cause::Interrupted);
        assert_eq!(parked.message, format!("the server {how} while the step was under way"));
    }
}
