//! Which package is installed on which hosts.

use obfleet_wire::{
    Code, Refusal,
    reason::{Reason, Thing},
    version::{PackageName, ProxyVersion},
};

use super::Snapshot;
use crate::inventory::Package;

/// Ports of a new proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// SQL.
    pub sql: u16,
    /// Metrics.
    pub exporter: u16,
    /// OBKV.
    pub rpc: Option<u16>,
}

/// One new proxy.
#[derive(Debug, Clone, PartialEq)]
pub struct NewProxy {
    /// The host it goes to.
    pub host_id: i64,
    /// Its ports.
    pub ports: Ports,
    /// The package.
    pub package_id: i64,
    /// The version in it.
    pub version: ProxyVersion,
}

/// Plans one new proxy on each host.
///
/// `version` is the package's whole file name; the package for each host's own architecture is taken, which must have
/// been uploaded too.
pub fn plan_install(fleet: &Snapshot, host_ids: &[i64], ports: Ports, version: &str) -> Result<Vec<NewProxy>, Refusal> {
    let mut distinct = Vec::new();
    for id in host_ids {
        if !distinct.contains(id) {
            distinct.push(*id);
        }
    }
    if distinct.is_empty() {
        return Err(Refusal::invalid("hostIds", Reason::Empty));
    }
    check_ports(ports)?;
    let asked: PackageName = version
        .parse()
        .map_err(|_| Refusal::new(Code::Pkg10016, [version]).field("version"))?;
    let named = package(fleet, &asked).ok_or_else(|| Refusal::new(Code::Pkg10014, [version]).field("version"))?;
    if !named.is_proxy {
        let package = version.to_owned();
        return Err(Refusal::invalid("version", Reason::NoProxyPackage { package }));
    }
    distinct
        .into_iter()
        .map(|host_id| new_proxy(fleet, host_id, ports, &asked))
        .collect()
}

fn new_proxy(fleet: &Snapshot, host_id: i64, ports: Ports, asked: &PackageName) -> Result<NewProxy, Refusal> {
    let host = fleet.host(host_id)?;
    if !host.is_ready() {
        return Err(Refusal::new(Code::Cmp07004, [host.facts.name.as_str(), "AVAILABLE"]).field("hostIds"));
    }
    let fitting = PackageName {
        arch: host.facts.architecture.clone(),
        ..asked.clone()
    };
    let package = package(fleet, &fitting)
        .ok_or_else(|| Refusal::new(Code::Cmp07025, [host.facts.name.clone(), asked.file_name()]).field("version"))?;
    let wanted = [Some(ports.sql), Some(ports.exporter), ports.rpc];
    for proxy in fleet.proxies.values().filter(|proxy| proxy.host_id == host_id) {
        let taken = [Some(proxy.sql_port), Some(proxy.exporter_port), proxy.rpc_port];
        if let Some(port) = wanted.iter().flatten().find(|port| taken.contains(&Some(**port))) {
            let service = Thing::ProxyOnPort {
                proxy: proxy.id,
                port: *port,
            };
            return Err(Refusal::about(Code::Odp21116, [(&host.facts.name).into(), service.into()]).field("hostIds"));
        }
    }
    Ok(NewProxy {
        host_id,
        ports,
        package_id: package.id,
        version: package.name.version.clone(),
    })
}

fn package<'a>(fleet: &'a Snapshot, name: &PackageName) -> Option<&'a Package> {
    fleet.packages.values().find(|package| package.name == *name)
}

/// OBProxy takes ports from 1025 on, and three different ones.
fn check_ports(ports: Ports) -> Result<(), Refusal> {
    let mut seen = Vec::new();
    for (field, port) in [
        ("sqlPort", Some(ports.sql)),
        ("exporterPort", Some(ports.exporter)),
        ("rpcPort", ports.rpc),
    ] {
        let Some(port) = port else { continue };
        if port <= 1024 {
            return Err(Refusal::invalid(field, Reason::PortRange(port)));
        }
        if seen.contains(&port) {
            return Err(Refusal::invalid(field, Reason::PortTwice(port)));
        }
        seen.push(port);
    }
    Ok(())
}

