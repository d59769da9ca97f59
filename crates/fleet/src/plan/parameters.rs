//! Parameters: which values proxies should have, and what a request will do about them.
//!
//! A cluster's *set* is what it was made with, and what was set since: for all its proxies, or for one of them, which then
//! has that instead. Each change of the set raises its version; a proxy with a lower version does not have all of it yet,
//! because it was down, and is refreshed. What a proxy has besides is its own affair until somebody changes it.

pub mod check;
pub mod drift;
pub mod edit;
pub mod managed;
pub mod refresh;

use std::collections::BTreeMap;

use obfleet_config_items as config_items;
use obfleet_wire::{
    Code, Refusal,
    obproxy::{OperateStatus, ProxyStatus},
    parameter::ChangeKind,
};
use serde::{Deserialize, Serialize};

use super::Snapshot;
use crate::inventory::{Cluster, Proxy, ProxyConfig, SeenItems, WantedRow, WantedValue};

/// Names and values.
pub type Values = Vec<(String, String)>;

/// What is known of the parameters of a cluster, beside the inventory.
#[derive(Debug, Clone, Default)]
pub struct ParameterFacts {
    /// What was set since it was made.
    pub wanted: Vec<WantedValue>,
    /// What its proxies have.
    pub configs: BTreeMap<i64, ProxyConfig>,
    /// The items of its proxies' versions, where they are known, by version without build.
    pub seen: BTreeMap<String, SeenItems>,
}

/// A value a proxy should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The value.
    pub value: &'a str,
    /// The version of the set that brought it.
    pub version: i64,
    /// Whether it is for this proxy alone.
    pub own: bool,
}

/// The values a proxy should have, or all proxies of the cluster without one. Names are in lower case.
pub fn wanted<'a>(
    cluster: &'a Cluster,
    rows: &'a [WantedValue],
    proxy_id: Option<i64>,
) -> BTreeMap<String, Wanted<'a>> {
    let settings = &cluster.settings;
    let given = settings.startup_parameters.iter().chain(&settings.parameters);
    let given = given.filter(|parameter| !managed::is_managed(&parameter.name));
    let given = given.map(|parameter| {
        let wanted = Wanted {
            value: parameter.value.as_str(),
            version: 1,
            own: false,
        };
        (parameter.name.to_ascii_lowercase(), wanted)
    });
    let of = |own: Option<i64>| rows.iter().filter(move |row| row.proxy_id == own);
    let set = of(None).chain(of(proxy_id).filter(|_| proxy_id.is_some()));
    let set = set.map(|row| {
        let wanted = Wanted {
            value: row.value.as_str(),
            version: row.version,
            own: row.proxy_id.is_some(),
        };
        (row.name.clone(), wanted)
    });
    given.chain(set).collect()
}

/// The values of a set, to be sent to a proxy.
pub fn values_of(wanted: &BTreeMap<String, Wanted<'_>>) -> Vec<(String, String)> {
    let value = |(name, wanted): (&String, &Wanted<'_>)| (name.clone(), wanted.value.to_owned());
    wanted.iter().map(value).collect()
}

/// The parameters a new proxy starts with: those the cluster names for the start, with the values they have by now, and
/// whatever else of the set needs a restart.
pub fn startup(cluster: &Cluster, rows: &[WantedValue]) -> Vec<(String, String)> {
    let wanted = wanted(cluster, rows, None);
    let given = cluster.settings.startup_parameters.iter();
    let mut startup: Vec<_> = given
        .map(|parameter| {
            let name = parameter.name.to_ascii_lowercase();
            let value = wanted
                .get(&name)
                .map_or(parameter.value.as_str(), |wanted| wanted.value);
            (name, value.to_owned())
        })
        .collect();
    let needs_restart = |name: &str| config_items::find(name).is_some_and(|item| item.need_reboot);
    for (name, value) in values_of(&wanted) {
        if needs_restart(&name) && !startup.iter().any(|(given, _)| *given == name) {
            startup.push((name, value));
        }
    }
    startup
}

/// Whether both texts mean the same value of the parameter.
pub fn means_same(name: &str, one: &str, other: &str) -> bool {
    match config_items::find(name) {
        Some(item) => item.means_same(one, other),
        None => one == other,
    }
}

/// What a task does to a cluster's set, and how it is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetPlan {
    /// The version of the set before.
    pub from: i64,
    /// The version after.
    pub to: i64,
    /// The rows that change, as they are before.
    pub before: Vec<WantedRow>,
    /// The same rows, after.
    pub after: Vec<WantedRow>,
    /// The proxies that have the set after it: those that had it before, and are either changed or not concerned.
    pub current: Vec<i64>,
    /// What is kept of it.
    pub changes: Vec<PlannedChange>,
    /// How it comes about.
    pub kind: ChangeKind,
    /// Login name of who asks.
    pub operator: String,
}

/// A change of one parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedChange {
    /// The parameter.
    pub name: String,
    /// The cluster's value before, its own or the default; `None` when nobody knows it.
    pub before: Option<String>,
    /// The value after.
    pub after: String,
    /// What proxies had before, as far as the plan knows.
    pub proxies: BTreeMap<i64, String>,
    /// Whether it is for the whole cluster.
    pub whole_cluster: bool,
}

