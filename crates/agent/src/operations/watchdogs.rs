//! What looked after an adopted proxy before this agent: ended or held off, and brought back.

use std::{io, path::Path, time::Duration};

use obfleet_obproxy::{
    discovery::{self, Seen},
    process::ProcessId,
    stop,
};
use obfleet_wire::agent::{FoundWatchdog, Outcome};
use tokio::time::{Instant, sleep};

use super::{Node, OperationError};
use crate::{
    origin::Watchdog,
    proxies::{Owned, Phase},
    runner::Job,
    units,
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
}

fn is_of(process: &Seen, home: &Path) -> bool {
    process.is_proxy() && process.cwd.as_deref() == Some(home)
}

async fn end_process(id: ProcessId, proxy_id: i64) -> Result<(), OperationError> {
    stop::kill(id)
        .await
        .map(drop)
        .map_err(|source| OperationError::Stop { proxy_id, source })
}
