//! Log files of a proxy, as its agent tells of them.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Most bytes of a log file that are read at once.
pub const LOG_TAIL_MOST: u64 = 64 * 1024 * 1024;

/// The log files of a proxy: answer to `GET /v1/proxies/{id}/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyLogs {
    /// By name.
    pub logs: Vec<ProxyLog>,
}

/// A log file of a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyLog {
    /// When it was last written.
    pub modify_time: Timestamp,
    /// Its name in the proxy's `log` directory.
    pub name: String,
    /// Bytes it has.
    pub size: u64,
}
