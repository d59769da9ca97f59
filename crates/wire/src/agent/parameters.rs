//! What a proxy is configured with.

use serde::{Deserialize, Serialize};

use crate::version::ProxyVersion;

/// Stands for a value that is a secret.
pub const SECRET_VALUE: &str = "******";

/// The configuration of a proxy as it was just read: answer of `GET /v1/proxies/{id}/parameters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyParameters {
    /// Changes whenever a value does, or what waits for a restart; not with secrets and what is forgotten at a restart.
    pub digest: String,
    /// Version and build that answered.
    pub version: ProxyVersion,
    /// The items, by name.
    pub items: Vec<ParameterReading>,
}

/// One item of a proxy's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterReading {
    /// Its name.
    pub name: String,
    /// Its value, [`SECRET_VALUE`] in the place of a password's hash.
    pub value: String,
    /// The value in force, where another one waits for a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<String>,
    /// What the proxy says of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub info: String,
    /// Whether a new value acts from the next start only.
    pub need_restart: bool,
    /// Its bounds, as the proxy writes them; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub range: String,
    /// `USER`, `SYS` or `MEMORY`: the last are forgotten at a restart.
    pub visible: String,
}
