//! What one restart is to do: written once, before its guard starts.

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use obfleet_wire::{
    agent::{DrainPolicy, ProbeQuery, RestartMethod},
    version::ProxyVersion,
};
use serde::{Deserialize, Serialize};

use crate::durable;

const FILE: &str = "plan.json";

/// The order for one restart.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Names the restart: letters, digits, `-`.
    pub restart_id: String,
    /// The server's id of the proxy.
    pub proxy_id: i64,
    /// The proxy's home, absolute.
    pub home: PathBuf,
    /// Its SQL address.
    pub address: SocketAddr,
    /// Password of root@proxysys; empty once the restart has come to rest.
    pub sys_password: String,
    /// The executable to go to, in its slot.
    pub binary: PathBuf,
    /// Its SHA-256, hexadecimal.
    pub binary_sha256: String,
    /// The version it must answer with.
    pub version: ProxyVersion,
    /// Hot, or drain and start.
    pub method: RestartMethod,
    /// How the old process is drained.
    pub drain: DrainPolicy,
    /// Query to send through the new process before the old one is let go; gone once the restart has come to rest.
    pub probe: Option<ProbeQuery>,
}

impl Plan {
    /// Reads the plan of a restart's directory.
    pub fn load(dir: &Path) -> io::Result<Self> {
        durable::read_json(&dir.join(FILE))
    }

    /// Takes the passwords out of the plan of a restart that has come to rest; what else it says is kept for whoever
    /// wants to know what happened.
    pub(crate) fn forget_secrets(dir: &Path) -> io::Result<()> {
        let mut plan = Self::load(dir)?;
        if plan.sys_password.is_empty() && plan.probe.is_none() {
            return Ok(());
        }
        plan.sys_password.clear();
        plan.probe = None;
        plan.save(dir)
    }

    /// Writes it, readable by its owner only: it holds passwords.
    pub(crate) fn save(&self, dir: &Path) -> io::Result<()> {
        durable::write_json(&dir.join(FILE), self)
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("restart_id", &self.restart_id)
            .field("proxy_id", &self.proxy_id)
            .field("home", &self.home)
            .field("version", &self.version)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}
