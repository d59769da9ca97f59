//! One kill: waiting for its moment, and starting again whom an installation starts again. Nobody starts a guard: what
//! becomes of its restart is the agent's to decide.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::point::{Moment, Phase, Point, Victim, in_order};
use crate::{
    process,
    testbed::{PATIENCE, Testbed},
};

const LOOK: Duration = Duration::from_millis(2);

/// A kill that took place.
#[derive(Debug)]
pub(super) struct Hit {
    pub(super) point: Point,
    /// The task just before it.
    pub(super) before: Value,
    /// Where the step and its guard really were: a short moment may be over before it is seen.
    pub(super) met: String,
}

/// Kills at the point. → nothing when the moment did not come before the task was at rest
pub(super) async fn strike(bed: &mut Testbed, task: i64, point: Point) -> anyhow::Result<Option<Hit>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = bed.api()?.task(task).await?;
        let step = *in_order(&seen)
            .get(point.step - 1)
            .context("the task has no such step")?;
        let branch = step["parallelIdx"]
            .as_u64()
            .and_then(|index| usize::try_from(index).ok());
        let restart = branch.map_or(Ok(None), |branch| Restart::of(bed, task, branch))?;
        let begun = !matches!(step["status"].as_str(), Some("PENDING" | "READY"));
        let come = match point.moment {
            Moment::Begun => begun,
            Moment::Guard(phase) => begun && restart.as_ref().is_some_and(|restart| restart.is_at_work_in(phase)),
            Moment::Undo => step["operation"] == "ROLLBACK" && step["status"] != "READY",
        };
        if come && seen["status"] == "RUNNING" {
            let met = format!(
                "{point} at {} {} {}{}",
                step["name"],
                step["operation"],
                step["status"],
                restart
                    .as_ref()
                    .map(|r| format!(", guard {:?}", r.phase))
                    .unwrap_or_default()
            );
            if point.victim.is_guard() {
                kill_guard(bed, restart.as_ref())?;
            }
            if matches!(point.victim, Victim::Agent | Victim::Everybody) {
                bed.fleet.crash_agent(branch.unwrap_or(0))?;
            }
            if matches!(point.victim, Victim::Server | Victim::Everybody) {
                bed.fleet.crash_server().await?;
            }
            return Ok(Some(Hit {
                point,
                before: seen,
                met,
            }));
        }
        if seen["status"] != "RUNNING" {
            return Ok(None);
        }
        if Instant::now() > deadline {
            bail!("{point} did not come within {} s: {seen}", PATIENCE.as_secs());
        }
        sleep(LOOK).await;
    }
}

fn kill_guard(bed: &Testbed, restart: Option<&Restart>) -> anyhow::Result<()> {
    let pid = restart.and_then(|restart| restart.guard).context("no guard to kill")?;
    // Its number may have another owner by now.
    if process::guards(bed.fleet.root()).contains(&pid) {
        process::signal(pid, Signal::SIGKILL);
    }
    Ok(())
}

/// A restart, as the files of its guard tell.
#[derive(Debug)]
pub(super) struct Restart {
    pub(super) dir: PathBuf,
    phase: Phase,
    guard: Option<u32>,
}

impl Restart {
    /// The unfinished restart of a task on the proxy of a host, or else the last one.
    fn of(bed: &Testbed, task: i64, host: usize) -> anyhow::Result<Option<Self>> {
        let mut found = Self::all_of(bed, task, host)?;
        found.sort_by_key(|restart| restart.phase == Phase::Over);
        Ok(found.into_iter().next())
    }

    /// Every restart of a task on the proxy of a host.
    pub(super) fn all_of(bed: &Testbed, task: i64, host: usize) -> anyhow::Result<Vec<Self>> {
        let host = bed.fleet.hosts.get(host).context("no such host")?;
        let of_task = format!("t{task}-");
        let mut found = Vec::new();
        for entry in fs::read_dir(host.root().join("restarts"))? {
            let dir = entry?.path();
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(&of_task)
                && let Some(restart) = Self::read(&dir)
            {
                found.push(restart);
            }
        }
        found.sort_by(|one, other| one.dir.cmp(&other.dir));
        Ok(found)
    }

    /// A directory made an instant ago has no state yet.
    fn read(dir: &Path) -> Option<Self> {
        let state: Value = serde_json::from_slice(&fs::read(dir.join("state.json")).ok()?).ok()?;
        Some(Self {
            dir: dir.to_owned(),
            phase: Phase::named(state["phase"].as_str()?),
            guard: state["guard"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()),
        })
    }

    fn is_at_work_in(&self, phase: Phase) -> bool {
        self.guard.is_some() && self.phase >= phase && self.phase != Phase::Over
    }

    /// What its guards wrote down.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}
