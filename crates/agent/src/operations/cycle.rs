//! A proxy's process replaced by another of the same binary, with a gap between them; and waiting for one that serves.

use std::time::{Duration, Instant};

use obfleet_wire::agent::{DrainPolicy, Outcome};
use tokio::time::sleep;

use super::{Node, OperationError};
use crate::{journal::Subtask, proxies::LastCycle, runner::Job};

/// Between two looks at a proxy that does not serve yet.
const LOOK: Duration = Duration::from_millis(200);

impl Node {
    /// Ends what runs and starts the proxy anew. Which processes are to go is written down first, so that a later attempt
    /// does not end the one that came.
    ///
    /// The proxy ought to run all the while: should this agent die in the middle, the supervisor of the next one starts it.
    pub(super) async fn cycle_proxy(
        &self,
        proxy_id: i64,
        policy: DrainPolicy,
        job: &Job,
    ) -> Result<Outcome, OperationError> {
        let owned = self.at_rest(proxy_id)?;
        let running = self.processes(&owned)?;
        let known = owned.cycle.clone();
        let known = known.filter(|last| Subtask::from(&last.attempt) == Subtask::from(job.key()));
        let cycle = known.unwrap_or_else(|| LastCycle {
            attempt: job.key().clone(),
            before: running.iter().map(|process| process.id).collect(),
        });
        let came_since = !running.is_empty() && running.iter().all(|process| !cycle.before.contains(&process.id));
        let owned = self.registry.update(proxy_id, |o| {
            o.cycle = Some(cycle);
            o.wanted = true;
        })?;
        // One that came and does not answer is no end of it.
        if came_since && let Ok(facts) = self.ensure_serving(&owned).await {
            job.say(format!("process {} has taken over already", facts.pid));
            return Ok(Outcome::Proxy(facts));
        }
        self.drain_and_end(&owned, policy, job).await?;
        let facts = self.ensure_serving(&owned).await?;
        job.say(format!("process {} answers as {}", facts.pid, facts.version));
        Ok(Outcome::Proxy(facts))
    }

    pub(super) async fn await_serving(
        &self,
        proxy_id: i64,
        limit: Duration,
        job: &Job,
    ) -> Result<Outcome, OperationError> {
        let end = Instant::now() + limit;
        loop {
            let owned = self.at_rest(proxy_id)?;
            match self.facts(&owned).await {
                Ok(facts) => {
                    job.say(format!("process {} answers as {}", facts.pid, facts.version));
                    return Ok(Outcome::Proxy(facts));
                }
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => {}
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                () = job.superseded() => return Err(OperationError::Superseded("waited for the proxy")),
            }
        }
    }
}
