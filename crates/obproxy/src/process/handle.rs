//! A hold on one process: waiting for its end, and signals that can hit nobody else.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use tokio::io::{Interest, unix::AsyncFd};

use super::{ProcessId, Signal};

/// Why a signal was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// Pids 0, 1 and the negative ones stand for groups, for everybody, or for the host itself.
    #[error("process {pid} is never signalled")]
    Forbidden {
        /// The pid.
        pid: i32,
    },
    /// It is gone.
    #[error("process {pid} is gone")]
    Gone {
        /// The pid.
        pid: i32,
    },
    /// The kernel refused.
    #[error("process {pid} cannot be signalled")]
    Io {
        /// The pid.
        pid: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A pidfd: it goes on naming its process when the pid is used again.
#[derive(Debug)]
pub struct ProcessHandle {
    id: ProcessId,
    fd: OwnedFd,
}

impl ProcessHandle {
    /// Takes hold of a process; `None` when it is gone.
    pub fn open(id: ProcessId) -> Result<Option<Self>, SignalError> {
        let pid = (id.pid > 1)
            .then(|| Pid::from_raw(id.pid))
            .flatten()
            .ok_or(SignalError::Forbidden { pid: id.pid })?;
        let fd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(errno) => {
                return Err(SignalError::Io {
                    pid: id.pid,
                    source: errno.into(),
                });
            }
        };
        // Checked after the open: from here on the descriptor cannot change its process.
        Ok(id.is_alive().then_some(Self { id, fd }))
    }

    /// Which process it is.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        self.id.is_alive()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), SignalError> {
        let number = match signal {
            Signal::SIGTERM => rustix::process::Signal::TERM,
            Signal::SIGKILL => rustix::process::Signal::KILL,
            // SIGUSR1 and SIGUSR2 sent at the wrong moment make OBProxy kill every process of its user.
            _ => return Err(SignalError::Forbidden { pid: self.id.pid }),
        };
        match pidfd_send_signal(&self.fd, number) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::SRCH) => Err(SignalError::Gone { pid: self.id.pid }),
            Err(errno) => Err(SignalError::Io {
                pid: self.id.pid,
                source: errno.into(),
            }),
        }
    }

    /// Waits for its end, whoever its parent is; `false` if it still runs at the deadline.
    pub async fn wait(&self, deadline: Duration) -> bool {
        let ended = async {
            let watch = watch(self.fd.try_clone()?)?;
            watch.readable().await.map(drop)
        };
        // A descriptor that cannot be watched is answered by /proc.
        match tokio::time::timeout(deadline, ended).await {
            Ok(Ok(())) => true,
            Ok(Err(_)) | Err(_) => !self.is_alive(),
        }
    }
}

/// A pidfd becomes readable when its process ends.
#[expect(
    unsafe_code,
    reason = "tokio has no safe way any more to watch a descriptor that is no socket"
)]
fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the AsyncFd owns the descriptor, nobody else can reach it, and an OwnedFd keeps its number and stays open
    // until it is dropped.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    registered.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[tokio::test]
    async fn waits_for_an_end_and_signals_only_its_own_process() {
        let mut child = Command::new("/bin/sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = child.id() as i32;
        let id = super::super::Process::read(pid).unwrap().id;
        let handle = ProcessHandle::open(id).unwrap().unwrap();
        assert!(!handle.wait(Duration::from_millis(10)).await);
        assert!(matches!(
            handle.signal(Signal::SIGUSR2),
            Err(SignalError::Forbidden { .. })
        ));
        let recycled = ProcessId {
            start_ticks: id.start_ticks + 1,
            ..id
        };
        assert!(ProcessHandle::open(recycled).unwrap().is_none());
        assert!(handle.is_alive());
        handle.signal(Signal::SIGKILL).unwrap();
        assert!(handle.wait(Duration::from_secs(10)).await);
        child.wait().unwrap();
        assert!(matches!(handle.signal(Signal::SIGTERM), Err(SignalError::Gone { .. })));
    }

    #[test]
    fn nobody_signals_everybody() {
        for pid in [-1, 0, 1] {
            let refused = ProcessHandle::open(ProcessId { pid, start_ticks: 0 });
            assert!(matches!(refused, Err(SignalError::Forbidden { .. })), "{pid}");
        }
    }
}
