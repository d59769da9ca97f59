//! Who listens on a port: the inodes of the listening sockets, looked up among the processes' descriptors.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    net::SocketAddr,
    path::Path,
};

use super::{
    all_pids, proc_dir,
    sockets::{self, BOTH, Family},
};

/// Whether the process holds a socket that listens on the TCP port.
pub fn listens_on(pid: i32, port: u16) -> io::Result<bool> {
    let sockets = listening_sockets(&BOTH, port)?;
    Ok(holds_any(pid, &sockets))
}

/// Likewise, only sockets of IPv4.
pub fn listens_on_ipv4(pid: i32, port: u16) -> io::Result<bool> {
    let sockets = listening_sockets(&[Family::V4], port)?;
    Ok(holds_any(pid, &sockets))
}

/// The processes that hold a socket listening on the TCP port, as far as this user may see them. While a proxy drains
/// after a hot restart there are two.
pub fn port_owners(port: u16) -> io::Result<Vec<i32>> {
    let sockets = listening_sockets(&BOTH, port)?;
    if sockets.is_empty() {
        return Ok(Vec::new());
    }
    Ok(all_pids()?.filter(|pid| holds_any(*pid, &sockets)).collect())
}

/// Where the process listens for TCP, in its own network namespace; sorted.
pub fn listening_of(pid: i32) -> io::Result<Vec<SocketAddr>> {
    let mut listening = HashMap::new();
    for family in BOTH {
        for socket in sockets::around(pid, family)? {
            listening.insert(socket.inode, socket.address);
        }
    }
    let held = sockets_of(pid)?;
    let mut addresses: Vec<_> = held.filter_map(|inode| listening.get(&inode).copied()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// The user whose socket listens on the TCP port, whether or not its process can be looked at.
pub fn port_user(port: u16) -> io::Result<Option<u32>> {
    for family in BOTH {
        let sockets = sockets::here(family)?;
        if let Some(socket) = sockets.iter().find(|socket| socket.address.port() == port) {
            return Ok(Some(socket.uid));
        }
    }
    Ok(None)
}

fn holds_any(pid: i32, sockets: &HashSet<u64>) -> bool {
    sockets_of(pid).is_ok_and(|mut held| held.any(|inode| sockets.contains(&inode)))
}

/// The inodes of the process's sockets.
fn sockets_of(pid: i32) -> io::Result<impl Iterator<Item = u64>> {
    let entries = fs::read_dir(proc_dir(pid).join("fd"))?;
    Ok(entries
        .flatten()
        .filter_map(|entry| socket_inode(&fs::read_link(entry.path()).ok()?)))
}

fn socket_inode(target: &Path) -> Option<u64> {
    target
        .to_str()?
        .strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

fn listening_sockets(families: &[Family], port: u16) -> io::Result<HashSet<u64>> {
    let mut inodes = HashSet::new();
    for family in families {
        let of_port = sockets::here(*family)?.into_iter();
        inodes.extend(
            of_port
                .filter(|socket| socket.address.port() == port)
                .map(|socket| socket.inode),
        );
    }
    Ok(inodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_owner_of_a_listening_port() {
        let own = std::process::id() as i32;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listens_on(own, port).unwrap());
        assert_eq!(port_owners(port).unwrap(), [own]);
        assert_eq!(port_user(port).unwrap(), Some(nix::unistd::getuid().as_raw()));
        assert!(listening_of(own).unwrap().contains(&listener.local_addr().unwrap()));
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!listens_on(own, client.local_addr().unwrap().port()).unwrap());
        drop(listener);
        assert!(!listens_on(own, port).unwrap());
    }

    #[test]
    fn a_socket_of_ipv6_is_told_apart() {
        let own = std::process::id() as i32;
        let Ok(listener) = std::net::TcpListener::bind("[::1]:0") else {
            return eprintln!("skipped: no IPv6 here");
        };
        let port = listener.local_addr().unwrap().port();
        assert!(listens_on(own, port).unwrap());
        assert!(!listens_on_ipv4(own, port).unwrap());
        assert!(listening_of(own).unwrap().contains(&listener.local_addr().unwrap()));
    }
}
