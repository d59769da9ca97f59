//! Starting, following and reviving the guard of a restart.

use std::{
    io,
    time::{Duration, Instant},
};

use obfleet_guard::{Handle, Plan, State, WaitError};
use obfleet_obproxy::launch;
use obfleet_wire::{
    agent::{DrainPolicy, ProbeQuery, RestartMethod},
    version::ProxyVersion,
};

use super::{Node, OperationError, Thing};
use crate::{describe, proxies::Owned, runner::Job, slots};

/// How often a guard's log is handed on.
const NEWS: Duration = Duration::from_millis(200);

/// Where a restart goes to, and how.
pub(super) struct Target {
    pub(super) version: ProxyVersion,
    pub(super) method: RestartMethod,
    pub(super) drain: DrainPolicy,
    pub(super) probe: Option<ProbeQuery>,
}

/// Where a restart stands; `None` if it never began.
pub(super) fn state_of(guard: &Handle) -> Result<Option<State>, OperationError> {
    match guard.state() {
        Ok(state) => Ok(Some(state)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(WaitError::Io {
            dir: guard.dir().to_owned(),
            source,
        }
        .into()),
    }
}

impl Node {
    /// Writes the plan and starts its guard; from then on the proxy is the guard's.
    pub(super) async fn start_guard(
        &self,
        owned: &Owned,
        restart_id: &str,
        target: &Target,
    ) -> Result<(), OperationError> {
        let proxy_id = owned.spec.proxy_id;
        let slot = slots::find(&self.layout, &target.version)?;
        let plan = Plan {
            restart_id: restart_id.to_owned(),
            proxy_id,
            home: owned.home.clone(),
            address: launch::sql_address(&owned.spec),
            sys_password: self.registry.password(proxy_id)?,
            binary: slot.binary(),
            binary_sha256: slot.binary_sha256,
            version: target.version.clone(),
            method: target.method,
            drain: target.drain,
            probe: target.probe.clone(),
        };
        let _turn = self.things.lock(Thing::Guard(proxy_id)).await;
        let (exe, dir) = (self.exe.clone(), self.layout.restart(restart_id));
        let started = tokio::task::spawn_blocking(move || match obfleet_guard::start(&exe, &dir, &plan) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // Planned, but its guard came to nothing: the proxy is owned already, so somebody has to bring it home.
            Err(_) if Handle::attach(&dir).state().is_ok() => obfleet_guard::recover(&exe, &dir),
            started => started,
        });
        let started = started.await.map_err(|_| OperationError::ShuttingDown)?;
        started.map_err(|source| OperationError::Guard { proxy_id, source })
    }

    /// Starts a new guard for a restart whose own died; does nothing otherwise.
    pub(super) async fn recover_guard(&self, proxy_id: i64, guard: &Handle) -> Result<(), OperationError> {
        let _turn = self.things.lock(Thing::Guard(proxy_id)).await;
        let (exe, dir) = (self.exe.clone(), guard.dir().to_owned());
        let recovered = tokio::task::spawn_blocking(move || obfleet_guard::recover(&exe, &dir)).await;
        let recovered = recovered.map_err(|_| OperationError::ShuttingDown)?;
        recovered.map_err(|source| OperationError::Guard { proxy_id, source })
    }

    /// The unfinished restart that owns the proxy now. One that cannot be read is taken for unfinished.
    pub(crate) fn guarded(&self, owned: &Owned) -> Option<String> {
        let last = owned.restart.as_ref()?;
        [last.id.clone(), last.back_id()].into_iter().find(|id| {
            let guard = Handle::attach(&self.layout.restart(id));
            !matches!(state_of(&guard), Ok(None))
                && !state_of(&guard).is_ok_and(|s| s.is_some_and(|s| s.phase.is_final()))
        })
    }

    /// Gives an unfinished restart whose guard died a new one, when no operation is doing so; takes the passwords out
    /// of the papers of one that has come to rest.
    pub(crate) async fn mend_restart(&self, owned: &Owned) {
        let Some(restart_id) = self.guarded(owned) else {
            return self.forget_secrets(owned);
        };
        let guard = Handle::attach(&self.layout.restart(&restart_id));
        if guard.alive().unwrap_or(true) {
            return;
        }
        let proxy_id = owned.spec.proxy_id;
        tracing::warn!(proxy = proxy_id, %restart_id, "the guard is gone, a new one takes over");
        if let Err(e) = self.recover_guard(proxy_id, &guard).await {
            tracing::error!(proxy = proxy_id, %restart_id, error = %describe(&e), "no guard takes over");
        }
    }
}

impl Node {
    fn forget_secrets(&self, owned: &Owned) {
        for id in owned.restart.iter().flat_map(|last| [last.id.clone(), last.back_id()]) {
            match Handle::attach(&self.layout.restart(&id)).forget_secrets() {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(restart_id = %id, error = %e, "the passwords of a restart that is over stay on disk");
                }
                _ => {}
            }
        }
    }
}

/// A guard, followed: its log handed on, a dead one replaced.
pub(super) struct Follow<'a> {
    node: &'a Node,
    proxy_id: i64,
    guard: &'a Handle,
    job: &'a Job,
    told: u64,
    resumed: bool,
}

impl<'a> Follow<'a> {
    /// Follows from byte `told` of the log on.
    pub(super) fn new(node: &'a Node, proxy_id: i64, guard: &'a Handle, job: &'a Job, told: u64) -> Self {
        Self {
            node,
            proxy_id,
            guard,
            job,
            told,
            resumed: true,
        }
    }

    /// How much of the log has been told.
    pub(super) fn told(&self) -> u64 {
        self.told
    }

    /// Waits for a state.
    ///
    /// # Errors
    /// After `limit`, when the state cannot be read, or when no new guard can be started.
    pub(super) async fn until(
        &mut self,
        limit: Duration,
        reached: impl Fn(&State) -> bool,
    ) -> Result<State, OperationError> {
        let end = Instant::now() + limit;
        loop {
            let waited = self.guard.wait_for(NEWS, &reached).await;
            self.tell();
            match waited {
                Ok(state) => return Ok(state),
                Err(WaitError::TimedOut { .. }) if Instant::now() < end => {}
                Err(WaitError::GuardDied { .. }) if Instant::now() < end => {
                    self.job.say("the guard is gone, a new one takes over");
                    self.node.recover_guard(self.proxy_id, self.guard).await?;
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn tell(&mut self) {
        // A log that cannot be read now is told the next time.
        let Ok((lines, told)) = self.guard.log_from(self.told) else {
            return;
        };
        for line in lines {
            // What this attempt told before the agent was restarted is not told again.
            if !(self.resumed && self.job.has_said(&line)) {
                self.job.say(line);
            }
        }
        self.resumed = false;
        self.told = told;
    }
}
