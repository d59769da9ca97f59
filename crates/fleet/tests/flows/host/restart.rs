//! A proxy onto another binary, as the agent and its guard do it.

use obfleet_wire::{
    agent::{AttemptKey, DrainReport, Outcome, RestartMethod, RestartReport},
    version::ProxyVersion,
};

use super::{Job, Machine, Phase};

type Result<T> = std::result::Result<T, String>;

/// A restart that a guard was started for.
#[derive(Clone)]
pub struct LastRestart {
    pub id: String,
    /// Ids by which later attempts of the same subtask took it over.
    also: Vec<String>,
    attempt: AttemptKey,
    pub from: ProxyVersion,
    to: ProxyVersion,
    method: RestartMethod,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The guard is at work.
    AtWork,
    /// The new process was judged good, the old one drains.
    Draining,
    /// The old process is gone.
    Finished,
    /// The old binary serves again, by the guard's doing.
    Reverted,
}

impl LastRestart {
    fn is(&self, restart_id: &str) -> bool {
        self.id == restart_id || self.also.iter().any(|other| other == restart_id)
    }

    pub fn is_guarded(&self) -> bool {
        matches!(self.stage, Stage::AtWork | Stage::Draining)
    }
}

impl Machine {
    /// In part: the guard is at work, and the agent gives up waiting for its word.
    pub(super) fn restart(
        &mut self,
        id: i64,
        restart_id: &str,
        version: &ProxyVersion,
        method: RestartMethod,
        job: &Job<'_>,
    ) -> Result<Outcome> {
        if self.get(id)?.phase == Phase::Removed {
            return Err(format!("proxy {id} was removed: restore it first"));
        }
        let before = self.facts(id)?;
        if !self.follows_known(id, restart_id, job)? {
            self.at_rest(id)?;
            self.find_slot(version)?;
            let owned = self.get_mut(id)?;
            owned.restart = Some(LastRestart {
                id: restart_id.to_owned(),
                also: Vec::new(),
                attempt: job.key.clone(),
                from: owned.version.clone(),
                to: version.clone(),
                method,
                stage: Stage::AtWork,
            });
        }
        job.may_go_on()?;
        match self.decide(id, job)? {
            Stage::Reverted => Err(format!("restart {restart_id} went back")),
            _ => {
                self.get_mut(id)?.version = version.clone();
                Ok(Outcome::Restarted(RestartReport {
                    before,
                    after: self.facts(id)?,
                    probed: true,
                    answered_after_ms: 1,
                }))
            }
        }
    }

    /// Whether there is a restart to follow instead of beginning one.
    fn follows_known(&mut self, id: i64, restart_id: &str, job: &Job<'_>) -> Result<bool> {
        let runs = self.facts(id)?.version;
        let Some(last) = &mut self.get_mut(id)?.restart else {
            return Ok(false);
        };
        let worth_following = last.is_guarded() || (last.stage == Stage::Finished && last.to == runs);
        if last.is(restart_id) {
            return Ok(last.attempt == *job.key || worth_following);
        }
        let same_subtask = (last.attempt.task, last.attempt.subtask) == (job.key.task, job.key.subtask);
        if same_subtask && worth_following {
            last.also.push(restart_id.to_owned());
            return Ok(true);
        }
        Ok(false)
    }

    /// The guard comes to its verdict, if it has not yet.
    fn decide(&mut self, id: i64, job: &Job<'_>) -> Result<Stage> {
        let last = self.last(id)?.clone();
        if last.stage == Stage::AtWork {
            self.launch(id, &last.to)?;
            self.changed(job, format!("proxy {id} restarted onto {}", last.to));
            self.last(id)?.stage = match last.method {
                RestartMethod::Hot => Stage::Draining,
                RestartMethod::Cold => Stage::Finished,
            };
        }
        Ok(self.last(id)?.stage)
    }

    fn last(&mut self, id: i64) -> Result<&mut LastRestart> {
        let last = self.get_mut(id)?.restart.as_mut();
        last.ok_or_else(|| format!("proxy {id} was never restarted"))
    }

    pub(super) fn await_restart(&mut self, id: i64, restart_id: &str, job: &Job<'_>) -> Result<Outcome> {
        job.may_go_on()?;
        if !self.get(id)?.restart.as_ref().is_some_and(|last| last.is(restart_id)) {
            return Err(format!(
                "restart {restart_id} is not known on this host: start it first"
            ));
        }
        if self.decide(id, job)? == Stage::Reverted {
            return Err(format!("restart {restart_id} went back"));
        }
        self.last(id)?.stage = Stage::Finished;
        Ok(Outcome::Drained(DrainReport::default()))
    }

    /// In part: the old binary serves, the registry does not know yet.
    pub(super) fn revert_restart(&mut self, id: i64, restart_id: &str, job: &Job<'_>) -> Result<Outcome> {
        let known = self.get(id)?.restart.clone().filter(|last| last.is(restart_id));
        if let Some(last) = known {
            if self.facts(id)?.version != last.from {
                self.launch(id, &last.from)?;
                self.changed(job, format!("proxy {id} went back to {}", last.from));
            }
            if last.is_guarded() {
                self.last(id)?.stage = Stage::Reverted;
            }
            job.may_go_on()?;
            self.get_mut(id)?.version = last.from;
        }
        self.ensure_running(id, job)?;
        Ok(Outcome::Proxy(self.facts(id)?))
    }
}
