//! Ending one process, and only that one.

use std::{fmt, time::Duration};

use crate::process::{ProcessHandle, ProcessId, Signal, SignalError};

/// A proxy is gone 0.9 to 2.3 s after SIGTERM, as observed; a loaded host gets several times that.
pub const TERM_DEADLINE: Duration = Duration::from_secs(10);

/// After SIGKILL only the kernel is at work.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was gone already.
    Before,
    /// By SIGTERM.
    Term,
    /// By SIGKILL, SIGTERM having had no effect in time.
    Kill,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "itself",
            Self::Term => "SIGTERM",
            Self::Kill => "SIGKILL",
        })
    }
}

/// Why a process could not be ended.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// It could not be signalled.
    #[error("it cannot be ended")]
    Signal(#[from] SignalError),
    /// The kernel does not let go of it: it hangs in a device.
    #[error("process {pid} is still there {} s after SIGKILL", KILL_DEADLINE.as_secs())]
    Unkillable {
        /// Its pid.
        pid: i32,
    },
}

/// SIGTERM, and SIGKILL when it is still there after `term_deadline`. Its sessions are cut.
pub async fn terminate(id: ProcessId, term_deadline: Duration) -> Result<Ended, StopError> {
    let Some(handle) = ProcessHandle::open(id)? else {
        return Ok(Ended::Before);
    };
    if send(&handle, Signal::SIGTERM)? && !handle.wait(term_deadline).await {
        kill_held(&handle).await?;
        return Ok(Ended::Kill);
    }
    Ok(Ended::Term)
}

/// SIGKILL at once: for the child of a hot restart, which must not end by any signal it could handle.
pub async fn kill(id: ProcessId) -> Result<Ended, StopError> {
    let Some(handle) = ProcessHandle::open(id)? else {
        return Ok(Ended::Before);
    };
    kill_held(&handle).await?;
    Ok(Ended::Kill)
}

async fn kill_held(handle: &ProcessHandle) -> Result<(), StopError> {
    if send(handle, Signal::SIGKILL)? && !handle.wait(KILL_DEADLINE).await {
        return Err(StopError::Unkillable { pid: handle.id().pid });
    }
    Ok(())
}

/// Whether it was there to be signalled.
fn send(handle: &ProcessHandle, signal: Signal) -> Result<bool, SignalError> {
    match handle.signal(signal) {
        Ok(()) => Ok(true),
        Err(SignalError::Gone { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::process::Process;

    #[tokio::test]
    async fn term_first_then_kill() {
        let mut polite = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let id = Process::read(polite.id() as i32).unwrap().id;
        assert_eq!(terminate(id, TERM_DEADLINE).await.unwrap(), Ended::Term);
        polite.wait().unwrap();
        assert_eq!(terminate(id, TERM_DEADLINE).await.unwrap(), Ended::Before);

        let dir = tempfile::tempdir().unwrap();
        let ready = dir.path().join("ready");
        let script = format!("trap '' TERM; : > {}; while :; do sleep 0.05; done", ready.display());
        let mut stubborn = Command::new("/bin/sh").arg("-c").arg(script).spawn().unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while !ready.exists() {
            assert!(std::time::Instant::now() < end, "the shell does not get going");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let id = Process::read(stubborn.id() as i32).unwrap().id;
        assert_eq!(terminate(id, Duration::from_millis(100)).await.unwrap(), Ended::Kill);
        stubborn.wait().unwrap();
    }
}
