//! How the fleet reaches a machine without its agent's help: by SSH, to put an agent there or to take it away.

use async_trait::async_trait;
use obfleet_wire::agent::HostFacts;
use serde::{Deserialize, Serialize};

use crate::host_agent::LogLine;

/// The agent's port unless told.
pub const AGENT_PORT: u16 = 2889;

/// Port of an SSH server, unless another is known.
pub const SSH_PORT: u16 = 22;

/// How an agent was put on its host, kept with the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapSettings {
    /// The credential it was put there with.
    pub credential_id: i64,
    /// Whose that is.
    pub user_id: i64,
    /// The directory of agent and proxies; the usual one of the user who logs in unless told.
    pub root: Option<String>,
    /// The agent's port.
    pub agent_port: u16,
    /// The address that proxies listen on.
    pub bind: String,
    /// `SHA256:…` of the SSH server's host key, once it is known.
    pub host_key: Option<String>,
}

/// What it takes to log in to a machine, and what its agent is to be.
#[derive(Clone)]
pub struct Access {
    /// The host.
    pub host_id: i64,
    /// Id of the database, by which agents of other installations are told apart.
    pub installation: String,
    /// Its address.
    pub address: String,
    /// Port of its SSH server.
    pub ssh_port: u16,
    /// The user who logs in.
    pub user: String,
    /// What proves it.
    pub secret: LoginSecret,
    /// How the agent is put there.
    pub settings: BootstrapSettings,
}

/// What proves a login.
#[derive(Clone)]
pub enum LoginSecret {
    /// A password.
    Password(String),
    /// A private key.
    Key {
        /// Its text.
        text: String,
        /// What it is encrypted with, if it is.
        passphrase: Option<String>,
    },
}

/// The host an agent's directory says it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Id of the database.
    pub installation: String,
    /// The host.
    pub host_id: i64,
}

/// What was seen of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Its facts; the uid is empty.
    pub facts: HostFacts,
    /// `SHA256:…` of the SSH server's host key.
    pub host_key: String,
    /// Who does what is done there: `root`, or the user who logged in.
    pub user: String,
    /// Where the agent would live.
    pub root: String,
    /// Whether systemd would run it; otherwise a script does, which nobody starts when the machine has been started anew.
    pub systemd: bool,
    /// How far its clock is ahead of the server's, in milliseconds.
    pub ahead_ms: i64,
    /// How exactly that is known, in milliseconds.
    pub exact_to_ms: i64,
    /// Programs that are needed and missing.
    pub missing: Vec<String>,
    /// Bytes free where the agent would live.
    pub free_bytes: u64,
    /// Whether its directory can be made or written to.
    pub writable: bool,
    /// Whether its directory holds things that no agent of ours put there.
    pub occupied: bool,
    /// Whose agent is there.
    pub mark: Option<Mark>,
    /// Whether somebody listens on the agent's port.
    pub port_taken: bool,
    /// Where the agent would look for the server.
    pub server_url: String,
    /// Bytes of the agent's executable for this machine; `None` when there is none for its architecture.
    pub executable: Option<u64>,
}

/// Why something could not be done over SSH.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// No SSH server answers.
    #[error("cannot connect to {at} by SSH: {reason}; check address, SSH port and firewall, then retry")]
    Unreachable {
        /// `address:port`.
        at: String,
        /// What was seen.
        reason: String,
    },
    /// Another host key than the one known.
    #[error(
        "the SSH server at {at} shows the host key {found}, but is known by {known}: it may be another machine, so nothing was \
         sent to it; if it was set up anew, roll back, and add the host again with its sshHostKey"
    )]
    HostKey {
        /// `address:port`.
        at: String,
        /// What is known.
        known: String,
        /// What it shows.
        found: String,
    },
    /// The user is not let in.
    #[error("{user} cannot log in at {at}: {reason}; check user, credential and the SSH server's settings, then retry")]
    Login {
        /// `address:port`.
        at: String,
        /// The user.
        user: String,
        /// What was seen.
        reason: String,
    },
    /// The private key cannot be used.
    #[error("the private key of the credential cannot be used: {0}; make a new credential")]
    Key(String),
    /// It was not done, or not to its end.
    #[error("{0}")]
    Failed(String),
}

/// Machines, by SSH. Whatever changes one looks first and does what is left, and ends what earlier calls for the same host
/// still do there.
#[async_trait]
pub trait Bootstrap: Send + Sync {
    /// Logs in and looks; changes nothing.
    async fn inspect(&self, access: &Access) -> Result<Inspection, BootstrapError>;

    /// Puts the agent on and starts it, with a token for its host; what identity an agent there had is forgotten. Does not
    /// wait until it has enrolled.
    async fn install(&self, access: &Access, log: LogLine<'_>) -> Result<(), BootstrapError>;

    /// Stops the agent that was put there for host `host_id` and removes all of it. Nothing is done when it is not there, or
    /// when another one is.
    async fn remove(&self, access: &Access, host_id: i64, log: LogLine<'_>) -> Result<(), BootstrapError>;

    /// The last the agent has logged.
    async fn complaints(&self, access: &Access) -> Result<String, BootstrapError>;
}
