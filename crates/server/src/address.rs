//! Addresses: where clients and agents reach a server, and where the other servers do; and of which network a client is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::http::Uri;

/// An address that was given is of no use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// For clients.
    #[error("'{0}' is no URL that clients could be given; write --public-url as http://host:port")]
    Public(String),
    /// For other servers.
    #[error("'{0}' is no URL that other servers could call; write --peer-url as http://host:port")]
    Peer(String),
}

/// Where a server is reached.
#[derive(Debug, PartialEq, Eq)]
pub struct Addresses {
    /// By clients and agents. Paths are put behind it as it is.
    pub public: String,
    /// By other servers.
    pub peer: String,
}

impl Addresses {
    /// Those of a server that listens on `listen` and speaks `scheme` there, as far as they are not given. Other servers
    /// call at the public URL unless that is HTTPS, which somebody else may speak.
    pub fn of(
        scheme: &str,
        listen: SocketAddr,
        public: Option<&str>,
        peer: Option<&str>,
    ) -> Result<Self, AddressError> {
        let own = format!("{scheme}://{}", reachable(listen));
        let public = match public {
            Some(given) => checked(given).ok_or_else(|| AddressError::Public(given.to_owned()))?,
            None => own.clone(),
        };
        let peer = match peer {
            Some(given) => checked(given).ok_or_else(|| AddressError::Peer(given.to_owned()))?,
            None if is_plain(&public) => public.clone(),
            None => own,
        };
        Ok(Self { public, peer })
    }

    /// The host in the public URL, without the port: what OCP calls the executor.
    pub fn host(&self) -> &str {
        let url = &*self.public;
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let authority = rest.split('/').next().unwrap_or(rest);
        match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => authority,
        }
    }
}

/// The URL, if paths can be put behind it.
fn checked(given: &str) -> Option<String> {
    let url = given.trim_end_matches('/');
    let uri: Uri = url.parse().ok()?;
    let good = matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() && uri.query().is_none();
    good.then(|| url.to_owned())
}

fn is_plain(url: &str) -> bool {
    url.starts_with("http://")
}

/// What others on this machine can connect to.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
        _ => address,
    }
}

/// What an address is counted as: one host has a whole /64 of IPv6 addresses.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen() -> SocketAddr {
        ([0, 0, 0, 0], 8080).into()
    }

    fn public(given: &str) -> Result<Addresses, AddressError> {
        Addresses::of("http", listen(), Some(given), None)
    }

    #[test]
    fn a_public_url_is_one_that_paths_can_be_put_behind() {
        for (given, url) in [
            ("http://10.0.0.1:8080", "http://10.0.0.1:8080"),
            ("https://fleet.example/", "https://fleet.example"),
            ("https://example.org/fleet/", "https://example.org/fleet"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(public(given).unwrap().public, url);
        }
        for given in [
            "",
            "foo",
            "10.0.0.1:8080",
            "ftp://x",
            "http://",
            "http://a b",
            "http://x?y=1",
            "/",
        ] {
            assert_eq!(public(given), Err(AddressError::Public(given.to_owned())));
        }
    }

    #[test]
    fn the_executor_is_the_host_of_the_url() {
        assert_eq!(public("http://10.0.0.1:8080").unwrap().host(), "10.0.0.1");
        assert_eq!(public("https://fleet.example/").unwrap().host(), "fleet.example");
        assert_eq!(public("http://[::1]:8080/x").unwrap().host(), "[::1]");
        assert_eq!(public("http://[::1]").unwrap().host(), "[::1]");
    }

    #[test]
    fn other_servers_call_the_server_itself() {
        let peer = |public, peer| Addresses::of("http", listen(), public, peer).map(|all| all.peer);
        let ok = |url: &str| Ok(url.to_owned());
        assert_eq!(peer(None, None), ok("http://127.0.0.1:8080"));
        assert_eq!(peer(Some("http://10.0.0.1:80"), None), ok("http://10.0.0.1:80"));
        assert_eq!(peer(Some("https://fleet.example"), None), ok("http://127.0.0.1:8080"));
        let given = Some("http://10.0.0.2:8080/");
        assert_eq!(peer(Some("https://fleet.example"), given), ok("http://10.0.0.2:8080"));
        let given = Some("https://10.0.0.2:8443");
        assert_eq!(peer(None, given), ok("https://10.0.0.2:8443"));
        let bad = "10.0.0.2:8080";
        assert_eq!(peer(None, Some(bad)), Err(AddressError::Peer(bad.to_owned())));
        let with_tls = Addresses::of("https", listen(), Some("https://fleet.example"), None).unwrap();
        assert_eq!(with_tls.peer, "https://127.0.0.1:8080");
    }

    #[test]
    fn a_host_of_version_6_is_all_of_its_network() {
        let of = |address: &str| network(address.parse().unwrap()).to_string();
        assert_eq!(of("::ffff:10.0.0.2"), "10.0.0.2");
        assert_eq!(of("2001:db8::ffff"), "2001:db8::");
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8::1"));
    }
}
