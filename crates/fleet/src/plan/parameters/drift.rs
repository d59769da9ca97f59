//! Drift: proxies that have other values than they should, because somebody used SQL. It is repaired, or accepted.

use std::collections::BTreeMap;

use obfleet_config_items as config_items;
use obfleet_wire::{
    Code, Refusal,
    obproxy::OperateStatus,
    parameter::{ChangeKind, DriftSelection, ValueSource},
    reason::Reason,
};

use super::{
    ParameterFacts, PlannedChange, SetPlan,
    edit::{Target, for_all, members},
    managed, means_same, refuse_unless_it_takes_values, row, takes_values, value_before, wanted,
};
use crate::{
    inventory::{Cluster, Proxy, ProxyConfig, WantedRow},
    plan::Snapshot,
};

/// The proxies' member of the request.
const SERVERS: &str = "obproxyServerIds";

/// A value that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The proxy.
    pub proxy_id: i64,
    /// The parameter.
    pub name: String,
    /// The value it has.
    pub found: String,
    /// The value it should have.
    pub expected: String,
    /// Where that comes from.
    pub source: ValueSource,
}

/// What drifts in a cluster, by proxy and name.
pub fn drifts(fleet: &Snapshot, facts: &ParameterFacts, cluster: &Cluster) -> Vec<Drift> {
    let proxies = fleet.proxies_of(cluster.id);
    let read = proxies.filter_map(|proxy| Some((proxy, facts.configs.get(&proxy.id)?)));
    read.flat_map(|(proxy, config)| drifts_of(facts, cluster, proxy, config))
        .collect()
}

/// While a task works on a proxy its values are that task's affair.
fn drifts_of(facts: &ParameterFacts, cluster: &Cluster, proxy: &Proxy, config: &ProxyConfig) -> Vec<Drift> {
    if proxy.operate_status == OperateStatus::Operating {
        return Vec::new();
    }
    let wanted = wanted(cluster, &facts.wanted, Some(proxy.id));
    let mut drifts = Vec::new();
    for (name, found) in &config.values.shown {
        let expected = match wanted.get(name) {
            // It was down when this was set: it does not drift, it lags behind.
            Some(wanted) if wanted.version > proxy.parameter_version => None,
            Some(wanted) if wanted.own => Some((wanted.value, ValueSource::Server)),
            Some(wanted) => Some((wanted.value, ValueSource::Cluster)),
            None if managed::is_free(name) => None,
            None => original(config, name).map(|value| (value, ValueSource::Original)),
        };
        if let Some((expected, source)) = expected
            && !means_same(name, expected, found)
        {
            drifts.push(Drift {
                proxy_id: proxy.id,
                name: name.clone(),
                found: found.clone(),
                expected: expected.to_owned(),
                source,
            });
        }
    }
    drifts
}

/// What a proxy had before anybody changed it: what it came with, or the default.
fn original<'c>(config: &'c ProxyConfig, name: &str) -> Option<&'c str> {
    let came_with = config.values.came_with.get(name).map(String::as_str);
    came_with.or_else(|| config_items::find(name).map(|item| item.default.as_str()))
}

/// What is asked for of what drifts.
fn selected(
    fleet: &Snapshot,
    facts: &ParameterFacts,
    cluster: &Cluster,
    selection: &DriftSelection,
) -> Result<Vec<Drift>, Refusal> {
    if let Some(ids) = &selection.obproxy_server_ids {
        members(fleet, cluster, ids)?;
    }
    let named = |drift: &Drift| {
        let names = selection.names.as_ref();
        names.is_none_or(|names| names.iter().any(|name| name.eq_ignore_ascii_case(&drift.name)))
    };
    let of = |drift: &Drift| {
        let ids = selection.obproxy_server_ids.as_ref();
        ids.is_none_or(|ids| ids.contains(&drift.proxy_id))
    };
    let drifts = drifts(fleet, facts, cluster).into_iter();
    let selected: Vec<_> = drifts.filter(|drift| named(drift) && of(drift)).collect();
    if selected.is_empty() {
        return Err(nothing());
    }
    Ok(selected)
}

fn nothing() -> Refusal {
    Refusal::about(Code::Odp21107, [Reason::NoDrift.into()])
}

