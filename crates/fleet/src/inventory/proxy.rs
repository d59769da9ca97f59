//! Proxies.

use obfleet_wire::{
    obproxy::{OperateStatus, ProxyStatus},
    time::Timestamp,
    version::ProxyVersion,
};

/// One proxy.
#[derive(Debug, Clone, PartialEq)]
pub struct Proxy {
    /// Its id.
    pub id: i64,
    /// The cluster it belongs to.
    pub cluster_id: i64,
    /// The host it runs on.
    pub host_id: i64,
    /// Version and build it was last known to run.
    pub version: ProxyVersion,
    /// SQL port.
    pub sql_port: u16,
    /// Metrics port.
    pub exporter_port: u16,
    /// OBKV port.
    pub rpc_port: Option<u16>,
    /// What it is doing.
    pub status: ProxyStatus,
    /// Whether a task holds it.
    pub operate_status: OperateStatus,
    /// Version of the parameter set it has.
    pub parameter_version: i64,
    /// Whether its metrics are offered to Prometheus.
    pub exporter_registered: bool,
    /// When it was last seen serving.
    pub last_active: Option<Timestamp>,
    /// Whether load balancers are told to keep away.
    pub offline: bool,
    /// Whether it is gone.
    pub deleted: bool,
}
