//! A proxy onto another binary. The work is done by a guard, a process that outlives this agent ([`super::guarding`]
//! starts and follows it); here is decided whether there is anything left to do.

use std::{fs, path::Path, time::Duration};

use obfleet_guard::{Handle, Phase as GuardPhase, RevertError, State, Verdict};
use obfleet_obproxy::{
    config_store, drain, launch,
    preflight::{self, Request},
};
use obfleet_wire::{
    agent::{AttemptKey, DrainPolicy, Outcome, ProbeQuery, RestartMethod},
    version::ProxyVersion,
};

use super::{
    Node, OperationError,
    guarding::{Follow, Target, state_of},
};
use crate::{
    durable::{self, FileError},
    journal::Subtask,
    proxies::{LastRestart, Owned, Phase},
    runner::Job,
    slots,
};

/// A guard decides within seconds, after a drain where the restart is cold or led back.
const VERDICT: Duration = Duration::from_secs(180);
/// No drain takes longer; the guard cuts what is left at its own deadline long before.
const END: Duration = Duration::from_secs(24 * 3600);

impl Node {
    /// Looks for everything in the way of a restart; changes nothing.
    pub(super) async fn preflight(
        &self,
        proxy_id: i64,
        version: &ProxyVersion,
        method: RestartMethod,
        job: &Job,
    ) -> Result<Outcome, OperationError> {
        let owned = self.at_rest(proxy_id)?;
        let password = self.registry.password(proxy_id)?;
        let slot = slots::find(&self.layout, version)?;
        let report = preflight::check(&Request {
            home: &owned.home,
            address: launch::sql_address(&owned.spec),
            sys_password: &password,
            binary: &slot.binary(),
            version,
            method,
        })
        .await?;
        for warning in &report.warnings {
            job.say(format!("warning: {warning}"));
        }
        job.say(format!("nothing is in the way; {} client sessions", report.sessions));
        Ok(Outcome::Preflight(report))
    }

    pub(super) async fn backup_config(
        &self,
        proxy_id: i64,
        version: &ProxyVersion,
        job: &Job,
    ) -> Result<Outcome, OperationError> {
        let owned = self.at_rest(proxy_id)?;
        let copy = self.layout.config_backup(proxy_id, version);
        let failed = |source| OperationError::Store { proxy_id, source };
        config_store::back_up(&owned.home, &copy).await.map_err(failed)?;
        job.say(format!("the configuration is copied to {}", copy.display()));
        if config_store::prepare_for(&owned.home, version).await.map_err(failed)? {
            job.say(format!("the configuration is brought to where {version} reads it"));
        }
        Ok(Outcome::Done)
    }
}

/// [`Operation::Restart`] without its name.
pub(super) struct Order {
    pub(super) proxy_id: i64,
    pub(super) restart_id: String,
    pub(super) target: Target,
}

/// How a restart is taken back: how sessions are ended, and what proves that the old binary serves again.
pub(super) struct WayBack {
    pub(super) drain: DrainPolicy,
    pub(super) probe: Option<ProbeQuery>,
}

impl Node {
    /// Restarts the proxy up to the verdict on the new process. A failure has been undone when it is returned.
    pub(super) async fn restart(&self, order: Order, job: &Job) -> Result<Outcome, OperationError> {
        let Order {
            proxy_id,
            restart_id,
            target,
        } = order;
        let owned = self.registry.get(proxy_id)?;
        if matches!(owned.phase, Phase::Removed { .. }) {
            return Err(OperationError::Removed(proxy_id));
        }
        let guard = match self.known_restart(&owned, &restart_id, job.key()).await? {
            Some(guard) => guard,
            None => {
                self.begin_restart(proxy_id, &restart_id, &target, job).await?;
                Handle::attach(&self.layout.restart(&restart_id))
            }
        };
        let limit = drain::longest(target.drain) + VERDICT;
        let mut follow = Follow::new(self, proxy_id, &guard, job, 0);
        let state = tokio::select! {
            state = follow.until(limit, |state| state.verdict().is_some()) => state?,
            // The guard goes on by itself; whoever took over follows it, or calls it back.
            () = job.superseded() => return Err(OperationError::Superseded("waited for the verdict")),
        };
        let told = follow.told();
        match state.verdict() {
            Some(Verdict::Good(report)) => {
                let report = report.clone();
                self.registry.update(proxy_id, |o| {
                    o.version = target.version;
                    if let Some(restart) = &mut o.restart {
                        restart.told = told;
                    }
                })?;
                Ok(Outcome::Restarted(report))
            }
            Some(Verdict::Bad(reason)) => Err(OperationError::Reverted(reason.to_owned())),
            None => Err(OperationError::Undecided(restart_id)),
        }
    }

