//! A proxy that somebody else installed, looked at before it is taken over. Nothing is changed by that.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::{AccessFlags, access, geteuid};
use obfleet_obproxy::{
    admin::{AdminConn, AdminError},
    discovery::{self, Found, Seen},
    run_as::RunAs,
};
use obfleet_wire::agent::{Examination, ExamineRequest, FoundWatchdog, Obstacle, ProxyParameters};

use crate::{describe, discovery as on_host, operations::Node, reach, readings, units};

/// For the login and each question after it.
const ADMIN: Duration = Duration::from_secs(5);
const MEBI: u64 = 1 << 20;

/// A proxy that was looked at.
pub(crate) struct Examined {
    /// What is told of it.
    pub(crate) told: Examination,
    /// What was found, if it is one.
    pub(crate) found: Option<Found>,
    /// Where it is reached.
    pub(crate) address: Option<SocketAddr>,
    /// The password that let us in.
    pub(crate) password: Option<String>,
}

impl Node {
    /// Looks at the proxy of a port.
    pub(crate) async fn examine(&self, request: &ExamineRequest) -> io::Result<Examined> {
        let port = request.sql_port;
        let mut candidates = on_host::find(&self.registry).await?;
        candidates.retain(|found| serves_on(found, port));
        let mut examined = Examined {
            told: Examination {
                proxy: None,
                parameters: None,
                obstacles: Vec::new(),
            },
            found: None,
            address: None,
            password: None,
        };
        let found = match <[Found; 1]>::try_from(candidates) {
            Ok([one]) => one,
            Err(none) if none.is_empty() => {
                examined.told.obstacles.push(Obstacle::NotRunning { port });
                return Ok(examined);
            }
            Err(several) => {
                let newest = several.iter().filter_map(Found::newest);
                let pids = newest.map(|process| process.id.pid).collect();
                examined.told.obstacles.push(Obstacle::SeveralCandidates { port, pids });
                return Ok(examined);
            }
        };
        let obstacles = &mut examined.told.obstacles;
        about_processes(&found, obstacles);
        about_files(&found, &self.layout.slots(), obstacles);
        about_watchdogs(&found, obstacles);
        examined.address = address_of(&found, port);
        if let Some(address) = examined.address
            && found.told.obproxy_server_id.is_none()
        {
            match log_in(address, &request.passwords).await {
                Ok((password, parameters)) => {
                    examined.password = Some(password);
                    examined.told.parameters = Some(parameters);
                }
                Err(obstacle) => obstacles.push(obstacle),
            }
        }
        examined.told.proxy = Some(found.told.clone());
        examined.found = Some(found);
        Ok(examined)
    }
}

fn serves_on(found: &Found, port: u16) -> bool {
    match found.told.sql_port {
        Some(sql) => sql == port,
        // Where it may not be looked at, nobody knows which of its ports it is.
        None => found
            .processes
            .iter()
            .any(|process| process.port_option() == Some(port)),
    }
}

fn address_of(found: &Found, port: u16) -> Option<SocketAddr> {
    let listening = &found.newest()?.listening;
    let address = listening.iter().find(|address| address.port() == port)?;
    Some(discovery::reachable(*address))
}

fn about_processes(found: &Found, obstacles: &mut Vec<Obstacle>) {
    if let Some(proxy_id) = found.told.obproxy_server_id {
        obstacles.push(Obstacle::Managed { proxy_id });
    }
    if found.processes.len() > 1 {
        let pids = found.processes.iter().map(|process| process.id.pid).collect();
        obstacles.push(Obstacle::Restarting { pids });
    }
    let Some(newest) = found.newest() else { return };
    let pid = newest.id.pid;
    if newest.container {
        obstacles.push(Obstacle::Container { pid });
    }
    let own = geteuid();
    if newest.cwd.is_none() || (!own.is_root() && own.as_raw() != newest.uid) {
        let user = newest.user_name();
        obstacles.push(Obstacle::AnotherUser { user, pid });
    }
    if let Some(root) = newest.foreign_root() {
        let root = root.display().to_string();
        obstacles.push(Obstacle::OtherRoot { root });
    }
    if let Some(home) = found.home()
        && !is_called_as_of(home, newest)
    {
        let argv0 = newest.argv.first().cloned().unwrap_or_default();
        obstacles.push(Obstacle::CalledElsewhere { argv0 });
    }
    if found.told.version.is_none() {
        obstacles.push(Obstacle::VersionUnknown);
    }
}

