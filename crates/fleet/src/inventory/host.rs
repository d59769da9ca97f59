//! Hosts, how agents join, and what the observer sees of them.

use std::collections::BTreeMap;

use obfleet_wire::{agent::HostFacts, time::Timestamp};

/// A host and its agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Id of the host, and of its agent.
    pub id: i64,
    /// What the agent told of it.
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
    /// When it enrolled.
    pub created: Timestamp,
    /// When its row last changed.
    pub updated: Timestamp,
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
    /// Its proxies, and whether each serves; without those the agent has not looked at yet.
    pub serving: BTreeMap<i64, bool>,
    /// When.
    pub at: Timestamp,
}
