//! Letting go of processes that serve no more: emptied through their keepers, then watched until they are gone.

use std::time::{Duration, Instant};

use obfleet_obproxy::{
    drain::{self, Drained},
    process::{self, Process, ProcessHandle, ProcessId},
    stop,
};
use obfleet_wire::agent::{DrainPolicy, DrainReport};

use crate::{
    judge::{self, Held},
    restart::Restart,
};

/// A process without sessions leaves 0.3 to 1.5 s later, as observed; when only admin sessions of others hold it, it is
/// told to go.
const LEAVE_DEADLINE: Duration = Duration::from_secs(5);

/// Between two looks at a process that empties itself.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A serving process answers a login at once, also on a loaded host.
const STILL_SERVES_DEADLINE: Duration = Duration::from_secs(5);

/// Whether the process is alive and lets root@proxysys in on a new connection.
pub(crate) async fn still_serves(restart: &Restart, process: ProcessId) -> bool {
    process.is_alive()
        && judge::log_in_within(restart, STILL_SERVES_DEADLINE)
            .await
            .is_ok_and(|held| held.id() == process)
}

/// Empties the process behind `held`, until `interrupted`. The keeper comes back unless it failed; the process then
/// empties itself.
pub(crate) async fn empty(
    restart: &Restart,
    mut held: Held,
    policy: DrainPolicy,
    interrupted: impl FnMut() -> bool,
) -> (DrainReport, Option<Held>) {
    let pid = held.id().pid;
    match drain::drain(&mut held.keeper, policy, None, interrupted).await {
        Ok(Drained::Empty(report)) => {
            for straggler in &report.cut {
                let (user, client, age) = (&straggler.user, &straggler.client, straggler.age_ms);
                restart.log.line(format_args!(
                    "cut {user} from {client} inside a transaction seen for {age} ms"
                ));
            }
            let (closed, cut) = (report.closed_at_boundary, report.cut.len());
            restart.log.line(format_args!(
                "process {pid}: {closed} sessions closed between transactions, {cut} cut inside one"
            ));
            (report, Some(held))
        }
        Ok(Drained::Interrupted(report)) => (report, Some(held)),
        Err(error) => {
            restart
                .log
                .line(format_args!("the keeper of process {pid} fails: {error}"));
            (DrainReport::default(), None)
        }
    }
}

/// Empties several processes side by side and lets go of their keepers; also tells which of them are empty now.
pub(crate) async fn empty_all(
    restart: &Restart,
    mut keepers: Vec<Held>,
    policy: DrainPolicy,
) -> (DrainReport, Vec<ProcessId>) {
    let Some(first) = keepers.pop() else {
        return (DrainReport::default(), Vec::new());
    };
    let id = first.id();
    let rest = Box::pin(empty_all(restart, keepers, policy));
    let ((one, held), (others, mut emptied)) = tokio::join!(empty(restart, first, policy, || !id.is_alive()), rest);
    if let Some(held) = held {
        held.keeper.close().await;
        emptied.push(id);
    }
    (merge(one, others), emptied)
}

/// Both reports in one; they ran side by side.
pub(crate) fn merge(mut one: DrainReport, other: DrainReport) -> DrainReport {
    one.closed_at_boundary += other.closed_at_boundary;
    one.cut.extend(other.cut);
    one.took_ms = one.took_ms.max(other.took_ms);
    one
}

/// The processes of the home besides the one that serves.
pub(crate) fn others(restart: &Restart, serving: ProcessId) -> Vec<Process> {
    let mut found = process::of_home(&restart.plan.home).unwrap_or_default();
    found.retain(|process| process.id != serving);
    found
}

/// Waits for the others to leave, and ends those that do not. For processes whose sessions are gone.
pub(crate) async fn send_off(restart: &Restart, serving: ProcessId) {
    for process in others(restart, serving) {
        let pid = process.id.pid;
        let left = match ProcessHandle::open(process.id) {
            Ok(Some(handle)) => handle.wait(LEAVE_DEADLINE).await,
            Ok(None) => true,
            Err(_) => false,
        };
        if left {
            restart.log.line(format_args!("process {pid} is gone"));
            continue;
        }
        match stop::terminate(process.id, stop::TERM_DEADLINE).await {
            Ok(ended) => restart
                .log
                .line(format_args!("process {pid} did not leave by itself: ended by {ended}")),
            Err(error) => restart.log.line(format_args!("process {pid} cannot be ended: {error}")),
        }
    }
}

/// Waits until the others have emptied themselves, for when there is no keeper; `false` when `interrupted`.
pub(crate) async fn wait_empty(
    restart: &Restart,
    serving: ProcessId,
    deadline: Duration,
    mut interrupted: impl FnMut() -> bool,
) -> bool {
    let end = Instant::now() + deadline;
    while Instant::now() < end && !others(restart, serving).is_empty() {
        if interrupted() {
            return false;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    true
}
