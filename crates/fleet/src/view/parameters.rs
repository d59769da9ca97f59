//! Parameters as clients see them.

use std::collections::BTreeSet;

use obfleet_config_items::{self as config_items, ConfigItem, LOG_LEVELS, ValueType};
use obfleet_wire::parameter::{
    ObproxyClusterParameter, ParameterChangeRecord, ParameterDrift, ParameterInfo, ParameterType, ParameterValue,
    PendingRestart, ProxyValueBefore,
};

use crate::{
    inventory::{Cluster, PastChange, ProxyConfig, SeenItem, SeenItems},
    plan::{
        Snapshot,
        parameters::{ParameterFacts, drift, managed, wanted},
    },
};

/// The version of which the items are known without anybody having seen a proxy.
const BUILT_IN: &str = "4.3.1.0";

/// The newest of some versions without builds.
pub fn newest(versions: BTreeSet<String>) -> Option<String> {
    let numbers = |version: &String| -> Vec<u64> { version.split('.').map(|part| part.parse().unwrap_or(0)).collect() };
    versions.into_iter().max_by_key(numbers)
}

/// The parameters of a version that was seen; of none, those that are known in any case.
pub fn infos(seen: Option<(&str, &SeenItems)>) -> Vec<ParameterInfo> {
    let (version, seen) = match seen {
        Some((version, seen)) => (version, Some(seen)),
        None => (BUILT_IN, None),
    };
    let known = config_items::all().iter().map(|item| (item.name.as_str(), Some(item)));
    let mut items: Vec<(&str, Option<&ConfigItem>)> = known.collect();
    if let Some(seen) = seen {
        items.retain(|(name, _)| seen.contains_key(*name));
        let others = seen.keys().filter(|name| config_items::find(name).is_none());
        items.extend(others.map(|name| (name.as_str(), None)));
    }
    let told = items.into_iter().zip(1..);
    told.map(|((name, known), id)| {
        let seen = seen.and_then(|seen| seen.get(name));
        info(id, name, version, known, seen)
    })
    .collect()
}

fn info(id: i64, name: &str, version: &str, known: Option<&ConfigItem>, seen: Option<&SeenItem>) -> ParameterInfo {
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let range = seen
        .map(|seen| seen.range.as_str())
        .or(known.map(|known| known.range.as_str()));
    let range = range.unwrap_or_default();
    let (min, max) = config_items::bounds(range);
    let words = match known.map(|known| known.value_type) {
        Some(ValueType::Bool) => Some("true,false".to_owned()),
        Some(ValueType::LogLevel) => Some(LOG_LEVELS.join(",")),
        _ => given(range),
    };
    ParameterInfo {
        allowed_string_values: words,
        default_value: known.map(|known| known.default.clone()),
        description: seen.and_then(|seen| given(&seen.info)),
        explanation: None,
        id,
        max_value: max.map(str::to_owned),
        min_value: min.map(str::to_owned),
        name: name.to_owned(),
        need_restart: needs_restart(known, seen),
        readonly: managed::is_managed(name),
        value_type: known.map_or(ParameterType::String, |known| value_type(known.value_type)),
        version: version.to_owned(),
    }
}

/// The proxies know best.
fn needs_restart(known: Option<&ConfigItem>, seen: Option<&SeenItem>) -> bool {
    match (seen, known) {
        (Some(seen), _) => seen.need_restart,
        (None, known) => known.is_some_and(|known| known.need_reboot),
    }
}

fn value_type(value_type: ValueType) -> ParameterType {
    match value_type {
        ValueType::Bool => ParameterType::Bool,
        ValueType::Int => ParameterType::Int,
        ValueType::Time => ParameterType::Time,
        ValueType::Cap => ParameterType::Capacity,
        ValueType::StrList => ParameterType::StringList,
        ValueType::Str | ValueType::LogLevel | ValueType::Ip => ParameterType::String,
    }
}

/// Address of a proxy's host; empty when it is gone.
fn ip_of(fleet: &Snapshot, proxy_id: i64) -> String {
    let proxy = fleet.proxies.get(&proxy_id);
    let host = proxy.and_then(|proxy| fleet.hosts.get(&proxy.host_id));
    host.map(|host| host.address.clone()).unwrap_or_default()
}

/// What the proxies of a version say of an item.
fn seen_of<'f>(facts: &'f ParameterFacts, config: &ProxyConfig, name: &str) -> Option<&'f SeenItem> {
    facts.seen.get(&config.version.version)?.get(name)
}

