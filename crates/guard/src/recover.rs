//! Going on with a restart whose guard died.
//!
//! Its keeper died with it, so an old process that was being left may be gone within a second. What counts is who
//! answers now: a healthy new process is kept, everything else leads back.

use std::{io, time::Duration};

use obfleet_obproxy::process::{self, ProcessId};
use obfleet_wire::{agent::RestartMethod, time::Timestamp};

use crate::{
    back::{Undo, go_back},
    conclude::{Leaving, conclude},
    files::Side,
    judge::{self, Held},
    knobs,
    restart::Restart,
    run::{report, untouched},
    settle::Settled,
    state::Phase,
};

/// A child that was just forked gets as long as a guard would have given it.
const ANSWER_DEADLINE: Duration = Duration::from_secs(6);

/// Brings an interrupted restart to its end.
pub(crate) async fn recover(restart: &mut Restart) -> io::Result<()> {
    let phase = restart.state().phase.clone();
    restart
        .log
        .line(format_args!("an earlier guard died in phase {}", phase.name()));
    let interrupted = |what: &str| format!("the restart was interrupted {what}");
    if restart.state().before.is_none() {
        return untouched(restart, interrupted("before it began")).await;
    }
    match phase {
        Phase::Reverting { reason } => go_back(restart, Undo::because(reason)).await,
        Phase::Preparing | Phase::Swapped => {
            go_back(restart, Undo::because(interrupted("before it was ordered"))).await
        }
        Phase::Draining if restart.state().report.is_none() => {
            go_back(
                restart,
                Undo::because(interrupted("while the old process was being emptied")),
            )
            .await
        }
        _ => match new_process(restart).await {
            Ok(settled) => keep(restart, settled).await,
            Err(Unfit { reason, useless }) => {
                let undo = Undo::because(format!("{}: {reason}", interrupted("after it was ordered")));
                go_back(restart, Undo { useless, ..undo }).await
            }
        },
    }
}

/// Why the new process is not kept.
struct Unfit {
    reason: String,
    /// It lets nobody in and stands in the way of who would: to be killed without another try.
    useless: Option<ProcessId>,
}

impl From<String> for Unfit {
    fn from(reason: String) -> Self {
        Self { reason, useless: None }
    }
}

/// The new process, if it answers and is fit.
async fn new_process(restart: &Restart) -> Result<Settled, Unfit> {
    let old = restart.state().before.as_ref().map(|before| before.process);
    let mut held = judge::log_in_within(restart, ANSWER_DEADLINE)
        .await
        .map_err(|error| Unfit {
            reason: error.to_string(),
            useless: youngest_but(restart, old),
        })?;
    if Some(held.id()) == old {
        take_back(restart, &mut held).await;
        return Err("the old process answers".to_owned().into());
    }
    let fit = judge::judge(restart, &mut held, &restart.target(Side::New)).await?;
    Ok(Settled {
        process: held.id(),
        fit,
    })
}

fn youngest_but(restart: &Restart, old: Option<ProcessId>) -> Option<ProcessId> {
    let running = process::of_home(&restart.plan.home).unwrap_or_default();
    running.last().map(|process| process.id).filter(|id| Some(*id) != old)
}

/// A command that waits for its tick must not be obeyed any more.
async fn take_back(restart: &Restart, old: &mut Held) {
    if restart.plan.method == RestartMethod::Hot
        && let Err(error) = old.keeper.local_command(0).await
    {
        restart
            .log
            .line(format_args!("the command cannot be taken back: {error}"));
    }
}

/// Without a keeper the old process cannot be emptied: it ends with its last session, at the latest at the deadline
/// that was set for it.
async fn keep(restart: &mut Restart, settled: Settled) -> io::Result<()> {
    let ordered = restart.state().triggered_at.map_or(0, Timestamp::millis);
    let elapsed = u64::try_from(Timestamp::now().millis() - ordered).unwrap_or(0);
    if restart.state().report.is_none() {
        report(restart, settled.fit, elapsed)?;
    }
    let left = knobs::exit_timeout(restart.plan.drain).saturating_sub(Duration::from_millis(elapsed));
    conclude(restart, settled.process, Leaving::ByItself(left)).await
}
