//! Events of a task as they are shown: no bookkeeping of the engine's, and nothing that may be secret.

use std::{collections::BTreeMap, slice};

use obfleet_engine::{
    ContextDelta, Failure,
    core::{Change, Event},
};
use obfleet_wire::{
    task::{StepFailure, TaskEvent},
    time::Timestamp,
};

use crate::masking;

/// One event.
pub fn shown(event: &Event) -> TaskEvent {
    let mut shown = TaskEvent {
        seq: event.seq,
        time: Some(Timestamp(event.at)),
        kind: event.change.kind().to_owned(),
        server: event.by.server.clone(),
        subtask_id: event.change.subtask().map(|subtask| subtask.0),
        ..TaskEvent::default()
    };
    match &event.change {
        Change::TaskCreated { task, .. } => shown.actor = Some(task.creator.clone()),
        Change::SubReady { operation, .. } => shown.operation = Some(operation.to_string()),
        Change::SubClaimed { epoch, deadline_at, .. } => {
            shown.epoch = Some(*epoch);
            shown.deadline = deadline_at.map(Timestamp);
        }
        Change::SubUnknown { epoch, class_name, .. } => {
            shown.epoch = Some(*epoch);
            shown.class_name = Some(class_name.clone());
        }
        Change::Unreadable { kind, .. } => shown.kind.clone_from(kind),
        Change::SubCheckpoint { key, .. } => shown.checkpoint = Some(key.clone()),
        Change::SubSucceeded { delta, .. } | Change::SubUndone { delta, .. } => shown.context = context(delta),
        Change::SubFailed {
            epoch, failure, delta, ..
        } => {
            shown.epoch = Some(*epoch);
            shown.failure = Some(why(failure));
            shown.context = context(delta);
        }
        Change::SubRetry {
            operation,
            run_time,
            not_before,
            ..
        } => {
            shown.operation = Some(operation.to_string());
            shown.run_time = Some(i64::from(*run_time));
            shown.not_before = not_before.map(Timestamp);
        }
        Change::SubOrphaned { epoch, .. } | Change::SubReleased { epoch, .. } => shown.epoch = Some(*epoch),
        Change::SubCanceling { deadline_at, actor, .. } => {
            shown.deadline = Some(Timestamp(*deadline_at));
            shown.actor.clone_from(actor);
        }
        Change::SubParked { to, .. } => shown.status = Some(to.to_string()),
        Change::TaskPaused { actor } | Change::TaskUnpaused { actor } | Change::TaskCanceling { actor } => {
            shown.actor = Some(actor.clone());
        }
        Change::TaskAbandoned { actor, reason } => {
            shown.actor = Some(actor.clone());
            shown.reason = Some(reason.clone());
        }
        Change::TaskFailed { outcome } => shown.outcome = outcome.map(|outcome| outcome.to_string()),
        Change::TaskDone { outcome } => shown.outcome = Some(outcome.to_string()),
        Change::SubSkipped { actor, .. }
        | Change::TaskRetry { actor }
        | Change::TaskResumed { actor }
        | Change::TaskRollback { actor } => shown.actor.clone_from(actor),
    }
    shown
}

/// Why a step failed.
pub fn why(failure: &Failure) -> StepFailure {
    StepFailure {
        cause: failure.cause.to_string(),
        message: masking::text(&failure.message).into_owned(),
    }
}

fn context(delta: &ContextDelta) -> BTreeMap<String, Vec<String>> {
    let texts = delta.set.iter().map(|(key, text)| (key, slice::from_ref(text)));
    let all = texts.chain(delta.append.iter().map(|(key, list)| (key, list.as_slice())));
    all.map(|(key, values)| (key.clone(), masking::values(key, values)))
        .collect()
}

#[cfg(test)]
mod tests {
    use obfleet_engine::{Owner, SubtaskId};

    use super::*;

    #[test]
    fn values_that_may_be_secret_are_masked() {
        let delta = ContextDelta::new()
            .with("root_Password", "s3cret")
            .with("port", "2883")
            .with_items("tokens", ["t0ken"]);
        let event = Event {
            seq: 3,
            at: 7,
            by: Owner {
                server: "a".into(),
                incarnation: "1".into(),
            },
            change: Change::SubSucceeded {
                subtask: SubtaskId(4),
                delta,
            },
        };
        let text = serde_json::to_string(&shown(&event)).unwrap();
        assert!(text.contains("2883") && text.contains("root_Password"), "{text}");
        assert!(!text.contains("s3cret") && !text.contains("t0ken"), "{text}");
    }
}
