//! Who listens on a port: the inodes of the listening sockets, looked up among the processes' descriptors.

use std::{collections::HashSet, fs, io, path::Path};

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
        match fs::read_to_string(table) {
            Ok(text) => sockets.extend(text.lines().filter_map(|line| listening_inode(line, port))),
            // A kernel without IPv6 has no such table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sockets)
}

/// The inode in a line of `/proc/net/tcp` if it is a socket listening on the port.
fn listening_inode(line: &str, port: u16) -> Option<u64> {
    const LOCAL: usize = 1;
    const STATE: usize = 3;
    const INODE: usize = 9;
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, hex) = fields.get(LOCAL)?.rsplit_once(':')?;
    let matches = u16::from_str_radix(hex, 16).ok()? == port && *fields.get(STATE)? == LISTEN;
    matches.then(|| fields.get(INODE)?.parse().ok()).flatten()
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
}
