//! After a good verdict: the old process is emptied and let go, while its keeper still keeps the way back free.

use std::{io, time::Duration};

use obfleet_obproxy::process::ProcessId;
use obfleet_wire::agent::DrainReport;

use crate::{
    back::{Undo, go_back},
    judge::Held,
    knobs, release,
    restart::Restart,
    state::Phase,
};

/// The old process, as far as it can be reached.
pub(crate) enum Leaving {
    /// Through an admin session.
    Held(Held),
    /// Not at all: it empties itself, at the latest after this long.
    ByItself(Duration),
}

/// Ends the restart on the side of `serving`, or goes back when that dies or somebody orders it.
pub(crate) async fn conclude(restart: &mut Restart, serving: ProcessId, old: Leaving) -> io::Result<()> {
    let started = std::time::Instant::now();
    restart.advance(Phase::Draining)?;
    let orders = restart.orders.clone();
    let interrupted = || orders.wants_back() || !serving.is_alive();
    let mut drained = DrainReport::default();
    let mut keepers = Vec::new();
    let by_itself = match old {
        Leaving::Held(held) => {
            let (report, held) = release::empty(restart, held, restart.drain_policy(), interrupted).await;
            drained = report;
            keepers.extend(held);
            keepers.is_empty().then(|| knobs::exit_timeout(restart.plan.drain))
        }
        Leaving::ByItself(deadline) => Some(deadline),
    };
    if let Some(deadline) = by_itself {
        release::wait_empty(restart, serving, deadline, interrupted).await;
    }
    // The last look before the way back is lost: once the keeper is closed, the old process leaves within a second.
    if let Some(reason) = reason_to_go_back(restart, serving).await {
        return go_back(
            restart,
            Undo {
                keepers,
                drained,
                ..Undo::because(reason)
            },
        )
        .await;
    }
    for held in keepers {
        held.keeper.close().await;
    }
    release::send_off(restart, serving).await;
    if let Some(reason) = reason_to_go_back(restart, serving).await {
        return go_back(
            restart,
            Undo {
                drained,
                ..Undo::because(reason)
            },
        )
        .await;
    }
    knobs::restore(restart).await;
    // No await from here to the end: an order that comes now is either seen here or refused.
    if restart.orders.wants_back() {
        return go_back(
            restart,
            Undo {
                drained,
                ..Undo::because(ORDERED)
            },
        )
        .await;
    }
    drained.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    restart.advance(Phase::Finished { drain: drained })?;
    restart.files.clean();
    Ok(())
}

/// The reason when somebody wants to go back.
pub(crate) const ORDERED: &str = "going back was ordered";

async fn reason_to_go_back(restart: &Restart, serving: ProcessId) -> Option<String> {
    if restart.orders.wants_back() {
        return Some(ORDERED.to_owned());
    }
    if release::still_serves(restart, serving).await {
        return None;
    }
    Some(format!(
        "the new process {} serves no more while the old one is being let go",
        serving.pid
    ))
}
