//! Who listens on a port: the inodes of the listening sockets, looked up among the processes' descriptors.

use std::{
    collections::HashSet,
    fs,
    io::{self, BufRead, BufReader},
    path::Path,
};

use super::{all_pids, proc_dir};

/// The sockets of IPv4 and of IPv6.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// Whether the process holds a socket that listens on the TCP port.
pub fn listens_on(pid: i32, port: u16) -> io::Result<bool> {
    let sockets = listening_sockets(&TABLES, port)?;
    Ok(holds_any(pid, &sockets))
}

/// Likewise, only sockets of IPv4.
pub fn listens_on_ipv4(pid: i32, port: u16) -> io::Result<bool> {
    let sockets = listening_sockets(&TABLES[..1], port)?;
    Ok(holds_any(pid, &sockets))
}

/// The processes that hold a socket listening on the TCP port, as far as this user may see them. While a proxy drains
/// after a hot restart there are two.
pub fn port_owners(port: u16) -> io::Result<Vec<i32>> {
    let sockets = listening_sockets(&TABLES, port)?;
    if sockets.is_empty() {
        return Ok(Vec::new());
    }
    Ok(all_pids()?.filter(|pid| holds_any(*pid, &sockets)).collect())
}

fn holds_any(pid: i32, sockets: &HashSet<u64>) -> bool {
    let Ok(entries) = fs::read_dir(proc_dir(pid).join("fd")) else {
        return false;
    };
    entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| socket_inode(&target).is_some_and(|inode| sockets.contains(&inode)))
}

fn socket_inode(target: &Path) -> Option<u64> {
    target
        .to_str()?
        .strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

fn listening_sockets(tables: &[&str], port: u16) -> io::Result<HashSet<u64>> {
    let mut sockets = HashSet::new();
    for table in tables {
        match fs::File::open(table) {
            Ok(file) => sockets.extend(listening_inodes(BufReader::new(file), port)?),
            // A kernel without IPv6 has no such table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sockets)
}

/// The kernel lists listening sockets before all others: the rest, which may be a hundred thousand connections, is
/// neither made nor read.
fn listening_inodes(table: impl BufRead, port: u16) -> io::Result<Vec<u64>> {
    let mut inodes = Vec::new();
    for line in table.lines().skip(1) {
        let line = line?;
        let Some(socket) = Socket::parse(&line).filter(|socket| socket.listens) else {
            break;
        };
        if socket.port == port {
            inodes.push(socket.inode);
        }
    }
    Ok(inodes)
}

/// A line of `/proc/net/tcp`.
struct Socket {
    port: u16,
    listens: bool,
    inode: u64,
}

impl Socket {
    fn parse(line: &str) -> Option<Self> {
        const LISTEN: &str = "0A";
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?;
        let (_, port) = local.rsplit_once(':')?;
        Some(Self {
            port: u16::from_str_radix(port, 16).ok()?,
            listens: state == LISTEN,
            inode: inode.parse().ok()?,
        })
    }
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
    }

    #[test]
    fn the_kernel_lists_listening_sockets_first() {
        let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _connections: Vec<_> = (0..20)
            .map(|_| std::net::TcpStream::connect(first.local_addr().unwrap()).unwrap())
            .collect();
        let last = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = std::process::id() as i32;
        assert!(listens_on_ipv4(own, last.local_addr().unwrap().port()).unwrap());
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let sockets: Vec<Socket> = table.lines().skip(1).filter_map(Socket::parse).collect();
        assert_eq!(sockets.len(), table.lines().count() - 1);
        assert!(sockets.is_sorted_by_key(|socket| !socket.listens));
    }
}
