//! The proxies that run on this host, whoever installed and started them. Looking changes nothing: `/proc` is read, the
//! files of each home, and what systemd and cron say; the executable that runs is asked for its version as the user it
//! runs as.
//!
//! ```text
//! seen ──┐   processes, as /proc shows them
//! home ──┤   what lies in a home
//! systemd┤   units
//! cron ──┤   tables
//!        ├─► watchdog   who would start it again      (pure)
//!        └─► origin     who started it, from where    (pure)
//! ```

mod cron;
mod home;
mod origin;
mod seen;
mod systemd;
mod watchdog;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use obfleet_wire::{
    agent::{FoundProcess, FoundProxy},
    version::ProxyVersion,
};
use tokio::{io::AsyncReadExt as _, net::TcpStream};

pub use home::HomeFacts;
pub use seen::Seen;
pub use systemd::{Unit, Units};
pub use watchdog::mentions;

#[cfg(test)]
use crate::process;
use crate::{binary, run_as::RunAs};

/// A proxy greets at once; whoever does not is something else.
const GREETING: Duration = Duration::from_secs(2);

/// What runs in one home, with what was read to tell.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its processes, the oldest first; never empty.
    pub processes: Vec<Seen>,
    /// What lies in its home.
    pub home: HomeFacts,
    /// All of it, as it is told. Whose it is, is for the agent to say.
    pub told: FoundProxy,
}

impl Found {
    /// Its home.
    pub fn home(&self) -> Option<&Path> {
        self.processes.first()?.cwd.as_deref()
    }

    /// The process that takes new connections, once a restart is over.
    pub fn newest(&self) -> Option<&Seen> {
        self.processes.last()
    }
}

/// Looks at everything that runs.
pub async fn find() -> io::Result<Vec<Found>> {
    let seen = seen::all()?;
    let units = Units::read(seen.iter().filter(|process| process.is_proxy())).await;
    let mut found = Vec::new();
    for processes in by_home(&seen) {
        found.push(describe(processes, &seen, &units).await);
    }
    Ok(found)
}

/// The proxies' processes, those of one home together, the oldest first.
fn by_home(seen: &[Seen]) -> Vec<Vec<Seen>> {
    let mut homes: BTreeMap<Option<&Path>, Vec<Seen>> = BTreeMap::new();
    for process in seen.iter().filter(|process| process.is_proxy()) {
        homes.entry(process.cwd.as_deref()).or_default().push(process.clone());
    }
    // Nothing tells which of those that cannot be looked at belong together.
    let hidden = homes.remove(&None).unwrap_or_default();
    let mut all: Vec<_> = homes.into_values().collect();
    all.extend(hidden.into_iter().map(|process| vec![process]));
    for processes in &mut all {
        processes.sort_by_key(|process| (process.id.start_ticks, process.id.pid));
    }
    all
}

async fn describe(processes: Vec<Seen>, all: &[Seen], units: &Units) -> Found {
    let home = match processes.first().and_then(|process| process.cwd.as_deref()) {
        Some(cwd) => HomeFacts::read(cwd).await,
        None => HomeFacts::default(),
    };
    let watchdogs = watchdog::of(&processes, all, units, &watchdog::ancestors_of_this_process());
    let newest = processes.last();
    let listening = newest.map(|process| process.listening.clone()).unwrap_or_default();
    let port = |name: &str| home.port(name).filter(|port| is_among(*port, &listening));
    let sql_port = sql_port(newest, &home, &listening).await;
    let told = FoundProxy {
        cron_entries: newest
            .and_then(|process| process.cwd.as_deref())
            .map(cron::about)
            .unwrap_or_default(),
        exporter_port: port("prometheus_listen_port"),
        home: newest
            .and_then(|process| process.cwd.as_deref())
            .map(|cwd| cwd.display().to_string()),
        managed: false,
        ob_cluster: home
            .setting("rootservice_cluster_name")
            .filter(|name| *name != "undefined")
            .map(str::to_owned),
        obproxy_server_id: None,
        package_layout: origin::layout(&processes),
        processes: processes.iter().map(tell).collect(),
        restarting: processes.windows(2).any(|pair| pair[1].ppid == pair[0].id.pid),
        rpc_port: port("rpc_listen_port"),
        sql_port,
        start_method: origin::start_method(&home.run_files, &watchdogs),
        user: newest.map(Seen::user_name).unwrap_or_default(),
        version: match newest {
            Some(process) => version(process).await,
            None => None,
        },
        watchdogs,
    };
    Found { processes, home, told }
}

