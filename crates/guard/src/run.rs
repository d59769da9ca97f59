//! A restart from its beginning to its end.

use std::{collections::HashSet, io};

use obfleet_obproxy::{drain, launch, stop};
use obfleet_wire::agent::{DrainReport, RestartMethod, RestartReport};

use crate::{
    back::{Undo, go_back},
    conclude::{Leaving, ORDERED, conclude},
    files::Side,
    hot::{self, Child, Reborn},
    judge::{self, Held},
    knobs,
    prepare::prepare,
    restart::Restart,
    state::Phase,
};

/// Runs the restart of a state that has just begun.
pub(crate) async fn run(restart: &mut Restart) -> io::Result<()> {
    match prepare(restart).await {
        Ok(held) if restart.orders.wants_back() => {
            drop(held);
            untouched(restart, ORDERED.to_owned()).await
        }
        Ok(held) => match restart.plan.method {
            RestartMethod::Hot => hot(restart, held).await,
            RestartMethod::Cold => cold(restart, held).await,
        },
        Err(reason) => untouched(restart, reason).await,
    }
}

/// Ends a restart before its first effect on what serves.
pub(crate) async fn untouched(restart: &mut Restart, reason: String) -> io::Result<()> {
    knobs::restore(restart).await;
    restart.files.clean();
    let reason = format!("{reason}; nothing was changed");
    restart.advance(Phase::Reverted {
        reason,
        drain: DrainReport::default(),
    })
}

async fn hot(restart: &mut Restart, mut old: Held) -> io::Result<()> {
    restart.advance(Phase::Swapped)?;
    if let Err(error) = restart.files.install(Side::New) {
        return go_back(
            restart,
            Undo {
                keepers: vec![old],
                ..Undo::because(error.to_string())
            },
        )
        .await;
    }
    let target = restart.target(Side::New);
    match hot::restart(restart, &mut old, &target).await {
        Ok(Reborn { child, .. }) if restart.orders.wants_back() => {
            restart
                .log
                .line(format_args!("process {} is fit, but {ORDERED}", child.pid));
            go_back(
                restart,
                Undo {
                    keepers: vec![old],
                    ..Undo::because(ORDERED)
                },
            )
            .await
        }
        Ok(Reborn {
            child,
            fit,
            answered_after,
        }) => {
            let answered_after_ms = u64::try_from(answered_after.as_millis()).unwrap_or(u64::MAX);
            report(restart, fit, answered_after_ms)?;
            conclude(restart, child, Leaving::Held(old)).await
        }
        Err(failure) => {
            let useless = match failure.child {
                Child::Useless(child) => Some(child),
                // A hot restart away from it would lead to another of its kind, and as what ran before it would pass: the
                // old process itself takes over again.
                Child::Unfit(child) if restart.is_onto_itself() => Some(child),
                Child::None | Child::Unfit(_) => None,
            };
            go_back(
                restart,
                Undo {
                    useless,
                    keepers: vec![old],
                    ..Undo::because(failure.reason)
                },
            )
            .await
        }
    }
}

/// Writes down the good verdict.
pub(crate) fn report(restart: &mut Restart, fit: judge::Fit, answered_after_ms: u64) -> io::Result<()> {
    let probed = if fit.probed { "probed" } else { "not probed" };
    restart
        .log
        .line(format_args!("process {} is fit ({probed})", fit.facts.pid));
    restart.record(|state| {
        state.report = state.before.as_ref().map(|before| RestartReport {
            before: before.facts.clone(),
            after: fit.facts,
            probed: fit.probed,
            answered_after_ms,
        });
    })
}

/// Drain, stop, start. A proxy cannot be told to accept no more while it serves, so only the sessions it has at the
/// beginning are drained; it is marked offline for balancers that ask.
async fn cold(restart: &mut Restart, mut old: Held) -> io::Result<()> {
    const OFFLINE: u8 = 3;
    restart.advance(Phase::Draining)?;
    if let Err(error) = old.keeper.local_command(OFFLINE).await {
        restart.log.line(format_args!("it cannot be marked offline: {error}"));
    }
    let orders = restart.orders.clone();
    let drained = match drain::client_sessions(&mut old.keeper).await {
        Ok(sessions) => {
            let there: HashSet<u64> = sessions.iter().map(|session| session.id).collect();
            let policy = restart.drain_policy();
            drain::drain(&mut old.keeper, policy, Some(there), || orders.wants_back()).await
        }
        Err(error) => Err(error),
    };
    let mut drain = drained.map(drain::Drained::report).unwrap_or_else(|error| {
        restart
            .log
            .line(format_args!("the sessions cannot be drained: {error}"));
        DrainReport::default()
    });
    if restart.orders.wants_back() {
        online(restart, &mut old).await;
        return untouched(restart, ORDERED.to_owned()).await;
    }
    restart.advance(Phase::Swapped)?;
    let process = old.id();
    // Clients that came during the drain are cut with whatever they have begun.
    match drain::inside_transactions(&mut old.keeper).await {
        Ok(inside) => drain.cut.extend(inside),
        Err(error) => restart
            .log
            .line(format_args!("who is still inside a transaction is not known: {error}")),
    }
    old.keeper.close().await;
    if let Err(error) = restart.files.install(Side::New) {
        return go_back(restart, Undo::because(error.to_string())).await;
    }
    if let Err(error) = stop::terminate(process, stop::TERM_DEADLINE).await {
        return go_back(restart, Undo::because(error.to_string())).await;
    }
    restart.advance(Phase::Triggered)?;
    let started = std::time::Instant::now();
    let plan = &restart.plan;
    if let Err(error) = launch::bare_start(&plan.home, plan.address, &plan.sys_password).await {
        return go_back(restart, Undo::because(error.to_string())).await;
    }
    let answered_after_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    restart.advance(Phase::Judging)?;
    let judged = match judge::log_in_within(restart, judge::CALL_DEADLINE).await {
        Ok(mut held) => judge::judge(restart, &mut held, &restart.target(Side::New)).await,
        Err(error) => Err(error.to_string()),
    };
    match judged {
        Ok(_) if restart.orders.wants_back() => go_back(restart, Undo::because(ORDERED)).await,
        Ok(fit) => {
            report(restart, fit, answered_after_ms)?;
            restart.advance(Phase::Finished { drain })?;
            restart.files.clean();
            Ok(())
        }
        Err(reason) => go_back(restart, Undo::because(reason)).await,
    }
}

async fn online(restart: &Restart, old: &mut Held) {
    const ONLINE: u8 = 4;
    if let Err(error) = old.keeper.local_command(ONLINE).await {
        restart
            .log
            .line(format_args!("it cannot be marked online again: {error}"));
    }
}
