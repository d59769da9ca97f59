//! What a real server takes while it starts, and while it has nothing to do.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::Setting;
use super::process::ServerProcess;
use crate::figure::Reading;
use crate::sample::ms;

/// After this a server that was started is idle.
const SETTLED: Duration = Duration::from_secs(3);
/// How long it is watched then.
const WATCHED: Duration = Duration::from_secs(20);
/// What sqlx writes for each statement, and nothing else.
const STATEMENTS: &str = "off,sqlx::query=debug";

/// From the launch of the process to the first answer, on state that is there already.
pub async fn start(setting: &Setting) -> Result<Vec<Reading>> {
    let place = setting.place().await?;
    let start = || {
        ServerProcess::start(
            &setting.obfleet,
            &place.dir().join("server"),
            "off",
            &place.dir().join("log"),
        )
    };
    // The very first start makes keys and a password.
    start()?.stop()?;
    let server = start()?;
    let took = server.start;
    server.stop()?;
    Ok(vec![Reading::new("start_ms", ms(took), "ms")])
}

/// Statements, processor and memory of a server without hosts and tasks.
pub async fn idle(setting: &Setting) -> Result<Vec<Reading>> {
    let place = setting.place().await?;
    let log = place.dir().join("log");
    let start = |said| ServerProcess::start(&setting.obfleet, &place.dir().join("server"), said, &log);
    // Not the very first start: what a server needs once is not what it needs idle.
    start("off")?.stop()?;

    let server = start("off")?;
    sleep(SETTLED).await;
    let before = server.cpu()?;
    sleep(WATCHED).await;
    let busy = server.cpu()? - before;
    let rss = server.rss_mib()?;
    server.stop()?;

    // Told apart from the above: writing about statements costs time and memory.
    let server = start(STATEMENTS)?;
    sleep(SETTLED).await;
    let statements = || Ok::<_, std::io::Error>(fs::read_to_string(&log)?.matches("sqlx::query").count());
    let before = statements()?;
    sleep(WATCHED).await;
    let sent = statements()? - before;
    server.stop()?;

    let seconds = WATCHED.as_secs_f64();
    Ok(vec![
        Reading::new("idle_queries_per_s", sent as f64 / seconds, "1/s"),
        Reading::new("idle_cpu_percent", busy.as_secs_f64() * 100.0 / seconds, "% of a core"),
        Reading::new("idle_rss_mb", rss, "MiB"),
    ])
}
