//! One hot restart: ordered, watched, and judged while the old process can still take over again.
//!
//! Used for the way there and for the way back. It ends with a fit child, or with a [`Failure`] that says what the
//! child is like; undoing is the caller's.

use std::time::{Duration, Instant};

use obfleet_obproxy::{
    admin::{AdminError, UpgradeInfo},
    config_items::parse_micros,
    process::{self, Process, ProcessHandle, ProcessId},
};

use crate::{
    judge::{self, CALL_DEADLINE, DENIALS, Fit, Held, TRY_INTERVAL},
    restart::{Restart, Target},
    state::Phase,
};

/// `proxy_local_cmd` for a hot restart.
const HOT_RESTART: u8 = 2;

/// The command is obeyed within one period of this item; the default where a version does not tell.
const CHECK_INTERVAL: (&str, Duration) = ("proxy_hot_upgrade_check_interval", Duration::from_secs(5));

/// On top of the period, for a loaded host.
const FORK_MARGIN: Duration = Duration::from_secs(5);

/// Rollback times less than this apart are one: two forks of a process are at least one tick, half a second, apart.
const FORK_DISTANCE: Duration = Duration::from_millis(100);

/// Between two looks for the child.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Between two questions to the old process meanwhile.
const ASK_INTERVAL: Duration = Duration::from_millis(200);

/// A child is ready 0.2 s after its fork; one that is not after this long is given up: nobody accepts meanwhile.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// A child signals the old process when it accepts; it has answered already when this begins.
const DRAIN_SIGNAL_DEADLINE: Duration = Duration::from_secs(3);

/// What a failed restart left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Child {
    /// Nothing; the old process goes on or takes over again by itself.
    None,
    /// One that does not serve, or whose serving ends by itself: to be killed, then the old process takes over.
    Useless(ProcessId),
    /// One that answers admin SQL, and is not what was wanted.
    Unfit(ProcessId),
}

/// A hot restart that did not lead to a fit child.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) child: Child,
    pub(crate) reason: String,
}

impl Failure {
    fn without_child(reason: impl Into<String>) -> Self {
        Self {
            child: Child::None,
            reason: reason.into(),
        }
    }
}

/// A hot restart that succeeded.
#[derive(Debug)]
pub(crate) struct Reborn {
    pub(crate) child: ProcessId,
    pub(crate) fit: Fit,
    pub(crate) answered_after: Duration,
}

/// Restarts the process behind `old`; the file to be run lies at `bin/obproxy`. `old` stays open and holds that process.
pub(crate) async fn restart(restart: &mut Restart, old: &mut Held, target: &Target) -> Result<Reborn, Failure> {
    let talk = |error: AdminError| Failure::without_child(format!("the old process does not answer: {error}"));
    let before = old.keeper.upgrade_info().await.map_err(talk)?;
    if !before.is_at_rest() {
        return Err(Failure::without_child(format!(
            "another restart or a drain is under way (state {})",
            before.state
        )));
    }
    let interval = old.keeper.config_value(CHECK_INTERVAL.0).await.map_err(talk)?;
    let disk =
        |error: std::io::Error| Failure::without_child(format!("the restart's state cannot be written: {error}"));
    restart.advance(Phase::Triggered).map_err(disk)?;
    let ordered = Instant::now();
    if let Err(error) = old.keeper.local_command(HOT_RESTART).await {
        // The store may have been closed between the command and its answer: only the child tells.
        restart.log.line(format_args!(
            "the command was answered with: {error}; watching whether it was taken"
        ));
    }
    let child = await_child(restart, old, &before, fork_deadline(interval.as_deref())).await?;
    let forked = Instant::now();
    restart.log.line(format_args!(
        "process {} forked {} after {} ms",
        old.id().pid,
        child.pid,
        ordered.elapsed().as_millis()
    ));
    restart.advance(Phase::Judging).map_err(|error| Failure {
        child: Child::Useless(child),
        reason: format!("the restart's state cannot be written: {error}"),
    })?;
    let mut answer = await_answer(restart, child, forked).await?;
    let answered_after = ordered.elapsed();
    restart.log.line(format_args!(
        "process {} answers {} ms after the command",
        child.pid,
        answered_after.as_millis()
    ));
    await_drain(restart, old, child).await?;
    let unfit = |reason| Failure {
        child: Child::Unfit(child),
        reason,
    };
    let fit = judge::judge(restart, &mut answer, target).await.map_err(unfit)?;
    let inherited = answer
        .keeper
        .upgrade_info()
        .await
        .map_err(|error| unfit(error.to_string()))?
        .is_inherited;
    if !inherited {
        return Err(unfit(format!(
            "process {} says it did not inherit its sockets",
            child.pid
        )));
    }
    answer.keeper.close().await;
    Ok(Reborn {
        child,
        fit,
        answered_after,
    })
}

/// The period was drawn at the process's start from the value then; a shorter one set since does not act.
fn fork_deadline(interval: Option<&str>) -> Duration {
    let micros = interval
        .and_then(parse_micros)
        .and_then(|micros| u64::try_from(micros).ok());
    micros
        .map_or(CHECK_INTERVAL.1, Duration::from_micros)
        .max(CHECK_INTERVAL.1)
        + FORK_MARGIN
}

