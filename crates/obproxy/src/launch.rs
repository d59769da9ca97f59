//! Starting a proxy in its home.
//!
//! The exit code of OBProxy tells nothing: it daemonises at once, and a failed start ends with 0. A start succeeded
//! when the SQL port accepts, belongs to the new process, and `root@proxysys` logs in; the reasons of a failed one are
//! in `log/obproxy.log`.

use std::{
    io,
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use obfleet_wire::agent::ProxySpec;

use crate::{
    admin::{AdminConn, AdminError},
    config_store,
    process::{self, Process, ProcessId},
    run_as::RunAs,
    stop::{self, StopError},
};

mod log_tail;
mod options;

use log_tail::LogTail;
pub use options::{DEFAULT_CHECK_INTERVAL, password_hash, sql_address};

/// A proxy listens 0.15 s after its start; a loaded host with a large store gets two hundred times that.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// One login of a proxy that listens already.
const LOGIN_DEADLINE: Duration = Duration::from_secs(5);

/// Between two looks at a starting proxy.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Looks in a row without any process before a start counts as failed: one look at `/proc` may miss a process that
/// is just forking.
const EMPTY_LOOKS: u32 = 5;

/// Why a proxy was not started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Two proxies must never share a home.
    #[error("process {pid} runs in {} already", home.display())]
    AlreadyRunning {
        /// The home.
        home: PathBuf,
        /// Who.
        pid: i32,
    },
    /// Somebody else listens on its SQL port.
    #[error("port {port} is taken by {}", owners(pids))]
    PortTaken {
        /// The SQL port.
        port: u16,
        /// Who, as far as it can be seen.
        pids: Vec<i32>,
    },
    /// A parameter cannot be passed to a proxy.
    #[error("parameter {name}: {reason}")]
    Parameter {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The executable could not be run, or `/proc` not be read.
    #[error("{} cannot be run", path.display())]
    Run {
        /// The executable.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended at once.
    #[error("the proxy in {} did not start: {}", home.display(), reasons(log))]
    Failed {
        /// The home.
        home: PathBuf,
        /// What it wrote to its log at level EDIAG.
        log: Vec<String>,
    },
    /// It runs and does not serve; it was ended.
    #[error("the proxy in {} does not serve {} s after its start: {last}", home.display(), START_DEADLINE.as_secs())]
    TimedOut {
        /// The home.
        home: PathBuf,
        /// What stood in the way last.
        last: String,
    },
    /// It serves, and an admin call failed.
    #[error("root@proxysys cannot be used")]
    Admin(#[from] AdminError),
    /// It could not be stopped after its first start.
    #[error("it cannot be stopped after its first start")]
    Stop(#[from] StopError),
}

fn owners(pids: &[i32]) -> String {
    if pids.is_empty() {
        return "a process of another user".to_owned();
    }
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    format!("process {}", pids.join(", "))
}

fn reasons(log: &[String]) -> String {
    if log.is_empty() {
        "its log/obproxy.log gives no reason".to_owned()
    } else {
        log.join(" | ")
    }
}

/// The very first start: with all options, which the proxy stores; then stops it and starts it bare, so that no
/// password hash stays on a command line. Nobody may know of the proxy before this returns.
///
/// `home` must hold `bin/obproxy`, and nothing may run in it.
pub async fn first_start(home: &Path, spec: &ProxySpec) -> Result<Process, LaunchError> {
    let address = sql_address(spec);
    let arguments = options::first_start(spec)?;
    let first = launch(home, address, &spec.sys_password, &arguments.command_line).await?;
    if !arguments.by_sql.is_empty() {
        let mut admin = AdminConn::connect(address, &spec.sys_password, LOGIN_DEADLINE).await?;
        for (name, value) in &arguments.by_sql {
            admin.set_config(name, value).await?;
        }
        admin.close().await;
    }
    stop::terminate(first.id, stop::TERM_DEADLINE).await?;
    bare_start(home, address, &spec.sys_password).await
}

/// The stored configuration of a proxy and whose it is, `None` for this process's own user. The user that wrote it is the one
/// the proxy runs as: what another one leaves behind it could not read.
pub fn owner_of_store(home: &Path) -> Option<(PathBuf, Option<RunAs>)> {
    let store = config_store::path(home)?;
    let owner = RunAs::owner_of(&store).ok()?;
    Some((store, owner))
}

/// Starts a proxy that was started before: everything comes from its store.
pub async fn bare_start(home: &Path, address: SocketAddr, sys_password: &str) -> Result<Process, LaunchError> {
    launch(home, address, sys_password, &[]).await
}

async fn launch(
    home: &Path,
    address: SocketAddr,
    sys_password: &str,
    arguments: &[String],
) -> Result<Process, LaunchError> {
    let executable = home.join("bin/obproxy");
    let failed = |source| LaunchError::Run {
        path: executable.clone(),
        source,
    };
    if let Some(running) = process::of_home(home).map_err(failed)?.first() {
        return Err(LaunchError::AlreadyRunning {
            home: home.to_owned(),
            pid: running.id.pid,
        });
    }
    if std::net::TcpStream::connect_timeout(&address, LOGIN_DEADLINE).is_ok() {
        let pids = process::port_owners(address.port()).map_err(failed)?;
        return Err(LaunchError::PortTaken {
            port: address.port(),
            pids,
        });
    }
    let log = LogTail::from_end(&home.join("log/obproxy.log"));
    let mut command = std::process::Command::new(&executable);
    // As typed by hand in the home: a hot restart runs argv[0] again, relative to the working directory.
    command
        .arg0("./bin/obproxy")
        .args(arguments)
        .current_dir(home)
        .env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if nix::unistd::geteuid().is_root() {
        RunAs::apply(owner_of_store(home).and_then(|(_, owner)| owner), &mut command);
    }
    let mut launcher = tokio::process::Command::from(command).spawn().map_err(failed)?;
    let end = Instant::now() + START_DEADLINE;
    match serving(home, address, sys_password, &mut launcher, end).await {
        Ok(process) => Ok(process),
        Err(NotServing::Ended) => Err(LaunchError::Failed {
            home: home.to_owned(),
            log: log.reasons(),
        }),
        Err(NotServing::Failed(error)) => Err(error),
        Err(NotServing::TooLate(last)) => {
            drop(launcher.start_kill());
            for process in process::of_home(home).map_err(failed)? {
                stop::kill(process.id).await?;
            }
            Err(LaunchError::TimedOut {
                home: home.to_owned(),
                last,
            })
        }
    }
}

enum NotServing {
    Ended,
    TooLate(String),
    Failed(LaunchError),
}

async fn serving(
    home: &Path,
    address: SocketAddr,
    sys_password: &str,
    launcher: &mut tokio::process::Child,
    end: Instant,
) -> Result<Process, NotServing> {
    let failed = |source| {
        NotServing::Failed(LaunchError::Run {
            path: home.join("bin/obproxy"),
            source,
        })
    };
    let mut empty_looks = 0;
    let mut last = "it does not listen".to_owned();
    while Instant::now() < end {
        let running = process::of_home(home).map_err(failed)?;
        let launched = launcher.try_wait().map_err(failed)?.is_some();
        empty_looks = if launched && running.is_empty() {
            empty_looks + 1
        } else {
            0
        };
        if empty_looks >= EMPTY_LOOKS {
            return Err(NotServing::Ended);
        }
        let listening = running
            .into_iter()
            .find(|process| process::listens_on(process.id.pid, address.port()).unwrap_or_default());
        if let Some(process) = listening.filter(|_| launched) {
            match log_in(address, sys_password, process.id).await {
                Ok(()) => return Ok(process),
                Err(error @ AdminError::Denied { .. }) => return Err(NotServing::Failed(error.into())),
                Err(error) => last = error.to_string(),
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Err(NotServing::TooLate(last))
}

async fn log_in(address: SocketAddr, sys_password: &str, process: ProcessId) -> Result<(), AdminError> {
    let mut admin = AdminConn::connect(address, sys_password, LOGIN_DEADLINE).await?;
    let pid = admin.answering_pid().await?;
    admin.close().await;
    if pid == process.pid {
        return Ok(());
    }
    Err(AdminError::Malformed {
        what: format!("process {pid} answers instead of {}", process.pid),
    })
}
