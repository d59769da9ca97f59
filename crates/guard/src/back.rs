//! The way back: the old file first, then the old version, then the end of everything else.

use std::io;

use obfleet_obproxy::process::ProcessId;
use obfleet_wire::agent::DrainReport;

use crate::{
    files::Side,
    judge::Held,
    knobs, release,
    restart::Restart,
    settle::{end_process, settle},
    state::Phase,
};

/// A process that dies while the others are let go costs another round; one that dies again and again is broken.
const ROUNDS: u32 = 3;

/// What is to be undone.
#[derive(Debug)]
pub(crate) struct Undo {
    /// Why.
    pub(crate) reason: String,
    /// A process to kill once the old file is back.
    pub(crate) useless: Option<ProcessId>,
    /// Processes that can be emptied, or take over again.
    pub(crate) keepers: Vec<Held>,
    /// Sessions closed so far.
    pub(crate) drained: DrainReport,
}

impl Undo {
    /// With nothing to kill and nobody held.
    pub(crate) fn because(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            useless: None,
            keepers: Vec::new(),
            drained: DrainReport::default(),
        }
    }
}

/// Undoes the restart.
pub(crate) async fn go_back(restart: &mut Restart, undo: Undo) -> io::Result<()> {
    let Undo {
        reason,
        useless,
        mut keepers,
        mut drained,
    } = undo;
    restart.log.line(format_args!("going back: {reason}"));
    restart.advance(Phase::Reverting { reason: reason.clone() })?;
    if let Err(error) = restart.files.install(Side::Old) {
        restart
            .log
            .line(format_args!("the old file cannot be put back: {error}"));
    }
    if let Some(useless) = useless {
        end_process(restart, useless).await;
    }
    for _ in 0..ROUNDS {
        let serving = match settle(restart, Side::Old, &mut keepers).await {
            Ok(settled) => settled.process,
            Err(error) => {
                let reason = format!("{reason}; on the way back: {error}");
                return restart.advance(Phase::Broken { reason });
            }
        };
        // The old process itself may serve again: it is not one to be emptied.
        let leaving = keepers.extract_if(.., |held| held.id() != serving).collect();
        let (report, emptied) = release::empty_all(restart, leaving, restart.drain_policy()).await;
        drained = release::merge(drained, report);
        if release::others(restart, serving)
            .iter()
            .any(|process| !emptied.contains(&process.id))
        {
            let deadline = knobs::exit_timeout(restart.plan.drain);
            release::wait_empty(restart, serving, deadline, || !serving.is_alive()).await;
        }
        release::send_off(restart, serving).await;
        if release::still_serves(restart, serving).await {
            knobs::restore(restart).await;
            restart.advance(Phase::Reverted { reason, drain: drained })?;
            restart.files.clean();
            return Ok(());
        }
        restart
            .log
            .line(format_args!("process {} does not serve any more", serving.pid));
        keepers.clear();
    }
    restart.advance(Phase::Broken {
        reason: format!("{reason}; on the way back no process stayed alive"),
    })
}