    /// Notes where to go back to, then starts the guard.
    async fn begin_restart(
        &self,
        proxy_id: i64,
        restart_id: &str,
        target: &Target,
        job: &Job,
    ) -> Result<(), OperationError> {
        let owned = self.at_rest(proxy_id)?;
        let last = LastRestart {
            id: restart_id.to_owned(),
            also: Vec::new(),
            attempt: job.key().clone(),
            from: owned.version.clone(),
            to: target.version.clone(),
            told: 0,
        };
        self.registry.update(proxy_id, |o| o.restart = Some(last))?;
        self.start_guard(&owned, restart_id, target).await?;
        job.say(format!(
            "guard of restart {restart_id} to {} is at work",
            target.version
        ));
        Ok(())
    }

    /// The restart to follow instead of beginning one: of this id, or of an earlier attempt of the same subtask; begun
    /// by this very attempt, or still under way, or done with its binary running.
    async fn known_restart(
        &self,
        owned: &Owned,
        restart_id: &str,
        attempt: &AttemptKey,
    ) -> Result<Option<Handle>, OperationError> {
        let last = owned.restart.as_ref();
        let earlier = last.filter(|last| Subtask::from(&last.attempt) == Subtask::from(attempt));
        let guard = self.guard_of(owned, restart_id)?;
        if let Some(state) = state_of(&guard)? {
            let same = last.is_some_and(|last| last.attempt == *attempt);
            if same || self.is_worth_following(owned, &state).await {
                return Ok(Some(guard));
            }
            // It came to nothing: the name is free for a new beginning.
            put_aside(guard.dir())?;
        } else if let Some(earlier) = earlier {
            let guard = Handle::attach(&self.layout.restart(&earlier.id));
            if let Some(state) = state_of(&guard)?
                && self.is_worth_following(owned, &state).await
            {
                let also = restart_id.to_owned();
                self.registry.update(owned.spec.proxy_id, |o| {
                    if let Some(last) = o.restart.as_mut().filter(|last| !last.is(&also)) {
                        last.also.push(also);
                    }
                })?;
                return Ok(Some(guard));
            }
        }
        Ok(None)
    }

    async fn is_worth_following(&self, owned: &Owned, state: &State) -> bool {
        if !state.phase.is_final() {
            return true;
        }
        match (state.verdict(), self.facts(owned).await) {
            (Some(Verdict::Good(report)), Ok(now)) => report.after.binary_sha256 == now.binary_sha256,
            _ => false,
        }
    }

    /// Waits until the old process of a restart is gone.
    pub(super) async fn await_restart(
        &self,
        proxy_id: i64,
        restart_id: &str,
        job: &Job,
    ) -> Result<Outcome, OperationError> {
        let owned = self.registry.get(proxy_id)?;
        let guard = self.guard_of(&owned, restart_id)?;
        if state_of(&guard)?.is_none() {
            return Err(OperationError::NoRestart(restart_id.to_owned()));
        }
        let told = owned
            .restart
            .filter(|last| last.id == restart_id)
            .map_or(0, |last| last.told);
        let mut follow = Follow::new(self, proxy_id, &guard, job, told);
        let state = tokio::select! {
            state = follow.until(END, |state| state.phase.is_final()) => state?,
            () = job.superseded() => return Err(OperationError::Superseded("waited for the old process")),
        };
        match state.phase {
            GuardPhase::Finished { drain } => Ok(Outcome::Drained(drain)),
            GuardPhase::Reverted { reason, .. } | GuardPhase::Broken { reason } => {
                Err(OperationError::Reverted(reason))
            }
            _ => Err(OperationError::Undecided(restart_id.to_owned())),
        }
    }

    /// Goes back to what ran before, from wherever the restart stands.
    pub(super) async fn revert_restart(
        &self,
        proxy_id: i64,
        restart_id: &str,
        back: WayBack,
        job: &Job,
    ) -> Result<Outcome, OperationError> {
        let owned = self.registry.get(proxy_id)?;
        let guard = self.guard_of(&owned, restart_id)?;
        let last = owned.restart.clone().filter(|last| last.is(restart_id));
        let (Some(last), Some(state)) = (last, state_of(&guard)?) else {
            job.say("that restart never began");
            return Ok(Outcome::Proxy(self.ensure_running(&owned).await?));
        };
        let phase = if state.phase.is_final() {
            state.phase
        } else {
            self.call_back(&owned, &last, &guard, back.drain, job).await?
        };
        match phase {
            // A plain restart: what runs is what ran, and nobody is better off with a third process.
            GuardPhase::Finished { .. } if last.from == last.to => {
                job.say("the same version runs: nothing to go back to");
            }
            GuardPhase::Finished { .. } => self.go_back(&owned, &last, &guard, back, job).await?,
            GuardPhase::Broken { .. } => self.rebuild(&owned, &last, job).await?,
            _ => job.say(format!("{} serves again", last.from)),
        }
        let owned = self.registry.update(proxy_id, |o| o.version = last.from)?;
        Ok(Outcome::Proxy(self.ensure_running(&owned).await?))
    }

