//! Proxies that somebody else started: made the agent's own where they lie and as they run, and given back.

use std::{io, path::PathBuf, time::Duration};

use obfleet_obproxy::{
    discovery::{self, Seen},
    process::ProcessId,
    stop,
};
use obfleet_wire::{
    agent::{ExamineRequest, FoundWatchdog, Outcome, ProxySpec},
    time::Timestamp,
};
use tokio::time::{Instant, sleep};

use super::{Node, OperationError};
use crate::{
    origin::{Origin, Watchdog},
    proxies::{Owned, Phase},
    reach,
    runner::Job,
    slots, units,
};

/// A loop is there, or gone, within moments.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

/// What would start a proxy again.
#[derive(Default)]
struct Watching {
    /// Units of systemd.
    units: Vec<String>,
    /// Loops, and the processes they run as.
    loops: Vec<(FoundWatchdog, Seen)>,
}

impl Node {
    /// Makes the proxy that serves on the order's port this agent's. Nothing of it is changed: what it runs is kept as a
    /// slot, and what it came with is written down.
    pub(super) async fn adopt_proxy(
        &self,
        spec: ProxySpec,
        passwords: Vec<String>,
        job: &Job,
    ) -> Result<Outcome, OperationError> {
        let proxy_id = spec.proxy_id;
        if let Some(owned) = self.registry.find(proxy_id) {
            return match owned.phase {
                Phase::Removed { .. } => Err(OperationError::Removed(proxy_id)),
                _ if owned.adopted && owned.spec.sql_port == spec.sql_port => {
                    job.say("the proxy is adopted already");
                    Ok(Outcome::Proxy(self.facts(&owned).await?))
                }
                _ => Err(OperationError::OtherSpec(proxy_id)),
            };
        }
        let failed = |source| OperationError::Processes { proxy_id, source };
        let request = ExamineRequest {
            sql_port: spec.sql_port,
            passwords,
        };
        let examined = self.examine(&request).await.map_err(failed)?;
        let in_the_way = || OperationError::NotAdopted {
            proxy_id,
            port: request.sql_port,
            obstacles: crate::examination::names(&examined.told.obstacles),
        };
        let (Some(found), Some(address), Some(password), Some(parameters)) = (
            &examined.found,
            examined.address,
            &examined.password,
            &examined.told.parameters,
        ) else {
            return Err(in_the_way());
        };
        let (Some(home), Some(newest), true) = (found.home(), found.newest(), examined.told.obstacles.is_empty())
        else {
            return Err(in_the_way());
        };
        let version = parameters.version.clone();
        let origin = Origin {
            password: password.clone(),
            watchdogs: Vec::new(),
            units: Vec::new(),
        };
        self.registry.set_origin(proxy_id, &origin)?;
        let exe = PathBuf::from(format!("/proc/{}/exe", newest.id.pid));
        let _turn = self.things.lock(super::Thing::Slots).await;
        let slot = slots::take(&self.layout, exe, &version).await?;
        job.say(format!("what it runs is kept as {}", slot.path.display()));
        let owned = Owned {
            home: home.to_owned(),
            version,
            phase: Phase::Installed,
            wanted: true,
            supervised: false,
            restarts: 0,
            restart: None,
            cycle: None,
            offline: None,
            adopted: true,
            spec: ProxySpec {
                sys_password: password.clone(),
                ..reach::as_it_listens(spec, address, &newest.listening)
            },
        };
        self.registry.insert(owned.clone())?;
        let facts = self.facts(&owned).await?;
        job.say(format!("process {} in {} is adopted", facts.pid, owned.home.display()));
        Ok(Outcome::Proxy(facts))
    }

    /// The agent has the proxy no more, which goes on as it is. Its record is kept for a while, unless this is for good.
    pub(super) async fn release_proxy(
        &self,
        proxy_id: i64,
        for_good: bool,
        job: &Job,
    ) -> Result<Outcome, OperationError> {
        let Some(owned) = self.registry.find(proxy_id) else {
            // An adoption that was cut off may have made a slot.
            self.registry.forget(proxy_id)?;
            self.drop_slots_taken().await?;
            return Ok(Outcome::Done);
        };
        if !matches!(owned.phase, Phase::Removed { .. }) {
            self.at_rest(proxy_id)?;
        }
        if for_good {
            self.registry.forget(proxy_id)?;
            self.drop_slots_taken().await?;
        } else {
            let (aside, at) = (owned.home.clone(), Timestamp::now().millis() / 1000);
            self.registry.update(proxy_id, |o| {
                o.phase = Phase::Removed { aside, at };
                o.wanted = false;
                o.supervised = false;
            })?;
        }
        job.say(format!(
            "the proxy in {} is nobody's here any more, and goes on",
            owned.home.display()
        ));
        Ok(Outcome::Done)
    }

    /// Slots that were made of running executables and that nobody runs, or goes back to.
    async fn drop_slots_taken(&self) -> Result<(), OperationError> {
        let _turn = self.things.lock(super::Thing::Slots).await;
        for slot in slots::taken(&self.layout)? {
            if self.registry.users_of(&slot.version).is_empty() {
                slots::drop_taken(&slot)?;
            }
        }
        Ok(())
    }

