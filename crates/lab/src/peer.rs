//! Which executable is at the other end of a connection on this machine.
//!
//! To its ordinary clients a process of a proxy does not say which one it is. The kernel does: `/proc/net/tcp` has the
//! inode of the proxy's end of the connection, and the process that holds it open is the one that serves. Processes of
//! one proxy are compared by the file they execute, which is the same for the one that served before an upgrade and the
//! one that serves after the way back: a guard keeps the old file by a link.

use std::{fs, net::SocketAddr, os::unix::fs::MetadataExt as _, path::Path};

/// A file that is executed, whatever its names are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Executable {
    device: u64,
    inode: u64,
}

impl Executable {
    /// The file at `path`, or behind it.
    pub(crate) fn of_file(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

/// Proxies are found by the name of what they execute; behind it there may be ` (deleted)`.
const NAME: &str = "obproxy";

/// What the process executes that serves the connection from `client` to `proxy`; `None` when it is no proxy, or gone.
pub(crate) fn executable_behind(client: SocketAddr, proxy: SocketAddr) -> Option<Executable> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let socket = format!("socket:[{}]", inode(&table, proxy, client)?);
    let pids = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
    pids.filter(|process| {
        fs::read_link(process.join("exe")).is_ok_and(|exe| {
            exe.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(NAME))
        })
    })
    .find(|process| {
        let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        descriptors
            .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
            .any(|target| target.as_os_str() == socket.as_str())
    })
    .and_then(|process| Executable::of_file(&process.join("exe")))
}

/// The inode of the socket with these two ends.
fn inode(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<&str> {
    const INODE: usize = 9;
    let (local, remote) = (hexadecimal(local)?, hexadecimal(remote)?);
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        (fields.get(1) == Some(&local.as_str()) && fields.get(2) == Some(&remote.as_str()))
            .then(|| fields.get(INODE).copied())
            .flatten()
    })
}

/// As the kernel writes an address: the bytes in network order, read as a number of this machine.
fn hexadecimal(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    let ip = u32::from_ne_bytes(address.ip().octets());
    Some(format!("{ip:08X}:{:04X}", address.port()))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_other_end_is_found_in_the_table() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (served, _) = listener.accept().unwrap();
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let found = inode(&table, address, client.local_addr().unwrap()).unwrap();
        let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&served));
        assert_eq!(
            fs::read_link(own).unwrap().to_str(),
            Some(format!("socket:[{found}]").as_str())
        );
        assert_eq!(
            executable_behind(client.local_addr().unwrap(), address),
            None,
            "this is no proxy"
        );
    }
}
