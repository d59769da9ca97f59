//! The two logs a manager looks into: `obproxy.log` and `obproxy_diagnosis.log`.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Mutex;

use chrono::Local;
use nix::sys::utsname::uname;
use nix::unistd::{getpid, getppid, gettid};

use crate::home::Home;
use crate::trailer::Trailer;

/// Severity of a line in the main log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// An error somebody has to look at.
    Ediag,
    /// A warning.
    Wdiag,
    /// Course of events.
    Info,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ediag => "EDIAG",
            Self::Wdiag => "WDIAG",
            Self::Info => "INFO",
        })
    }
}

/// Both logs, open for appending.
#[derive(Debug)]
pub struct Log {
    main: Mutex<File>,
    diagnosis: Mutex<File>,
}

impl Log {
    /// Opens the logs of `home`.
    pub fn open(home: &Home) -> io::Result<Self> {
        let append = |path| File::options().create(true).append(true).open(path).map(Mutex::new);
        Ok(Self {
            main: append(home.main_log())?,
            diagnosis: append(home.diagnosis_log())?,
        })
    }

    /// Writes a line to the main log.
    pub fn write(&self, level: Level, message: impl fmt::Display) {
        let line = format!(
            "[{}] {level} [PROXY] standin (standin:0) [{}][Y0-0000000000000000] [lt=0] [dc=0] {message}\n",
            now(),
            gettid()
        );
        append(&self.main, &line);
    }

    /// Writes the line that tells how a start ended.
    pub fn reboot(&self, build: &Trailer, success: bool) {
        let os_release = uname()
            .map(|facts| facts.release().to_string_lossy().into_owned())
            .unwrap_or_default();
        let line = format!(
            "[{}] [{}][Y0-0000000000000000] [REBOOT](info=\"obproxy version: ObProxy-OceanBase {}-{}, revision: {}, \
             sysname: Linux, os release {os_release}, machine: {}, pid: {}, ppid: {}, result: reboot {}\")\n",
            now(),
            gettid(),
            build.version,
            build.release,
            REVISION,
            std::env::consts::ARCH,
            getpid(),
            getppid(),
            if success { "success" } else { "failed" },
        );
        append(&self.diagnosis, &line);
    }
}

/// The revision this build claims to be.
pub const REVISION: &str = "1-local-0000000000000000000000000000000000000000";

fn now() -> impl fmt::Display {
    Local::now().format("%Y-%m-%d %H:%M:%S%.6f")
}

fn append(file: &Mutex<File>, line: &str) {
    // A full disk must not stop the proxy.
    if let Ok(mut file) = file.lock() {
        let _ = file.write_all(line.as_bytes());
    }
}
