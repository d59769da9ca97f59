//! Random graphs and commands: the core and the naive model agree on what is admitted and on every row, and the
//! invariants hold after every step.

use std::collections::{BTreeSet, HashSet};

use obfleet_engine::core::{Change, Command, Event, Reject, decide, fsck, ways_out};
use obfleet_engine::state::SubtaskSpec;
use obfleet_engine::testing::check_invariants;
use obfleet_engine::{Cause, ContextDelta, Failure, Halt, OnCrash, SubtaskId, TaskState, WayOut};
use proptest::prelude::*;

use crate::model::{Ask, Kind, Model};
use crate::support::{ann, barrier, env, node, of_release, task_that};

fn graphs() -> impl Strategy<Value = (Vec<Kind>, Vec<(usize, usize)>)> {
    let kind = (
        prop::bool::weighted(0.2),
        0_u32..3,
        prop::bool::weighted(0.7),
        prop::bool::weighted(0.3),
    );
    prop::collection::vec(kind, 1..=8).prop_flat_map(|kinds| {
        let count = kinds.len();
        let pairs: Vec<_> = (0..count).flat_map(|to| (0..to).map(move |from| (from, to))).collect();
        let picked = prop::collection::vec(prop::bool::weighted(0.35), pairs.len());
        let edges = picked.prop_map(move |picked| {
            pairs
                .iter()
                .zip(picked)
                .filter(|(_, keep)| *keep)
                .map(|(&pair, _)| pair)
                .collect::<Vec<_>>()
        });
        (Just(kinds), edges)
    })
}

/// What to ask: a kind, a node, whether with a stale epoch, free slots, and whether the server knows new classes.
type Draw = (u32, prop::sample::Index, bool, usize, bool);

fn draws() -> impl Strategy<Value = Vec<Draw>> {
    let draw = (
        0_u32..48,
        any::<prop::sample::Index>(),
        prop::bool::weighted(0.1),
        0_usize..3,
        prop::bool::weighted(0.8),
    );
    prop::collection::vec(draw, 1..80)
}

/// Most draws go to nodes where they can do something, so that runs get far.
fn ask(model: &Model, (kind, index, stale, ..): &Draw) -> Ask {
    use obfleet_engine::SubtaskStatus as St;
    let among = |statuses: &[St]| {
        let fitting: Vec<_> = (0..model.nodes.len())
            .filter(|&i| statuses.contains(&model.nodes[i].status))
            .collect();
        if fitting.is_empty() || *stale {
            index.index(model.nodes.len())
        } else {
            fitting[index.index(fitting.len())]
        }
    };
    let held = among(&[St::Running, St::Canceling]);
    let epoch = model.nodes[held].epoch - i64::from(*stale);
    let failed = among(&[St::Failed]);
    match kind {
        0..10 => Ask::Claim(among(&[St::Ready])),
        10..20 => Ask::Finish(held, epoch),
        20..26 => Ask::Fail(held, epoch),
        26..28 => Ask::Expire(held, epoch),
        28 => Ask::Checkpoint(held, epoch),
        29..31 => Ask::Crash,
        31..33 => Ask::Cancel(among(&[St::Running])),
        33 => Ask::RetryTask,
        34 => Ask::Retry(failed),
        35 => Ask::Skip(failed),
        36..40 => Ask::Rollback,
        40 => Ask::Pause,
        41..43 => Ask::Unpause,
        43..45 => Ask::CancelTask,
        45..47 => Ask::Release,
        _ => Ask::Abandon,
    }
}

fn command(state: &TaskState, ask: &Ask) -> Command {
    let id = |i: usize| -> SubtaskId { state.subtasks[i].id };
    let delta = ContextDelta::new();
    match *ask {
        Ask::Claim(i) => Command::Claim { subtask: id(i) },
        Ask::Finish(i, epoch) => Command::Finish {
            subtask: id(i),
            epoch,
            delta,
        },
        Ask::Fail(i, epoch) => {
            let failure = Failure {
                cause: Cause::Error,
                message: "no".into(),
            };
            Command::Fail {
                subtask: id(i),
                epoch,
                failure,
                delta,
            }
        }
        Ask::Expire(i, epoch) => Command::Expire { subtask: id(i), epoch },
        Ask::Checkpoint(i, epoch) => Command::Checkpoint {
            subtask: id(i),
            epoch,
            key: "k".into(),
            value: "v".into(),
        },
        Ask::Crash => Command::Orphan {
            dead: BTreeSet::from([env(0).owner.incarnation]),
        },
        Ask::Release => Command::Release,
        Ask::Cancel(i) => Command::Cancel {
            subtask: id(i),
            actor: ann(),
        },
        Ask::RetryTask => Command::RetryTask { actor: ann() },
        Ask::Retry(i) => Command::RetrySubtask {
            subtask: id(i),
            actor: ann(),
        },
        Ask::Skip(i) => Command::Skip {
            subtask: id(i),
            actor: ann(),
        },
        Ask::Rollback => Command::Rollback { actor: ann() },
        Ask::Pause => Command::Pause { actor: ann() },
        Ask::Unpause => Command::Unpause { actor: ann() },
        Ask::CancelTask => Command::CancelTask { actor: ann() },
        Ask::Abandon => Command::Abandon {
            actor: ann(),
            reason: "lost".into(),
        },
    }
}

