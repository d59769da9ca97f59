//! A proxy's process: started, stopped, removed and brought back, looked at.

use std::{fs, path::PathBuf, time::Duration};

use obfleet_obproxy::{
    admin::{AdminConn, AdminError},
    binary,
    drain::{Drained, drain},
    launch,
    process::{self, Process},
    stop,
};
use obfleet_wire::{
    agent::{DrainPolicy, Outcome, ProxyFacts},
    time::Timestamp,
};

use super::{Node, OperationError, balance::GO_OFFLINE};
use crate::{
    durable::{self, FileError},
    proxies::{Owned, Phase},
    runner::Job,
};

/// For one login and each question after it.
const ADMIN: Duration = Duration::from_secs(5);
impl Node {
    /// A proxy that is installed and not in the hands of a guard.
    pub(super) fn at_rest(&self, proxy_id: i64) -> Result<Owned, OperationError> {
        let owned = self.registry.get(proxy_id)?;
        if matches!(owned.phase, Phase::Removed { .. }) {
            return Err(OperationError::Removed(proxy_id));
        }
        match self.guarded(&owned) {
            Some(restart) => Err(OperationError::Restarting { proxy_id, restart }),
            None => Ok(owned),
        }
    }

    pub(super) async fn login(&self, owned: &Owned) -> Result<AdminConn, OperationError> {
        let proxy_id = owned.spec.proxy_id;
        let password = self.registry.password(proxy_id)?;
        let address = launch::sql_address(&owned.spec);
        let refused = match AdminConn::connect(address, &password, ADMIN).await {
            Ok(admin) => return Ok(admin),
            Err(refused) => refused,
        };
        // A change of the password that was cut off: the proxy had taken the new one.
        if let Some(new) = self.registry.announced_password(proxy_id)?
            && let Ok(admin) = AdminConn::connect(address, &new, ADMIN).await
        {
            self.registry.set_password(proxy_id, &new)?;
            return Ok(admin);
        }
        Err(admin(proxy_id, "the login")(refused))
    }

