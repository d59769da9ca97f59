//! Where a restart stands: one file, replaced before each step that has an effect.

use std::{
    io,
    path::{Path, PathBuf},
};

use obfleet_obproxy::process::ProcessId;
use obfleet_wire::{
    agent::{DrainReport, ProxyFacts, RestartReport},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::durable;

const FILE: &str = "state.json";

/// The steps of a restart. A phase is on disk before the first effect it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "camelCase")]
pub enum Phase {
    /// Looking, copying files aside, setting the restart's knobs; what serves is untouched.
    Preparing,
    /// The new file takes its place at `bin/obproxy`.
    Swapped,
    /// The restart is ordered.
    Triggered,
    /// The new process is there and is being judged.
    Judging,
    /// The old process is being emptied. After a hot restart the verdict on the new one was good; before a cold one
    /// there is no new one yet.
    Draining,
    /// The new process serves alone.
    Finished {
        /// How the old one ended.
        drain: DrainReport,
    },
    /// On the way back.
    Reverting {
        /// Why.
        reason: String,
    },
    /// What served before serves again, and its file is in its place.
    Reverted {
        /// Why.
        reason: String,
        /// How the processes that went were emptied.
        drain: DrainReport,
    },
    /// Nobody serves, and this guard knows no way on: a person has to look.
    Broken {
        /// What was tried last.
        reason: String,
    },
}

impl Phase {
    /// Whether nothing follows.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Finished { .. } | Self::Reverted { .. } | Self::Broken { .. }
        )
    }

    /// Its name as it stands in the file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Swapped => "swapped",
            Self::Triggered => "triggered",
            Self::Judging => "judging",
            Self::Draining => "draining",
            Self::Finished { .. } => "finished",
            Self::Reverting { .. } => "reverting",
            Self::Reverted { .. } => "reverted",
            Self::Broken { .. } => "broken",
        }
    }
}

/// What served before, and the settings that were changed for the restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Before {
    /// The process.
    pub process: ProcessId,
    /// What it was.
    pub facts: ProxyFacts,
    /// Configuration items and the values to put back.
    pub knobs: Vec<(String, String)>,
}

/// What the guard decided about the new process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It is good.
    Good(&'a RestartReport),
    /// The restart was undone, or nobody serves; why.
    Bad(&'a str),
}

/// Where a restart stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Names the restart.
    pub restart_id: String,
    /// The server's id of the proxy.
    pub proxy_id: i64,
    /// The step.
    #[serde(flatten)]
    pub phase: Phase,
    /// The guard at work; `None` until it has begun.
    pub guard: Option<ProcessId>,
    /// Known from the moment something is changed.
    pub before: Option<Before>,
    /// When the restart was ordered.
    pub triggered_at: Option<Timestamp>,
    /// The good verdict, once there is one.
    pub report: Option<RestartReport>,
}

impl State {
    pub(crate) fn new(restart_id: &str, proxy_id: i64) -> Self {
        Self {
            restart_id: restart_id.to_owned(),
            proxy_id,
            phase: Phase::Preparing,
            guard: None,
            before: None,
            triggered_at: None,
            report: None,
        }
    }

    /// Reads the state of a restart's directory.
    pub fn load(dir: &Path) -> io::Result<Self> {
        durable::read_json(&Self::path(dir))
    }

    pub(crate) fn save(&self, dir: &Path) -> io::Result<()> {
        durable::write_json(&Self::path(dir), self)
    }

    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    /// What was decided, as soon as it is.
    pub fn verdict(&self) -> Option<Verdict<'_>> {
        match (&self.phase, &self.report) {
            (Phase::Draining | Phase::Finished { .. }, Some(report)) => Some(Verdict::Good(report)),
            (Phase::Reverted { reason, .. } | Phase::Broken { reason }, _) => Some(Verdict::Bad(reason)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::new("r1", 7);
        for phase in [
            Phase::Preparing,
            Phase::Finished {
                drain: DrainReport::default(),
            },
            Phase::Reverted {
                reason: "no".into(),
                drain: DrainReport::default(),
            },
        ] {
            state.phase = phase;
            state.guard = Some(ProcessId { pid: 5, start_ticks: 6 });
            state.save(dir.path()).unwrap();
            assert_eq!(State::load(dir.path()).unwrap(), state);
        }
        assert_eq!(state.verdict(), Some(Verdict::Bad("no")));
        let text = std::fs::read_to_string(State::path(dir.path())).unwrap();
        assert!(text.contains(r#""phase": "reverted""#), "{text}");
    }

    #[test]
    fn a_drain_before_a_cold_restart_is_no_verdict() {
        let mut state = State::new("r1", 7);
        state.phase = Phase::Draining;
        assert_eq!(state.verdict(), None);
        assert!(!state.phase.is_final());
    }
}
