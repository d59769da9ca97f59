//! Where proxies of this host listen, and whether root@proxysys gets in from here.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use nix::ifaddrs::getifaddrs;
use obfleet_wire::agent::ProxySpec;

/// The item that says which address a proxy listens on.
const BOUND_TO: &str = "local_bound_ip";

/// The order with the host's own address in it, unless it names one: which address that is only the host knows.
pub fn on_this_host(mut spec: ProxySpec, bind: IpAddr) -> ProxySpec {
    if !spec.parameters.iter().any(|(name, _)| name == BOUND_TO) {
        spec.parameters.push((BOUND_TO.to_owned(), bind.to_string()));
    }
    spec
}

/// The order with the address in it on which a proxy that runs already serves.
pub fn as_it_listens(mut spec: ProxySpec, reached: SocketAddr, listening: &[SocketAddr]) -> ProxySpec {
    spec.parameters.retain(|(name, _)| name != BOUND_TO);
    let bound = listening.iter().find(|address| address.port() == reached.port());
    let bound = bound.map_or(reached.ip(), SocketAddr::ip);
    spec.parameters.push((BOUND_TO.to_owned(), bound.to_string()));
    spec
}

/// The address the proxy is bound to; all of them when it names none.
pub fn bound_ip(spec: &ProxySpec) -> IpAddr {
    let bound = spec.parameters.iter().rev().find(|(name, _)| name == BOUND_TO);
    let ip = bound.and_then(|(_, value)| value.parse().ok());
    ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into())
}

/// The source address the kernel picks on the way there, which decides whether root@proxysys is let in.
///
/// # Errors
/// When there is no way there.
pub fn source_to(address: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connecting a datagram socket sends nothing.
    let probe = UdpSocket::bind((any, 0))?;
    probe.connect(address)?;
    Ok(probe.local_addr()?.ip())
}

/// Whether a proxy lets root@proxysys in from there: 127.0.0.1, ::1, 192.168/16 and fc00::/7.
pub fn is_let_in(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(ip) => ip == Ipv4Addr::LOCALHOST || ip.octets()[..2] == [192, 168],
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
    }
}

/// Whether this host has an address besides loopback: without one, OBProxy does not start.
pub fn has_outside_address() -> bool {
    getifaddrs().is_ok_and(|mut all| {
        all.any(|interface| {
            let address = interface.address;
            let v4 = address
                .as_ref()
                .and_then(|a| a.as_sockaddr_in())
                .map(|a| IpAddr::V4(a.ip()));
            let v6 = address
                .as_ref()
                .and_then(|a| a.as_sockaddr_in6())
                .map(|a| IpAddr::V6(a.ip()));
            v4.or(v6).is_some_and(|ip| !ip.is_loopback())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_picks_a_source_that_is_let_in_on_loopback() {
        for address in ["127.0.0.1:2883", "127.0.0.2:2883"] {
            assert!(is_let_in(source_to(address.parse().unwrap()).unwrap()), "{address}");
        }
    }

    #[test]
    fn sources_as_observed() {
        for (source, let_in) in [
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("10.1.1.1", false),
            ("172.16.0.1", false),
            ("192.168.7.1", true),
            ("198.51.100.1", false),
        ] {
            assert_eq!(is_let_in(source.parse().unwrap()), let_in, "{source}");
        }
    }
}