/// The parameters of the proxies of a cluster that have been read.
pub fn cluster(fleet: &Snapshot, facts: &ParameterFacts, cluster: &Cluster) -> Vec<ObproxyClusterParameter> {
    let members = fleet.proxies_of(cluster.id);
    let configs: Vec<_> = members.filter_map(|proxy| facts.configs.get(&proxy.id)).collect();
    let of_all = wanted(cluster, &facts.wanted, None);
    let drifts = drift::drifts(fleet, facts, cluster).into_iter();
    let drifting: BTreeSet<_> = drifts.map(|drift| drift.name).collect();
    let names: BTreeSet<_> = configs.iter().flat_map(|config| config.values.shown.keys()).collect();
    let parameter = |name: &String| {
        let seen: Vec<_> = configs
            .iter()
            .filter_map(|config| seen_of(facts, config, name))
            .collect();
        let mut values: Vec<ParameterValue> = Vec::new();
        for config in &configs {
            let Some(value) = config.values.shown.get(name) else {
                continue;
            };
            let ip = ip_of(fleet, config.proxy_id);
            match values.iter_mut().find(|known| known.value == *value) {
                Some(known) => {
                    known.obproxies.push(ip);
                    known.obproxy_ids.push(config.proxy_id);
                }
                None => values.push(ParameterValue {
                    obproxies: vec![ip],
                    obproxy_ids: vec![config.proxy_id],
                    value: value.clone(),
                }),
            }
        }
        // The commonest first; of equals that of the oldest proxy.
        values.sort_by_key(|value| std::cmp::Reverse(value.obproxy_ids.len()));
        let waits = configs.iter().filter_map(|config| {
            Some(PendingRestart {
                in_force: config.values.in_force.get(name)?.clone(),
                ip: ip_of(fleet, config.proxy_id),
                obproxy_id: config.proxy_id,
            })
        });
        let known = config_items::find(name);
        ObproxyClusterParameter {
            description: seen.first().map(|seen| seen.info.clone()).unwrap_or_default(),
            desired_value: of_all.get(name).map(|wanted| wanted.value.to_owned()),
            drift: drifting.contains(name),
            name: name.clone(),
            need_reboot: needs_restart(known, seen.first().copied()),
            pending_restart: waits.collect(),
            value_string: values.first().map(|value| value.value.clone()).unwrap_or_default(),
            values,
        }
    };
    names.into_iter().map(parameter).collect()
}

/// What drifts in a cluster.
pub fn drift(fleet: &Snapshot, facts: &ParameterFacts, cluster: &Cluster) -> Vec<ParameterDrift> {
    let drifts = drift::drifts(fleet, facts, cluster).into_iter();
    let shown = drifts.filter_map(|drift| {
        let config = facts.configs.get(&drift.proxy_id)?;
        let known = config_items::find(&drift.name);
        Some(ParameterDrift {
            found_time: config.read,
            ip: ip_of(fleet, drift.proxy_id),
            need_reboot: needs_restart(known, seen_of(facts, config, &drift.name)),
            expected_value: drift.expected,
            name: drift.name,
            obproxy_id: drift.proxy_id,
            source: drift.source,
            value: drift.found,
        })
    });
    shown.collect()
}

