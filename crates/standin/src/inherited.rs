//! What a hot restart hands from the old process to the new one: the listening sockets, by number, and nothing else.

use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, FromRawFd as _, RawFd};
use std::{env, fs, io};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Number of the SQL socket.
pub const SQL_FD: &str = "OBPROXY_INHERITED_FD";
/// Number of the SQL socket on IPv6.
pub const SQL_IPV6_FD: &str = "OBPROXY_INHERITED_IPV6_FD";
/// Number of the RPC socket.
pub const RPC_FD: &str = "OBPROXY_INHERITED_RPC_FD";
/// Number of the RPC socket on IPv6.
pub const RPC_IPV6_FD: &str = "OBPROXY_INHERITED_RPC_IPV6_FD";

/// Socket numbers found in the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InheritedFds {
    /// SQL over IPv4.
    pub sql: Option<RawFd>,
    /// SQL over IPv6.
    pub sql_ipv6: Option<RawFd>,
    /// RPC over IPv4.
    pub rpc: Option<RawFd>,
    /// RPC over IPv6.
    pub rpc_ipv6: Option<RawFd>,
}

impl InheritedFds {
    /// The sockets the environment names; `None` in a process that is no child of a hot restart.
    pub fn from_environment() -> Option<Self> {
        let number = |name| {
            env::var(name)
                .ok()
                .and_then(|text| text.parse::<RawFd>().ok())
                .filter(|fd| *fd > 2)
        };
        (env::var_os(SQL_FD).is_some() || env::var_os(SQL_IPV6_FD).is_some()).then(|| Self {
            sql: number(SQL_FD),
            sql_ipv6: number(SQL_IPV6_FD),
            rpc: number(RPC_FD),
            rpc_ipv6: number(RPC_IPV6_FD),
        })
    }

    /// Closes whatever else came over, apart from the standard streams.
    ///
    /// To be called before this process opens anything of its own.
    pub fn close_others(self) -> io::Result<()> {
        let keep = [self.sql, self.sql_ipv6, self.rpc, self.rpc_ipv6];
        let open: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        for fd in open.into_iter().filter(|fd| *fd > 2 && !keep.contains(&Some(*fd))) {
            // The directory's own descriptor is among them and gone by now.
            let _ = nix::unistd::close(fd);
        }
        Ok(())
    }
}

/// Takes over the listening socket with the number `fd`, to be called once per number.
pub fn take_listener(fd: RawFd) -> io::Result<TcpListener> {
    // SAFETY: the number comes from the parent, which left this descriptor open for this process; nothing else here uses it.
    #[expect(unsafe_code, reason = "a descriptor inherited by number has no safe owner yet")]
    let listener = unsafe { TcpListener::from_raw_fd(fd) };
    // Fails for a number that is no open listening socket.
    listener.local_addr()?;
    set_inheritable(&listener, false)?;
    Ok(listener)
}

/// Lets a child started from now on have `listener`, or not.
pub fn set_inheritable(listener: &impl AsFd, inheritable: bool) -> io::Result<()> {
    let flags = if inheritable {
        FdFlag::empty()
    } else {
        FdFlag::FD_CLOEXEC
    };
    fcntl(listener.as_fd(), FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// The number under which a child gets `listener`; -1 for none.
pub fn fd_text<L: AsRawFd>(listener: Option<&L>) -> String {
    listener.map_or(-1, L::as_raw_fd).to_string()
}