/// The cluster's value of a parameter, its own or the default.
fn value_before(cluster: &Cluster, rows: &[WantedValue], name: &str) -> Option<String> {
    let wanted = wanted(cluster, rows, None);
    let own = wanted.get(name).map(|wanted| wanted.value.to_owned());
    own.or_else(|| config_items::find(name).map(|item| item.default.clone()))
}

/// The row of a parameter as it is.
fn row(rows: &[WantedValue], proxy_id: Option<i64>, name: &str) -> WantedRow {
    let found = rows.iter().find(|row| row.proxy_id == proxy_id && row.name == name);
    WantedRow {
        proxy_id,
        name: name.to_owned(),
        value: found.map(|row| (row.value.clone(), row.version)),
    }
}

/// Whether a proxy can be given values now. One that a task holds can, as far as this is concerned: its lock refuses with
/// the name of the task.
fn takes_values(fleet: &Snapshot, proxy: &Proxy) -> bool {
    let held = proxy.operate_status == OperateStatus::Operating;
    let online = fleet.hosts.get(&proxy.host_id).is_some_and(|host| host.online);
    held || (proxy.status == ProxyStatus::Running && online)
}

/// Refuses for a proxy that was asked for and cannot be given values now.
fn refuse_unless_it_takes_values(fleet: &Snapshot, proxy: &Proxy, field: &str) -> Result<(), Refusal> {
    if takes_values(fleet, proxy) {
        return Ok(());
    }
    let host = fleet.host(proxy.host_id)?;
    Err(match proxy.status {
        ProxyStatus::Running => Refusal::new(Code::Cmp07004, [host.facts.name.as_str(), "ONLINE"]),
        status => Refusal::new(Code::Odp21016, [proxy.id.to_string().as_str(), status.as_str()]),
    }
    .field(field))
}

#[cfg(test)]
pub(crate) mod testing {
    use obfleet_wire::{obproxy::Parameter, time::Timestamp};

    use super::*;
    use crate::inventory::ConfigValues;

    pub(crate) fn parameter(name: &str, value: &str) -> Parameter {
        Parameter {
            name: name.into(),
            value: value.into(),
        }
    }

    pub(crate) fn set(proxy_id: Option<i64>, name: &str, value: &str, version: i64) -> WantedValue {
        WantedValue {
            proxy_id,
            name: name.into(),
            value: value.into(),
            version,
        }
    }

    /// A proxy of 4.2.1.0 at the defaults, but for some values.
    pub(crate) fn config(proxy_id: i64, values: &[(&str, &str)]) -> ProxyConfig {
        let defaults = config_items::all().iter();
        let mut shown: BTreeMap<_, _> = defaults.map(|item| (item.name.clone(), item.default.clone())).collect();
        shown.extend(
            values
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        ProxyConfig {
            proxy_id,
            digest: format!("{values:?}"),
            version: "4.2.1.0-11".parse().unwrap(),
            read: Timestamp(5),
            values: ConfigValues {
                shown,
                ..ConfigValues::default()
            },
        }
    }

    /// Proxies 10 and on, each with these values.
    pub(crate) fn facts(wanted: Vec<WantedValue>, configs: &[&[(&str, &str)]]) -> ParameterFacts {
        let configs = (10..).zip(configs).map(|(id, values)| (id, config(id, values)));
        ParameterFacts {
            wanted,
            configs: configs.collect(),
            seen: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::*, *};
    use crate::testing;

    fn cluster() -> Cluster {
        let mut cluster = testing::fleet_of(1, "4.2.1.0-11").clusters[&1].clone();
        cluster.settings.startup_parameters = vec![
            parameter("rootservice_list", "10.0.0.1:2881"),
            parameter("Work_Thread_Num", "64"),
            parameter("prometheus_sync_interval", "1s"),
        ];
        cluster.settings.parameters = vec![
            parameter("syslog_level", "INFO"),
            parameter("observer_sys_password", "x"),
        ];
        cluster
    }

    #[test]
    fn what_was_set_last_and_for_the_fewest_counts() {
        let rows = [
            set(None, "syslog_level", "WARN", 2),
            set(Some(10), "syslog_level", "ERROR", 3),
            set(Some(11), "proxy_idc_name", "b", 4),
        ];
        let cluster = cluster();
        let value = |proxy| {
            let wanted = wanted(&cluster, &rows, proxy);
            let level = wanted["syslog_level"];
            (level.value, level.version, level.own, wanted.len())
        };
        assert_eq!(value(None), ("WARN", 2, false, 3));
        assert_eq!(value(Some(10)), ("ERROR", 3, true, 3));
        assert_eq!(value(Some(11)), ("WARN", 2, false, 4));
        assert!(
            !wanted(&cluster, &rows, None).contains_key("rootservice_list"),
            "it is the cluster's address"
        );
    }

    #[test]
    fn a_new_proxy_starts_with_what_needs_a_restart() {
        let rows = [
            set(None, "work_thread_num", "32", 2),
            set(None, "stack_size", "2MB", 3),
            set(None, "proxy_mem_limited", "3G", 4),
            set(Some(10), "task_thread_num", "3", 5),
        ];
        let startup = startup(&cluster(), &rows);
        let startup: Vec<_> = startup.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(
            startup,
            [
                ("rootservice_list", "10.0.0.1:2881"),
                ("work_thread_num", "32"),
                ("prometheus_sync_interval", "1s"),
                ("stack_size", "2MB"),
            ]
        );
    }
}
