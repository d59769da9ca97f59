//! Processes this one started, and those they left behind: each is ended by its own pid.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const STOP_PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(10);
/// A daemon that is just forking may be missed by one look.
const EMPTY_LOOKS: u32 = 3;

/// A process that writes to a log of its own and is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the command in the folder of `log`, to which is appended what it says.
    pub fn start(command: &mut Command, log: PathBuf) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(&log)?;
        if let Some(folder) = log.parent() {
            command.current_dir(folder);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child, log })
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The end of what it said.
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Resident memory in MiB, rounded up.
    pub fn resident_mb(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kb: u64 = line
            .and_then(|value| value.split_whitespace().next())
            .and_then(|number| number.parse().ok())
            .context("no VmRSS in the process's status")?;
        Ok(kb.div_ceil(1024))
    }

    /// Ends it by SIGTERM, and by SIGKILL when that takes too long.
    pub fn stop(mut self) {
        if self.ended().is_none() {
            signal(self.pid(), Signal::SIGTERM);
            let deadline = Instant::now() + STOP_PATIENCE;
            while self.ended().is_none() && Instant::now() < deadline {
                thread::sleep(PAUSE);
            }
        }
    }

    /// Ends it by SIGKILL.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            // It may end by itself in this moment.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ends every process at work below `root`, until none is left: proxies by their working directory, guards by the
/// directory they were given. `root` must be a directory nobody else works in.
pub fn end_all_under(root: &Path) {
    let deadline = Instant::now() + STOP_PATIENCE;
    let mut empty_looks = 0;
    while empty_looks < EMPTY_LOOKS && Instant::now() < deadline {
        let found = at_work_under(root);
        empty_looks = if found.is_empty() { empty_looks + 1 } else { 0 };
        for pid in found {
            signal(pid, Signal::SIGKILL);
        }
        thread::sleep(PAUSE);
    }
}

fn at_work_under(root: &Path) -> Vec<u32> {
    all(|pid| lives_under(pid, root) || guards_under(pid, root))
}

/// The processes whose working directory is below `dir`: a proxy's, if it is the proxy's home.
pub fn of_home(dir: &Path) -> Vec<u32> {
    all(|pid| lives_under(pid, dir))
}

/// The guards at work on restarts below `root`.
pub fn guards(root: &Path) -> Vec<u32> {
    all(|pid| guards_under(pid, root))
}

/// This process is none of them.
fn all(which: impl Fn(u32) -> bool) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id() && which(*pid))
        .collect()
}

// A zombie has neither directory nor command line.

fn lives_under(pid: u32, root: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(root))
}

fn guards_under(pid: u32, root: &Path) -> bool {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut arguments = arguments.split(|byte| *byte == 0).skip(1).map(String::from_utf8_lossy);
    arguments.next().as_deref() == Some("guard")
        && arguments.next().is_some_and(|dir| Path::new(&*dir).starts_with(root))
}

/// Sends a signal.
pub fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        // Whoever is gone needs no signal.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}
