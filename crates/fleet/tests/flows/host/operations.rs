//! What the agent's `operations/` do, but for restarts.

use obfleet_wire::{
    agent::{ConfigFacts, Operation, Outcome, PreflightReport, ProxySpec},
    version::ProxyVersion,
};

use super::{Job, Machine, Owned, Phase, binary};

type Result<T> = std::result::Result<T, String>;

/// Whether it does more than look.
pub(super) fn changes_host(operation: &Operation) -> bool {
    !matches!(
        operation,
        Operation::CheckAbsent { .. }
            | Operation::AwaitServing { .. }
            | Operation::Inspect { .. }
            | Operation::InspectConfig { .. }
            | Operation::Preflight { .. }
            | Operation::AwaitRestart { .. }
    )
}

impl Machine {
    pub(super) fn carry_out(&mut self, operation: Operation, job: &Job<'_>) -> Result<Outcome> {
        match operation {
            Operation::CheckAbsent { spec } => self.check_absent(&spec, job),
            Operation::InstallPackage { sha256, version } => self.install_package(&sha256, &version, job),
            Operation::RemoveSlot { version } => self.remove_slot(&version, job),
            Operation::CreateProxy { spec, version } => self.create_proxy(spec, &version, job),
            Operation::RemoveProxy { proxy_id, .. } => self.remove_proxy(proxy_id, job),
            Operation::RestoreProxy { proxy_id, start } => self.restore_proxy(proxy_id, start, job),
            Operation::DiscardProxy { proxy_id } => self.discard_proxy(proxy_id, job),
            Operation::Supervise { proxy_id, on } => self.supervise(proxy_id, on, job),
            Operation::SetParameters { proxy_id, values } => {
                self.set_parameters(proxy_id, values, job)?;
                Ok(Outcome::Done)
            }
            Operation::SetSysPassword { proxy_id, password } => self.set_sys_password(proxy_id, password, job),
            Operation::Inspect { proxy_id } => {
                job.may_go_on()?;
                Ok(Outcome::Proxy(self.facts(proxy_id)?))
            }
            Operation::InspectConfig { proxy_id } => {
                job.may_go_on()?;
                Ok(Outcome::Config(self.config(proxy_id)?))
            }
            Operation::RefreshConfig {
                proxy_id,
                version,
                clusters,
                ..
            } => self.refresh_config(proxy_id, version, clusters, job),
            Operation::Preflight { proxy_id, version, .. } => self.preflight(proxy_id, &version, job),
            Operation::BackupConfig { proxy_id, .. } => {
                self.at_rest(proxy_id)?;
                job.may_go_on()?;
                Ok(Outcome::Done)
            }
            Operation::Restart {
                proxy_id,
                restart_id,
                version,
                method,
                ..
            } => self.restart(proxy_id, &restart_id, &version, method, job),
            Operation::AwaitRestart { proxy_id, restart_id } => self.await_restart(proxy_id, &restart_id, job),
            Operation::RevertRestart {
                proxy_id, restart_id, ..
            } => self.revert_restart(proxy_id, &restart_id, job),
            Operation::StartProxy { proxy_id, wait } => self.start_proxy(proxy_id, wait, job),
            Operation::StopProxy { proxy_id, .. } => self.stop_proxy(proxy_id, job),
            Operation::CycleProxy { proxy_id, .. } => self.cycle_proxy(proxy_id, job),
            Operation::AwaitServing { proxy_id, .. } => {
                job.may_go_on()?;
                self.at_rest(proxy_id)?;
                Ok(Outcome::Proxy(self.facts(proxy_id)?))
            }
            Operation::AdoptProxy { spec, passwords } => self.adopt_proxy(spec, &passwords, job),
            Operation::ReleaseProxy { proxy_id, for_good } => self.release_proxy(proxy_id, for_good, job),
            Operation::RetireWatchdogs { proxy_id } => self.retire_watchdogs(proxy_id, job),
            Operation::ReviveWatchdogs { proxy_id } => self.revive_watchdogs(proxy_id, job),
            Operation::RestoreSysPassword { proxy_id } => self.restore_sys_password(proxy_id, job),
            Operation::SetOnline { proxy_id, online, .. } => self.set_online(proxy_id, online, job),
        }
    }

