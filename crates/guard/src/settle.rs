//! Bringing a proxy to one healthy process of the wanted binary, from wherever it stands.
//!
//! Works from what is seen, not from what was done before: the way back of a restart and the recovery from a guard's
//! death are the same loop. Whoever answers and is fit stays. Whoever answers and is not fit is left by a hot restart,
//! so that its clients are drained too. Whoever does not answer is killed, the youngest first, because its parent then
//! takes over again; and when nobody is left, the wanted binary is started cold.
//!
//! Killing a child that answers but is not fit would be quicker, and the old process would keep all its sessions; but
//! the child's own clients would be cut in the middle of what they do. By a hot restart from it nobody is cut inside a
//! transaction that ends within the drain window, at the price of draining the old process's sessions as in a good
//! restart. While that is tried the old process's keeper stays open, so killing remains the second choice.

use std::time::{Duration, Instant};

use obfleet_obproxy::{launch, process, process::ProcessId, stop};
use obfleet_wire::agent::RestartMethod;

use crate::{
    files::Side,
    hot::{self, Child},
    judge::{self, Fit, Held},
    restart::Restart,
};

/// When the child is gone its parent accepts at its next tick, at most 5 s later unless somebody set the period longer.
const RESUME_DEADLINE: Duration = Duration::from_secs(8);

/// Each round ends a process, starts one or succeeds; this bounds how long that goes on.
const SETTLE_DEADLINE: Duration = Duration::from_secs(300);

/// Between two looks at a proxy that is not at rest.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The process that serves.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) process: ProcessId,
    pub(crate) fit: Fit,
}

/// Does it. Keepers of processes that were left behind are added to `keepers`. The error says what was tried last:
/// nobody serves.
pub(crate) async fn settle(restart: &mut Restart, want: Side, keepers: &mut Vec<Held>) -> Result<Settled, String> {
    let end = Instant::now() + SETTLE_DEADLINE;
    let mut last = "nothing was tried".to_owned();
    while Instant::now() < end {
        // First of all the file: anything may start it.
        if let Err(error) = restart.files.install(want) {
            restart.log.line(format_args!("{error}: {}", source_of(&error)));
        }
        let running = process::of_home(&restart.plan.home).map_err(|error| error.to_string())?;
        if running.is_empty() {
            restart.log.line("no process is left: starting it cold");
            let plan = &restart.plan;
            if let Err(error) = launch::bare_start(&plan.home, plan.address, &plan.sys_password).await {
                restart.log.line(format_args!("{error}"));
                last = error.to_string();
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
            continue;
        }
        let mut held = match judge::log_in_within(restart, RESUME_DEADLINE).await {
            Ok(held) => held,
            Err(error) => {
                last = format!("nobody answers: {error}");
                // An old process without a keeper may have left meanwhile.
                let running = process::of_home(&restart.plan.home).map_err(|error| error.to_string())?;
                if let Some(youngest) = running.last() {
                    restart.log.line(&last);
                    end_process(restart, youngest.id).await;
                }
                continue;
            }
        };
        match held.keeper.upgrade_info().await {
            Ok(info) if restart.plan.method == RestartMethod::Cold || info.is_at_rest() => {}
            Ok(_) => {
                // A child is on its way, or was just killed: the next tick decides.
                last = format!("process {} is in the middle of a restart", held.id().pid);
                tokio::time::sleep(LOOK_INTERVAL).await;
                continue;
            }
            Err(error) => {
                last = error.to_string();
                continue;
            }
        }
        let target = restart.target(want);
        match judge::judge(restart, &mut held, &target).await {
            Ok(fit) => {
                restart.log.line(format_args!(
                    "process {} serves as {}",
                    held.id().pid,
                    fit.facts.version
                ));
                return Ok(Settled {
                    process: held.id(),
                    fit,
                });
            }
            Err(reason) => {
                restart.log.line(&reason);
                last = reason;
            }
        }
        if restart.plan.method == RestartMethod::Hot {
            restart
                .log
                .line(format_args!("leaving process {} by a hot restart", held.id().pid));
            match hot::restart(restart, &mut held, &target).await {
                Ok(reborn) => {
                    keepers.push(held);
                    return Ok(Settled {
                        process: reborn.child,
                        fit: reborn.fit,
                    });
                }
                Err(failure) => {
                    restart.log.line(&failure.reason);
                    last = failure.reason;
                    if let Child::Useless(child) | Child::Unfit(child) = failure.child {
                        end_process(restart, child).await;
                    }
                }
            }
        }
        end_process(restart, held.id()).await;
    }
    Err(last)
}

/// Ends one process: killed when another one waits behind it to take over, else politely.
pub(crate) async fn end_process(restart: &Restart, id: ProcessId) {
    let alone = process::of_home(&restart.plan.home).is_ok_and(|running| running.len() <= 1);
    let ended = if alone {
        stop::terminate(id, stop::TERM_DEADLINE).await
    } else {
        stop::kill(id).await
    };
    match ended {
        Ok(ended) => restart.log.line(format_args!("process {}: ended by {ended}", id.pid)),
        Err(error) => restart
            .log
            .line(format_args!("process {} cannot be ended: {error}", id.pid)),
    }
}

fn source_of(error: &dyn std::error::Error) -> String {
    error
        .source()
        .map_or_else(|| "no more is known".to_owned(), ToString::to_string)
}
