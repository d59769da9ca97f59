//! A proxy stopped, started, replaced by another process, and what load balancers are told of it, as the agent does it.

use obfleet_wire::agent::{AttemptKey, Outcome};

use super::{Job, Machine};

type Result<T> = std::result::Result<T, String>;

/// A process ended and another started on order.
#[derive(Clone)]
pub struct LastCycle {
    attempt: AttemptKey,
    before: Option<i32>,
}

impl Machine {
    pub(super) fn start_proxy(&mut self, id: i64, wait: bool, job: &Job<'_>) -> Result<Outcome> {
        self.at_rest(id)?;
        self.get_mut(id)?.wanted = true;
        job.may_go_on()?;
        if !wait {
            return Ok(Outcome::Done);
        }
        self.ensure_running(id, job)?;
        Ok(Outcome::Proxy(self.facts(id)?))
    }

    /// In part: drained, and neither ended nor started again.
    pub(super) fn stop_proxy(&mut self, id: i64, job: &Job<'_>) -> Result<Outcome> {
        self.at_rest(id)?;
        self.get_mut(id)?.wanted = false;
        job.may_go_on()?;
        self.end_process(id, job)?;
        Ok(Outcome::Done)
    }

    /// In part: ended, and no other started.
    pub(super) fn cycle_proxy(&mut self, id: i64, job: &Job<'_>) -> Result<Outcome> {
        self.at_rest(id)?;
        let runs = self.get(id)?.process.as_ref().map(|process| process.pid);
        let same = |last: &LastCycle| (last.attempt.task, last.attempt.subtask) == (job.key.task, job.key.subtask);
        let known = self.get(id)?.cycle.clone().filter(same);
        let cycle = known.unwrap_or_else(|| LastCycle {
            attempt: job.key.clone(),
            before: runs,
        });
        let came_since = runs.is_some() && runs != cycle.before;
        let owned = self.get_mut(id)?;
        owned.cycle = Some(cycle);
        owned.wanted = true;
        if !came_since {
            self.end_process(id, job)?;
        }
        job.may_go_on()?;
        self.ensure_running(id, job)?;
        Ok(Outcome::Proxy(self.facts(id)?))
    }

    pub(super) fn set_sys_password(&mut self, id: i64, password: String, job: &Job<'_>) -> Result<Outcome> {
        self.at_rest(id)?;
        job.may_go_on()?;
        self.facts(id)?;
        if self.get(id)?.spec.sys_password != password {
            self.get_mut(id)?.spec.sys_password = password;
            self.changed(job, format!("proxy {id} has another password"));
        }
        Ok(Outcome::Done)
    }

    pub(super) fn set_online(&mut self, id: i64, online: bool, job: &Job<'_>) -> Result<Outcome> {
        self.at_rest(id)?;
        job.may_go_on()?;
        let runs = self.get(id)?.process.as_ref().map(|process| process.pid);
        let is_offline = runs.is_some() && self.get(id)?.offline == runs;
        self.get_mut(id)?.offline = runs.filter(|_| !online);
        if runs.is_some() && is_offline == online {
            self.changed(job, format!("proxy {id} online {online}"));
        }
        Ok(Outcome::Done)
    }
}
