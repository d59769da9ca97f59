//! How long an accepted upgrade submission takes to be answered, on a copy of the fleet's state.
//!
//! The copy's server has another certificate authority, so no agent lets it in, and nothing it starts touches the fleet.
//! Each submission is cancelled and rolled back, so that the next one finds the proxies free.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context as _, bail};
use obfleet_standin::ports::PortLease;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    api,
    fleet::{DATABASE, ServerProcess, Setting},
};

/// Accepted submissions that are timed.
const SUBMISSIONS: usize = 200;
const PATIENCE: Duration = Duration::from_secs(30);

/// The 99th percentile in milliseconds, rounded up, of [`SUBMISSIONS`] upgrades posted to `path`.
pub(crate) async fn p99_ms(setting: &Setting, state: &Path, path: &str, package: &str) -> anyhow::Result<u64> {
    without_authority(&setting.exe, state)?;
    let server = ServerProcess::start(setting, state, PortLease::take()?).await?;
    let mut times = Vec::with_capacity(SUBMISSIONS);
    for _ in 0..SUBMISSIONS {
        let started = Instant::now();
        let task = server.api.post(path, &json!({"shortRpmName": package})).await?;
        times.push(started.elapsed());
        clear(&server.api, api::id(&task)?).await?;
    }
    server.stop();
    times.sort_unstable();
    let at = (SUBMISSIONS * 99).div_ceil(100) - 1;
    let micros = u64::try_from(times[at].as_micros())?;
    Ok(micros.div_ceil(1000))
}

/// Has the copy forget the authority that the agents trust; its server makes itself another one.
fn without_authority(exe: &Path, state: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(exe);
    command.arg("forget-authority").arg("--state-dir").arg(state);
    command.env_remove(DATABASE);
    let done = command.output().context("cannot start the executable")?;
    if !done.status.success() {
        bail!(
            "the copy is not started, it might reach the fleet: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
    Ok(())
}

/// Brings the task to an end that leaves nothing held.
async fn clear(api: &api::Api, id: i64) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let task = api.task(id).await?;
        if task["status"] != "RUNNING" {
            break;
        }
        if Instant::now() > deadline {
            bail!("task {id} of the copy cannot be cancelled: {task}");
        }
        for step in task["subtasks"].as_array().into_iter().flatten() {
            if step["status"] == "RUNNING" {
                let path = format!("/api/v2/tasks/instances/{id}/subtasks/{}/cancel", step["id"]);
                // It may have ended in this moment.
                let _ = api.post_nothing(&path).await;
            }
        }
    }
    api.post_nothing(&format!("/api/v2/tasks/instances/{id}/rollback"))
        .await?;
    let task = api.rest(id, PATIENCE).await?;
    if task["status"] != "SUCCESSFUL" {
        bail!("task {id} of the copy was not rolled back{}", api.why(&task).await);
    }
    Ok(())
}
