//! The agent's side: starting a guard, finding it again, watching it, calling it back.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use obfleet_obproxy::process::{Process, ProcessId};
use obfleet_wire::agent::DrainPolicy;

use crate::{control, log, plan::Plan, state::State};

/// A guard that lives listens some milliseconds after its start.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// Between two looks at a state file.
const LOOK_INTERVAL: Duration = Duration::from_millis(25);

/// Starts the guard of a new restart: `<exe> guard <dir>`, which must call [`crate::main`]. Blocks until it answers.
///
/// `dir` is made; [`io::ErrorKind::AlreadyExists`] when a restart was planned in it before: attach to that one.
pub fn start(exe: &Path, dir: &Path, plan: &Plan) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let dir = dir.canonicalize()?;
    if State::path(&dir).exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    plan.save(&dir)?;
    // From here on the proxy is owned.
    State::new(&plan.restart_id, plan.proxy_id).save(&dir)?;
    launch(exe, &dir)
}

/// Starts a guard for a restart whose own died: it decides by what runs and what the state says, and brings the proxy
/// to one healthy process. Does nothing if the guard lives or the restart has ended. Blocks until the guard answers.
pub fn recover(exe: &Path, dir: &Path) -> io::Result<()> {
    let dir = dir.canonicalize()?;
    let handle = Handle::attach(&dir);
    if handle.state()?.phase.is_final() || handle.alive()? {
        return Ok(());
    }
    launch(exe, &dir)
}

/// The directory of the unfinished restart of a proxy among the restarts of `restarts`: while there is one, nobody but
/// its guard starts or stops the proxy.
pub fn owns(restarts: &Path, proxy_id: i64) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(restarts) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let dir = entry?.path();
        match State::load(&dir) {
            Ok(state) if state.proxy_id == proxy_id && !state.phase.is_final() => return Ok(Some(dir)),
            Ok(_) => {}
            // A directory made an instant ago, or none of a restart.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Returns as soon as the guard answers or has died.
fn launch(exe: &Path, dir: &Path) -> io::Result<()> {
    let output = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(dir.join("guard.log"))?;
    let mut command = Command::new(exe);
    command.arg("guard").arg(dir).current_dir("/").stdin(Stdio::null());
    let detached = command.stderr(output).output()?;
    if !detached.status.success() {
        return Err(io::Error::other(format!(
            "'{} guard' ended with {}",
            exe.display(),
            detached.status
        )));
    }
    // One that cannot be read is gone already.
    let guard = Process::read(pid_told(&detached.stdout)?)
        .ok()
        .map(|process| process.id);
    let end = Instant::now() + START_DEADLINE;
    while Instant::now() < end {
        // Asked first: what a guard did before its end is seen below.
        let alive = guard.is_some_and(ProcessId::is_alive);
        // A restart can be over before anybody could say hello.
        if control::is_listening(dir) || State::load(dir)?.phase.is_final() {
            return Ok(());
        }
        if !alive {
            let reason = format!("the guard in {} died at its start; see guard.log there", dir.display());
            return Err(io::Error::other(reason));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let reason = format!("the guard in {} does not answer; see guard.log there", dir.display());
    Err(io::Error::new(io::ErrorKind::TimedOut, reason))
}

/// The guard's pid, as the process that detached it tells.
fn pid_told(output: &[u8]) -> io::Result<i32> {
    let text = String::from_utf8_lossy(output);
    text.trim().parse().map_err(|_| {
        let reason = format!("a guard was started, and instead of its pid came '{}'", text.trim());
        io::Error::new(io::ErrorKind::InvalidData, reason)
    })
}

/// Why a wait ended without what was waited for.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The guard died: [`recover`].
    #[error("the guard of {} died", dir.display())]
    GuardDied {
        /// The restart's directory.
        dir: PathBuf,
    },
    /// It goes on.
    #[error("the restart in {} goes on", dir.display())]
    TimedOut {
        /// The restart's directory.
        dir: PathBuf,
    },
    /// The state cannot be read.
    #[error("the state of {} cannot be read", dir.display())]
    Io {
        /// The restart's directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why a restart was not called back.
#[derive(Debug, thiserror::Error)]
pub enum RevertError {
    /// The guard says no: the restart has ended. Start a new one with the old binary.
    #[error("{0}")]
    Refused(String),
    /// The guard does not answer: [`recover`], and try again.
    #[error("the guard does not answer")]
    Io(#[from] io::Error),
}

/// A restart, wherever it stands.
#[derive(Debug, Clone)]
pub struct Handle {
    dir: PathBuf,
}

impl Handle {
    /// The restart of a directory.
    pub fn attach(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where it stands.
    pub fn state(&self) -> io::Result<State> {
        State::load(&self.dir)
    }

    /// What it was told to do.
    pub fn plan(&self) -> io::Result<Plan> {
        Plan::load(&self.dir)
    }

    /// Takes the passwords out of the plan if nothing more follows; may be done again.
    pub fn forget_secrets(&self) -> io::Result<()> {
        if self.state()?.phase.is_final() {
            Plan::forget_secrets(&self.dir)?;
        }
        Ok(())
    }

    /// Whether its guard runs.
    pub fn alive(&self) -> io::Result<bool> {
        Ok(self.state()?.guard.is_some_and(|guard| guard.is_alive()))
    }

    /// The log lines from byte `offset` on, and the next offset.
    pub fn log_from(&self, offset: u64) -> io::Result<(Vec<String>, u64)> {
        log::read(&self.dir, offset)
    }

    /// Waits until the guard has decided about the new process: the state then has a
    /// [`verdict`](crate::State::verdict).
    pub async fn wait_verdict(&self, deadline: Duration) -> Result<State, WaitError> {
        self.wait_for(deadline, |state| state.verdict().is_some()).await
    }

    /// Waits until nothing more follows.
    pub async fn wait_end(&self, deadline: Duration) -> Result<State, WaitError> {
        self.wait_for(deadline, |state| state.phase.is_final()).await
    }

    /// Waits for any condition on the state.
    pub async fn wait_for(
        &self,
        deadline: Duration,
        mut condition: impl FnMut(&State) -> bool,
    ) -> Result<State, WaitError> {
        let end = Instant::now() + deadline;
        let dir = || self.dir.clone();
        let read = || self.state().map_err(|source| WaitError::Io { dir: dir(), source });
        loop {
            let state = read()?;
            if condition(&state) {
                return Ok(state);
            }
            if state.guard.is_some_and(|guard| !guard.is_alive()) {
                // Its last word may have come after the look above.
                let last = read()?;
                return if condition(&last) {
                    Ok(last)
                } else {
                    Err(WaitError::GuardDied { dir: dir() })
                };
            }
            if Instant::now() >= end {
                return Err(WaitError::TimedOut { dir: dir() });
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Tells the guard to go back to what served before; returns when it has accepted, [`Handle::wait_end`] tells how
    /// it ended. `drain`: how sessions of the processes that go are ended.
    pub async fn revert(&self, drain: DrainPolicy) -> Result<(), RevertError> {
        match control::send(&self.dir, control::Command::Revert { drain })
            .await?
            .refused
        {
            None => Ok(()),
            Some(reason) => Err(RevertError::Refused(reason)),
        }
    }
}
