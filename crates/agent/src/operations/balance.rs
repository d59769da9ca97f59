//! Telling load balancers, which ask `proxy_status()`, to send a proxy new connections or to keep away. Nobody is refused
//! either way; the proxy takes the word at its next tick.

use std::time::{Duration, Instant};

use obfleet_obproxy::{
    admin::{AdminConn, AdminError},
    config_items::parse_micros,
    launch::DEFAULT_CHECK_INTERVAL,
};
use obfleet_wire::agent::Outcome;
use tokio::time::sleep;

use super::{Node, OperationError, lifecycle::admin};
use crate::{describe, proxies::Owned, runner::Job};

/// `proxy_local_cmd` that makes `proxy_status()` tell them to keep away, its opposite, and none.
pub(super) const GO_OFFLINE: u8 = 3;
const GO_ONLINE: u8 = 4;
const NOTHING: u8 = 0;
/// The item that holds the word until it is obeyed.
const WORD: &str = "proxy_local_cmd";
/// What `proxy_status()` says of a proxy that is online.
const ONLINE: &str = "ACTIVE";

/// The longest period where a version does not tell, and what is added to it for a loaded host.
const PERIOD: Duration = Duration::from_secs(5);
const MARGIN: Duration = Duration::from_secs(5);
/// Between two looks for the tick.
const LOOK: Duration = Duration::from_millis(50);

/// What came of the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marked {
    /// It was so before.
    Already,
    /// It is so now.
    Now,
    /// The version does not know such a thing.
    Unknown,
}

impl Node {
    pub(super) async fn set_online(
        &self,
        proxy_id: i64,
        online: bool,
        best_effort: bool,
        job: &Job,
    ) -> Result<Outcome, OperationError> {
        let owned = self.at_rest(proxy_id)?;
        let Some(process) = self.processes(&owned)?.pop() else {
            if !best_effort {
                return Err(OperationError::NotRunning(proxy_id));
            }
            job.say("no process runs: there is nothing to mark");
            self.registry.update(proxy_id, |o| o.offline = None)?;
            return Ok(Outcome::Done);
        };
        let state = if online { "online" } else { "offline" };
        match self.mark(&owned, online).await {
            Ok(Marked::Already) => job.say(format!("it is {state} already")),
            Ok(Marked::Now) => job.say(format!("it is {state} to load balancers")),
            Ok(Marked::Unknown) => job.say("this version does not tell load balancers anything"),
            Err(e) if best_effort => {
                job.say(format!("it cannot be asked to go {state}: {}", describe(&e)));
                return Ok(Outcome::Done);
            }
            Err(e) => return Err(e),
        }
        let offline = (!online).then_some(process.id);
        self.registry.update(proxy_id, |o| o.offline = offline)?;
        Ok(Outcome::Done)
    }

    /// Says it to the process that answers, and waits until it is so.
    pub(super) async fn mark(&self, owned: &Owned, online: bool) -> Result<Marked, OperationError> {
        let proxy_id = owned.spec.proxy_id;
        let mut conn = self.login(owned).await?;
        let marked = mark(&mut conn, online).await;
        conn.close().await;
        match marked {
            Ok(marked) => Ok(marked),
            Err(MarkError::Admin(AdminError::Server { .. })) => Ok(Marked::Unknown),
            Err(MarkError::Admin(error)) => Err(admin(proxy_id, "asking for its state")(error)),
            Err(MarkError::NotObeyed(after)) => Err(OperationError::NotObeyed {
                proxy_id,
                wanted: if online { "online" } else { "offline" },
                after,
            }),
        }
    }
}

enum MarkError {
    Admin(AdminError),
    NotObeyed(Duration),
}

impl From<AdminError> for MarkError {
    fn from(error: AdminError) -> Self {
        Self::Admin(error)
    }
}

async fn mark(conn: &mut AdminConn, online: bool) -> Result<Marked, MarkError> {
    if is(conn, online).await? {
        return Ok(Marked::Already);
    }
    let interval = conn.config_value(DEFAULT_CHECK_INTERVAL.0).await?;
    let limit = limit(interval.as_deref());
    let end = Instant::now() + limit;
    let command = if online { GO_ONLINE } else { GO_OFFLINE };
    conn.local_command(command).await?;
    while !is(conn, online).await? {
        if Instant::now() > end {
            // It must not be obeyed later, when something else is wanted.
            conn.local_command(NOTHING).await?;
            return Err(MarkError::NotObeyed(limit));
        }
        sleep(LOOK).await;
    }
    Ok(Marked::Now)
}

/// Whether it is so and stays so: a word that was given by an attempt which ended before it was obeyed is obeyed later. First
/// the word, then the state, for a tick may come between the two.
async fn is(conn: &mut AdminConn, online: bool) -> Result<bool, AdminError> {
    let word = conn.config_value(WORD).await?;
    let pending = word.is_some_and(|word| word.trim() != NOTHING.to_string());
    Ok((conn.proxy_status().await? == ONLINE) == online && !pending)
}

/// The period was drawn at the process's start from the value then; a shorter one set since does not act.
fn limit(interval: Option<&str>) -> Duration {
    let micros = interval.and_then(parse_micros);
    let period = micros.and_then(|micros| u64::try_from(micros).ok());
    period.map_or(PERIOD, Duration::from_micros).max(PERIOD) + MARGIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_waited_for_as_long_as_it_may_take() {
        for (interval, seconds) in [(None, 10), (Some("1s"), 10), (Some("1m"), 65), (Some("?"), 10)] {
            assert_eq!(limit(interval), Duration::from_secs(seconds), "{interval:?}");
        }
    }
}