fn spec(&(is_barrier, retries, resumes, new): &Kind) -> SubtaskSpec {
    let on_crash = if resumes { OnCrash::Resume } else { OnCrash::Fail };
    let class_name = if new { "new" } else { "work" }.to_owned();
    SubtaskSpec {
        on_crash,
        class_name,
        ..if is_barrier { barrier() } else { node(retries) }
    }
}

/// I2: of one epoch at most one end is accepted.
fn note_ends(ends: &mut HashSet<(SubtaskId, i64)>, before: &TaskState, events: &[Event]) {
    let mut epochs: std::collections::HashMap<_, _> = before.subtasks.iter().map(|row| (row.id, row.epoch)).collect();
    for event in events {
        let Some(subtask) = event.change.subtask() else {
            continue;
        };
        match &event.change {
            Change::SubClaimed { epoch, .. } => drop(epochs.insert(subtask, *epoch)),
            Change::SubSucceeded { .. }
            | Change::SubUndone { .. }
            | Change::SubFailed { .. }
            | Change::SubOrphaned { .. }
            | Change::SubReleased { .. } => {
                assert!(
                    ends.insert((subtask, epochs[&subtask])),
                    "I2: epoch {} ended twice",
                    epochs[&subtask]
                );
            }
            _ => {}
        }
    }
}

/// What an operator really may do about a FAILED task.
fn admitted_ways(state: &TaskState) -> Vec<WayOut> {
    if state.task.status != obfleet_engine::TaskStatus::Failed {
        return Vec::new();
    }
    let admits = |ask: Ask| decide(state, command(state, &ask), &env(0)).is_ok();
    let ways = [
        (WayOut::Retry, admits(Ask::RetryTask)),
        (WayOut::Rollback, admits(Ask::Rollback)),
        (WayOut::Skip, (0..state.subtasks.len()).any(|i| admits(Ask::Skip(i)))),
        (WayOut::Abandon, admits(Ask::Abandon)),
    ];
    ways.into_iter().filter_map(|(way, open)| open.then_some(way)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn core_and_model_agree((kinds, edges) in graphs(), undoes in prop::bool::weighted(0.3), draws in draws()) {
        let (mut state, mut events) = task_that(undoes, kinds.iter().map(spec).collect(), &edges);
        let mut model = Model::new(&kinds, &edges, undoes);
        let mut ends = HashSet::new();
        for draw in &draws {
            let ask = ask(&model, draw);
            let env = of_release(env(draw.3), draw.4);
            let decided = decide(&state, command(&state, &ask), &env);
            let admitted = model.step(&ask, draw.3, draw.4);
            prop_assert_eq!(decided.is_ok(), admitted, "{:?} on {:?}: {:?}", ask, model, decided.err());
            prop_assert!(!matches!(decided, Err(Reject::Broken(_))), "{:?} got past the rules", ask);
            let Ok(decision) = decided else { continue };
            note_ends(&mut ends, &state, &decision.events);
            events.extend(decision.events);
            state = decision.state;
            prop_assert_eq!((state.task.status, state.task.operation), (model.status, model.op), "after {:?}", ask);
            let halt = (state.task.halt == Some(Halt::Paused), state.task.halt == Some(Halt::Canceling));
            prop_assert_eq!(
                (state.task.outcome, halt),
                (model.outcome, (model.paused, model.canceling)),
                "after {:?}", ask
            );
            prop_assert_eq!(ways_out(&state), admitted_ways(&state));
            for (row, node) in state.subtasks.iter().zip(&model.nodes) {
                prop_assert_eq!(
                    (row.status, row.operation, row.run_time, row.epoch),
                    (node.status, node.op, node.run_time, node.epoch),
                    "subtask {} after {:?}", row.series_id, ask
                );
            }
            prop_assert_eq!(check_invariants(&state), Ok(()), "after {:?}", ask);
            prop_assert!(events.iter().map(|event| event.seq).eq(1..=state.task.rev), "I7: events are dense");
        }
        prop_assert_eq!(fsck(&state, &events), Ok(()));
    }
}