/// A change that was made.
pub fn past_change(fleet: &Snapshot, past: PastChange) -> ParameterChangeRecord {
    let change = past.change;
    let before = |(proxy_id, value): (i64, String)| ProxyValueBefore {
        ip: ip_of(fleet, proxy_id),
        obproxy_id: proxy_id,
        value_before: value,
    };
    ParameterChangeRecord {
        create_time: past.at,
        kind: change.kind,
        name: change.name,
        obproxies: change.proxies.into_iter().map(before).collect(),
        operator: change.operator,
        task_id: past.task_id,
        value_after: change.after,
        value_before: change.before,
        whole_cluster: change.whole_cluster,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::parameters::testing::{facts, parameter, set},
        testing,
    };

    fn seen(names: &[(&str, &str, bool)]) -> SeenItems {
        let item = |(name, range, need_restart): &(&str, &str, bool)| {
            let item = SeenItem {
                info: format!("about {name}"),
                need_restart: *need_restart,
                range: (*range).to_owned(),
                visible: "USER".to_owned(),
            };
            ((*name).to_owned(), item)
        };
        names.iter().map(item).collect()
    }

    #[test]
    fn without_a_proxy_the_items_of_one_version_are_known() {
        let infos = infos(None);
        assert_eq!(infos.len(), 299);
        assert_eq!(
            infos.iter().map(|info| info.id).collect::<Vec<_>>(),
            (1..=299).collect::<Vec<_>>()
        );
        let of = |name: &str| infos.iter().find(|info| info.name == name).unwrap();
        let interval = of("proxy_info_check_interval");
        assert_eq!(
            (
                interval.value_type,
                interval.allowed_string_values.as_deref(),
                interval.min_value.as_deref()
            ),
            (ParameterType::Time, Some("[1s,1h]"), Some("1s"))
        );
        assert_eq!(
            (interval.max_value.as_deref(), interval.description.as_deref()),
            (Some("1h"), None)
        );
        assert_eq!(
            of("enable_xa_route").allowed_string_values.as_deref(),
            Some("true,false")
        );
        assert!(of("listen_port").readonly && !of("syslog_level").readonly && of("work_thread_num").need_restart);
    }

    #[test]
    fn what_proxies_say_of_their_items_is_told() {
        let seen = seen(&[("work_thread_num", "[1,16]", false), ("of_a_later_version", "", true)]);
        let infos = infos(Some(("5.0.0.0", &seen)));
        let told = infos.iter().map(|info| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            (
                info.name.as_str(),
                text(&info.max_value),
                info.need_restart,
                text(&info.description),
                info.version.as_str(),
            )
        });
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                (
                    "work_thread_num",
                    "16".into(),
                    false,
                    "about work_thread_num".into(),
                    "5.0.0.0"
                ),
                (
                    "of_a_later_version",
                    String::new(),
                    true,
                    "about of_a_later_version".into(),
                    "5.0.0.0"
                ),
            ]
        );
    }

    #[test]
    fn versions_are_compared_by_number() {
        let versions = ["4.3.9.0", "4.3.10.0", "3.2.1"].map(str::to_owned);
        assert_eq!(newest(versions.into()).as_deref(), Some("4.3.10.0"));
        assert_eq!(newest(BTreeSet::new()), None);
    }

    #[test]
    fn a_parameter_is_shown_with_who_has_which_value() {
        let mut fleet = testing::fleet_of(4, "4.2.1.0-11");
        let cluster = fleet.clusters.get_mut(&1).unwrap();
        cluster.settings.parameters = vec![parameter("syslog_level", "INFO")];
        let mut facts = facts(
            vec![set(None, "stack_size", "2MB", 1)],
            &[
                &[("syslog_level", "ERROR"), ("stack_size", "2MB")],
                &[("syslog_level", "INFO"), ("stack_size", "2MB")],
                &[("syslog_level", "INFO"), ("stack_size", "2MB")],
            ],
        );
        let waiting = facts.configs.get_mut(&11).unwrap();
        waiting.values.in_force.insert("stack_size".into(), "1MB".into());
        facts
            .seen
            .insert("4.2.1.0".into(), seen(&[("syslog_level", "", false)]));
        let parameters = super::cluster(&fleet, &facts, &fleet.clusters[&1]);
        assert_eq!(parameters.len(), 299);
        let of = |name: &str| parameters.iter().find(|parameter| parameter.name == name).unwrap();

        let level = of("syslog_level");
        let values: Vec<_> = level
            .values
            .iter()
            .map(|v| (v.value.as_str(), v.obproxy_ids.clone()))
            .collect();
        assert_eq!(values, [("INFO", vec![11, 12]), ("ERROR", vec![10])]);
        assert_eq!(level.values[0].obproxies, ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(
            (level.value_string.as_str(), level.desired_value.as_deref()),
            ("INFO", Some("INFO"))
        );
        assert!(level.drift && level.pending_restart.is_empty() && level.description == "about syslog_level");

        let size = of("stack_size");
        assert!(size.need_reboot && !size.drift && size.description.is_empty());
        let waits: Vec<_> = size
            .pending_restart
            .iter()
            .map(|w| (w.obproxy_id, w.in_force.as_str()))
            .collect();
        assert_eq!(waits, [(11, "1MB")]);
        assert_eq!(of("enable_xa_route").desired_value, None);

        let found = drift(&fleet, &facts, &fleet.clusters[&1]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].obproxy_id, found[0].ip.as_str()), (10, "10.0.0.0"));
    }
}