/// A hot restart runs what the process was called by, which must be the file that is replaced.
fn is_called_as_of(home: &Path, process: &Seen) -> bool {
    let Some(called) = process.argv0_path() else {
        return false;
    };
    let directory = called.parent().and_then(|parent| parent.canonicalize().ok());
    directory.as_deref() == Some(&home.join("bin")) && called.file_name().is_some_and(|name| name == "obproxy")
}

fn about_files(found: &Found, slots: &Path, obstacles: &mut Vec<Obstacle>) {
    let (Some(home), Some(newest)) = (found.home(), found.newest()) else {
        return;
    };
    if newest.container {
        // Its paths are not those of this process.
        return;
    }
    for dir in [home.join("bin"), home.join("etc")] {
        if access(&dir, AccessFlags::W_OK).is_err() {
            let path = dir.display().to_string();
            obstacles.push(Obstacle::NotWritable { path });
        }
    }
    if let Some((path, owner)) = obfleet_obproxy::launch::owner_of_store(home)
        && owner != RunAs::user_of(newest.id.pid).ok().flatten()
    {
        let (user, path) = (newest.user_name(), path.display().to_string());
        obstacles.push(Obstacle::OtherOwner { user, path });
    }
    let exe = PathBuf::from(format!("/proc/{}/exe", newest.id.pid));
    let size = std::fs::metadata(exe).map_or(0, |meta| meta.len());
    // The slot; and in the home, what an upgrade stages and keeps.
    for (path, copies) in [(slots, 1), (home, 2)] {
        let Ok(stat) = nix::sys::statvfs::statvfs(path) else {
            continue;
        };
        let free = stat.blocks_available() * stat.fragment_size();
        let needed = size * copies;
        if free < needed {
            obstacles.push(Obstacle::NoRoom {
                path: path.display().to_string(),
                needed: needed.div_ceil(MEBI),
                free: free / MEBI,
            });
        }
    }
}

fn about_watchdogs(found: &Found, obstacles: &mut Vec<Obstacle>) {
    obstacles.extend(found.told.watchdogs.iter().filter_map(|watchdog| match watchdog {
        FoundWatchdog::Obd { .. } | FoundWatchdog::Obproxyd { .. } => None,
        FoundWatchdog::Systemd { .. } if units::may_hold() => None,
        FoundWatchdog::Systemd { unit, .. } => Some(Obstacle::SystemdUnit { unit: unit.clone() }),
        FoundWatchdog::Unknown { pid, command } => Some(Obstacle::UnknownWatchdog {
            pid: *pid,
            command: command.clone(),
        }),
    }));
}

/// Tries the passwords. A proxy gives the same answer to a wrong one and to a source it lets nobody in from; which it is
/// follows from the source.
async fn log_in(address: SocketAddr, passwords: &[String]) -> Result<(String, ProxyParameters), Obstacle> {
    let failed = |error: AdminError| Obstacle::NoAnswer {
        reason: describe(&error),
    };
    for password in passwords {
        let mut admin = match AdminConn::connect(address, password, ADMIN).await {
            Ok(admin) => admin,
            Err(AdminError::Denied { .. }) => continue,
            Err(error) => return Err(failed(error)),
        };
        let items = admin.show_config("%").await.map_err(failed)?;
        let version = admin.binary_info().await.map_err(failed)?;
        admin.close().await;
        return Ok((password.clone(), readings::told(version, items)));
    }
    match reach::source_to(address) {
        Ok(source) if !reach::is_let_in(source) => Err(Obstacle::SourceNotLetIn {
            source: source.to_string(),
        }),
        _ => Err(Obstacle::WrongPassword),
    }
}

/// The names of obstacles, with what each is about.
pub(crate) fn names(obstacles: &[Obstacle]) -> String {
    if obstacles.is_empty() {
        return "it does not let the agent in".to_owned();
    }
    let names: Vec<_> = obstacles
        .iter()
        .filter_map(|obstacle| serde_json::to_string(obstacle).ok())
        .collect();
    names.join(", ")
}
