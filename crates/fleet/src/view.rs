//! The inventory as OCP's clients see it.

use std::collections::BTreeMap;

use obfleet_wire::{
    host::{Host as HostView, HostService},
    obproxy::{IdcCount, ObproxyCluster, ObproxyServer, OperateStatus, ProxyStatus, VersionCount},
    package::SoftwarePackage,
};

use crate::{
    inventory::{Cluster, Host, Package, Proxy},
    plan::Snapshot,
};

/// Regions and IDCs are not kept yet: every host is in this one.
const IDC: &str = "default";

/// A cluster with its servers; `base_url` is where clients reach this server.
pub fn cluster(fleet: &Snapshot, cluster: &Cluster, base_url: &str) -> ObproxyCluster {
    let obproxies: Vec<_> = fleet.proxies_of(cluster.id).map(|proxy| server(fleet, proxy)).collect();
    let mut versions = BTreeMap::<_, u64>::new();
    let mut topo = BTreeMap::<_, u64>::new();
    for proxy in &obproxies {
        *versions.entry(proxy.version.clone()).or_default() += 1;
        *topo.entry(proxy.idc_name.clone()).or_default() += 1;
    }
    let status = if obproxies
        .iter()
        .any(|proxy| proxy.operate_status == OperateStatus::Operating)
    {
        "OPERATING"
    } else if obproxies.is_empty() || obproxies.iter().any(|proxy| proxy.status == ProxyStatus::Running) {
        "RUNNING"
    } else {
        "UNAVAILABLE"
    };
    ObproxyCluster {
        address: cluster.address.clone(),
        config_url: format!(
            "{base_url}/services?Action=GetObProxyConfig&User_ID=alibaba&UID=admin&ObproxyClusterName={}",
            cluster.name
        ),
        create_time: cluster.created,
        creator_id: cluster.creator_id,
        creator_name: cluster.creator_name.clone(),
        id: cluster.id,
        name: cluster.name.clone(),
        ob_links: cluster.settings.ob_links.clone(),
        obproxies,
        parameter_version: cluster.parameter_version,
        port: cluster.port,
        status: status.to_owned(),
        topo: topo
            .into_iter()
            .map(|(idc_name, count)| IdcCount { count, idc_name })
            .collect(),
        update_time: cluster.updated,
        versions: versions
            .into_iter()
            .map(|(version, count)| VersionCount {
                count,
                version: version.to_string(),
            })
            .collect(),
        work_mode: cluster.work_mode,
    }
}

fn server(fleet: &Snapshot, proxy: &Proxy) -> ObproxyServer {
    let host = fleet.hosts.get(&proxy.host_id);
    ObproxyServer {
        architecture: host.map(|host| host.facts.architecture.clone()).unwrap_or_default(),
        cluster_id: proxy.cluster_id,
        exporter_port: proxy.exporter_port,
        host_id: proxy.host_id,
        id: proxy.id,
        idc_name: IDC.to_owned(),
        ip: host.map(|host| host.address.clone()).unwrap_or_default(),
        last_active_time: proxy.last_active,
        operate_status: proxy.operate_status,
        parameter_version: proxy.parameter_version,
        rpc_port: proxy.rpc_port,
        sql_port: proxy.sql_port,
        status: proxy.status,
        version: proxy.version.clone(),
    }
}

/// A host with the services on it.
pub fn host(fleet: &Snapshot, host: &Host) -> HostView {
    let services: Vec<_> = fleet
        .proxies
        .values()
        .filter(|proxy| proxy.host_id == host.id)
        .map(|proxy| {
            let cluster = fleet
                .clusters
                .get(&proxy.cluster_id)
                .map_or("", |cluster| cluster.name.as_str());
            HostService {
                name: format!("{cluster}:{}", proxy.id),
                software_package_id: None,
                service_type: "OB_PROXY".to_owned(),
                version: proxy.version.to_string(),
            }
        })
        .collect();
    let status = match (host.online, host.reserved) {
        (false, _) => "OFFLINE",
        (true, true) => "ONLINE",
        (true, false) => "AVAILABLE",
    };
    HostView {
        alias: None,
        architecture: host.facts.architecture.clone(),
        // Known to whoever talks to the agent.
        certificate_expire_time: None,
        create_time: host.created,
        description: None,
        host_agent_id: host.id,
        host_agent_status: if host.online { "AVAILABLE" } else { "OFFLINE" }.to_owned(),
        host_agent_version: host.agent_version.clone(),
        id: host.id,
        idc_description: None,
        idc_id: 1,
        idc_name: IDC.to_owned(),
        inner_ip_address: host.address.clone(),
        kind: "DEDICATED_PHYSICAL_MACHINE".to_owned(),
        name: host.facts.name.clone(),
        operating_system: host.facts.kernel.clone(),
        operating_system_release: host.facts.release.clone(),
        publish_ports: None,
        region_description: None,
        region_id: 1,
        region_name: IDC.to_owned(),
        serial_number: None,
        services,
        ssh_port: 22,
        status: status.to_owned(),
        type_description: None,
        type_id: 1,
        type_name: IDC.to_owned(),
        update_time: host.updated,
    }
}

/// A package; `deletable` when no proxy runs its version.
pub fn package(fleet: &Snapshot, package: &Package, base_url: &str) -> SoftwarePackage {
    let file_name = package.name.file_name();
    let used = fleet
        .proxies
        .values()
        .any(|proxy| package.is_proxy && proxy.version == package.name.version);
    SoftwarePackage {
        architecture: package.name.arch.clone(),
        build_number: package.name.version.build.clone(),
        create_time: package.created,
        deletable: !used,
        download_url: format!("{base_url}/api/v2/files/sys-package/{file_name}"),
        extension: "rpm".to_owned(),
        file_name,
        id: package.id,
        installation_data_list: Vec::new(),
        name: package.name.name.clone(),
        operating_system: package.name.os.clone(),
        sha1: package.sha1.clone(),
        sha256: package.sha256.clone(),
        size: package.size,
        package_type: if package.is_proxy {
            "OBPROXY_INSTALL_PACKAGE"
        } else {
            "OTHERS_RPM"
        }
        .to_owned(),
        version: package.name.version.version.clone(),
    }
}