    /// Tells the guard at work to go back, and waits until it has; it may have come to its end before it heard.
    async fn call_back(
        &self,
        owned: &Owned,
        last: &LastRestart,
        guard: &Handle,
        drain: DrainPolicy,
        job: &Job,
    ) -> Result<GuardPhase, OperationError> {
        let proxy_id = owned.spec.proxy_id;
        self.recover_guard(proxy_id, guard).await?;
        match guard.revert(drain).await {
            Ok(()) => job.say("the guard was told to go back"),
            Err(RevertError::Refused(reason)) => job.say(format!("the guard does not go back: {reason}")),
            // It died or ended meanwhile: following it finds out.
            Err(RevertError::Io(e)) => job.say(format!("the guard does not answer: {e}")),
        }
        let mut follow = Follow::new(self, proxy_id, guard, job, last.told);
        let state = follow.until(END, |state| state.phase.is_final()).await?;
        Ok(state.phase)
    }

    /// The restart is over and went well: the way back is another one.
    async fn go_back(
        &self,
        owned: &Owned,
        last: &LastRestart,
        guard: &Handle,
        WayBack { drain, probe }: WayBack,
        job: &Job,
    ) -> Result<(), OperationError> {
        let proxy_id = owned.spec.proxy_id;
        let plan = guard
            .plan()
            .map_err(|source| OperationError::Guard { proxy_id, source })?;
        let back_id = last.back_id();
        let back = Handle::attach(&self.layout.restart(&back_id));
        match state_of(&back)? {
            Some(state) if !state.phase.is_final() => {}
            Some(state) if matches!(state.verdict(), Some(Verdict::Good(_))) && self.runs(owned, &last.from).await => {
                job.say(format!("{} serves again", last.from));
                return Ok(());
            }
            was => {
                if was.is_some() {
                    put_aside(back.dir())?;
                }
                let target = Target {
                    version: last.from.clone(),
                    method: plan.method,
                    drain,
                    probe,
                };
                self.start_guard(owned, &back_id, &target).await?;
                job.say(format!("guard of the way back to {} is at work", last.from));
            }
        }
        let mut follow = Follow::new(self, proxy_id, &back, job, 0);
        match follow.until(END, |state| state.phase.is_final()).await?.phase {
            GuardPhase::Reverted { reason, .. } | GuardPhase::Broken { reason } => {
                Err(OperationError::Reverted(reason))
            }
            _ => Ok(()),
        }
    }

    /// Nobody serves and no guard knows a way on: the old binary and a plain start.
    async fn rebuild(&self, owned: &Owned, last: &LastRestart, job: &Job) -> Result<(), OperationError> {
        if self.runs(owned, &last.from).await {
            return Ok(());
        }
        self.end_processes(owned).await?;
        slots::place_binary(&slots::find(&self.layout, &last.from)?, &owned.home)?;
        job.say(format!("{} is put back and started", last.from));
        self.ensure_running(owned).await?;
        Ok(())
    }

    async fn runs(&self, owned: &Owned, version: &ProxyVersion) -> bool {
        let slot = slots::find(&self.layout, version);
        match (slot, self.facts(owned).await) {
            (Ok(slot), Ok(facts)) => slot.binary_sha256 == facts.binary_sha256,
            _ => false,
        }
    }

    fn guard_of(&self, owned: &Owned, restart_id: &str) -> Result<Handle, OperationError> {
        if !is_restart_id(restart_id) {
            return Err(OperationError::RestartId(restart_id.to_owned()));
        }
        let last = owned.restart.as_ref().filter(|last| last.is(restart_id));
        let id = last.map_or(restart_id, |last| &last.id);
        Ok(Handle::attach(&self.layout.restart(id)))
    }
}

fn is_restart_id(text: &str) -> bool {
    (1..=100).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Renames the directory of a restart that has ended, so that its name is free.
fn put_aside(dir: &Path) -> Result<(), FileError> {
    Handle::attach(dir)
        .forget_secrets()
        .map_err(FileError::io("take the passwords out of", dir))?;
    let aside = (1..)
        .map(|n| dir.with_extension(n.to_string()))
        .find(|aside| !aside.exists())
        .unwrap_or_else(|| dir.with_extension("0"));
    fs::rename(dir, aside).map_err(FileError::io("move", dir))?;
    durable::sync_parent(dir)
}
