//! Links that come and go while proxies run, and which proxies are to hear of it.

use obfleet_wire::{
    Code, Refusal,
    obproxy::{ObLinkParam, ProxyStatus, WorkMode},
    reason::{Reason, Thing},
};

use super::{
    Snapshot, config_server,
    ob::{self, NewLink, Unknown},
};
use crate::inventory::{Cluster, ObLink};

/// Plans links for a cluster that is there.
pub fn plan_add(fleet: &Snapshot, cluster: &Cluster, links: &[ObLinkParam]) -> Result<Vec<NewLink>, Refusal> {
    check_changeable(cluster)?;
    if links.is_empty() {
        return Err(Refusal::invalid("obLinks", Reason::Empty));
    }
    let new = ob::plan_links(fleet, links, Unknown::Refused)?;
    for link in &new {
        if fleet.links_of(cluster.id).any(|other| other.name == link.name) {
            let taken = [Thing::ObLinkKind.into(), link.name.as_str().into()];
            return Err(Refusal::about(Code::Com10006, taken).field("obLinks"));
        }
    }
    Ok(new)
}

/// Finds the link that is to go. The last one stays as long as there are proxies, which take no empty configuration.
pub fn plan_delete<'a>(fleet: &'a Snapshot, cluster: &Cluster, name: &str) -> Result<&'a ObLink, Refusal> {
    let link = fleet.links_of(cluster.id).find(|link| link.name == name);
    let link = link.ok_or_else(|| {
        let missing = [Thing::ObLinkKind.into(), format!("name {name}").as_str().into()];
        Refusal::about(Code::Com10002, missing).field("obClusterName")
    })?;
    check_changeable(cluster)?;
    let told = config_server::told(fleet, cluster.id);
    let is_last = told.len() == 1 && told.iter().any(|(told, _)| told.name == name);
    if is_last && fleet.proxies_of(cluster.id).next().is_some() {
        let name = name.to_owned();
        return Err(Refusal::about(Code::Com10003, [Reason::LastLink { name }.into()]).field("obClusterName"));
    }
    Ok(link)
}

fn check_changeable(cluster: &Cluster) -> Result<(), Refusal> {
    match cluster.work_mode {
        WorkMode::ConfigUrl => Ok(()),
        WorkMode::RsList => Err(Refusal::about(Code::Com10003, [Reason::FixedLink.into()])),
    }
}

/// The proxies that are to hear of a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Concerned {
    /// Those that run, with their hosts.
    pub proxies: Vec<(i64, i64)>,
    /// Those that do not, as far as is known; they ask by themselves: each ten seconds or so, and when they start.
    pub skipped: Vec<i64>,
}

impl Concerned {
    /// Those of these clusters.
    pub fn of(fleet: &Snapshot, clusters: impl IntoIterator<Item = i64>) -> Self {
        let mut concerned = Self::default();
        for proxy in clusters.into_iter().flat_map(|cluster| fleet.proxies_of(cluster)) {
            let is_there = fleet.hosts.get(&proxy.host_id).is_some_and(|host| host.online);
            // What a task is at work on runs, or will be waited for by its lock.
            if is_there && proxy.status != ProxyStatus::Unavailable && proxy.status != ProxyStatus::Stopped {
                concerned.proxies.push((proxy.id, proxy.host_id));
            } else {
                concerned.skipped.push(proxy.id);
            }
        }
        concerned
    }

    /// How many run.
    pub fn count(&self) -> u32 {
        u32::try_from(self.proxies.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use obfleet_wire::{ob::ClusterType, obproxy::LinkStatus};

    use super::*;
    use crate::testing::{self, ob_cluster};

    /// Cluster 1 with two proxies in CONFIG_URL mode, linked to ob1; ob2 is registered.
    fn fleet() -> Snapshot {
        let mut fleet = testing::fleet_of(2, "4.2.1.0-11");
        fleet.clusters.get_mut(&1).unwrap().work_mode = WorkMode::ConfigUrl;
        for (id, name) in [(71, "ob1"), (72, "ob2")] {
            let known = ob_cluster(id, name, None, ClusterType::Primary, "10.0.0.1:2881");
            fleet.ob_clusters.insert(id, known);
        }
        fleet.ob_links.push(link("ob1", 71));
        fleet
    }

    fn link(name: &str, ob_cluster: i64) -> ObLink {
        ObLink {
            cluster_id: 1,
            name: name.into(),
            ob_cluster,
            username: "proxyro".into(),
            status: LinkStatus::Running,
            told: true,
        }
    }

    fn param(name: &str) -> ObLinkParam {
        ObLinkParam {
            cluster_name: name.into(),
            cluster_id: None,
            ob_cluster_id: None,
            username: "proxyro".into(),
            root_servers: Vec::new(),
        }
    }

    #[test]
    fn a_link_is_added_once() {
        let fleet = fleet();
        let add = |links: &[ObLinkParam]| plan_add(&fleet, &fleet.clusters[&1], links);
        assert_eq!(add(&[param("ob2")]).unwrap()[0].backend, ob::Backend::Known(72));
        assert_eq!(add(&[param("ob2"), param("ob1")]).unwrap_err().code, Code::Com10006);
        assert_eq!(add(&[param("ob9")]).unwrap_err().code, Code::Com10001);
        assert_eq!(add(&[]).unwrap_err().code, Code::Com10001);
    }

    #[test]
    fn a_link_goes_unless_it_is_the_last() {
        let mut fleet = fleet();
        let delete = |fleet: &Snapshot, name| plan_delete(fleet, &fleet.clusters[&1], name).map(|link| link.ob_cluster);
        assert_eq!(delete(&fleet, "ob2").unwrap_err().code, Code::Com10002);
        assert_eq!(delete(&fleet, "ob1").unwrap_err().code, Code::Com10003);
        fleet.ob_links.push(link("ob2", 72));
        assert_eq!(delete(&fleet, "ob1"), Ok(71));
        fleet.ob_links.pop();
        fleet.proxies.clear();
        assert_eq!(delete(&fleet, "ob1"), Ok(71), "nobody would keep it");
    }

    #[test]
    fn an_rs_list_cluster_keeps_its_link() {
        let mut fleet = fleet();
        fleet.clusters.get_mut(&1).unwrap().work_mode = WorkMode::RsList;
        let cluster = &fleet.clusters[&1];
        assert_eq!(
            plan_add(&fleet, cluster, &[param("ob2")]).unwrap_err().code,
            Code::Com10003
        );
        assert_eq!(plan_delete(&fleet, cluster, "ob1").unwrap_err().code, Code::Com10003);
        assert_eq!(plan_delete(&fleet, cluster, "ob9").unwrap_err().code, Code::Com10002);
    }

    #[test]
    fn those_that_do_not_run_are_left_out() {
        let mut fleet = fleet();
        assert_eq!(Concerned::of(&fleet, [1]).proxies, [(10, 100), (11, 101)]);
        fleet.proxies.get_mut(&10).unwrap().status = ProxyStatus::Stopped;
        fleet.hosts.get_mut(&101).unwrap().online = false;
        let none = Concerned::of(&fleet, [1]);
        assert_eq!((none.count(), none.skipped), (0, vec![10, 11]));
    }
}
