//! What an adopted proxy came with, so that it can be given back as it was: its password, and what looked after it.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use obfleet_obproxy::{discovery::Seen, process, run_as::RunAs};
use obfleet_wire::agent::FoundWatchdog;
use serde::{Deserialize, Serialize};

/// What of a watchdog's environment is kept: what its script needs to run programs.
const VARIABLES: [&str; 5] = ["HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "USER"];

/// What a proxy came with.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// Its password of root@proxysys.
    pub password: String,
    /// Loops that were to start it again.
    pub watchdogs: Vec<Watchdog>,
    /// Units of systemd that ran it.
    #[serde(default)]
    pub units: Vec<String>,
}

/// A loop that starts a proxy again: what it takes to begin it once more. Its arguments may be secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Watchdog {
    /// Whether it is the one of OceanBase Deployer.
    pub of_obd: bool,
    exe: PathBuf,
    argv: Vec<String>,
    cwd: PathBuf,
    environment: BTreeMap<String, String>,
    run_as: Option<RunAs>,
}

impl Watchdog {
    /// The loop that runs as this process.
    pub fn of(found: &FoundWatchdog, process: &Seen) -> io::Result<Self> {
        let pid = process.id.pid;
        let missing = || io::Error::new(io::ErrorKind::PermissionDenied, "it may not be looked at");
        let environment = process::environment(pid)?;
        Ok(Self {
            of_obd: matches!(found, FoundWatchdog::Obd { .. }),
            exe: process.exe.clone().ok_or_else(missing)?,
            argv: process.argv.clone(),
            cwd: process.cwd.clone().ok_or_else(missing)?,
            environment: environment
                .into_iter()
                .filter(|(name, _)| VARIABLES.contains(&name.as_str()))
                .collect(),
            run_as: RunAs::user_of(pid)?,
        })
    }

    /// Whether a process runs the same, by whatever name its shell was called.
    pub fn is(&self, process: &Seen) -> bool {
        let same = process.argv.len() > 1 && process.argv.get(1..) == self.argv.get(1..);
        same && process.cwd.as_ref() == Some(&self.cwd)
    }

    /// Begins the loop again, in the background and nobody's child. The one of OceanBase Deployer begins by ending the proxy
    /// whose pid its file holds, which is kept from it: the file is given the pid of the proxy that runs, and `kill` does
    /// nothing in that shell.
    pub fn begin(&self, home: &Path, proxy: i32) -> io::Result<()> {
        let mut command = Command::new("/bin/sh");
        let mut script = "\"$@\" &";
        if self.of_obd {
            let is_bash = self.exe.file_name().is_some_and(|name| name == "bash");
            if !is_bash {
                let reason = format!("its shell {} cannot be kept from ending the proxy", self.exe.display());
                return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
            }
            self.write_pid(home, proxy)?;
            script = "env 'BASH_FUNC_kill%%=() { :; }' \"$@\" &";
        }
        command
            .args(["-c", script, "sh"])
            .arg(&self.exe)
            .args(self.argv.iter().skip(1));
        command.current_dir(&self.cwd).env_clear().envs(&self.environment);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        RunAs::apply(self.run_as, &mut command);
        let status = command.status()?;
        match status.success() {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "the shell that starts it ended with {status}"
            ))),
        }
    }

    /// `run/obproxy-<ip>-<port>.pid`, by the arguments of the loop: home, address, port.
    fn write_pid(&self, home: &Path, proxy: i32) -> io::Result<()> {
        let script = self.argv.iter().position(|word| word.ends_with("obproxyd.sh"));
        let of = |n: usize| script.and_then(|at| self.argv.get(at + n));
        let (Some(address), Some(port)) = (of(2), of(3)) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "its arguments name no address and port",
            ));
        };
        let path = home.join("run").join(format!("obproxy-{address}-{port}.pid"));
        let beside = path.with_extension("new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The directory is the proxy's user's, who could put a link in the way.
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&beside)?;
        file.write_all(format!("{proxy}\n").as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        RunAs::give(self.run_as, &beside)?;
        fs::rename(&beside, &path)
    }
}
