//! What gives proxies the cluster's set that do not have all of it.

use obfleet_wire::{Refusal, reason::Reason};

use super::{ParameterFacts, Values, edit::Target, refuse_unless_it_takes_values, values_of, wanted};
use crate::plan::{Selection, Snapshot};

/// The proxies' part of the path.
const PROXIES: &str = "obproxyIds";

/// What a refresh will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshPlan {
    /// The version of the set that the proxies get.
    pub to: i64,
    /// The proxies, with the version they have and all values they should have.
    pub targets: Vec<(Target, i64, Values)>,
}

/// Plans that the proxies `ids` of a cluster get all of its set, whether they lag behind or not.
pub fn plan_refresh(
    fleet: &Snapshot,
    facts: &ParameterFacts,
    cluster_id: i64,
    ids: &[i64],
) -> Result<RefreshPlan, Refusal> {
    let cluster = fleet.cluster(cluster_id)?;
    let members = fleet.members(cluster, &Selection::named(PROXIES, ids))?;
    if members.is_empty() {
        return Err(Refusal::invalid(PROXIES, Reason::Empty));
    }
    let mut targets = Vec::new();
    for proxy in members {
        refuse_unless_it_takes_values(fleet, proxy, PROXIES)?;
        let values = values_of(&wanted(cluster, &facts.wanted, Some(proxy.id)));
        targets.push((Target::from(proxy), proxy.parameter_version, values));
    }
    Ok(RefreshPlan {
        to: cluster.parameter_version,
        targets,
    })
}

#[cfg(test)]
mod tests {
    use obfleet_wire::{Code, obproxy::ProxyStatus};

    use super::{super::testing::*, *};
    use crate::testing;

    #[test]
    fn a_proxy_gets_the_clusters_set_and_what_is_its_own() {
        let mut fleet = testing::fleet_of(2, "4.2.1.0-11");
        let cluster = fleet.clusters.get_mut(&1).unwrap();
        cluster.settings.parameters = vec![parameter("syslog_level", "INFO")];
        cluster.parameter_version = 3;
        let facts = ParameterFacts {
            wanted: vec![
                set(None, "syslog_level", "WARN", 2),
                set(Some(11), "proxy_idc_name", "b", 3),
            ],
            ..ParameterFacts::default()
        };
        let plan = plan_refresh(&fleet, &facts, 1, &[11, 10]).unwrap();
        let values = |values: &[(&str, &str)]| {
            let owned = values.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
            owned.collect::<Vec<_>>()
        };
        assert_eq!(plan.to, 3);
        let targets: Vec<_> = plan.targets.into_iter().map(|(t, at, v)| (t.proxy_id, at, v)).collect();
        assert_eq!(
            targets,
            [
                (11, 1, values(&[("proxy_idc_name", "b"), ("syslog_level", "WARN")])),
                (10, 1, values(&[("syslog_level", "WARN")])),
            ]
        );
        fleet.proxies.get_mut(&10).unwrap().status = ProxyStatus::Stopped;
        assert_eq!(plan_refresh(&fleet, &facts, 1, &[10]).unwrap_err().code, Code::Odp21016);
        assert_eq!(plan_refresh(&fleet, &facts, 1, &[]).unwrap_err().code, Code::Com10001);
        assert_eq!(plan_refresh(&fleet, &facts, 1, &[99]).unwrap_err().code, Code::Odp21002);
    }
}