    pub(super) fn find_slot(&self, version: &ProxyVersion) -> Result<()> {
        let found = self.slots.contains(version);
        found
            .then_some(())
            .ok_or_else(|| format!("slot {version} is not on this host: install its package first"))
    }

    fn check_absent(&self, spec: &ProxySpec, job: &Job<'_>) -> Result<Outcome> {
        job.may_go_on()?;
        if self.proxies.contains_key(&spec.proxy_id) {
            return Err(format!(
                "proxy {} is on this host already: remove it first",
                spec.proxy_id
            ));
        }
        let mut running = self.proxies.values().filter(|owned| owned.process.is_some());
        if running.any(|owned| owned.spec.sql_port == spec.sql_port) {
            return Err(format!("port {} cannot be opened", spec.sql_port));
        }
        Ok(Outcome::Done)
    }

    fn install_package(&mut self, sha256: &str, version: &ProxyVersion, job: &Job<'_>) -> Result<Outcome> {
        job.may_go_on()?;
        if !self.packages.contains(sha256) {
            self.find_slot(version)?;
        }
        let created = self.slots.insert(version.clone());
        if created {
            self.changed(job, format!("slot {version} made"));
        }
        Ok(Outcome::Slot {
            version: version.clone(),
            binary_sha256: binary(version),
            created,
        })
    }

    fn remove_slot(&mut self, version: &ProxyVersion, job: &Job<'_>) -> Result<Outcome> {
        let back_to = |owned: &Owned| owned.restart.as_ref().is_some_and(|last| last.from == *version);
        let uses = |owned: &Owned| owned.version == *version || back_to(owned);
        if self.proxies.values().any(uses) {
            return Ok(Outcome::Done);
        }
        if self.slots.remove(version) {
            self.changed(job, format!("slot {version} removed"));
        }
        job.may_go_on()?;
        let contents = &self.contents;
        self.packages.retain(|sha256| contents.get(sha256) != Some(version));
        Ok(Outcome::Done)
    }

    fn create_proxy(&mut self, spec: ProxySpec, version: &ProxyVersion, job: &Job<'_>) -> Result<Outcome> {
        let id = spec.proxy_id;
        if let Some(owned) = self.proxies.get(&id) {
            match owned.phase {
                Phase::Removed => return Err(format!("proxy {id} was removed: restore or discard it first")),
                _ if owned.spec != spec => return Err(format!("proxy {id} is there with another order")),
                Phase::Installed => {
                    self.ensure_running(id, job)?;
                    return Ok(Outcome::Proxy(self.facts(id)?));
                }
                Phase::Creating => {}
            }
        } else {
            self.changed(job, format!("home of proxy {id} made"));
        }
        let owned = Owned {
            spec,
            version: version.clone(),
            phase: Phase::Creating,
            home: true,
            wanted: true,
            supervised: false,
            process: None,
            restart: None,
            cycle: None,
            offline: None,
            parameters: std::collections::BTreeMap::new(),
            adopted: None,
            config: ConfigFacts::default(),
        };
        let owned = owned.with_root_servers();
        self.proxies.insert(id, owned);
        self.find_slot(version)?;
        job.may_go_on()?;
        self.launch(id, version)?;
        self.changed(job, format!("proxy {id} started"));
        let owned = self.get_mut(id)?;
        (owned.phase, owned.supervised) = (Phase::Installed, true);
        Ok(Outcome::Proxy(self.facts(id)?))
    }

    pub(super) fn at_rest(&self, id: i64) -> Result<()> {
        let owned = self.get(id)?;
        if owned.phase == Phase::Removed {
            return Err(format!("proxy {id} was removed: restore it first"));
        }
        self.unguarded(id)
    }