/// The values each proxy is given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairPlan {
    /// The proxies, with their values.
    pub targets: Vec<(Target, Vec<(String, String)>)>,
}

/// Plans the repair of what drifts. Proxies that are down are left out, unless they were asked for by id.
pub fn plan_repair(
    fleet: &Snapshot,
    facts: &ParameterFacts,
    cluster_id: i64,
    selection: &DriftSelection,
) -> Result<RepairPlan, Refusal> {
    let cluster = fleet.cluster(cluster_id)?;
    let mut values = BTreeMap::<i64, Vec<_>>::new();
    for drift in selected(fleet, facts, cluster, selection)? {
        values
            .entry(drift.proxy_id)
            .or_default()
            .push((drift.name, drift.expected));
    }
    let mut targets = Vec::new();
    for (proxy_id, values) in values {
        let Some(proxy) = fleet.proxies.get(&proxy_id) else {
            continue;
        };
        if selection.obproxy_server_ids.is_some() {
            refuse_unless_it_takes_values(fleet, proxy, SERVERS)?;
        }
        if takes_values(fleet, proxy) {
            targets.push((Target::from(proxy), values));
        }
    }
    if targets.is_empty() {
        return Err(nothing());
    }
    Ok(RepairPlan { targets })
}

/// Plans that what drifts is as it should be from now on: for the cluster where all its proxies have the same value, else
/// for those that have it.
pub fn plan_accept(
    fleet: &Snapshot,
    facts: &ParameterFacts,
    cluster_id: i64,
    selection: &DriftSelection,
    operator: &str,
) -> Result<SetPlan, Refusal> {
    let cluster = fleet.cluster(cluster_id)?;
    let mut by_name = BTreeMap::<String, Vec<Drift>>::new();
    for drift in selected(fleet, facts, cluster, selection)? {
        by_name.entry(drift.name.clone()).or_default().push(drift);
    }
    let to = cluster.parameter_version + 1;
    let (mut after, mut changes) = (Vec::new(), Vec::new());
    for (name, drifts) in by_name {
        let before = value_before(cluster, &facts.wanted, &name);
        // Of some proxies only those were asked for.
        let of_all = selection
            .obproxy_server_ids
            .is_none()
            .then(|| in_all(fleet, facts, cluster, &name));
        if let Some(value) = of_all.flatten() {
            let proxies = drifts
                .into_iter()
                .filter(|drift| Some(&drift.expected) != before.as_ref());
            changes.push(PlannedChange {
                before: before.clone(),
                after: value.to_owned(),
                proxies: proxies.map(|drift| (drift.proxy_id, drift.expected)).collect(),
                whole_cluster: true,
                name: name.clone(),
            });
            after.extend(for_all(facts, &[(name, value.to_owned())], to));
            continue;
        }
        let mut by_value = BTreeMap::<String, BTreeMap<i64, String>>::new();
        for drift in drifts {
            let value = (drift.found.clone(), to);
            after.push(WantedRow {
                proxy_id: Some(drift.proxy_id),
                name: name.clone(),
                value: Some(value),
            });
            by_value
                .entry(drift.found)
                .or_default()
                .insert(drift.proxy_id, drift.expected);
        }
        changes.extend(by_value.into_iter().map(|(found, proxies)| PlannedChange {
            name: name.clone(),
            before: before.clone(),
            after: found,
            proxies,
            whole_cluster: false,
        }));
    }
    let current = fleet.proxies_of(cluster_id);
    let current = current.filter(|proxy| proxy.parameter_version == cluster.parameter_version);
    Ok(SetPlan {
        from: cluster.parameter_version,
        to,
        before: after
            .iter()
            .map(|after: &WantedRow| row(&facts.wanted, after.proxy_id, &after.name))
            .collect(),
        after,
        current: current.map(|proxy| proxy.id).collect(),
        changes,
        kind: ChangeKind::Accept,
        operator: operator.to_owned(),
    })
}

/// The value all proxies of the cluster have, if it is one and all have been read.
fn in_all<'f>(fleet: &Snapshot, facts: &'f ParameterFacts, cluster: &Cluster, name: &str) -> Option<&'f str> {
    let mut values = fleet
        .proxies_of(cluster.id)
        .map(|proxy| Some(facts.configs.get(&proxy.id)?.values.shown.get(name)?.as_str()));
    let first = values.next()??;
    let same = |value: Option<&str>| value.is_some_and(|value| means_same(name, first, value));
    values.all(same).then_some(first)
}