    /// Ends what would start the proxy again, and does so in its place from then on.
    pub(super) async fn retire_watchdogs(&self, proxy_id: i64, job: &Job) -> Result<Outcome, OperationError> {
        let owned = self.at_rest(proxy_id)?;
        let failed = |source| OperationError::Watchdog { proxy_id, source };
        let of_unit = |source| OperationError::Unit { proxy_id, source };
        let end = Instant::now() + PATIENCE;
        // What looks after a proxy is found by the proxy. One that is down is up again soon, or nothing does.
        while self.processes(&owned)?.is_empty() && Instant::now() < end {
            sleep(LOOK).await;
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let Watching { units, loops } = self.watchdogs(&owned).await.map_err(failed)?;
            if units.is_empty() && loops.is_empty() {
                break;
            }
            if Instant::now() >= end {
                let pids: Vec<_> = loops.iter().map(|(_, process)| process.id.pid.to_string()).collect();
                let reason = format!("processes {} come back when they are ended", pids.join(", "));
                return Err(failed(io::Error::other(reason)));
            }
            let mut origin = self.registry.origin(proxy_id)?.unwrap_or_default();
            for unit in &units {
                if !origin.units.contains(unit) {
                    origin.units.push(unit.clone());
                }
            }
            for (found, process) in &loops {
                if !origin.watchdogs.iter().any(|known| known.is(process)) {
                    origin.watchdogs.push(Watchdog::of(found, process).map_err(failed)?);
                }
            }
            // What is known before anything is ended can be begun again.
            self.registry.set_origin(proxy_id, &origin)?;
            // Units before loops: a unit may be what runs a loop, and start it again.
            for unit in &units {
                units::hold(unit).await.map_err(of_unit)?;
                job.say(format!("{unit} of systemd neither starts nor ends it any more"));
            }
            for (_, process) in &loops {
                end_process(process.id, proxy_id).await?;
                job.say(format!("watchdog {} is ended", process.id.pid));
            }
            sleep(LOOK).await;
        }
        self.registry.update(proxy_id, |o| o.supervised = true)?;
        job.say("the agent starts the proxy again from now on when it dies");
        Ok(Outcome::Done)
    }

    /// What looked after the proxy when it came does so again.
    pub(super) async fn revive_watchdogs(&self, proxy_id: i64, job: &Job) -> Result<Outcome, OperationError> {
        let Some(owned) = self.registry.find(proxy_id) else {
            job.say("the proxy is not on this host");
            return Ok(Outcome::Done);
        };
        let owned = match owned.phase {
            Phase::Removed { .. } => owned,
            _ => {
                self.at_rest(proxy_id)?;
                self.registry.update(proxy_id, |o| o.supervised = false)?
            }
        };
        let failed = |source| OperationError::Watchdog { proxy_id, source };
        let origin = self.registry.origin(proxy_id)?.unwrap_or_default();
        for watchdog in &origin.watchdogs {
            let all = || discovery::look().map_err(failed);
            if all()?.iter().any(|process| watchdog.is(process)) {
                continue;
            }
            // A loop without a proxy would start one, which is what it is for.
            let newest = self.processes(&owned)?.pop().map_or(0, |process| process.id.pid);
            watchdog.begin(&owned.home, newest).map_err(failed)?;
            let end = Instant::now() + PATIENCE;
            while !all()?.iter().any(|process| watchdog.is(process)) {
                if Instant::now() >= end {
                    return Err(failed(io::Error::other("it was started, and is not there")));
                }
                sleep(LOOK).await;
            }
            job.say("its watchdog is started again");
        }
        for unit in &origin.units {
            let is_active = units::give_back(unit)
                .await
                .map_err(|source| OperationError::Unit { proxy_id, source })?;
            let from = if is_active { "" } else { " from its next start on" };
            job.say(format!("{unit} of systemd looks after it again{from}"));
        }
        Ok(Outcome::Done)
    }

    /// What looks after the proxy and is known. Others are an error: they are nobody's to end.
    async fn watchdogs(&self, owned: &Owned) -> io::Result<Watching> {
        let all = discovery::look()?;
        let home = owned.home.canonicalize()?;
        let mut of_home: Vec<Seen> = all.iter().filter(|process| is_of(process, &home)).cloned().collect();
        of_home.sort_by_key(|process| (process.id.start_ticks, process.id.pid));
        let mut watching = Watching::default();
        for found in discovery::watchdogs(&of_home, &all).await {
            match &found {
                FoundWatchdog::Obd { pid, .. } | FoundWatchdog::Obproxyd { pid, .. } => {
                    let process = all.iter().find(|process| process.id.pid == *pid);
                    watching
                        .loops
                        .extend(process.map(|process| (found.clone(), process.clone())));
                }
                FoundWatchdog::Systemd { unit, .. } if units::may_hold() => watching.units.push(unit.clone()),
                other => {
                    let reason = format!("{other:?} may start it again: stop it first");
                    return Err(io::Error::other(reason));
                }
            }
        }
        Ok(watching)
    }

    /// Gives root@proxysys the password that an adopted proxy came with.
    pub(super) async fn restore_sys_password(&self, proxy_id: i64, job: &Job) -> Result<Outcome, OperationError> {
        match self.registry.origin(proxy_id)? {
            Some(Origin { password, .. }) => self.set_sys_password(proxy_id, &password, job).await,
            None => {
                job.say("nothing is known of another password");
                Ok(Outcome::Done)
            }
        }
    }
}

fn is_of(process: &Seen, home: &std::path::Path) -> bool {
    process.is_proxy() && process.cwd.as_deref() == Some(home)
}

async fn end_process(id: ProcessId, proxy_id: i64) -> Result<(), OperationError> {
    stop::kill(id)
        .await
        .map(drop)
        .map_err(|source| OperationError::Stop { proxy_id, source })
}