/// Waits for the fork. A child that ended at once may never be seen: the old process then shows a new rollback time
/// and is at rest again.
async fn await_child(
    restart: &Restart,
    old: &mut Held,
    before: &UpgradeInfo,
    deadline: Duration,
) -> Result<ProcessId, Failure> {
    let end = Instant::now() + deadline;
    let mut asked = Instant::now();
    loop {
        let children = process::children_of(old.id().pid, &restart.plan.home).unwrap_or_default();
        if let Some(child) = children.last() {
            return Ok(child.id);
        }
        if !old.id().is_alive() {
            return Err(Failure::without_child(format!(
                "the old process {} ended by itself",
                old.id().pid
            )));
        }
        if asked.elapsed() >= ASK_INTERVAL {
            asked = Instant::now();
            // An answer that fails is given again at the next look.
            if let Ok(info) = old.keeper.upgrade_info().await {
                if has_forked(before, &info) && info.is_at_rest() {
                    return Err(Failure::without_child(
                        "the new process ended at once, the old one took over again",
                    ));
                }
                if let Some(child) = (info.sub_pid > 1).then(|| Process::read(info.sub_pid).ok()).flatten() {
                    return Ok(child.id);
                }
            }
        }
        if Instant::now() >= end {
            return Err(take_back(restart, old, deadline).await);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Whether the process has forked between two looks at it: each fork arms a new rollback time, which stays when the
/// child is gone. The time of a failed restart before this one may be told a little off when it is computed at each
/// look; taken for a fork, it would end this restart before its child is born.
fn has_forked(before: &UpgradeInfo, now: &UpgradeInfo) -> bool {
    let moved = now
        .timeout_rollback_timeout_at
        .abs_diff(before.timeout_rollback_timeout_at);
    Duration::from_nanos(moved) >= FORK_DISTANCE
}

/// The command was not obeyed: it must not be obeyed later either, when the file is another one.
async fn take_back(restart: &Restart, old: &mut Held, deadline: Duration) -> Failure {
    if let Err(error) = old.keeper.local_command(0).await {
        restart
            .log
            .line(format_args!("the command cannot be taken back: {error}"));
    }
    let reason = format!(
        "process {} did not obey the command within {} s",
        old.id().pid,
        deadline.as_secs()
    );
    match process::children_of(old.id().pid, &restart.plan.home)
        .unwrap_or_default()
        .last()
    {
        Some(child) => Failure {
            child: Child::Useless(child.id),
            reason,
        },
        None => Failure::without_child(reason),
    }
}

/// Waits until the child answers a login on a new connection. Right after the fork the old process may still answer.
async fn await_answer(restart: &Restart, child: ProcessId, forked: Instant) -> Result<Held, Failure> {
    let useless = |reason: String| Failure {
        child: Child::Useless(child),
        reason,
    };
    let gone = || Failure::without_child(format!("the new process {} ended before it answered", child.pid));
    let handle = ProcessHandle::open(child)
        .map_err(|error| useless(error.to_string()))?
        .ok_or_else(gone)?;
    let end = forked + ANSWER_DEADLINE;
    let mut denials = 0;
    let mut last = "no login was answered".to_owned();
    while Instant::now() < end {
        let left = end.saturating_duration_since(Instant::now()).min(CALL_DEADLINE * 2);
        let answer = tokio::select! {
            answer = tokio::time::timeout(left, judge::log_in(restart)) => answer,
            true = handle.wait(ANSWER_DEADLINE) => return Err(gone()),
        };
        match answer {
            Ok(Ok(held)) if held.id() == child => return Ok(held),
            Ok(Ok(held)) => last = format!("process {} answers instead", held.id().pid),
            Ok(Err(AdminError::Denied { message })) => {
                denials += 1;
                last = format!("it turns root@proxysys away: {message}");
                if denials == DENIALS {
                    break;
                }
            }
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => break,
        }
        tokio::time::sleep(TRY_INTERVAL).await;
    }
    if !handle.is_alive() {
        return Err(gone());
    }
    let waited = forked.elapsed().as_millis();
    Err(useless(format!(
        "the new process {} cannot be logged in to {waited} ms after its fork: {last}",
        child.pid
    )))
}

/// Waits until the old process has heard from its child. If it never does, it kills the child at the rollback timeout,
/// however well that serves.
async fn await_drain(restart: &Restart, old: &mut Held, child: ProcessId) -> Result<(), Failure> {
    let end = Instant::now() + DRAIN_SIGNAL_DEADLINE;
    loop {
        match old.keeper.upgrade_info().await {
            Ok(info) if info.is_draining() => return Ok(()),
            Ok(_) => {}
            Err(error) if !old.id().is_alive() => {
                // It left all the same, so it has heard.
                restart
                    .log
                    .line(format_args!("the old process {} is gone: {error}", old.id().pid));
                return Ok(());
            }
            Err(error) => restart
                .log
                .line(format_args!("the old process does not answer: {error}")),
        }
        if Instant::now() >= end {
            let reason = format!(
                "the new process {} serves but has not told the old one, which would kill it",
                child.pid
            );
            return Err(Failure {
                child: Child::Useless(child),
                reason,
            });
        }
        tokio::time::sleep(TRY_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_rollback_time_armed_anew_tells_of_a_fork() {
        const EARLIER: i64 = 1_795_000_000_000_000_000;
        let armed = |timeout_rollback_timeout_at| UpgradeInfo {
            timeout_rollback_timeout_at,
            ..UpgradeInfo::default()
        };
        for same in [EARLIER, EARLIER + 37, EARLIER - 37] {
            assert!(!has_forked(&armed(EARLIER), &armed(same)), "{same}");
        }
        // The first fork, one a tick later, and one with a shorter timeout than before.
        for (before, now) in [
            (0, EARLIER),
            (EARLIER, EARLIER + 500_000_000),
            (EARLIER, EARLIER - 86_000_000_000_000),
        ] {
            assert!(has_forked(&armed(before), &armed(now)), "{before} {now}");
        }
    }
}