fn tell(process: &Seen) -> FoundProcess {
    FoundProcess {
        argv0: process.argv.first().cloned().unwrap_or_default(),
        container: process.container,
        executable: process.exe.as_ref().map(|exe| exe.display().to_string()),
        executable_replaced: process.exe_replaced,
        listening: process.listening.clone(),
        parent_pid: process.ppid,
        pid: process.id.pid,
        root: process.foreign_root().map(|root| root.display().to_string()),
    }
}

/// Runs `-V` of what the process runs, as its user: an executable of somebody else's must not be run as root.
async fn version(process: &Seen) -> Option<ProxyVersion> {
    let exe = PathBuf::from(format!("/proc/{}/exe", process.id.pid));
    let run_as = RunAs::user_of(process.id.pid).ok()?;
    let version = binary::version_as(&exe, Path::new("/"), run_as).await;
    version
        .inspect_err(|error| tracing::debug!(pid = process.id.pid, %error, "the version of a proxy is not known"))
        .ok()
}

fn is_among(port: u16, listening: &[SocketAddr]) -> bool {
    listening.iter().any(|address| address.port() == port)
}

/// The port on which clients are served: the one the proxy was started with or is configured for, if it listens there;
/// else the one on which a proxy greets.
async fn sql_port(process: Option<&Seen>, home: &HomeFacts, listening: &[SocketAddr]) -> Option<u16> {
    let told = [process.and_then(Seen::port_option), home.port("listen_port")];
    if let Some(port) = told.into_iter().flatten().find(|port| is_among(*port, listening)) {
        return Some(port);
    }
    let others = ["prometheus_listen_port", "rpc_listen_port"].map(|name| home.port(name));
    for address in listening
        .iter()
        .filter(|address| !others.contains(&Some(address.port())))
    {
        if greets(*address).await {
            return Some(address.port());
        }
    }
    None
}

/// Whether somebody who speaks MySQL's protocol answers there.
async fn greets(address: SocketAddr) -> bool {
    const HEADER: usize = 4;
    const PROTOCOL: u8 = 10;
    let greeting = async {
        let mut stream = TcpStream::connect(reachable(address)).await?;
        let mut start = [0; HEADER + 1];
        stream.read_exact(&mut start).await?;
        io::Result::Ok(start[HEADER] == PROTOCOL)
    };
    tokio::time::timeout(GREETING, greeting)
        .await
        .is_ok_and(|greeted| greeted.unwrap_or_default())
}

/// Where a listener on an address is reached from its own host.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let loopback: std::net::IpAddr = match address {
        SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    match address.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(loopback, address.port()),
        ip => SocketAddr::new(ip, address.port()),
    }
}

/// The processes of one home and all the others, for whoever wants to know it again.
pub fn look() -> io::Result<Vec<Seen>> {
    seen::all()
}

/// Who would start again the proxy whose processes these are.
pub async fn watchdogs(processes: &[Seen], all: &[Seen]) -> Vec<obfleet_wire::agent::FoundWatchdog> {
    let units = Units::read(processes.iter()).await;
    watchdog::of(processes, all, &units, &watchdog::ancestors_of_this_process())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_of_a_home_are_one_proxy() {
        let process = |pid, start_ticks, cwd: Option<&str>| Seen {
            id: process::ProcessId { pid, start_ticks },
            cwd: cwd.map(PathBuf::from),
            ..Seen::sample("./bin/obproxy")
        };
        let seen = [
            process(9, 9, Some("/a")),
            process(7, 7, Some("/b")),
            process(8, 8, Some("/a")),
            process(5, 5, None),
            process(6, 6, None),
        ];
        let homes = by_home(&seen);
        let pids: Vec<Vec<i32>> = homes
            .iter()
            .map(|home| home.iter().map(|process| process.id.pid).collect())
            .collect();
        assert_eq!(pids, [vec![8, 9], vec![7], vec![5], vec![6]]);
    }

    #[tokio::test]
    async fn a_port_nobody_was_told_is_found_by_its_greeting() {
        use std::io::Write as _;
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let greeting = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = greeting.local_addr().unwrap();
        let server =
            std::thread::spawn(move || greeting.accept().unwrap().0.write_all(b"\x4a\0\0\0\x0a5.6.25").unwrap());
        let closed = {
            let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            server.local_addr().unwrap()
        };
        let listening = [closed, address];
        let found = sql_port(None, &HomeFacts::default(), &listening).await;
        assert_eq!(found, Some(address.port()));
        server.join().unwrap();
        drop(silent);
    }

    #[test]
    fn listeners_on_all_addresses_are_reached_on_loopback() {
        let at = |address: &str| reachable(address.parse().unwrap()).to_string();
        assert_eq!(at("0.0.0.0:1"), "127.0.0.1:1");
        assert_eq!(at("[::]:1"), "[::1]:1");
        assert_eq!(at("127.0.0.2:1"), "127.0.0.2:1");
    }
}
