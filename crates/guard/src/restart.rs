//! What every step of one restart shares: the plan, the state on disk, the files, the log, and orders from outside.

use std::{cell::Cell, io, path::PathBuf, rc::Rc};

use obfleet_obproxy::process::ProcessId;
use obfleet_wire::{
    agent::{DrainPolicy, ProbeQuery},
    time::Timestamp,
    version::ProxyVersion,
};

use crate::{
    control::{Command, Reply},
    files::{Files, Side},
    log::Log,
    plan::Plan,
    state::{Phase, State},
};

/// Sees each phase once it is on disk.
pub(crate) type Observer = Box<dyn FnMut(&Phase)>;

/// What came in through the control socket.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    revert: Cell<Option<DrainPolicy>>,
    ended: Cell<bool>,
}

impl Orders {
    /// Takes a command.
    pub(crate) fn answer(&self, command: Command) -> Reply {
        if let Command::Revert { drain } = command {
            if self.ended.get() {
                let reason = "the restart has ended: restart onto the old version to go back";
                return Reply {
                    refused: Some(reason.to_owned()),
                };
            }
            self.revert.set(Some(drain));
        }
        Reply { refused: None }
    }

    /// Whether somebody wants to go back.
    pub(crate) fn wants_back(&self) -> bool {
        self.revert.get().is_some()
    }
}

/// What a process has to be.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) version: ProxyVersion,
    pub(crate) sha256: String,
    pub(crate) probe: Option<ProbeQuery>,
}

/// One restart at work.
pub(crate) struct Restart {
    pub(crate) plan: Plan,
    pub(crate) files: Files,
    pub(crate) log: Log,
    pub(crate) orders: Rc<Orders>,
    dir: PathBuf,
    state: State,
    observer: Observer,
}

impl Restart {
    /// Takes over the restart of a directory and says so in its state.
    pub(crate) fn open(dir: PathBuf, observer: Observer) -> io::Result<Self> {
        let plan = Plan::load(&dir)?;
        let mut state = State::load(&dir)?;
        state.guard = Some(ProcessId::own()?);
        state.save(&dir)?;
        Ok(Self {
            files: Files::new(&plan.home, &plan.restart_id),
            log: Log::open(&dir)?,
            orders: Rc::default(),
            plan,
            dir,
            state,
            observer,
        })
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Writes down the next phase. On the way back the steps of a restart are only means: the phase stays.
    pub(crate) fn advance(&mut self, phase: Phase) -> io::Result<()> {
        if matches!(self.state.phase, Phase::Reverting { .. }) && !phase.is_final() {
            return Ok(());
        }
        if phase == Phase::Triggered {
            self.state.triggered_at = Some(Timestamp::now());
        }
        self.log.line(format_args!("phase {}", phase.name()));
        self.record(|state| state.phase = phase)
    }

    /// Changes the state on disk.
    pub(crate) fn record(&mut self, change: impl FnOnce(&mut State)) -> io::Result<()> {
        change(&mut self.state);
        // Set before the state is written, so that no order is accepted that nobody will carry out.
        self.orders.ended.set(self.state.phase.is_final());
        self.state.save(&self.dir)?;
        (self.observer)(&self.state.phase);
        Ok(())
    }

    /// What the process of a side has to be. The old one was good enough before: it is not probed.
    pub(crate) fn target(&self, side: Side) -> Target {
        match (side, &self.state.before) {
            (Side::Old, Some(before)) => Target {
                version: before.facts.version.clone(),
                sha256: before.facts.binary_sha256.clone(),
                probe: None,
            },
            _ => Target {
                version: self.plan.version.clone(),
                sha256: self.plan.binary_sha256.clone(),
                probe: self.plan.probe.clone(),
            },
        }
    }

    /// Whether the executable to go to is the one that ran before: a plain restart. Version and digest then tell nobody
    /// apart, only the process does.
    pub(crate) fn is_onto_itself(&self) -> bool {
        let before = self.state.before.as_ref();
        before.is_some_and(|before| before.facts.binary_sha256 == self.plan.binary_sha256)
    }

    /// How processes that go are emptied: as the order to go back says, else as planned.
    pub(crate) fn drain_policy(&self) -> DrainPolicy {
        self.orders.revert.get().unwrap_or(self.plan.drain)
    }
}
