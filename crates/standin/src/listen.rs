//! The listening sockets and the gate before them.
//!
//! From a fork on the parent accepts nothing more but keeps its sockets in LISTEN: the child has the same ones, and clients that
//! come meanwhile wait in the kernel's queue instead of being refused.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::Config;
use crate::inherited::{InheritedFds, take_listener};

const BACKLOG: u32 = 1024;
/// Pause after an accept that failed.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(10);

/// What is done with new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Accepted.
    Open,
    /// Left in the queue.
    Paused,
    /// The sockets are closed.
    Closed,
}

/// The SQL and RPC sockets.
#[derive(Debug, Clone, Default)]
pub struct Listeners {
    /// SQL over IPv4.
    pub sql: Option<Arc<TcpListener>>,
    /// SQL over IPv6.
    pub sql_ipv6: Option<Arc<TcpListener>>,
    /// RPC over IPv4.
    pub rpc: Option<Arc<TcpListener>>,
    /// RPC over IPv6.
    pub rpc_ipv6: Option<Arc<TcpListener>>,
}

impl Listeners {
    /// Binds what the configuration in force asks for.
    pub fn bind(config: &Config) -> io::Result<Self> {
        let address = |name, fallback| config.text(name).parse::<IpAddr>().unwrap_or(fallback);
        let ipv4 = address("local_bound_ip", IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let ipv6 = address("local_bound_ipv6_ip", IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED));
        let mode = config.int("ip_listen_mode");
        let on = |ip, wanted: bool, port| {
            wanted
                .then(|| bind(SocketAddr::new(ip, port)).map(Arc::new))
                .transpose()
        };
        let (sql_port, rpc_port) = (config.port("listen_port"), config.port("rpc_listen_port"));
        let rpc = config.flag("enable_obproxy_rpc_service");
        Ok(Self {
            sql: on(ipv4, mode != 2, sql_port)?,
            sql_ipv6: on(ipv6, mode != 1, sql_port)?,
            rpc: on(ipv4, rpc && mode != 2, rpc_port)?,
            rpc_ipv6: on(ipv6, rpc && mode != 1, rpc_port)?,
        })
    }

    /// Takes over the parent's sockets. Without one on IPv4 that fails, as it does in the real proxy.
    pub fn inherit(fds: InheritedFds) -> io::Result<Self> {
        let take = |fd: Option<i32>| -> io::Result<Option<Arc<TcpListener>>> {
            let Some(fd) = fd else { return Ok(None) };
            let listener = take_listener(fd)?;
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener).map(Arc::new).map(Some)
        };
        let sql = take(fds.sql)?;
        if sql.is_none() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no socket on IPv4 was inherited",
            ));
        }
        Ok(Self {
            sql,
            sql_ipv6: take(fds.sql_ipv6)?,
            rpc: take(fds.rpc)?,
            rpc_ipv6: take(fds.rpc_ipv6)?,
        })
    }

    /// All sockets there are.
    pub fn all(&self) -> impl Iterator<Item = &Arc<TcpListener>> {
        [&self.sql, &self.sql_ipv6, &self.rpc, &self.rpc_ipv6]
            .into_iter()
            .flatten()
    }
}

/// Binds and listens with SO_REUSEADDR and without SO_REUSEPORT.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if address.is_ipv6() {
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv6V6Only, &true)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts on `listener` while the gate is open, until it is closed.
pub async fn accept_while_open(
    listener: Arc<TcpListener>,
    mut gate: watch::Receiver<Gate>,
    mut serve: impl FnMut(TcpStream, SocketAddr),
) {
    loop {
        let state = *gate.borrow_and_update();
        match state {
            Gate::Closed => return,
            Gate::Paused => {
                if gate.changed().await.is_err() {
                    return;
                }
            }
            Gate::Open => tokio::select! {
                biased;
                changed = gate.changed() => if changed.is_err() {
                    return;
                },
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => serve(stream, peer),
                    // Out of descriptors or a connection that is gone already: a later one may do better.
                    Err(_) => sleep(ACCEPT_RETRY).await,
                },
            },
        }
    }
}
