//! Sockets that listen for TCP. The kernel is asked for these alone (`sock_diag(7)`): in `/proc/net/tcp` they come first, but what
//! is read of it is a page at least, and where that is not full of them the kernel goes through its table of connections,
//! which takes milliseconds on a large machine. The file is read where the kernel does not answer, and for another network
//! namespace.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::Path,
};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};
use netlink_sys::{Socket as Netlink, protocols::NETLINK_SOCK_DIAG};

use super::proc_dir;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

pub(super) const BOTH: [Family; 2] = [Family::V4, Family::V6];

/// A socket that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listening {
    /// Where; an address of IPv4 as such, also of a socket of IPv6.
    pub address: SocketAddr,
    /// Whose it is.
    pub uid: u32,
    /// By which a descriptor is known to be of it.
    pub inode: u64,
}

/// Those of this network namespace.
pub(super) fn here(family: Family) -> io::Result<Vec<Listening>> {
    asked(family).or_else(|_| listed(Path::new("/proc/net").join(family.table()).as_path()))
}

/// Those of the process's network namespace.
pub(super) fn around(pid: i32, family: Family) -> io::Result<Vec<Listening>> {
    let namespace = |dir: &Path| fs::read_link(dir.join("ns/net")).ok();
    let own = namespace(Path::new("/proc/self"));
    if own.is_some() && own == namespace(&proc_dir(pid)) {
        return here(family);
    }
    listed(&proc_dir(pid).join("net").join(family.table()))
}

impl Family {
    fn table(self) -> &'static str {
        match self {
            Self::V4 => "tcp",
            Self::V6 => "tcp6",
        }
    }
}

fn asked(family: Family) -> io::Result<Vec<Listening>> {
    let kernel = Netlink::new(NETLINK_SOCK_DIAG)?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let (family, socket_id) = match family {
        Family::V4 => (AF_INET, SocketId::new_v4()),
        Family::V6 => (AF_INET6, SocketId::new_v6()),
    };
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::LISTEN,
        socket_id,
    };
    let mut request = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    kernel.send_to(&bytes, &netlink_sys::SocketAddr::new(0, 0), 0)?;
    let mut found = Vec::new();
    loop {
        let (bytes, _) = kernel.recv_from_full()?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(socket)) => {
                    let (id, told) = (&socket.header.socket_id, &socket.header);
                    found.push(Listening {
                        address: SocketAddr::new(id.source_address.to_canonical(), id.source_port),
                        uid: told.uid,
                        inode: told.inode.into(),
                    });
                }
                NetlinkPayload::Done(_) => return Ok(found),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                other => return Err(io::Error::other(format!("the kernel answered with {other:?}"))),
            }
            // Messages are laid out at multiples of four bytes; one without length would never end.
            let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
            rest = rest.get(length.next_multiple_of(4).max(4)..).unwrap_or_default();
        }
    }
}

fn listed(table: &Path) -> io::Result<Vec<Listening>> {
    match fs::File::open(table) {
        Ok(file) => listening(BufReader::new(file)),
        // A kernel without IPv6 has no such table.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The kernel lists listening sockets before all others: the rest, which may be a hundred thousand connections, is not read.
fn listening(table: impl BufRead) -> io::Result<Vec<Listening>> {
    let mut sockets = Vec::new();
    for line in table.lines().skip(1) {
        let line = line?;
        let Some((true, socket)) = parse(&line) else {
            break;
        };
        sockets.push(socket);
    }
    Ok(sockets)
}

/// A line of `/proc/net/tcp`. → whether the socket listens, and the socket
fn parse(line: &str) -> Option<(bool, Listening)> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let uid = fields.nth(3)?;
    let inode = fields.nth(1)?;
    let (ip, port) = local.rsplit_once(':')?;
    let socket = Listening {
        address: SocketAddr::new(parse_ip(ip)?, u16::from_str_radix(port, 16).ok()?),
        uid: uid.parse().ok()?,
        inode: inode.parse().ok()?,
    };
    Some((state == LISTEN, socket))
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
    fn the_kernel_answers_what_its_table_shows() {
        let listeners = ["127.0.0.1:0", "[::1]:0", "[::]:0"].map(std::net::TcpListener::bind);
        let own = listeners.iter().flatten().map(|one| one.local_addr().unwrap());
        let own: Vec<SocketAddr> = own.collect();
        let connected = std::net::TcpStream::connect(own[0]).unwrap();
        for family in BOTH {
            let is_own = |socket: &Listening| own.contains(&socket.address);
            let mut told: Vec<_> = asked(family).unwrap().into_iter().filter(is_own).collect();
            let pid = std::process::id().cast_signed();
            let table = proc_dir(pid).join("net").join(family.table());
            let mut shown: Vec<_> = listed(&table).unwrap().into_iter().filter(is_own).collect();
            told.sort_unstable();
            shown.sort_unstable();
            assert_eq!(told, shown, "{family:?}");
            assert_eq!(
                told.is_empty(),
                !own.iter().any(|one| one.is_ipv4() == (family == Family::V4))
            );
            let client = connected.local_addr().unwrap();
            assert!(asked(family).unwrap().iter().all(|socket| socket.address != client));
        }
    }

    #[test]
    fn addresses_are_read_as_the_kernel_prints_them() {
        let line =
            "   1: 0100007F:0B43 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0";
        let (listens, socket) = parse(line).unwrap();
        assert!(listens);
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
        let shown = listed(Path::new("/proc/net/tcp")).unwrap();
        let last = last.local_addr().unwrap();
        assert!(shown.iter().any(|socket| socket.address == last));
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let sockets: Vec<_> = table.lines().skip(1).filter_map(parse).collect();
        assert_eq!(sockets.len(), table.lines().count() - 1);
        assert!(sockets.is_sorted_by_key(|(listens, _)| !listens));
    }
}
