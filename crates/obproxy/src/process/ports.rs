//! Who listens on a port: the inodes of the listening sockets, looked up among the processes' descriptors.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::{self, BufRead, BufReader},
    net::{IpAddr, Ipv6Addr, SocketAddr},
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

/// Where the process listens for TCP, in its own network namespace; sorted.
pub fn listening_of(pid: i32) -> io::Result<Vec<SocketAddr>> {
    let mut listening = HashMap::new();
    for table in ["net/tcp", "net/tcp6"] {
        for socket in listening_in(&proc_dir(pid).join(table))? {
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
    for table in TABLES {
        let sockets = listening_in(Path::new(table))?;
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

fn listening_sockets(tables: &[&str], port: u16) -> io::Result<HashSet<u64>> {
    let mut sockets = HashSet::new();
    for table in tables {
        let of_port = listening_in(Path::new(table))?.into_iter();
        sockets.extend(
            of_port
                .filter(|socket| socket.address.port() == port)
                .map(|socket| socket.inode),
        );
    }
    Ok(sockets)
}

fn listening_in(table: &Path) -> io::Result<Vec<Socket>> {
    match fs::File::open(table) {
        Ok(file) => listening(BufReader::new(file)),
        // A kernel without IPv6 has no such table.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The kernel lists listening sockets before all others: the rest, which may be a hundred thousand connections, is
/// neither made nor read.
fn listening(table: impl BufRead) -> io::Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for line in table.lines().skip(1) {
        let line = line?;
        let Some(socket) = Socket::parse(&line).filter(|socket| socket.listens) else {
            break;
        };
        sockets.push(socket);
    }
    Ok(sockets)
}

/// A line of `/proc/net/tcp`.
struct Socket {
    address: SocketAddr,
    listens: bool,
    uid: u32,
    inode: u64,
}

impl Socket {
    fn parse(line: &str) -> Option<Self> {
        const LISTEN: &str = "0A";
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let uid = fields.nth(3)?;
        let inode = fields.nth(1)?;
        let (ip, port) = local.rsplit_once(':')?;
        Some(Self {
            address: SocketAddr::new(parse_ip(ip)?, u16::from_str_radix(port, 16).ok()?),
            listens: state == LISTEN,
            uid: uid.parse().ok()?,
            inode: inode.parse().ok()?,
        })
    }
}

/// The kernel prints each 32 bits of an address as a number in the host's own byte order.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for word in hex.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    if let Ok(v4) = <[u8; 4]>::try_from(&bytes[..]) {
        return Some(IpAddr::from(v4));
    }
    let v6 = <[u8; 16]>::try_from(&bytes[..]).ok()?;
    Some(Ipv6Addr::from(v6).to_canonical())
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

    #[test]
    fn addresses_are_read_as_the_kernel_prints_them() {
        let line =
            "   1: 0100007F:0B43 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0";
        let socket = Socket::parse(line).unwrap();
        assert_eq!(
            (socket.address, socket.uid, socket.inode),
            ("127.0.0.1:2883".parse().unwrap(), 1000, 4711)
        );
        assert_eq!(parse_ip("00000000"), Some("0.0.0.0".parse().unwrap()));
        assert_eq!(
            parse_ip("00000000000000000000000001000000"),
            Some("::1".parse().unwrap())
        );
        assert_eq!(
            parse_ip("0000000000000000FFFF00000100007F"),
            Some("127.0.0.1".parse().unwrap())
        );
        assert_eq!(parse_ip("xyz"), None);
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
