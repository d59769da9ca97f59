//! The proxy's settings a hot restart needs, and putting them back.

use std::time::{Duration, Instant};

use obfleet_obproxy::{
    admin::{AdminConn, AdminError},
    drain,
};
use obfleet_wire::agent::DrainPolicy;

use crate::{judge, restart::Restart};

/// The old process kills a child that is not ready by then. At the default, 24 h, a child that hangs would swallow
/// every new connection for a day if this guard died; the guard itself gives up much earlier.
const ROLLBACK_TIMEOUT: (&str, &str) = ("hot_upgrade_rollback_timeout", "60s");

/// When the old process cuts what is left by itself, in microseconds from the moment the child is ready.
const EXIT_TIMEOUT: &str = "hot_upgrade_exit_timeout";

/// On top of the longest drain, so that our deadline comes first: the judgement runs on the same clock.
const EXIT_MARGIN: Duration = Duration::from_secs(60);

/// The most the item takes: one day.
const EXIT_TIMEOUT_MAX: Duration = Duration::from_secs(86_400);

/// A proxy refuses changes from its fork to its next tick.
const RESTORE_DEADLINE: Duration = Duration::from_secs(15);

/// How long an old process may live after its child is ready.
pub(crate) fn exit_timeout(policy: DrainPolicy) -> Duration {
    drain::longest(policy).saturating_add(EXIT_MARGIN).min(EXIT_TIMEOUT_MAX)
}

/// The values now of what [`set`] changes.
pub(crate) async fn read(admin: &mut AdminConn) -> Result<Vec<(String, String)>, AdminError> {
    let mut values = Vec::new();
    for name in [ROLLBACK_TIMEOUT.0, EXIT_TIMEOUT] {
        if let Some(value) = admin.config_value(name).await? {
            values.push((name.to_owned(), value));
        }
    }
    Ok(values)
}

/// Sets them for a restart with this drain.
pub(crate) async fn set(admin: &mut AdminConn, drain: DrainPolicy) -> Result<(), AdminError> {
    admin.set_config(ROLLBACK_TIMEOUT.0, ROLLBACK_TIMEOUT.1).await?;
    admin
        .set_config(EXIT_TIMEOUT, &exit_timeout(drain).as_micros().to_string())
        .await
}

/// Puts the old values back on the process that serves. They matter only to the next restart: a failure is told, and
/// nothing depends on it.
pub(crate) async fn restore(restart: &Restart) {
    let Some(before) = &restart.state().before else { return };
    if before.knobs.is_empty() {
        return;
    }
    let end = Instant::now() + RESTORE_DEADLINE;
    while let Err(error) = put_back(restart, &before.knobs).await {
        if Instant::now() >= end {
            let values: Vec<String> = before
                .knobs
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let values = values.join(", ");
            return restart
                .log
                .line(format_args!("cannot put back {values}: {error}; set them by hand"));
        }
        tokio::time::sleep(judge::TRY_INTERVAL).await;
    }
}

async fn put_back(restart: &Restart, values: &[(String, String)]) -> Result<(), AdminError> {
    let mut held = judge::log_in(restart).await?;
    for (name, value) in values {
        held.keeper.set_config(name, value).await?;
    }
    held.keeper.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_deadline_comes_first_and_the_item_can_hold_it() {
        let window = |window_ms| {
            exit_timeout(DrainPolicy {
                window_ms,
                closes_per_second: 1,
            })
        };
        assert_eq!(window(30_000), Duration::from_secs(30 + 5 + 30 + 2 + 60));
        assert_eq!(window(u64::MAX).as_micros(), 86_400_000_000);
    }
}