#[cfg(test)]
mod tests {
    use obfleet_wire::obproxy::ProxyStatus;

    use super::{super::testing::*, *};
    use crate::{plan::parameters::PlannedChange, testing};

    const ALL: DriftSelection = DriftSelection {
        names: None,
        obproxy_server_ids: None,
    };

    fn fleet(size: i64) -> Snapshot {
        let mut fleet = testing::fleet_of(size, "4.2.1.0-11");
        let cluster = fleet.clusters.get_mut(&1).unwrap();
        cluster.settings.parameters = vec![parameter("syslog_level", "INFO")];
        fleet
    }

    fn found(fleet: &Snapshot, facts: &ParameterFacts) -> Vec<(i64, String, String, String, ValueSource)> {
        let drifts = drifts(fleet, facts, &fleet.clusters[&1]).into_iter();
        drifts
            .map(|drift| (drift.proxy_id, drift.name, drift.found, drift.expected, drift.source))
            .collect()
    }

    fn drift(
        proxy: i64,
        name: &str,
        found: &str,
        expected: &str,
        source: ValueSource,
    ) -> (i64, String, String, String, ValueSource) {
        (proxy, name.into(), found.into(), expected.into(), source)
    }

    const SET: (&str, &str) = ("syslog_level", "INFO");

    #[test]
    fn what_is_not_as_it_should_be_drifts() {
        use ValueSource::{Cluster, Original, Server};
        let mut facts = facts(
            vec![set(Some(11), "proxy_idc_name", "b", 1)],
            &[
                &[
                    ("syslog_level", "info"),
                    ("enable_prometheus", "True"),
                    ("proxy_mem_limited", "2048MB"),
                ],
                &[
                    ("syslog_level", "ERROR"),
                    ("proxy_idc_name", "c"),
                    ("proxy_mem_limited", "3G"),
                ],
            ],
        );
        let fleet = fleet(2);
        assert_eq!(
            found(&fleet, &facts),
            [
                drift(11, "proxy_idc_name", "c", "b", Server),
                drift(11, "proxy_mem_limited", "3G", "2G", Original),
                drift(11, "syslog_level", "ERROR", "INFO", Cluster),
            ]
        );
        // It came like that.
        let config = facts.configs.get_mut(&11).unwrap();
        config.values.came_with.insert("proxy_mem_limited".into(), "3G".into());
        assert!(
            !found(&fleet, &facts)
                .iter()
                .any(|(_, name, ..)| name == "proxy_mem_limited")
        );
    }

    #[test]
    fn what_changes_by_itself_or_has_a_request_of_its_own_does_not_drift() {
        let facts = facts(
            Vec::new(),
            &[&[
                SET,
                ("hot_upgrade_rollback_timeout", "60s"),
                ("hot_upgrade_exit_timeout", "1"),
                ("proxy_hot_upgrade_check_interval", "1s"),
                ("current_local_config_version", "7"),
                ("listen_port", "2883"),
                ("obproxy_sys_password", "******"),
                ("proxy_local_cmd", "2"),
            ]],
        );
        assert_eq!(found(&fleet(1), &facts), []);
        // Whoever sets it wants it so.
        let mut set_here = facts;
        set_here.wanted = vec![set(None, "hot_upgrade_rollback_timeout", "90s", 1)];
        assert_eq!(found(&fleet(1), &set_here).len(), 1);
    }

