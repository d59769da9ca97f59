//! Leases of TCP ports between test processes.
//!
//! A proxy cannot be given port 0, and a port found free by binding it can be taken by a neighbour before the proxy binds it.
//! So ports come from a range below the ephemeral one, and a locked file per port says who has it for as long as the lease lives.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Ports that are leased.
const PORTS: Range<u16> = 20_000..30_000;

/// A port that nobody else leases while this lives.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    _lock: Flock<File>,
}

impl PortLease {
    /// Leases a port that is free on all addresses.
    pub fn take() -> io::Result<Self> {
        let dir = std::env::temp_dir().join("obfleet-ports");
        fs::create_dir_all(&dir)?;
        let count = PORTS.len();
        // Neighbours start their search at different places, so that they seldom meet.
        let first = rand::random_range(0..count);
        for port in PORTS.cycle().skip(first).take(count) {
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(dir.join(port.to_string()))?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) if is_free(port) => return Ok(Self { port, _lock: lock }),
                Ok(_) | Err((_, Errno::EWOULDBLOCK)) => {}
                Err((_, errno)) => return Err(errno.into()),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "every port of the lease range is taken",
        ))
    }

    /// The port's number.
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn leases_are_distinct_and_given_back() {
        let leases: Vec<_> = (0..50).map(|_| PortLease::take().unwrap()).collect();
        let ports: HashSet<_> = leases.iter().map(PortLease::port).collect();
        assert_eq!(ports.len(), leases.len());
        let lock = std::env::temp_dir()
            .join("obfleet-ports")
            .join(leases[0].port().to_string());
        let locked = |path| Flock::lock(File::open(path).unwrap(), FlockArg::LockExclusiveNonblock).is_err();
        assert!(locked(&lock));
        drop(leases);
        assert!(!locked(&lock));
    }
}
