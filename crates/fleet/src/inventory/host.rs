//! Hosts, how agents join, and what the observer sees of them.

use std::collections::BTreeMap;

use obfleet_wire::{agent::HostFacts, host::HostKind, obproxy::ProxyStatus, time::Timestamp};
use serde::{Deserialize, Serialize};

use super::site::HostPlace;
use crate::bootstrap::BootstrapSettings;

/// A host and its agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Id of the host, and of its agent.
    pub id: i64,
    /// What the agent told of it; of a host without an agent, what was found out by looking.
    pub facts: HostFacts,
    /// Where the server reaches the agent.
    pub address: String,
    /// Port of the agent's API.
    pub agent_port: u16,
    /// Version of the agent.
    pub agent_version: String,
    /// Whether the agent answered when last asked.
    pub online: bool,
    /// Whether a service of ours is, or is about to be, on it.
    pub reserved: bool,
    /// What people say of it.
    pub profile: HostProfile,
    /// How far it is between being added and being gone.
    pub stage: HostStage,
    /// How its agent was put on it, if the fleet did that.
    pub bootstrap: Option<BootstrapSettings>,
    /// Whether it is gone.
    pub deleted: bool,
    /// When it was added.
    pub created: Timestamp,
    /// When its row last changed.
    pub updated: Timestamp,
}

impl Host {
    /// Whether an agent has enrolled for it.
    pub fn has_agent(&self) -> bool {
        !self.facts.host_uid.is_empty()
    }

    /// Whether proxies can be put on it.
    pub fn is_ready(&self) -> bool {
        self.online && self.stage == HostStage::Ready
    }
}

/// What people say of a host: no part of it comes from its agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostProfile {
    /// Another name.
    pub alias: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// IDC and host type.
    pub place: HostPlace,
    /// A machine or a container.
    pub kind: HostKind,
    /// Ports that a container publishes, `8080:8080,8090:8090`.
    pub publish_ports: Option<String>,
    /// The machine's serial number.
    pub serial_number: Option<String>,
    /// Port of its SSH server, where it is not the usual one.
    pub ssh_port: Option<u16>,
}

/// How far a host is between being added and being gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HostStage {
    /// An agent is being put on it.
    New,
    /// It has an agent.
    Ready,
    /// It is being taken away.
    Deleting,
}

/// A one-time enrolment token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolToken {
    /// Public part.
    pub id: String,
    /// SHA-256 of the secret part: the key of the enrolment's proof.
    pub key: Vec<u8>,
    /// When it stops working.
    pub expires: Timestamp,
    /// Where a host is that it brings.
    pub place: HostPlace,
    /// The one host it is for, if that is known.
    pub host_id: Option<i64>,
}

/// How often its agent has started a proxy again, because it had ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restarts {
    /// So often.
    pub count: i64,
    /// Why the last try failed; `None` when it did not.
    pub trouble: Option<String>,
}

/// What came of deleting hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostsDeleted {
    /// They are gone.
    Gone,
    /// There is none of this id; nothing was deleted.
    Missing(i64),
    /// This one carries these proxies; nothing was deleted.
    Carries(i64, Vec<i64>),
    /// A task is about to put an agent on this one; nothing was deleted.
    HeldBy {
        /// The host.
        host: i64,
        /// The task.
        task: i64,
        /// Its name.
        name: String,
    },
}

/// What the observer saw of the proxies of one host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostSighting {
    /// The host.
    pub host_id: i64,
    /// Whether its agent answered.
    pub online: bool,
    /// Version of the agent, when it answered.
    pub agent_version: Option<String>,
    /// Its proxies; without those the agent has not looked at yet.
    pub proxies: BTreeMap<i64, ProxySighting>,
    /// How often proxies were started again, as far as there may be news.
    pub restarts: BTreeMap<i64, Restarts>,
    /// When the agent was asked: what happened later may not be in it.
    pub asked: Timestamp,
    /// When it answered, or had not.
    pub at: Timestamp,
}

/// What the observer saw of one proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxySighting {
    /// Whether its SQL port answers.
    pub serving: bool,
    /// Whether it was stopped on purpose.
    pub stopped: bool,
    /// Whether load balancers are told to keep away from it.
    pub offline: bool,
}

impl ProxySighting {
    /// What the proxy is doing, as far as can be seen.
    pub fn status(self) -> ProxyStatus {
        match self {
            Self { serving: true, .. } => ProxyStatus::Running,
            Self { stopped: true, .. } => ProxyStatus::Stopped,
            _ => ProxyStatus::Unavailable,
        }
    }

    /// Whether it tells anything new of a proxy with this status. One that was stopped is no failure, also where the agent
    /// does not know that it was.
    pub fn changes(self, from: ProxyStatus) -> bool {
        from != self.status() && (self.serving || from != ProxyStatus::Stopped)
    }
}
