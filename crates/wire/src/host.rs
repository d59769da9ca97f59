//! Hosts: answers of `/api/v2/compute/hosts…`. Absent values are `null` here, as in OCP's answers.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A host; it appears when it is added, or when its agent enrols.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "OCP's member names say it; the notable ones are commented")]
pub struct Host {
    pub alias: Option<String>,
    pub architecture: String,
    /// *Extension*: when the certificate of the host's agent expires, once the agent has told; absent before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expire_time: Option<Timestamp>,
    pub create_time: Timestamp,
    pub description: Option<String>,
    pub host_agent_id: i64,
    /// AVAILABLE or OFFLINE.
    pub host_agent_status: String,
    pub host_agent_version: String,
    pub id: i64,
    pub idc_description: Option<String>,
    pub idc_id: i64,
    pub idc_name: String,
    pub inner_ip_address: String,
    pub kind: HostKind,
    /// The host name.
    pub name: String,
    /// Kernel release.
    pub operating_system: String,
    /// Distribution tag, `el7`.
    pub operating_system_release: String,
    pub publish_ports: Option<String>,
    pub region_description: Option<String>,
    pub region_id: i64,
    pub region_name: String,
    pub serial_number: Option<String>,
    pub services: Vec<HostService>,
    pub ssh_port: u16,
    /// NEW until it has an agent, AVAILABLE without services, ONLINE with some, OFFLINE when its agent is away, DELETING
    /// while it is taken away.
    pub status: String,
    pub type_description: Option<String>,
    pub type_id: i64,
    pub type_name: String,
    pub update_time: Timestamp,
}

/// Body of `POST /api/v2/compute/hosts/batchCreate`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateHosts {
    /// Another name; for one host only.
    #[serde(default)]
    pub alias: Option<String>,
    /// *Extension*: the address that proxies on the hosts listen on, all unless told.
    #[serde(default)]
    pub bind_address: Option<String>,
    /// How to log in.
    pub credential_id: i64,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
    /// The hosts.
    #[serde(deserialize_with = "crate::id::few")]
    pub host_basic_data_list: Vec<HostBasicData>,
    /// The IDC they are in.
    #[serde(default)]
    pub idc_id: Option<i64>,
    /// *Extension*: the directory that agent and proxies live in.
    #[serde(default)]
    pub install_path: Option<String>,
    /// Machines or containers.
    #[serde(default)]
    pub kind: HostKind,
    /// The agent's port, 2889 unless told.
    #[serde(default)]
    pub mgragent_port: Option<u16>,
    /// Sent by some clients; of no effect, as there is one agent to a host.
    #[serde(default)]
    pub monagent_cpu_quota: Option<serde_json::Value>,
    /// Sent by some clients; of no effect.
    #[serde(default)]
    pub monagent_memory_quota: Option<serde_json::Value>,
    /// Sent by some clients; of no effect.
    #[serde(default)]
    pub monagent_port: Option<u16>,
    /// Ports that a container publishes, `8080:8080`.
    #[serde(default)]
    pub publish_ports: Option<Vec<String>>,
    /// Port of their SSH servers, 22 unless told.
    #[serde(default)]
    pub ssh_port: Option<u16>,
    /// Their host type.
    #[serde(default)]
    pub type_id: Option<i64>,
}

/// A host to be added.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostBasicData {
    /// Where it is reached.
    pub inner_ip_address: String,
    /// The machine's serial number.
    #[serde(default)]
    pub serial_number: Option<String>,
    /// *Extension*: the fingerprint of its SSH host key, `SHA256:…`. Without it the key is believed that the host shows when
    /// it is logged in to for the first time.
    #[serde(default)]
    pub ssh_host_key: Option<String>,
}

/// Answer of `POST /api/v2/compute/hosts/batchCreate`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostsCreated<T> {
    /// One task a host.
    pub contents: Vec<T>,
    /// *Extension*: the hosts, as the Terraform provider reads it.
    pub host_ids: Vec<i64>,
    /// *Extension*: the first task, as the Terraform provider reads it.
    pub id: i64,
}

/// Body of `PATCH /api/v2/compute/hosts/{hostId}`, an *extension*. What is left out stays; an empty text takes it away.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EditHost {
    /// Another name.
    pub alias: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// The IDC it is in.
    pub idc_id: Option<i64>,
    /// Its host type.
    pub type_id: Option<i64>,
}

/// Body of `POST /api/v2/compute/hosts/batchDelete`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeleteHosts {
    /// The hosts.
    #[serde(deserialize_with = "crate::id::few")]
    pub host_id_list: Vec<i64>,
}

/// What a host is. The words are OCP's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HostKind {
    /// A machine, real or virtual.
    #[default]
    DedicatedPhysicalMachine,
    /// A container.
    DedicatedContainer,
    /// A virtual machine of a cloud.
    DedicatedEcs,
}

/// A service on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostService {
    /// Cluster name and server id, `cluster01:1`.
    pub name: String,
    /// The package it was installed from, when known.
    pub software_package_id: Option<i64>,
    /// OB_PROXY.
    #[serde(rename = "type")]
    pub service_type: String,
    /// Version and build.
    pub version: String,
}
