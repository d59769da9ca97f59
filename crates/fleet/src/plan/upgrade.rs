//! Which package goes to which proxy, and how.

use std::collections::{BTreeMap, BTreeSet};

use obfleet_wire::{
    Code, Refusal,
    agent::RestartMethod,
    obproxy::{OperateStatus, ProxyStatus},
    reason::Reason,
    version::ProxyVersion,
};

use super::{Selection, Snapshot};
use crate::inventory::{Host, Package};

/// OCP restarts proxies from this version on without cutting sessions; older ones know no hot restart.
pub const FIRST_HOT_VERSION: &str = "3.2.1";

/// What an upgrade will do.
#[derive(Debug, Clone, PartialEq)]
pub struct UpgradePlan {
    /// The proxies, in the order in which they are restarted.
    pub targets: Vec<Target>,
    /// `obproxy-ce-4.3.1.0-1`.
    pub short_rpm_name: String,
    /// The version all of them will run.
    pub to: ProxyVersion,
    /// What to know beforehand.
    pub warnings: Vec<String>,
}

/// One proxy of an upgrade.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The proxy.
    pub proxy_id: i64,
    /// Its host.
    pub host_id: i64,
    /// The version it runs now.
    pub from: ProxyVersion,
    /// The package for its architecture.
    pub package_id: i64,
    /// How it is restarted.
    pub method: RestartMethod,
}

/// Which package to go to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// `obproxy-ce-4.3.1.0-1`; without it the newest uploaded package that is higher than every target and there for each
    /// architecture among them.
    pub short_rpm_name: Option<&'a str>,
    /// Only packages built for this system, `el8`.
    pub operating_system: Option<&'a str>,
}

/// Plans the upgrade of chosen proxies of a cluster. A proxy held by a task is planned all the same: the lock refuses it with
/// the name of that task.
pub fn plan_upgrade(
    fleet: &Snapshot,
    cluster_id: i64,
    selection: &Selection<'_>,
    wanted: Wanted<'_>,
) -> Result<UpgradePlan, Refusal> {
    let cluster = fleet.cluster(cluster_id)?;
    let members = fleet.members(cluster, selection)?;
    let highest = members.iter().map(|proxy| &proxy.version).max();
    let highest = highest.ok_or_else(|| Refusal::invalid(selection.field, Reason::Empty))?;
    for proxy in &members {
        if proxy.operate_status == OperateStatus::Normal && proxy.status != ProxyStatus::Running {
            let status = proxy.status.as_str();
            return Err(Refusal::new(Code::Odp21016, [proxy.id.to_string().as_str(), status]).field(selection.field));
        }
    }
    let hosts = members
        .iter()
        .map(|proxy| fleet.host(proxy.host_id))
        .collect::<Result<Vec<_>, _>>()?;
    let architectures: BTreeSet<&str> = hosts.iter().map(|host| host.facts.architecture.as_str()).collect();

    let releases = releases(fleet, wanted.operating_system);
    let (short, candidates) = match wanted.short_rpm_name {
        Some(name) => {
            let candidates = releases.get(name).ok_or_else(|| missing(fleet, name, wanted))?;
            (name.to_owned(), candidates)
        }
        None => releases
            .iter()
            .filter(|(_, packages)| {
                packages.iter().all(|package| package.name.version > *highest)
                    && architectures
                        .iter()
                        .all(|arch| packages.iter().any(|package| package.name.arch == **arch))
            })
            .max_by_key(|(_, packages)| packages.first().map(|package| &package.name.version))
            .map(|(name, packages)| (name.clone(), packages))
            .ok_or_else(|| {
                let wanted = format!("obproxy > {highest} ({})", Vec::from_iter(architectures).join(", "));
                Refusal::new(Code::Pkg10014, [wanted]).field("shortRpmName")
            })?,
    };

    let mut targets = Vec::new();
    let mut warnings = Vec::new();
    let mut to = None;
    for (proxy, host) in members.iter().zip(hosts) {
        let package = best_for(candidates, host).ok_or_else(|| {
            Refusal::new(Code::Cmp07025, [host.facts.name.as_str(), short.as_str()]).field("shortRpmName")
        })?;
        if package.name.version <= proxy.version {
            let reason = Reason::NotHigher {
                package: short,
                version: proxy.version.to_string(),
                proxy: proxy.id,
            };
            return Err(Refusal::invalid("shortRpmName", reason));
        }
        let method = if proxy.version.at_least(FIRST_HOT_VERSION) {
            RestartMethod::Hot
        } else {
            RestartMethod::Cold
        };
        if method == RestartMethod::Cold {
            warnings.push(format!(
                "obproxy {} runs {}, which knows no hot restart (needs {FIRST_HOT_VERSION}): it is drained, stopped and \
                 started, and refuses connections meanwhile",
                proxy.id, proxy.version
            ));
        }
        targets.push(Target {
            proxy_id: proxy.id,
            host_id: host.id,
            from: proxy.version.clone(),
            package_id: package.id,
            method,
        });
        to = Some(package.name.version.clone());
    }
    let to = to.ok_or_else(|| Refusal::invalid(selection.field, Reason::Empty))?;
    Ok(UpgradePlan {
        targets,
        short_rpm_name: short,
        to,
        warnings,
    })
}

