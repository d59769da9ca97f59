//! Parameters: what clusters give their proxies, what proxies have, and what was changed.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use obfleet_wire::{
    agent::{ParameterReading, ProxyParameters},
    parameter::ChangeKind,
    time::Timestamp,
    version::ProxyVersion,
};
use serde::{Deserialize, Serialize};

use super::InventoryError;

/// A value that was set after the cluster was made. What it was made with is in its settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WantedValue {
    /// The only proxy it is for; `None` for all of the cluster.
    pub proxy_id: Option<i64>,
    /// The parameter.
    pub name: String,
    /// Its value.
    pub value: String,
    /// The version of the cluster's set that brought it: proxies with a lower one do not have it yet.
    pub version: i64,
}

/// One row of [`WantedValue`]s, before and after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WantedRow {
    /// The only proxy it is for; `None` for all of the cluster.
    pub proxy_id: Option<i64>,
    /// The parameter.
    pub name: String,
    /// Value and version; `None` for no row.
    pub value: Option<(String, i64)>,
}

/// The configuration of a proxy when it was last read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyConfig {
    /// The proxy.
    pub proxy_id: i64,
    /// The agent's digest of it.
    pub digest: String,
    /// The version that answered.
    pub version: ProxyVersion,
    /// When it was read.
    pub read: Timestamp,
    /// Its values, and what is known besides.
    pub values: ConfigValues,
}

/// The values of a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigValues {
    /// By name.
    pub shown: BTreeMap<String, String>,
    /// The values in force of those that wait for a restart.
    pub in_force: BTreeMap<String, String>,
    /// What the proxy came with that is not the default: each item as it was when it was seen for the first time.
    pub came_with: BTreeMap<String, String>,
}

impl ProxyConfig {
    /// What an agent has read, after what was known before.
    pub fn read(proxy_id: i64, before: Option<&Self>, parameters: &ProxyParameters, at: Timestamp) -> Self {
        let mut came_with = before.map(|before| before.values.came_with.clone()).unwrap_or_default();
        for ParameterReading { name, value, .. } in &parameters.items {
            let known = obfleet_config_items::find(name);
            if before.is_none_or(|before| before.takes_anew(name, &parameters.version)) {
                if known.is_some_and(|item| item.means_same(&item.default, value)) {
                    came_with.remove(name);
                } else {
                    came_with.insert(name.clone(), value.clone());
                }
            }
        }
        let waits = |item: &ParameterReading| Some((item.name.clone(), item.in_force.clone()?));
        let shown = parameters.items.iter();
        Self {
            proxy_id,
            digest: parameters.digest.clone(),
            version: parameters.version.clone(),
            read: at,
            values: ConfigValues {
                shown: shown.map(|item| (item.name.clone(), item.value.clone())).collect(),
                in_force: parameters.items.iter().filter_map(waits).collect(),
                came_with,
            },
        }
    }

    /// Whether what a process of this version shows is what the proxy comes with: an item that it did not have, or one of
    /// another version that nobody had changed.
    fn takes_anew(&self, name: &str, version: &ProxyVersion) -> bool {
        let (had, came_with) = (self.values.shown.get(name), self.values.came_with.get(name));
        let Some(had) = had else { return true };
        if self.version == *version {
            return false;
        }
        match (obfleet_config_items::find(name), came_with) {
            (Some(item), came_with) => item.means_same(came_with.unwrap_or(&item.default), had),
            (None, came_with) => came_with == Some(had),
        }
    }
}

/// An item as the proxies of a version tell of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenItem {
    /// What they say of it.
    pub info: String,
    /// Whether a new value acts from the next start only.
    pub need_restart: bool,
    /// Its bounds; empty for none.
    pub range: String,
    /// `USER`, `SYS` or `MEMORY`.
    pub visible: String,
}

/// The items of one version, by name.
pub type SeenItems = BTreeMap<String, SeenItem>;

/// The items as the answer tells of them.
pub fn seen_items(parameters: &ProxyParameters) -> SeenItems {
    let seen = parameters.items.iter().map(|item| {
        let seen = SeenItem {
            info: item.info.clone(),
            need_restart: item.need_restart,
            range: item.range.clone(),
            visible: item.visible.clone(),
        };
        (item.name.clone(), seen)
    });
    seen.collect()
}

/// A change of a parameter, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterChange {
    /// How it came about.
    pub kind: ChangeKind,
    /// The parameter.
    pub name: String,
    /// Whether it was for the whole cluster.
    pub whole_cluster: bool,
    /// The cluster's value before, its own or the default.
    pub before: Option<String>,
    /// The value after.
    pub after: String,
    /// What proxies had before: those that had something else, or those it was for.
    pub proxies: BTreeMap<i64, String>,
    /// Login name of who made it.
    pub operator: String,
}

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastChange {
    /// The change.
    pub change: ParameterChange,
    /// The task that made it.
    pub task_id: i64,
    /// When.
    pub at: Timestamp,
}

