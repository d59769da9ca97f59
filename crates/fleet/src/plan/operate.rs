//! Which proxies are stopped, started, restarted or taken away, and how.

use obfleet_wire::{
    Code, Refusal,
    agent::RestartMethod,
    obproxy::{OperateStatus, ProxyStatus},
    reason::Reason,
    version::ProxyVersion,
};

use super::{Selection, Snapshot, upgrade::FIRST_HOT_VERSION};
use crate::inventory::Proxy;

/// A proxy as it was before a task, which is what the task's rollback leads back to.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The proxy.
    pub proxy_id: i64,
    /// Its host.
    pub host_id: i64,
    /// RUNNING, STOPPED or UNAVAILABLE.
    pub status: ProxyStatus,
    /// Whether load balancers were told to keep away.
    pub offline: bool,
    /// The version it has.
    pub version: ProxyVersion,
}

impl Member {
    /// The proxy as it is.
    pub fn of(proxy: &Proxy) -> Self {
        let rests = matches!(proxy.status, ProxyStatus::Running | ProxyStatus::Stopped);
        Self {
            proxy_id: proxy.id,
            host_id: proxy.host_id,
            // Of one that a task has left behind nobody knows better.
            status: if rests { proxy.status } else { ProxyStatus::Unavailable },
            offline: proxy.offline,
            version: proxy.version.clone(),
        }
    }
}

/// One proxy of a restart.
#[derive(Debug, Clone, PartialEq)]
pub struct RestartTarget {
    /// The proxy.
    pub member: Member,
    /// Hot, or ended and started.
    pub method: RestartMethod,
}

/// How proxies are to be restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Hot where that can be, one after another.
    Recommended,
    /// Hot; who cannot is refused.
    Hot,
    /// Ended and started, all at once.
    Forced,
}

/// One proxy to be taken away.
#[derive(Debug, Clone, PartialEq)]
pub struct Removal {
    /// The proxy.
    pub member: Member,
    /// Whether its host is gone for good: nothing is asked of it.
    pub host_gone: bool,
}

/// The chosen proxies, of which at least one is needed. Those that a task holds are left to the lock, which refuses them with
/// the name of that task; `allowed` judges the others.
fn members(
    fleet: &Snapshot,
    cluster_id: i64,
    selection: &Selection<'_>,
    allowed: impl Fn(&Proxy) -> Result<(), Refusal>,
) -> Result<Vec<Member>, Refusal> {
    let members = fleet.members(fleet.cluster(cluster_id)?, selection)?;
    if members.is_empty() {
        return Err(Refusal::invalid(selection.field, Reason::Empty));
    }
    for proxy in &members {
        if proxy.operate_status == OperateStatus::Normal {
            allowed(proxy).map_err(|refusal| refusal.field(selection.field))?;
        }
    }
    Ok(members.into_iter().map(Member::of).collect())
}

/// Refuses a proxy that has this status already.
fn unless(status: ProxyStatus) -> impl Fn(&Proxy) -> Result<(), Refusal> {
    move |proxy| match proxy.status == status {
        true => Err(Refusal::new(Code::Odp21104, [status.as_str(), &proxy.id.to_string()])),
        false => Ok(()),
    }
}

/// Plans a stop. What is stopped already is refused.
pub fn plan_stop(fleet: &Snapshot, cluster_id: i64, selection: &Selection<'_>) -> Result<Vec<Member>, Refusal> {
    members(fleet, cluster_id, selection, unless(ProxyStatus::Stopped))
}

/// Plans a start. What runs is refused.
pub fn plan_start(fleet: &Snapshot, cluster_id: i64, selection: &Selection<'_>) -> Result<Vec<Member>, Refusal> {
    members(fleet, cluster_id, selection, unless(ProxyStatus::Running))
}

fn running(proxy: &Proxy) -> Result<(), Refusal> {
    match proxy.status {
        ProxyStatus::Running => Ok(()),
        _ => {
            let running = ProxyStatus::Running.as_str();
            Err(Refusal::new(Code::Odp21017, [&proxy.id.to_string(), running]))
        }
    }
}

/// Plans that proxies are given back. What does not serve is refused: what looked after it before would start it.
pub fn plan_move_out(fleet: &Snapshot, cluster_id: i64, selection: &Selection<'_>) -> Result<Vec<Member>, Refusal> {
    members(fleet, cluster_id, selection, running)
}

