//! Who answers at the proxy's address, and whether it is what was wanted.

use std::time::{Duration, Instant};

use obfleet_obproxy::{
    admin::{AdminConn, AdminError},
    binary, probe,
    process::{self, Process, ProcessId},
};
use obfleet_wire::agent::ProxyFacts;

use crate::restart::{Restart, Target};

/// One login or admin call. A proxy that accepts answers within milliseconds; while none accepts, logins queue and it
/// is better to try again than to wait.
pub(crate) const CALL_DEADLINE: Duration = Duration::from_secs(2);

/// One call on a session that is to be kept: a call given up spoils it, and listing thousands of sessions on a loaded
/// host takes a while.
const KEEPER_DEADLINE: Duration = Duration::from_secs(5);

/// Between two tries.
pub(crate) const TRY_INTERVAL: Duration = Duration::from_millis(50);

/// Who turns logins away that used to be let in does so for good. More than one, lest a hiccup decides.
pub(crate) const DENIALS: u32 = 3;

/// The probe's query; a first connection through a new proxy also fetches the cluster's layout.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);

/// A probe that fails is tried again: right after its start a proxy may not yet know its cluster.
const PROBE_TRIES: u32 = 3;

/// A process and an admin session to it, which goes on working when the process accepts no more.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) process: Process,
    pub(crate) keeper: AdminConn,
}

impl Held {
    pub(crate) fn id(&self) -> ProcessId {
        self.process.id
    }
}

/// Logs in on a new connection, and says who answered.
pub(crate) async fn log_in(restart: &Restart) -> Result<Held, AdminError> {
    let plan = &restart.plan;
    let mut keeper = AdminConn::connect(plan.address, &plan.sys_password, CALL_DEADLINE).await?;
    let pid = keeper.answering_pid().await?;
    let process = Process::read(pid).map_err(AdminError::Io)?;
    let of_home = process::of_home(&plan.home).map_err(AdminError::Io)?;
    if of_home.iter().all(|other| other.id != process.id) {
        let what = format!(
            "process {pid} answers at {}, which is none of {}",
            plan.address,
            plan.home.display()
        );
        return Err(AdminError::Malformed { what });
    }
    keeper.set_deadline(KEEPER_DEADLINE);
    Ok(Held { process, keeper })
}

/// Logs in, trying until the deadline; not when it was turned away often enough, or nobody is left who could answer.
pub(crate) async fn log_in_within(restart: &Restart, deadline: Duration) -> Result<Held, AdminError> {
    let end = Instant::now() + deadline;
    let mut denials = 0;
    loop {
        let answer = log_in(restart).await;
        denials += u32::from(matches!(answer, Err(AdminError::Denied { .. })));
        match answer {
            Err(_) if denials < DENIALS && Instant::now() < end && !is_deserted(restart) => {
                tokio::time::sleep(TRY_INTERVAL).await;
            }
            answer => return answer,
        }
    }
}

/// Whether no process of the home is left.
fn is_deserted(restart: &Restart) -> bool {
    process::of_home(&restart.plan.home).is_ok_and(|running| running.is_empty())
}

/// What was found of a process that is what was wanted.
#[derive(Debug)]
pub(crate) struct Fit {
    pub(crate) facts: ProxyFacts,
    pub(crate) probed: bool,
}

/// Judges the process that answers: its version, the digest of what it really runs, and a query through it. The error
/// says why it is not fit.
pub(crate) async fn judge(restart: &Restart, held: &mut Held, target: &Target) -> Result<Fit, String> {
    let pid = held.process.id.pid;
    let version = held
        .keeper
        .binary_info()
        .await
        .map_err(|error| format!("process {pid} does not say its version: {error}"))?;
    if version != target.version {
        return Err(format!(
            "process {pid} answers with version {version}, wanted is {}",
            target.version
        ));
    }
    let binary_sha256 = binary::sha256(&held.process.exe_path()).map_err(|error| error.to_string())?;
    if binary_sha256 != target.sha256 {
        return Err(format!(
            "process {pid} runs a file with SHA-256 {binary_sha256}, wanted is {}",
            target.sha256
        ));
    }
    let mut probed = false;
    if let Some(probe) = &target.probe {
        let mut tries = 1;
        while let Err(error) = probe::run(restart.plan.address, probe, PROBE_DEADLINE).await {
            restart.log.line(format_args!(
                "probe {tries} of {PROBE_TRIES} as {} failed: {error}",
                probe.user
            ));
            if tries == PROBE_TRIES {
                return Err(format!(
                    "the probe query as {} fails through process {pid}: {error}",
                    probe.user
                ));
            }
            tries += 1;
            tokio::time::sleep(TRY_INTERVAL).await;
        }
        probed = true;
    }
    Ok(Fit {
        facts: ProxyFacts {
            pid,
            version,
            binary_sha256,
        },
        probed,
    })
}
