//! What a change of parameters will do.

use std::collections::BTreeMap;

use obfleet_wire::{Refusal, obproxy::Parameter, parameter::ChangeKind, reason::Reason};

use super::{
    ParameterFacts, PlannedChange, SetPlan, check, means_same, refuse_unless_it_takes_values, row, takes_values,
    value_before, wanted,
};
use crate::{
    inventory::{Cluster, Proxy, WantedRow},
    plan::{Selection, Snapshot},
};

/// The proxies' member of the request.
const SERVERS: &str = "obproxyServerIds";

/// What a change of parameters will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditPlan {
    /// The proxies that are changed, one after another.
    pub targets: Vec<Target>,
    /// The values they get.
    pub values: Vec<(String, String)>,
    /// What becomes of the cluster's set.
    pub set: SetPlan,
    /// The proxies that are left out because they are down: they do not have the set until they are refreshed.
    pub left_out: Vec<i64>,
}

/// A proxy that is given values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The proxy.
    pub proxy_id: i64,
    /// Its host.
    pub host_id: i64,
}

impl From<&Proxy> for Target {
    fn from(proxy: &Proxy) -> Self {
        Self {
            proxy_id: proxy.id,
            host_id: proxy.host_id,
        }
    }
}

/// Plans a change of parameters of all proxies of a cluster, or of `servers`.
///
/// Of the whole cluster, those that are down are left out and have to be refreshed later; of `servers` none may be down.
pub fn plan_edit(
    fleet: &Snapshot,
    facts: &ParameterFacts,
    cluster_id: i64,
    parameters: &[Parameter],
    servers: Option<&[i64]>,
    operator: &str,
) -> Result<EditPlan, Refusal> {
    let cluster = fleet.cluster(cluster_id)?;
    let chosen = match servers {
        Some([]) => return Err(Refusal::invalid(SERVERS, Reason::Empty)),
        Some(ids) => Some(members(fleet, cluster, ids)?),
        None => None,
    };
    let (targets, left_out) = match &chosen {
        Some(chosen) => {
            for proxy in chosen {
                refuse_unless_it_takes_values(fleet, proxy, SERVERS)?;
            }
            (chosen.clone(), Vec::new())
        }
        None => fleet
            .proxies_of(cluster_id)
            .partition(|proxy| takes_values(fleet, proxy)),
    };
    let ids: Vec<_> = targets.iter().map(|proxy| proxy.id).collect();
    let values = check::check_edit(facts, parameters, &ids)?;

    let to = cluster.parameter_version + 1;
    let after = match &chosen {
        None => for_all(facts, &values, to),
        Some(_) => for_some(cluster, facts, &values, &ids, to),
    };
    let before = after
        .iter()
        .map(|after| row(&facts.wanted, after.proxy_id, &after.name));
    let concerned = |proxy: &Proxy| chosen.is_none() || ids.contains(&proxy.id);
    let current = fleet.proxies_of(cluster_id).filter(|proxy| {
        let has_the_rest = proxy.parameter_version == cluster.parameter_version;
        has_the_rest && (!concerned(proxy) || ids.contains(&proxy.id))
    });
    let change = |(name, value): &(String, String)| PlannedChange {
        name: name.clone(),
        before: value_before(cluster, &facts.wanted, name),
        after: value.clone(),
        proxies: BTreeMap::new(),
        whole_cluster: chosen.is_none(),
    };
    Ok(EditPlan {
        set: SetPlan {
            from: cluster.parameter_version,
            to,
            before: before.collect(),
            after,
            current: current.map(|proxy| proxy.id).collect(),
            changes: values.iter().map(change).collect(),
            kind: ChangeKind::Edit,
            operator: operator.to_owned(),
        },
        targets: targets.into_iter().map(Target::from).collect(),
        values,
        left_out: left_out.iter().map(|proxy| proxy.id).collect(),
    })
}

/// The proxies asked for, each once.
pub(super) fn members<'f>(fleet: &'f Snapshot, cluster: &Cluster, ids: &[i64]) -> Result<Vec<&'f Proxy>, Refusal> {
    fleet.members(cluster, &Selection::named(SERVERS, ids))
}

/// What single proxies had of their own ends with a change for all.
pub(super) fn for_all(facts: &ParameterFacts, values: &[(String, String)], to: i64) -> Vec<WantedRow> {
    let mut rows = Vec::new();
    for (name, value) in values {
        rows.push(WantedRow {
            proxy_id: None,
            name: name.clone(),
            value: Some((value.clone(), to)),
        });
        let own = facts
            .wanted
            .iter()
            .filter(|row| row.proxy_id.is_some() && row.name == *name);
        rows.extend(own.map(|row| WantedRow {
            proxy_id: row.proxy_id,
            name: name.clone(),
            value: None,
        }));
    }
    rows
}

/// What the cluster gives all its proxies is nothing of their own.
fn for_some(
    cluster: &Cluster,
    facts: &ParameterFacts,
    values: &[(String, String)],
    proxies: &[i64],
    to: i64,
) -> Vec<WantedRow> {
    let of_all = wanted(cluster, &facts.wanted, None);
    let mut rows = Vec::new();
    for (name, value) in values {
        let same = of_all.get(name).is_some_and(|all| means_same(name, all.value, value));
        rows.extend(proxies.iter().map(|proxy_id| WantedRow {
            proxy_id: Some(*proxy_id),
            name: name.clone(),
            value: (!same).then(|| (value.clone(), to)),
        }));
    }
    rows
}