/// There is no package of this name, or none for the system that is wanted.
fn missing(fleet: &Snapshot, name: &str, wanted: Wanted<'_>) -> Refusal {
    match wanted.operating_system {
        Some(system) if releases(fleet, None).contains_key(name) => {
            Refusal::new(Code::Pkg10014, [format!("{name}.{system}")]).field("packageOperatingSystem")
        }
        _ => Refusal::new(Code::Pkg10014, [name]).field("shortRpmName"),
    }
}

/// Proxy packages by short name: one release, built for several systems, or for the one that is wanted, and architectures.
fn releases<'a>(fleet: &'a Snapshot, system: Option<&str>) -> BTreeMap<String, Vec<&'a Package>> {
    let mut releases: BTreeMap<String, Vec<&Package>> = BTreeMap::new();
    let fits = |package: &&Package| package.is_proxy && system.is_none_or(|system| package.name.os == system);
    for package in fleet.packages.values().filter(fits) {
        releases.entry(package.name.short()).or_default().push(package);
    }
    releases
}

/// The package for the host's architecture, built for its own release if there is one, else for the oldest, which runs
/// on every later one.
fn best_for<'a>(packages: &[&'a Package], host: &Host) -> Option<&'a Package> {
    packages
        .iter()
        .filter(|package| package.name.arch == host.facts.architecture)
        .min_by_key(|package| (package.name.os != host.facts.release, package.name.os.clone()))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, SnapshotExt as _};

    fn plan_upgrade(
        fleet: &Snapshot,
        cluster_id: i64,
        ids: &[i64],
        short_rpm_name: Option<&str>,
    ) -> Result<UpgradePlan, Refusal> {
        let wanted = Wanted {
            short_rpm_name,
            operating_system: None,
        };
        super::plan_upgrade(fleet, cluster_id, &Selection::in_path(ids), wanted)
    }

    fn fleet() -> Snapshot {
        testing::fleet_of(3, "4.2.1.0-11")
    }

    #[test]
    fn takes_the_named_package() {
        let fleet = fleet().with_package(7, "obproxy-ce-4.3.1.0-1.el7.x86_64.rpm");
        let plan = plan_upgrade(&fleet, 1, &[12, 10], Some("obproxy-ce-4.3.1.0-1")).unwrap();
        assert_eq!(plan.to.to_string(), "4.3.1.0-1");
        assert_eq!(plan.targets.iter().map(|t| t.proxy_id).collect::<Vec<_>>(), [12, 10]);
        assert!(
            plan.targets
                .iter()
                .all(|t| t.package_id == 7 && t.method == RestartMethod::Hot)
        );
    }

    #[test]
    fn without_a_name_takes_the_newest_that_is_higher_and_fits() {
        let fleet = fleet()
            .with_package(6, "obproxy-ce-4.2.0.0-1.el7.x86_64.rpm")
            .with_package(7, "obproxy-ce-4.3.1.0-1.el7.x86_64.rpm")
            .with_package(8, "obproxy-ce-4.3.10.0-1.el7.aarch64.rpm")
            .with_package(9, "obproxy-ce-4.3.9.0-1.el8.x86_64.rpm");
        assert_eq!(
            plan_upgrade(&fleet, 1, &[10], None).unwrap().short_rpm_name,
            "obproxy-ce-4.3.9.0-1"
        );
        let none = testing::fleet_of(1, "4.9.0.0-1").with_package(7, "obproxy-ce-4.3.1.0-1.el7.x86_64.rpm");
        assert_eq!(plan_upgrade(&none, 1, &[10], None).unwrap_err().code, Code::Pkg10014);
    }

    #[test]
    fn refuses_what_cannot_be() {
        let fleet = fleet()
            .with_package(5, "obproxy-ce-4.2.1.0-11.el7.x86_64.rpm")
            .with_package(8, "obproxy-ce-4.3.1.0-1.el7.aarch64.rpm");
        let code = |ids: &[i64], name| plan_upgrade(&fleet, 1, ids, name).unwrap_err().code;
        assert_eq!(code(&[99], None), Code::Odp21002);
        assert_eq!(code(&[10], Some("obproxy-ce-9.9.9.9-1")), Code::Pkg10014);
        assert_eq!(code(&[10], Some("obproxy-ce-4.3.1.0-1")), Code::Cmp07025);
        assert_eq!(code(&[10], Some("obproxy-ce-4.2.1.0-11")), Code::Com10001);
        assert_eq!(code(&[], None), Code::Com10001);
        assert_eq!(plan_upgrade(&fleet, 2, &[10], None).unwrap_err().code, Code::Odp21001);
    }

    #[test]
    fn a_proxy_of_another_cluster_is_told_apart_from_a_missing_one() {
        let fleet = fleet()
            .with_cluster(2)
            .with_package(7, "obproxy-ce-4.3.1.0-1.el7.x86_64.rpm");
        assert_eq!(plan_upgrade(&fleet, 2, &[10], None).unwrap_err().code, Code::Odp21015);
    }

    #[test]
    fn a_proxy_that_does_not_run_is_refused_but_a_held_one_is_left_to_the_lock() {
        let mut fleet = fleet().with_package(7, "obproxy-ce-4.3.1.0-1.el7.x86_64.rpm");
        fleet.proxies.get_mut(&10).unwrap().status = ProxyStatus::Unavailable;
        assert_eq!(plan_upgrade(&fleet, 1, &[10], None).unwrap_err().code, Code::Odp21016);
        fleet.proxies.get_mut(&10).unwrap().operate_status = OperateStatus::Operating;
        assert!(plan_upgrade(&fleet, 1, &[10], None).is_ok());
    }

    #[test]
    fn an_old_proxy_is_restarted_cold_and_the_plan_says_so() {
        let fleet = testing::fleet_of(1, "3.2.0-1").with_package(7, "obproxy-ce-4.3.1.0-1.el7.x86_64.rpm");
        let plan = plan_upgrade(&fleet, 1, &[10], None).unwrap();
        assert_eq!(plan.targets[0].method, RestartMethod::Cold);
        assert!(plan.warnings[0].contains("3.2.0-1"), "{:?}", plan.warnings);
    }

    #[test]
    fn a_system_that_is_wanted_narrows_the_choice() {
        let mut fleet = fleet()
            .with_package(7, "obproxy-ce-4.3.1.0-1.el7.x86_64.rpm")
            .with_package(8, "obproxy-ce-4.3.1.0-1.el8.x86_64.rpm")
            .with_package(9, "obproxy-ce-4.3.2.0-1.el7.x86_64.rpm");
        let plan = |fleet: &Snapshot, name, system| {
            let wanted = Wanted {
                short_rpm_name: name,
                operating_system: system,
            };
            super::plan_upgrade(fleet, 1, &Selection::in_body(&[10]), wanted)
        };
        let package = |fleet: &Snapshot, name, system| plan(fleet, name, system).unwrap().targets[0].package_id;
        let name = Some("obproxy-ce-4.3.1.0-1");
        assert_eq!(package(&fleet, name, None), 7, "the host's own");
        assert_eq!(package(&fleet, name, Some("el8")), 8);
        assert_eq!(package(&fleet, None, Some("el8")), 8);
        fleet.hosts.get_mut(&100).unwrap().facts.release = "el8".into();
        assert_eq!(package(&fleet, name, None), 8);
        let refused = |name, system, field: &str| {
            let refusal = plan(&fleet, name, system).unwrap_err();
            assert_eq!((refusal.code, refusal.field.as_deref()), (Code::Pkg10014, Some(field)));
        };
        refused(name, Some("el9"), "packageOperatingSystem");
        refused(Some("obproxy-ce-4.3.2.0-1"), Some("el8"), "packageOperatingSystem");
        refused(Some("nothing"), Some("el8"), "shortRpmName");
        refused(None, Some("el9"), "shortRpmName");
    }
}
