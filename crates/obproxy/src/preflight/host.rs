//! Checks of the host: its memory, its disk, other people's watchdogs, and from where it reaches its proxy.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
};

use super::{Findings, Request};
use crate::{admin::AdminError, config_items::parse_bytes, process};

/// The staged copy and the kept one, and room for the logs of two processes.
const SPARE_DISK: u64 = 256 * 1024 * 1024;

/// The watchdogs of obd and of OCP are both called so.
const WATCHDOG: &str = "obproxyd.sh";

/// Watchdogs keyed on pid or command line break at a hot restart, or start a second proxy.
pub(super) fn watchdogs(home: &Path, findings: &mut Findings) {
    let Ok(pids) = process::all_pids() else { return };
    for pid in pids {
        let line = process::command_line(pid).unwrap_or_default();
        let is_watchdog = line
            .iter()
            .any(|word| Path::new(word).file_name().is_some_and(|name| name == WATCHDOG));
        let of_home = || {
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == home)
                || line.iter().any(|word| Path::new(word).starts_with(home))
        };
        if is_watchdog && of_home() {
            let reason = format!("the watchdog {WATCHDOG} of another tool looks after {}", home.display());
            findings.obstacle(
                format_args!("process {pid}"),
                reason,
                "disable it in the tool that installed the proxy",
            );
        }
    }
}

/// Room for two more copies of the binary.
pub(super) fn disk(request: &Request<'_>, findings: &mut Findings) {
    let size = fs::metadata(request.binary).map_or(0, |meta| meta.len());
    let needed = 2 * size + SPARE_DISK;
    match nix::sys::statvfs::statvfs(request.home) {
        Ok(stat) => {
            let free = stat.blocks_available() * stat.fragment_size();
            if free < needed {
                let reason = format!("{} MiB are free, {} MiB are needed", mebi(free), mebi(needed));
                findings.obstacle(request.home.display(), reason, "make room on its file system");
            }
        }
        Err(errno) => findings.unreadable(request.home.display(), &errno.into()),
    }
}

/// During the drain two proxies run side by side.
pub(super) fn memory(limit: Option<&str>, findings: &mut Findings) {
    let Some((limit, needed)) = limit.and_then(|limit| Some((limit, parse_bytes(limit)?))) else {
        return;
    };
    let available = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| available_memory(&text));
    if let Some(available) = available.filter(|available| *available < needed) {
        findings.warn(format_args!(
            "{} MiB of memory are available, a second proxy may take {limit} (proxy_mem_limited) during the drain",
            mebi(available)
        ));
    }
}

fn mebi(bytes: u64) -> u64 {
    bytes >> 20
}

fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibi: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibi * 1024)
}

/// Reason and next step of a login that failed. A wrong password and a source that is not let in are answered alike,
/// so the source the kernel picks tells them apart.
pub(super) fn login_trouble(address: SocketAddr, error: &AdminError) -> (String, String) {
    let next = |text: &str| text.to_owned();
    match error {
        AdminError::Denied { message } => match source_to(address) {
            Ok(source) if !is_let_in(source) => (
                format!(
                    "{message}; a proxy lets root@proxysys in from 127.0.0.1, ::1 and 192.168/16 only, this is {source}"
                ),
                next("bind the proxy to 0.0.0.0, or set skip_proxy_sys_private_check=true on it"),
            ),
            _ => (
                message.clone(),
                next("correct the password the agent keeps for root@proxysys"),
            ),
        },
        AdminError::Refused { .. } => ("nobody listens there".to_owned(), next("start the proxy first")),
        other => (other.to_string(), next("see log/obproxy.log of the proxy")),
    }
}

/// The source address the kernel picks towards an address; nothing is sent.
fn source_to(address: SocketAddr) -> io::Result<IpAddr> {
    let any: SocketAddr = if address.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    Ok(socket.local_addr()?.ip())
}

/// OBProxy's own idea of loopback and private addresses.
fn is_let_in(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(v4) => v4 == std::net::Ipv4Addr::LOCALHOST || v4.octets()[..2] == [192, 168],
        IpAddr::V6(v6) => v6 == std::net::Ipv6Addr::LOCALHOST || v6.segments()[0] & 0xfe00 == 0xfc00,
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, process::Stdio};

    use super::*;

    #[test]
    fn reads_the_available_memory() {
        assert_eq!(
            available_memory("MemFree: 1 kB\nMemAvailable:    2048 kB\n"),
            Some(2 << 20)
        );
        assert_eq!(available_memory("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn tells_a_wrong_source_from_a_wrong_password() {
        let denied = AdminError::Denied { message: "no".into() };
        let (_, next) = login_trouble("127.0.0.1:1".parse().unwrap(), &denied);
        assert!(next.contains("password"));
        for (ip, let_in) in [
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("10.1.1.1", false),
            ("172.16.0.1", false),
            ("192.168.7.1", true),
            ("::1", true),
            ("fd00::1", true),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_let_in(ip.parse().unwrap()), let_in, "{ip}");
        }
    }

    #[test]
    fn finds_the_watchdog_of_this_home_only() {
        let home = tempfile::tempdir().unwrap();
        let script = home.path().join(WATCHDOG);
        fs::write(&script, "echo ready; read line\n").unwrap();
        let mut command = std::process::Command::new("/bin/sh");
        command
            .arg(&script)
            .arg(home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut watchdog = command.spawn().unwrap();
        let mut ready = [0; 6];
        watchdog.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        let mut findings = Findings::default();
        let other = tempfile::tempdir().unwrap();
        watchdogs(other.path(), &mut findings);
        assert!(findings.obstacles.is_empty());
        watchdogs(home.path(), &mut findings);
        assert_eq!(findings.obstacles.len(), 1);
        drop(watchdog.stdin.take());
        watchdog.wait().unwrap();
    }
}