    fn unguarded(&self, id: i64) -> Result<()> {
        match self.get(id)?.restart.as_ref().filter(|last| last.is_guarded()) {
            Some(last) => Err(format!("proxy {id} is in restart {}: wait for its end", last.id)),
            None => Ok(()),
        }
    }

    pub(super) fn ensure_running(&mut self, id: i64, job: &Job<'_>) -> Result<()> {
        let owned = self.get(id)?;
        if owned.process.is_none() {
            let version = owned.version.clone();
            self.launch(id, &version)?;
            self.changed(job, format!("proxy {id} started"));
        }
        Ok(())
    }

    pub(super) fn end_process(&mut self, id: i64, job: &Job<'_>) -> Result<()> {
        if self.get_mut(id)?.process.take().is_some() {
            self.changed(job, format!("proxy {id} stopped"));
        }
        Ok(())
    }

    fn remove_proxy(&mut self, id: i64, job: &Job<'_>) -> Result<Outcome> {
        let Some(owned) = self.proxies.get(&id) else {
            return Ok(Outcome::Done);
        };
        if owned.phase != Phase::Removed {
            self.at_rest(id)?;
            self.get_mut(id)?.wanted = false;
            self.end_process(id, job)?;
            job.may_go_on()?;
            let owned = self.get_mut(id)?;
            // That of an adopted proxy stays where it is.
            (owned.phase, owned.home) = (Phase::Removed, owned.adopted.is_some());
            if !owned.home {
                self.changed(job, format!("home of proxy {id} moved aside"));
            }
        }
        Ok(Outcome::Done)
    }

    fn restore_proxy(&mut self, id: i64, start: bool, job: &Job<'_>) -> Result<Outcome> {
        self.unguarded(id)?;
        if !self.get(id)?.home {
            self.get_mut(id)?.home = true;
            self.changed(job, format!("home of proxy {id} moved back"));
        }
        let owned = self.get_mut(id)?;
        owned.phase = Phase::Installed;
        if start {
            (owned.wanted, owned.supervised) = (true, true);
        }
        job.may_go_on()?;
        if !start {
            return Ok(Outcome::Done);
        }
        self.ensure_running(id, job)?;
        Ok(Outcome::Proxy(self.facts(id)?))
    }

    fn discard_proxy(&mut self, id: i64, job: &Job<'_>) -> Result<Outcome> {
        if !self.proxies.contains_key(&id) {
            return Ok(Outcome::Done);
        }
        self.unguarded(id)?;
        self.get_mut(id)?.wanted = false;
        self.end_process(id, job)?;
        job.may_go_on()?;
        self.proxies.remove(&id);
        self.changed(job, format!("proxy {id} discarded"));
        Ok(Outcome::Done)
    }

    fn supervise(&mut self, id: i64, on: bool, job: &Job<'_>) -> Result<Outcome> {
        job.may_go_on()?;
        let owned = self.get_mut(id)?;
        if std::mem::replace(&mut owned.supervised, on) != on {
            self.changed(job, format!("supervision of proxy {id} {on}"));
        }
        Ok(Outcome::Done)
    }

    fn config(&self, id: i64) -> Result<ConfigFacts> {
        self.facts(id)?;
        Ok(self.get(id)?.config.clone())
    }

    fn refresh_config(&mut self, id: i64, version: String, clusters: Vec<String>, job: &Job<'_>) -> Result<Outcome> {
        self.at_rest(id)?;
        job.may_go_on()?;
        let wanted = ConfigFacts {
            version: Some(version),
            clusters,
        };
        if self.config(id)? != wanted {
            self.get_mut(id)?.config = wanted.clone();
            self.changed(job, format!("proxy {id} asked its config server"));
        }
        Ok(Outcome::Config(wanted))
    }

    fn preflight(&self, id: i64, version: &ProxyVersion, job: &Job<'_>) -> Result<Outcome> {
        job.may_go_on()?;
        self.at_rest(id)?;
        self.find_slot(version)?;
        Ok(Outcome::Preflight(PreflightReport {
            running: self.facts(id)?,
            sessions: 0,
            warnings: Vec::new(),
        }))
    }
}
