//! Who did it is in the event.

use obfleet_engine::core::{Change, Command, Event, fsck};
use serde_json::json;

use crate::hand::{Hand, nothing};
use crate::support::{ann, node};

/// The person each event names, without the events that name nobody.
fn named(events: &[Event]) -> Vec<(&'static str, String)> {
    let named = events.iter().filter_map(|event| {
        let text = serde_json::to_value(&event.change).unwrap();
        let actor = text.get("actor")?.as_str()?.to_owned();
        Some((event.change.kind(), actor))
    });
    named.collect()
}

#[test]
fn every_operators_move_names_the_operator() {
    let mut hand = Hand::new(vec![node(0), node(0)], &[(0, 1)]);
    let subtask = hand.state.subtasks[0].id;
    let by = |name: &str| format!("{name} did");
    let cancel = |hand: &mut Hand, actor| {
        let epoch = hand.claim(0);
        hand.run(Command::Cancel { subtask, actor });
        hand.run(Command::Expire { subtask, epoch });
    };
    cancel(&mut hand, by("cancel"));
    hand.run(Command::RetrySubtask {
        subtask,
        actor: by("retry one"),
    });
    cancel(&mut hand, ann());
    hand.run(Command::RetryTask { actor: by("retry") });
    hand.claim(0);
    hand.run(Command::CancelTask {
        actor: by("cancel all"),
    });
    let epoch = hand.state.subtasks[0].epoch;
    hand.run(Command::Expire { subtask, epoch });
    hand.run(Command::Skip {
        subtask,
        actor: by("skip"),
    });
    hand.fail(1, nothing());
    hand.run(Command::Rollback { actor: by("roll back") });
    let expected = [
        ("SUB_CANCELING", by("cancel")),
        ("TASK_RESUMED", by("retry one")),
        ("SUB_CANCELING", ann()),
        ("TASK_RETRY", by("retry")),
        ("TASK_CANCELING", by("cancel all")),
        ("SUB_CANCELING", by("cancel all")),
        ("SUB_SKIPPED", by("skip")),
        ("TASK_RESUMED", by("skip")),
        ("TASK_ROLLBACK", by("roll back")),
    ];
    assert_eq!(named(&hand.events), expected);
    assert_eq!(fsck(&hand.state, &hand.events), Ok(()));
}

#[test]
fn events_of_releases_that_named_nobody_are_read_as_they_are() {
    let old = [
        json!({"kind": "TASK_RETRY"}),
        json!({"kind": "TASK_RESUMED"}),
        json!({"kind": "TASK_ROLLBACK"}),
        json!({"kind": "SUB_SKIPPED", "subtask": 7}),
        json!({"kind": "SUB_CANCELING", "subtask": 7, "deadline_at": 9}),
    ];
    for event in old {
        let change: Change = serde_json::from_value(event.clone()).unwrap();
        assert_eq!(serde_json::to_value(&change).unwrap(), event);
    }
}