/// Plans what load balancers are told of proxies, which have to run.
pub fn plan_balance(fleet: &Snapshot, cluster_id: i64, selection: &Selection<'_>) -> Result<Vec<Member>, Refusal> {
    members(fleet, cluster_id, selection, running)
}

/// Plans a change on all proxies of a cluster, which have to run: there may be none.
pub fn plan_for_all(fleet: &Snapshot, cluster_id: i64) -> Result<Vec<Member>, Refusal> {
    fleet.cluster(cluster_id)?;
    let ids: Vec<_> = fleet.proxies_of(cluster_id).map(|proxy| proxy.id).collect();
    match ids.as_slice() {
        [] => Ok(Vec::new()),
        ids => members(fleet, cluster_id, &Selection::named("id", ids), running),
    }
}

/// Plans a restart of each proxy onto the version it has.
pub fn plan_restart(
    fleet: &Snapshot,
    cluster_id: i64,
    selection: &Selection<'_>,
    how: Restart,
) -> Result<Vec<RestartTarget>, Refusal> {
    let allowed = |proxy: &Proxy| match how {
        Restart::Hot if proxy.status != ProxyStatus::Running => {
            let running = ProxyStatus::Running.as_str();
            Err(Refusal::new(Code::Odp21017, [&proxy.id.to_string(), running]))
        }
        Restart::Hot if !proxy.version.at_least(FIRST_HOT_VERSION) => {
            Err(Refusal::new(Code::Odp21018, [&proxy.id.to_string(), FIRST_HOT_VERSION]))
        }
        _ => Ok(()),
    };
    let members = members(fleet, cluster_id, selection, allowed)?;
    let method = |member: &Member| {
        let can = member.status == ProxyStatus::Running && member.version.at_least(FIRST_HOT_VERSION);
        match how {
            Restart::Hot => RestartMethod::Hot,
            Restart::Recommended if can => RestartMethod::Hot,
            Restart::Recommended | Restart::Forced => RestartMethod::Cold,
        }
    };
    let target = |member| RestartTarget {
        method: method(&member),
        member,
    };
    Ok(members.into_iter().map(target).collect())
}