/// Checks the name of a new cluster: a letter, then letters, digits and `_`; not used by another one.
pub fn check_cluster_name(fleet: &Snapshot, name: &str) -> Result<(), Refusal> {
    let form = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !form {
        return Err(Refusal::invalid("name", Reason::ClusterNameForm));
    }
    if fleet.clusters.values().any(|cluster| cluster.name == name) {
        return Err(Refusal::about(Code::Com10006, [Thing::ClusterKind.into(), name.into()]).field("name"));
    }
    Ok(())
}

/// Checks a password of root@proxysys: 8 to 32 characters of at least three of the four classes.
pub fn check_sys_password(password: &str) -> Result<(), Refusal> {
    const SPECIAL: &str = "~!@#%^&*_-+=|(){}[]:;,.?/";
    let has = |class: fn(char) -> bool| u8::from(password.chars().any(class));
    let classes = has(|c| c.is_ascii_digit())
        + has(|c| c.is_ascii_uppercase())
        + has(|c| c.is_ascii_lowercase())
        + has(|c| SPECIAL.contains(c));
    let known = password
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || SPECIAL.contains(c));
    if (8..=32).contains(&password.len()) && classes >= 3 && known {
        Ok(())
    } else {
        Err(Refusal::new(Code::Odp21106, ["password"]).field("password"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, SnapshotExt as _};

    const PACKAGE: &str = "obproxy-ce-4.2.1.0-11.el7.x86_64.rpm";
    const PORTS: Ports = Ports {
        sql: 3883,
        exporter: 3884,
        rpc: None,
    };

    #[test]
    fn takes_one_proxy_a_host() {
        let fleet = testing::fleet_of(2, "4.2.1.0-11").with_package(7, PACKAGE);
        let plan = plan_install(&fleet, &[101, 100, 101], PORTS, PACKAGE).unwrap();
        assert_eq!(
            plan.iter().map(|p| (p.host_id, p.package_id)).collect::<Vec<_>>(),
            [(101, 7), (100, 7)]
        );
    }

    #[test]
    fn refuses_what_cannot_be() {
        let mut fleet = testing::fleet_of(2, "4.2.1.0-11").with_package(7, PACKAGE);
        fleet.hosts.get_mut(&101).unwrap().online = false;
        let code = |hosts: &[i64], ports, name| plan_install(&fleet, hosts, ports, name).unwrap_err().code;
        assert_eq!(code(&[], PORTS, PACKAGE), Code::Com10001);
        assert_eq!(code(&[99], PORTS, PACKAGE), Code::Cmp07005);
        assert_eq!(code(&[101], PORTS, PACKAGE), Code::Cmp07004);
        assert_eq!(code(&[100], PORTS, "nonsense"), Code::Pkg10016);
        assert_eq!(
            code(&[100], PORTS, "obproxy-ce-4.2.1.0-12.el7.x86_64.rpm"),
            Code::Pkg10014
        );
        assert_eq!(code(&[100], Ports { sql: 2883, ..PORTS }, PACKAGE), Code::Odp21116);
        assert_eq!(code(&[100], Ports { sql: 80, ..PORTS }, PACKAGE), Code::Com10001);
        assert_eq!(code(&[100], Ports { sql: 3884, ..PORTS }, PACKAGE), Code::Com10001);
    }

    #[test]
    fn names_and_passwords() {
        let fleet = testing::fleet_of(1, "4.2.1.0-11");
        assert!(check_cluster_name(&fleet, "prod_1").is_ok());
        assert_eq!(check_cluster_name(&fleet, "test1").unwrap_err().code, Code::Com10006);
        for bad in ["", "1a", "a-b", "ä"] {
            assert_eq!(
                check_cluster_name(&fleet, bad).unwrap_err().code,
                Code::Com10001,
                "{bad}"
            );
        }
        assert!(check_sys_password("Abcdef12").is_ok());
        for bad in ["Abc12", "abcdefgh", "abcdefg1", "Abcdef 12", "Abcdef'12"] {
            assert!(check_sys_password(bad).is_err(), "{bad}");
        }
    }
}