    /// The processes in the home, oldest first.
    pub(crate) fn processes(&self, owned: &Owned) -> Result<Vec<Process>, OperationError> {
        let proxy_id = owned.spec.proxy_id;
        match process::of_home(&owned.home) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            found => found.map_err(|source| OperationError::Processes { proxy_id, source }),
        }
    }

    /// What answers on the SQL port, if it is the process in the home.
    pub(super) async fn facts(&self, owned: &Owned) -> Result<ProxyFacts, OperationError> {
        let proxy_id = owned.spec.proxy_id;
        let newest = self
            .processes(owned)?
            .pop()
            .ok_or(OperationError::NotRunning(proxy_id))?;
        let mut conn = self.login(owned).await?;
        let version = conn
            .binary_info()
            .await
            .map_err(admin(proxy_id, "show proxyinfo binary"))?;
        conn.close().await;
        let exe = newest.exe_path();
        let digest = tokio::task::spawn_blocking(move || binary::sha256(&exe)).await;
        Ok(ProxyFacts {
            pid: newest.id.pid,
            version,
            binary_sha256: digest.map_err(|_| OperationError::ShuttingDown)??,
        })
    }

    /// Starts the proxy as it was configured unless it runs, and waits until it can be logged in to.
    pub(crate) async fn ensure_running(&self, owned: &Owned) -> Result<ProxyFacts, OperationError> {
        if self.processes(owned)?.is_empty() {
            let password = self.registry.password(owned.spec.proxy_id)?;
            launch::bare_start(&owned.home, launch::sql_address(&owned.spec), &password).await?;
        }
        self.facts(owned).await
    }

    /// [`Self::ensure_running`], and takes back a stop that was broken off after it had begun: the process is online again,
    /// unless it was taken offline on order.
    pub(super) async fn ensure_serving(&self, owned: &Owned) -> Result<ProxyFacts, OperationError> {
        let facts = self.ensure_running(owned).await?;
        let ordered = owned
            .offline
            .is_some_and(|offline| offline.pid == facts.pid && offline.is_alive());
        if !ordered {
            self.mark(owned, true).await?;
        }
        // Whoever watches need not wait for the next look.
        self.registry.announce();
        Ok(facts)
    }

    /// Ends every process in the home. Sessions are cut.
    pub(super) async fn end_processes(&self, owned: &Owned) -> Result<(), OperationError> {
        let proxy_id = owned.spec.proxy_id;
        // Oldest first: a draining parent must not wake up because its child went.
        for process in self.processes(owned)? {
            stop::terminate(process.id, stop::TERM_DEADLINE)
                .await
                .map_err(|source| OperationError::Stop { proxy_id, source })?;
        }
        Ok(())
    }

    pub(super) async fn start_proxy(&self, proxy_id: i64, wait: bool, job: &Job) -> Result<Outcome, OperationError> {
        self.at_rest(proxy_id)?;
        let owned = self.registry.update(proxy_id, |o| o.wanted = true)?;
        if !wait {
            job.say("from now on the proxy ought to run");
            return Ok(Outcome::Done);
        }
        let facts = self.ensure_serving(&owned).await?;
        job.say(format!("process {} answers as {}", facts.pid, facts.version));
        Ok(Outcome::Proxy(facts))
    }

    pub(super) async fn stop_proxy(
        &self,
        proxy_id: i64,
        policy: DrainPolicy,
        job: &Job,
    ) -> Result<Outcome, OperationError> {
        self.at_rest(proxy_id)?;
        let owned = self.registry.update(proxy_id, |o| o.wanted = false)?;
        self.drain_and_end(&owned, policy, job).await?;
        Ok(Outcome::Done)
    }

    pub(super) async fn drain_and_end(
        &self,
        owned: &Owned,
        policy: DrainPolicy,
        job: &Job,
    ) -> Result<(), OperationError> {
        if self.processes(owned)?.is_empty() {
            job.say("no process runs");
            return Ok(());
        }
        match self.drain(owned, policy, job).await {
            Ok(()) => {}
            Err(e @ OperationError::Superseded(_)) => return Err(e),
            // A proxy that cannot be asked to let its sessions go is stopped all the same.
            Err(e) => job.say(format!("sessions are not drained: {}", crate::describe(&e))),
        }
        self.end_processes(owned).await?;
        job.say("the process has ended");
        Ok(())
    }

    async fn drain(&self, owned: &Owned, policy: DrainPolicy, job: &Job) -> Result<(), OperationError> {
        let proxy_id = owned.spec.proxy_id;
        let mut keeper = self.login(owned).await?;
        let offline = keeper.local_command(GO_OFFLINE).await;
        offline.map_err(admin(proxy_id, "going offline"))?;
        let drained = drain(&mut keeper, policy, None, || job.is_superseded()).await;
        keeper.close().await;
        let drained = drained.map_err(admin(proxy_id, "closing sessions"))?;
        let interrupted = matches!(drained, Drained::Interrupted(_));
        let report = drained.report();
        job.say(format!(
            "{} sessions closed between transactions, {} cut inside one, in {} ms",
            report.closed_at_boundary,
            report.cut.len(),
            report.took_ms
        ));
        for straggler in &report.cut {
            let (user, client, age) = (&straggler.user, &straggler.client, straggler.age_ms);
            job.say(format!("cut inside a transaction of {age} ms: {user} from {client}"));
        }
        if interrupted {
            return Err(OperationError::Superseded("was draining sessions"));
        }
        Ok(())
    }

    /// Stops the proxy and moves its home aside, from where [`Self::restore_proxy`] takes it back.
    pub(super) async fn remove_proxy(
        &self,
        proxy_id: i64,
        policy: DrainPolicy,
        job: &Job,
    ) -> Result<Outcome, OperationError> {
        let Some(owned) = self.registry.find(proxy_id) else {
            job.say("the proxy is not on this host");
            return Ok(Outcome::Done);
        };
        let owned = match owned.phase {
            Phase::Removed { .. } => owned,
            Phase::Creating | Phase::Installed => {
                self.at_rest(proxy_id)?;
                let owned = self.registry.update(proxy_id, |o| o.wanted = false)?;
                self.drain_and_end(&owned, policy, job).await?;
                let at = Timestamp::now().millis() / 1000;
                let aside = match owned.adopted {
                    true => owned.home.clone(),
                    false => self.layout.removed().join(format!("{proxy_id}-{at}")),
                };
                self.registry
                    .update(proxy_id, |o| o.phase = Phase::Removed { aside, at })?
            }
        };
        match &owned.phase {
            Phase::Removed { .. } if owned.adopted => job.say(format!(
                "{} stays where it is with all that is in it: somebody else made it",
                owned.home.display()
            )),
            Phase::Removed { aside, .. } => {
                move_dir(&owned.home, aside)?;
                job.say(format!("{} is moved to {}", owned.home.display(), aside.display()));
            }
            Phase::Creating | Phase::Installed => {}
        }
        Ok(Outcome::Done)
    }

    pub(super) async fn restore_proxy(&self, proxy_id: i64, start: bool, job: &Job) -> Result<Outcome, OperationError> {
        let owned = self.registry.get(proxy_id)?;
        if let Some(restart) = self.guarded(&owned) {
            return Err(OperationError::Restarting { proxy_id, restart });
        }
        if let Phase::Removed { aside, .. } = &owned.phase
            && *aside != owned.home
        {
            move_dir(aside, &owned.home)?;
            job.say(format!("{} is back", owned.home.display()));
        }
        let owned = self.registry.update(proxy_id, |o| {
            o.phase = Phase::Installed;
            if start {
                o.wanted = true;
                o.supervised = true;
            }
        })?;
        if !start {
            return Ok(Outcome::Done);
        }
        Ok(Outcome::Proxy(self.ensure_serving(&owned).await?))
    }

    /// Leaves nothing of the proxy, however much of it there is.
    pub(super) async fn discard_proxy(&self, proxy_id: i64, job: &Job) -> Result<Outcome, OperationError> {
        let Some(owned) = self.registry.find(proxy_id) else {
            return Ok(Outcome::Done);
        };
        if let Some(restart) = self.guarded(&owned) {
            return Err(OperationError::Restarting { proxy_id, restart });
        }
        self.registry.update(proxy_id, |o| o.wanted = false)?;
        self.end_processes(&owned).await?;
        let mut dirs: Vec<PathBuf> = match owned.adopted {
            true => Vec::new(),
            false => vec![owned.home.clone()],
        };
        if let Phase::Removed { aside, .. } = &owned.phase
            && *aside != owned.home
        {
            dirs.push(aside.clone());
        }
        for dir in dirs {
            remove_dir(&dir)?;
        }
        self.registry.forget(proxy_id)?;
        job.say(format!("{} is removed", owned.home.display()));
        Ok(Outcome::Done)
    }

    pub(super) fn supervise(&self, proxy_id: i64, on: bool) -> Result<Outcome, OperationError> {
        self.registry.update(proxy_id, |o| o.supervised = on)?;
        Ok(Outcome::Done)
    }

    pub(super) async fn inspect(&self, proxy_id: i64) -> Result<Outcome, OperationError> {
        let owned = self.registry.get(proxy_id)?;
        Ok(Outcome::Proxy(self.facts(&owned).await?))
    }
}

/// Renames a directory unless that has been done.
fn move_dir(from: &PathBuf, to: &PathBuf) -> Result<(), FileError> {
    if !from.exists() && to.exists() {
        return Ok(());
    }
    fs::rename(from, to).map_err(FileError::io("move", from))?;
    durable::sync_parent(from)?;
    durable::sync_parent(to)
}

/// Removes a directory with everything in it; that there is none is fine.
pub(crate) fn remove_dir(path: &PathBuf) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(FileError::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// For `map_err` of admin calls.
pub(super) fn admin(proxy_id: i64, what: &'static str) -> impl FnOnce(AdminError) -> OperationError {
    move |source| OperationError::Admin { proxy_id, what, source }
}