    #[test]
    fn a_proxy_that_lags_behind_or_is_worked_on_does_not_drift() {
        let mut fleet = fleet(1);
        let facts = facts(
            vec![set(None, "syslog_level", "WARN", 2), set(None, "stack_size", "2MB", 1)],
            &[&[SET]],
        );
        let names = |fleet: &Snapshot| {
            let found = found(fleet, &facts).into_iter();
            found.map(|(_, name, ..)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(&fleet), ["stack_size"], "it has version 1");
        fleet.proxies.get_mut(&10).unwrap().parameter_version = 2;
        assert_eq!(names(&fleet), ["stack_size", "syslog_level"]);
        fleet.proxies.get_mut(&10).unwrap().operate_status = OperateStatus::Operating;
        assert!(names(&fleet).is_empty());
    }

    #[test]
    fn repaired_is_what_is_asked_for_where_it_can_be() {
        let mut fleet = fleet(3);
        let drifting: &[(&str, &str)] = &[("syslog_level", "ERROR"), ("proxy_mem_limited", "3G")];
        let facts = facts(Vec::new(), &[drifting, drifting, &[SET]]);
        let repaired = |fleet: &Snapshot, selection: &DriftSelection| {
            let plan = plan_repair(fleet, &facts, 1, selection)?;
            let targets = plan.targets.into_iter();
            Ok::<_, Refusal>(
                targets
                    .map(|(target, values)| (target.proxy_id, values.len()))
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(repaired(&fleet, &ALL).unwrap(), [(10, 2), (11, 2)]);
        let one = DriftSelection {
            names: Some(vec!["Syslog_Level".into()]),
            obproxy_server_ids: Some(vec![11]),
        };
        assert_eq!(repaired(&fleet, &one).unwrap(), [(11, 1)]);
        let other = DriftSelection {
            obproxy_server_ids: Some(vec![12]),
            ..ALL
        };
        assert_eq!(repaired(&fleet, &other).unwrap_err().code, Code::Odp21107);
        fleet.proxies.get_mut(&11).unwrap().status = ProxyStatus::Unavailable;
        assert_eq!(repaired(&fleet, &ALL).unwrap(), [(10, 2)]);
        assert_eq!(repaired(&fleet, &one).unwrap_err().code, Code::Odp21016);
    }

    fn change(
        name: &str,
        after: &str,
        proxies: &[(i64, &str)],
        whole_cluster: bool,
    ) -> (String, String, BTreeMap<i64, String>, bool) {
        let proxies = proxies.iter().map(|(id, value)| (*id, (*value).to_owned()));
        (name.into(), after.into(), proxies.collect(), whole_cluster)
    }

    fn told(changes: Vec<PlannedChange>) -> Vec<(String, String, BTreeMap<i64, String>, bool)> {
        let told = |of: PlannedChange| (of.name, of.after, of.proxies, of.whole_cluster);
        changes.into_iter().map(told).collect()
    }

    #[test]
    fn what_all_have_is_accepted_for_the_cluster_and_else_for_those_that_have_it() {
        let mut fleet = fleet(3);
        fleet.proxies.get_mut(&12).unwrap().parameter_version = 0;
        let facts = facts(
            vec![set(Some(11), "syslog_level", "WARN", 1)],
            &[
                &[("syslog_level", "ERROR"), ("proxy_mem_limited", "3G")],
                &[("syslog_level", "error"), ("proxy_mem_limited", "4G")],
                &[("syslog_level", "ERROR"), ("proxy_mem_limited", "3G")],
            ],
        );
        let plan = plan_accept(&fleet, &facts, 1, &ALL, "ann").unwrap();
        assert_eq!((plan.from, plan.to, &*plan.current), (1, 2, &[10, 11][..]));
        assert_eq!(
            told(plan.changes),
            [
                change("proxy_mem_limited", "3G", &[(10, "2G"), (12, "2G")], false),
                change("proxy_mem_limited", "4G", &[(11, "2G")], false),
                change("syslog_level", "ERROR", &[(11, "WARN")], true),
            ]
        );
        let rows: Vec<_> = plan.after.iter().map(|row| (row.proxy_id, row.value.clone())).collect();
        assert_eq!(
            rows,
            [
                (Some(10), Some(("3G".to_owned(), 2))),
                (Some(11), Some(("4G".to_owned(), 2))),
                (Some(12), Some(("3G".to_owned(), 2))),
                (None, Some(("ERROR".to_owned(), 2))),
                (Some(11), None),
            ]
        );
        let only = DriftSelection {
            names: Some(vec!["syslog_level".into()]),
            obproxy_server_ids: Some(vec![10]),
        };
        let plan = plan_accept(&fleet, &facts, 1, &only, "ann").unwrap();
        assert_eq!(
            told(plan.changes),
            [change("syslog_level", "ERROR", &[(10, "INFO")], false)]
        );
    }
}
