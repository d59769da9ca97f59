//! What stands in the way of restarting a proxy onto another binary, found before anything is touched.

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use obfleet_wire::{
    agent::{PreflightReport, ProxyFacts, RestartMethod},
    version::ProxyVersion,
};

use crate::{
    admin::{AdminConn, AdminError},
    binary,
    drain::client_sessions,
    process::{self, Process},
};

mod host;
mod running;

/// Versions from here on can be restarted hot, as OCP has it.
pub const HOT_RESTART_SINCE: &str = "3.2.1";

/// One admin call of a proxy that serves.
const ADMIN_DEADLINE: Duration = Duration::from_secs(5);

/// What is to be restarted onto what.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The proxy's home.
    pub home: &'a Path,
    /// Its SQL address.
    pub address: SocketAddr,
    /// Password of root@proxysys.
    pub sys_password: &'a str,
    /// The new executable, where it lies now.
    pub binary: &'a Path,
    /// The version it must say it has.
    pub version: &'a ProxyVersion,
    /// How it is to be done.
    pub method: RestartMethod,
}

/// One thing in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// What it is about.
    pub object: String,
    /// Why it is in the way.
    pub reason: String,
    /// What to do about it.
    pub next_step: String,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            object,
            reason,
            next_step,
        } = self;
        write!(f, "{object}: {reason}; {next_step}")
    }
}

/// All that is in the way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct Obstacles(pub Vec<Obstacle>);

fn lines(obstacles: &[Obstacle]) -> String {
    let lines: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Collects what the checks find.
#[derive(Debug, Default)]
struct Findings {
    obstacles: Vec<Obstacle>,
    warnings: Vec<String>,
}

impl Findings {
    fn obstacle(&mut self, object: impl fmt::Display, reason: impl fmt::Display, next_step: impl fmt::Display) {
        self.obstacles.push(Obstacle {
            object: object.to_string(),
            reason: reason.to_string(),
            next_step: next_step.to_string(),
        });
    }

    fn warn(&mut self, warning: impl fmt::Display) {
        self.warnings.push(warning.to_string());
    }

    /// An error met while looking is itself in the way.
    fn unreadable(&mut self, object: impl fmt::Display, error: &io::Error) {
        self.obstacle(object, error, "run the agent as the user of the proxy, or as root");
    }
}

/// Checks everything a restart needs, as far as it can be known beforehand. Changes nothing.
pub async fn check(request: &Request<'_>) -> Result<PreflightReport, Obstacles> {
    let mut findings = Findings::default();
    new_binary(request, &mut findings).await;
    host::watchdogs(request.home, &mut findings);
    host::disk(request, &mut findings);
    let facts = match only_process(request.home, &mut findings) {
        Some(process) => ask(request, &process, &mut findings).await,
        None => None,
    };
    match facts {
        Some((running, sessions)) if findings.obstacles.is_empty() => Ok(PreflightReport {
            running,
            sessions,
            warnings: findings.warnings,
        }),
        _ => Err(Obstacles(findings.obstacles)),
    }
}

async fn new_binary(request: &Request<'_>, findings: &mut Findings) {
    let object = request.binary.display();
    if let Err(error) = binary::check_elf(request.binary) {
        return findings.obstacle(object, error, "upload a package for this host and install it again");
    }
    match binary::version(request.binary, request.home).await {
        Ok(version) if version == *request.version => {}
        Ok(version) => findings.obstacle(
            object,
            format_args!("it says it is {version}, wanted is {}", request.version),
            "upload the right package and install it again",
        ),
        Err(error) => findings.obstacle(object, error, "run it by hand with '-V' and see what it lacks"),
    }
}

/// The one process of the home.
fn only_process(home: &Path, findings: &mut Findings) -> Option<Process> {
    let object = home.display();
    match process::of_home(home) {
        Ok(found) => match <[Process; 1]>::try_from(found) {
            Ok([process]) => return Some(process),
            Err(found) if found.is_empty() => findings.obstacle(object, "no proxy runs here", "start the proxy first"),
            Err(found) => {
                let pids: Vec<String> = found.iter().map(|process| process.id.pid.to_string()).collect();
                let reason = format!(
                    "processes {} run here, so another restart is under way",
                    pids.join(", ")
                );
                findings.obstacle(object, reason, "wait until the older one is gone");
            }
        },
        Err(error) => findings.unreadable(object, &error),
    }
    None
}

/// Everything that needs a login.
async fn ask(request: &Request<'_>, process: &Process, findings: &mut Findings) -> Option<(ProxyFacts, u64)> {
    let mut admin = match AdminConn::connect(request.address, request.sys_password, ADMIN_DEADLINE).await {
        Ok(admin) => admin,
        Err(error) => {
            let (reason, next_step) = host::login_trouble(request.address, &error);
            findings.obstacle(format_args!("root@proxysys at {}", request.address), reason, next_step);
            return None;
        }
    };
    let answer = questions(request, process, &mut admin, findings).await;
    admin.close().await;
    match answer {
        Ok(facts) => Some(facts),
        Err(error) => {
            findings.obstacle(
                request.address,
                format_args!("an admin call failed: {error}"),
                "try again",
            );
            None
        }
    }
}

async fn questions(
    request: &Request<'_>,
    process: &Process,
    admin: &mut AdminConn,
    findings: &mut Findings,
) -> Result<(ProxyFacts, u64), AdminError> {
    let pid = admin.answering_pid().await?;
    if pid != process.id.pid {
        findings.obstacle(
            request.address,
            format_args!(
                "process {pid} answers there, the one in {} is {}",
                request.home.display(),
                process.id.pid
            ),
            "correct the proxy's address; agent and proxy must share one pid namespace",
        );
    }
    let version = admin.binary_info().await?;
    let sessions = client_sessions(admin).await?.len() as u64;
    running::executable(request, process, findings);
    match request.method {
        RestartMethod::Hot if !version.at_least(HOT_RESTART_SINCE) => findings.warn(format_args!(
            "{version} is too old for a hot restart (needs {HOT_RESTART_SINCE}): it has to be drained and started"
        )),
        RestartMethod::Hot => running::hot_restart(request, process, admin, findings).await?,
        RestartMethod::Cold => {}
    }
    let limit = admin.config_value("proxy_mem_limited").await?;
    if request.method == RestartMethod::Hot {
        host::memory(limit.as_deref(), findings);
    }
    let binary_sha256 = match binary::sha256(&process.exe_path()) {
        Ok(digest) => digest,
        Err(error) => {
            findings.obstacle(
                process.exe.display(),
                error,
                "run the agent as the user of the proxy, or as root",
            );
            String::new()
        }
    };
    Ok((
        ProxyFacts {
            pid,
            version,
            binary_sha256,
        },
        sessions,
    ))
}

/// The file a restart replaces.
fn installed(home: &Path) -> PathBuf {
    home.join("bin/obproxy")
}