/// Plans taking proxies away, `hosts_gone` among them without their hosts.
pub fn plan_removal(
    fleet: &Snapshot,
    cluster_id: i64,
    selection: &Selection<'_>,
    hosts_gone: &Selection<'_>,
) -> Result<Vec<Removal>, Refusal> {
    let members = members(fleet, cluster_id, selection, |_| Ok(()))?;
    if let Some(other) = hosts_gone.ids().find(|id| !selection.ids().any(|chosen| chosen == *id)) {
        let reason = Reason::NotAmong {
            id: other,
            list: selection.field,
        };
        return Err(Refusal::invalid(hosts_gone.field, reason));
    }
    let removal = |member: Member| Removal {
        host_gone: hosts_gone.ids().any(|id| id == member.proxy_id),
        member,
    };
    Ok(members.into_iter().map(removal).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn chosen(ids: &[i64]) -> Selection<'_> {
        Selection::in_body(ids)
    }

    /// Proxies 10, 11, 12 run, are stopped, have failed; 13 is too old, 14 is held.
    fn fleet() -> Snapshot {
        let mut fleet = testing::fleet_of(5, "4.2.1.0-11");
        let proxies = &mut fleet.proxies;
        for (id, status) in [
            (11, ProxyStatus::Stopped),
            (12, ProxyStatus::Unavailable),
            (14, ProxyStatus::Upgrading),
        ] {
            proxies.get_mut(&id).unwrap().status = status;
        }
        proxies.get_mut(&13).unwrap().version = "3.2.0-1".parse().unwrap();
        proxies.get_mut(&14).unwrap().operate_status = OperateStatus::Operating;
        fleet
    }

    #[test]
    fn what_is_so_already_is_refused() {
        let fleet = fleet();
        let stop = |ids: &[i64]| plan_stop(&fleet, 1, &chosen(ids)).map_err(|refusal| refusal.code);
        let start = |ids: &[i64]| plan_start(&fleet, 1, &chosen(ids)).map_err(|refusal| refusal.code);
        assert_eq!(stop(&[10, 12]).unwrap().len(), 2);
        assert_eq!(stop(&[10, 11]), Err(Code::Odp21104));
        assert_eq!(start(&[11, 12]).unwrap().len(), 2);
        assert_eq!(start(&[11, 10]), Err(Code::Odp21104));
        for plan in [&stop as &dyn Fn(&[i64]) -> Result<Vec<Member>, Code>, &start] {
            assert_eq!(plan(&[]), Err(Code::Com10001));
            assert_eq!(plan(&[99]), Err(Code::Odp21002));
            assert_eq!(plan(&[14, 14]).unwrap().len(), 1, "left to the lock");
        }
        assert_eq!(plan_stop(&fleet, 2, &chosen(&[10])).unwrap_err().code, Code::Odp21001);
        let refusal = plan_stop(&fleet, 1, &chosen(&[99])).unwrap_err();
        assert_eq!(refusal.field.as_deref(), Some("obproxyServerIds"));
    }

    #[test]
    fn who_is_told_something_has_to_run() {
        let mut fleet = fleet();
        let balance = |ids: &[i64]| plan_balance(&fleet, 1, &chosen(ids)).map_err(|refusal| refusal.code);
        assert_eq!(balance(&[10]).unwrap().len(), 1);
        assert_eq!(balance(&[10, 11]), Err(Code::Odp21017));
        assert_eq!(balance(&[]), Err(Code::Com10001));
        let refusal = plan_for_all(&fleet, 1).unwrap_err();
        assert_eq!((refusal.code, refusal.field.as_deref()), (Code::Odp21017, Some("id")));
        assert_eq!(plan_for_all(&fleet, 9).unwrap_err().code, Code::Odp21001);
        for id in 11..=14 {
            fleet.proxies.remove(&id);
        }
        assert_eq!(plan_for_all(&fleet, 1).unwrap().len(), 1);
        fleet.proxies.clear();
        assert_eq!(plan_for_all(&fleet, 1), Ok(Vec::new()));
    }

    #[test]
    fn the_rollback_leads_to_what_was_before() {
        let mut fleet = fleet();
        fleet.proxies.get_mut(&10).unwrap().offline = true;
        let before = |id| Member::of(&fleet.proxies[&id]);
        assert_eq!((before(10).status, before(10).offline), (ProxyStatus::Running, true));
        assert_eq!(before(11).status, ProxyStatus::Stopped);
        assert_eq!(before(14).status, ProxyStatus::Unavailable);
    }

    #[test]
    fn who_can_is_restarted_hot() {
        let fleet = fleet();
        let plan = |ids: &[i64], how| plan_restart(&fleet, 1, &chosen(ids), how).map_err(|refusal| refusal.code);
        let methods = |ids: &[i64], how| {
            let targets = plan(ids, how).unwrap().into_iter();
            targets.map(|target| target.method).collect::<Vec<_>>()
        };
        use RestartMethod::{Cold, Hot};
        assert_eq!(
            methods(&[10, 11, 12, 13], Restart::Recommended),
            [Hot, Cold, Cold, Cold]
        );
        assert_eq!(methods(&[10, 11, 12, 13], Restart::Forced), [Cold; 4]);
        assert_eq!(methods(&[10], Restart::Hot), [Hot]);
        assert_eq!(plan(&[11], Restart::Hot), Err(Code::Odp21017));
        assert_eq!(plan(&[12], Restart::Hot), Err(Code::Odp21017));
        assert_eq!(plan(&[13], Restart::Hot), Err(Code::Odp21018));
    }

    #[test]
    fn hosts_that_are_gone_are_those_of_chosen_proxies() {
        let fleet = fleet();
        let plan = |ids: &[i64], gone: &[i64]| {
            let hosts_gone = Selection::named("skipHostOperationServerIds", gone);
            plan_removal(&fleet, 1, &chosen(ids), &hosts_gone)
        };
        let removals = plan(&[10, 11], &[11]).unwrap();
        assert_eq!(
            removals.iter().map(|removal| removal.host_gone).collect::<Vec<_>>(),
            [false, true]
        );
        let refusal = plan(&[10], &[11]).unwrap_err();
        assert_eq!(refusal.code, Code::Com10001);
        assert_eq!(refusal.field.as_deref(), Some("skipHostOperationServerIds"));
    }
}