/// Keeps what is known of parameters.
#[async_trait]
pub trait ParameterRecords: Send + Sync {
    /// What was set in a cluster after it was made.
    async fn wanted(&self, cluster_id: i64) -> Result<Vec<WantedValue>, InventoryError>;
    /// The configurations of a cluster's proxies, without deleted ones, by proxy.
    async fn configs(&self, cluster_id: i64) -> Result<BTreeMap<i64, ProxyConfig>, InventoryError>;
    /// The configuration of one proxy.
    async fn config(&self, proxy_id: i64) -> Result<Option<ProxyConfig>, InventoryError>;
    /// Writes down a configuration that was read while `digest` was the one known; false when another has been written since.
    async fn record_config(&self, config: &ProxyConfig, digest: Option<&str>) -> Result<bool, InventoryError>;
    /// The versions, without builds, of which the items are known.
    async fn seen_versions(&self) -> Result<BTreeSet<String>, InventoryError>;
    /// The items of a version, without build, when they are known.
    async fn seen_items(&self, version: &str) -> Result<Option<SeenItems>, InventoryError>;
    /// Keeps the items of a version of which they are not known yet.
    async fn keep_seen_items(&self, version: &str, items: &SeenItems) -> Result<(), InventoryError>;
    /// A page, from 1, of a cluster's changes, of one parameter only where a name is given; the newest first. → with how many
    /// there are
    async fn past_changes(
        &self,
        cluster_id: i64,
        name: Option<&str>,
        page: u64,
        size: u64,
    ) -> Result<(Vec<PastChange>, u64), InventoryError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(before: Option<&ProxyConfig>, values: &[(&str, &str)]) -> ProxyConfig {
        read_of("4.3.1.0-1", before, values)
    }

    fn read_of(version: &str, before: Option<&ProxyConfig>, values: &[(&str, &str)]) -> ProxyConfig {
        let item = |(name, value): &(&str, &str)| ParameterReading {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
            in_force: (*name == "work_thread_num").then(|| "128".to_owned()),
            info: String::new(),
            need_restart: false,
            range: String::new(),
            visible: "USER".to_owned(),
        };
        let parameters = ProxyParameters {
            digest: "d".into(),
            version: version.parse().unwrap(),
            items: values.iter().map(item).collect(),
        };
        ProxyConfig::read(10, before, &parameters, Timestamp(1))
    }

    #[test]
    fn what_a_proxy_came_with_is_what_was_seen_first() {
        let first = read(None, &[("syslog_level", "INFO"), ("enable_prometheus", "True")]);
        let came_with = |config: &ProxyConfig| config.values.came_with.clone().into_iter().collect::<Vec<_>>();
        let level = ("syslog_level".to_owned(), "INFO".to_owned());
        assert_eq!(
            came_with(&first),
            std::slice::from_ref(&level),
            "the other is at its default"
        );
        let changed = [("syslog_level", "ERROR"), ("enable_prometheus", "False")];
        assert_eq!(came_with(&read(Some(&first), &changed)), std::slice::from_ref(&level));
        // An upgrade brought an item that nobody here knows.
        let more = [("syslog_level", "ERROR"), ("of_a_later_version", "1")];
        let later = read(Some(&first), &more);
        assert_eq!(
            came_with(&later),
            [("of_a_later_version".to_owned(), "1".to_owned()), level]
        );
    }

    #[test]
    fn another_version_may_come_with_other_values() {
        let before = [
            ("syslog_level", "WDIAG"),
            ("stack_size", "2MB"),
            ("of_a_later_version", "1"),
        ];
        let first = read_of("4.2.1.0-11", None, &before);
        let drifted = [
            ("syslog_level", "ERROR"),
            ("stack_size", "2MB"),
            ("of_a_later_version", "1"),
        ];
        let drifted = read_of("4.2.1.0-11", Some(&first), &drifted);
        let upgraded = [
            ("syslog_level", "INFO"),
            ("stack_size", "1MB"),
            ("of_a_later_version", "2"),
        ];
        let upgraded = read_of("4.3.1.0-1", Some(&drifted), &upgraded);
        let came_with: Vec<_> = upgraded
            .values
            .came_with
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            came_with,
            [("of_a_later_version", "2")],
            "of the level somebody had changed it stays the default"
        );
    }

    #[test]
    fn what_waits_for_a_restart_is_told_apart() {
        let config = read(None, &[("work_thread_num", "64"), ("syslog_level", "INFO")]);
        let waits = BTreeMap::from([("work_thread_num".to_owned(), "128".to_owned())]);
        assert_eq!(config.values.in_force, waits);
    }
}
