//! How long an accepted upgrade submission takes to be answered, on a copy of the fleet's state.
//!
//! The copy's server has another certificate authority, so no agent lets it in, and nothing it starts touches the fleet.
//! Each submission is cancelled and rolled back, so that the next one finds the proxies free.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use obfleet_standin::ports::PortLease;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    api,
    fleet::{DRAIN_WINDOW_S, ServerProcess},
};

/// Accepted submissions that are timed.
const SUBMISSIONS: usize = 200;
const PATIENCE: Duration = Duration::from_secs(30);

/// The 99th percentile in milliseconds, rounded up, of [`SUBMISSIONS`] upgrades posted to `path`.
pub(crate) async fn p99_ms(exe: &Path, state: &Path, password: &str, path: &str, package: &str) -> anyhow::Result<u64> {
    without_authority(state)?;
    let server = ServerProcess::start(exe, state, password, PortLease::take()?, DRAIN_WINDOW_S).await?;
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

/// Forgets the authority the agents trust; the server makes itself a new one.
fn without_authority(state: &Path) -> anyhow::Result<()> {
    let mut forgotten = 0;
    for entry in fs::read_dir(state)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "pem") {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            forgotten += 1;
        }
    }
    if forgotten == 0 {
        bail!(
            "no certificate authority in {}: not started, it might reach the fleet",
            state.display()
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
