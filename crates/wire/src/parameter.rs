//! Parameters of proxies: `/api/v2/obproxy/parameterInfo` and `/api/v2/obproxy/clusters/{id}/parameters…`.

use serde::{Deserialize, Serialize};

use crate::{obproxy::Parameter, time::Timestamp};

/// How a parameter's value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ParameterType {
    /// `true` or `false`.
    Bool,
    /// A size such as `64KB`.
    Capacity,
    /// A number with decimals.
    Double,
    /// An integer.
    Int,
    /// A time of day.
    Moment,
    /// A text.
    String,
    /// Texts with `;` between them.
    StringList,
    /// A duration such as `100ms`.
    Time,
}

/// A parameter a proxy has: what it is called, and which values it takes. All values are texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterInfo {
    /// Its bounds, `[0,100]`, or the words it takes.
    pub allowed_string_values: Option<String>,
    /// Its value when nobody sets one.
    pub default_value: Option<String>,
    /// What proxies of this version say of it; none has been asked yet otherwise.
    pub description: Option<String>,
    /// More about it; there is no more.
    pub explanation: Option<String>,
    /// Number in the list of its version.
    pub id: i64,
    /// Its upper bound.
    pub max_value: Option<String>,
    /// Its lower bound.
    pub min_value: Option<String>,
    /// Its name.
    pub name: String,
    /// Whether a new value acts from the next start only.
    pub need_restart: bool,
    /// Whether it is not changed as a parameter.
    pub readonly: bool,
    /// How its value is written.
    #[serde(rename = "type")]
    pub value_type: ParameterType,
    /// The version of proxies this is of.
    pub version: String,
}

/// A parameter, as the proxies of a cluster have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObproxyClusterParameter {
    /// What the proxies say of it.
    pub description: String,
    /// *Extension*: the value the cluster gives its proxies; absent where it gives none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_value: Option<String>,
    /// *Extension*: whether some proxy has another value than it should; `…/parameters/drift` tells which.
    pub drift: bool,
    /// Its name.
    pub name: String,
    /// Whether a new value acts from the next start only.
    pub need_reboot: bool,
    /// *Extension*: the proxies that go on with another value until they are restarted.
    pub pending_restart: Vec<PendingRestart>,
    /// The value most proxies have.
    pub value_string: String,
    /// The values there are, and who has them.
    pub values: Vec<ParameterValue>,
}

/// A value, and the proxies that have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterValue {
    /// Addresses of the proxies' hosts.
    pub obproxies: Vec<String>,
    /// *Extension*: the proxies themselves; several may be on one host.
    pub obproxy_ids: Vec<i64>,
    /// The value.
    pub value: String,
}

/// *Extension*: a proxy whose process still goes by the value it started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingRestart {
    /// The value in force.
    pub in_force: String,
    /// Address of its host.
    pub ip: String,
    /// The proxy.
    pub obproxy_id: i64,
}

/// *Extension*: body of `PUT …/parameters`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateParameters {
    /// The proxies to change; all of the cluster when absent, those to come included.
    #[serde(default, deserialize_with = "crate::id::few_or_none")]
    pub obproxy_server_ids: Option<Vec<i64>>,
    /// Names and new values.
    pub parameters: Vec<Parameter>,
}

/// *Extension*: body of `POST …/parameters/drift/repair` and `…/accept`; absent for everything that drifts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DriftSelection {
    /// Only these parameters.
    pub names: Option<Vec<String>>,
    /// Only these proxies.
    #[serde(default, deserialize_with = "crate::id::few_or_none")]
    pub obproxy_server_ids: Option<Vec<i64>>,
}

/// *Extension*: where the value comes from that a proxy should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ValueSource {
    /// The cluster gives it to all its proxies.
    Cluster,
    /// It was set for this proxy.
    Server,
    /// Nobody set it: the proxy had it when it came to the cluster.
    Original,
}

/// *Extension*: a proxy that has another value than it should, because somebody changed it by SQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterDrift {
    /// The value it should have.
    pub expected_value: String,
    /// When the value was seen for the first time with what else the proxy has now.
    pub found_time: Timestamp,
    /// Address of its host.
    pub ip: String,
    /// The parameter.
    pub name: String,
    /// Whether a new value acts from the next start only.
    pub need_reboot: bool,
    /// The proxy.
    pub obproxy_id: i64,
    /// Where the value it should have comes from.
    pub source: ValueSource,
    /// The value it has.
    pub value: String,
}

/// *Extension*: how a value came to be what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ChangeKind {
    /// Somebody set it here.
    Edit,
    /// Somebody had set it by SQL, and it was accepted.
    Accept,
}

/// *Extension*: a change of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterChangeRecord {
    /// When it was made.
    pub create_time: Timestamp,
    /// How.
    pub kind: ChangeKind,
    /// The parameter.
    pub name: String,
    /// The proxies that had another value before than `valueBefore`; those it was for, where it was not for the whole cluster.
    pub obproxies: Vec<ProxyValueBefore>,
    /// Login name of who made it.
    pub operator: String,
    /// The task that made it.
    pub task_id: i64,
    /// The value after it.
    pub value_after: String,
    /// The value the cluster had before, its own or the default; absent where nobody knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_before: Option<String>,
    /// Whether it was for the whole cluster.
    pub whole_cluster: bool,
}

/// *Extension*: what a proxy had before a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyValueBefore {
    /// Address of its host; empty when it is gone.
    pub ip: String,
    /// The proxy.
    pub obproxy_id: i64,
    /// Its value.
    pub value_before: String,
}