#[cfg(test)]
mod tests {
    use obfleet_wire::{Code, obproxy::ProxyStatus};

    use super::{super::testing::*, *};
    use crate::testing;

    fn plan(fleet: &Snapshot, facts: &ParameterFacts, servers: Option<&[i64]>) -> Result<EditPlan, Refusal> {
        plan_edit(fleet, facts, 1, &[parameter("syslog_level", "WARN")], servers, "ann")
    }

    /// Proxy, and value with its version.
    type Shown = (Option<i64>, Option<(String, i64)>);

    fn shown(of: &[WantedRow]) -> Vec<Shown> {
        of.iter().map(|row| (row.proxy_id, row.value.clone())).collect()
    }

    #[test]
    fn a_change_for_all_ends_what_single_proxies_had() {
        let fleet = testing::fleet_of(3, "4.2.1.0-11");
        let facts = facts(
            vec![
                set(None, "syslog_level", "INFO", 1),
                set(Some(11), "syslog_level", "ERROR", 1),
            ],
            &[&[], &[], &[]],
        );
        let plan = plan(&fleet, &facts, None).unwrap();
        assert_eq!(
            plan.targets.iter().map(|target| target.proxy_id).collect::<Vec<_>>(),
            [10, 11, 12]
        );
        let (before, after) = (shown(&plan.set.before), shown(&plan.set.after));
        assert_eq!(
            before,
            [
                (None, Some(("INFO".to_owned(), 1))),
                (Some(11), Some(("ERROR".to_owned(), 1)))
            ]
        );
        assert_eq!(after, [(None, Some(("WARN".to_owned(), 2))), (Some(11), None)]);
        assert_eq!(
            (plan.set.from, plan.set.to, &*plan.set.current),
            (1, 2, &[10, 11, 12][..])
        );
        let change = &plan.set.changes[0];
        assert_eq!(
            (change.before.as_deref(), change.after.as_str()),
            (Some("INFO"), "WARN")
        );
    }

    #[test]
    fn proxies_that_are_down_are_left_out_and_have_the_old_set() {
        let mut fleet = testing::fleet_of(4, "4.2.1.0-11");
        fleet.proxies.get_mut(&10).unwrap().status = ProxyStatus::Unavailable;
        fleet.hosts.get_mut(&101).unwrap().online = false;
        fleet.proxies.get_mut(&12).unwrap().parameter_version = 0;
        let facts = facts(Vec::new(), &[&[], &[], &[], &[]]);
        let all = plan(&fleet, &facts, None).unwrap();
        assert_eq!(all.left_out, [10, 11]);
        assert_eq!(
            all.targets.iter().map(|target| target.proxy_id).collect::<Vec<_>>(),
            [12, 13]
        );
        assert_eq!(all.set.current, [13], "12 has not all of the set that was before");
        assert_eq!(plan(&fleet, &facts, Some(&[10])).unwrap_err().code, Code::Odp21016);
        assert_eq!(plan(&fleet, &facts, Some(&[11])).unwrap_err().code, Code::Cmp07004);
        let refusal = plan(&fleet, &facts, Some(&[99])).unwrap_err();
        assert_eq!(
            (refusal.code, refusal.field.as_deref()),
            (Code::Odp21002, Some(SERVERS))
        );
        assert_eq!(plan(&fleet, &facts, Some(&[])).unwrap_err().code, Code::Com10001);
    }

    #[test]
    fn a_change_for_some_leaves_the_others_current() {
        let fleet = testing::fleet_of(3, "4.2.1.0-11");
        let known = facts(Vec::new(), &[&[], &[], &[]]);
        let some = plan(&fleet, &known, Some(&[12, 12])).unwrap();
        assert_eq!(
            some.targets.iter().map(|target| target.proxy_id).collect::<Vec<_>>(),
            [12]
        );
        assert_eq!(shown(&some.set.after), [(Some(12), Some(("WARN".to_owned(), 2)))]);
        assert_eq!(some.set.current, [10, 11, 12]);
        assert_eq!(some.set.changes[0].before.as_deref(), Some("WDIAG"), "the default");

        // What all have is nothing of its own.
        let known = facts(
            vec![
                set(None, "syslog_level", "warn", 1),
                set(Some(12), "syslog_level", "ERROR", 1),
            ],
            &[&[], &[], &[]],
        );
        let some = plan(&fleet, &known, Some(&[12])).unwrap();
        assert_eq!(shown(&some.set.after), [(Some(12), None)]);
        assert_eq!(shown(&some.set.before), [(Some(12), Some(("ERROR".to_owned(), 1)))]);
    }

    #[test]
    fn a_cluster_without_proxies_has_a_set_all_the_same() {
        let fleet = testing::fleet_of(0, "4.2.1.0-11");
        let plan = plan(&fleet, &ParameterFacts::default(), None).unwrap();
        assert!(plan.targets.is_empty() && plan.set.to == 2);
    }
}
