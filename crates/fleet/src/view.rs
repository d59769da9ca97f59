//! The inventory as OCP's clients see it.

pub mod parameters;

use std::collections::BTreeMap;

use obfleet_wire::{
    host::{Host as HostView, HostService},
    ob::{ObCluster as ObClusterView, ServedBy},
    obproxy::{
        IdcCount, LinkStatus, LoadBalanceStatus, ObLink as ObLinkView, ObproxyCluster, ObproxyServer, OperateStatus,
        ProxyStatus, VersionCount,
    },
    package::SoftwarePackage,
    site::{HostType, Idc as IdcView, Region},
};

use crate::{
    bootstrap::SSH_PORT,
    inventory::{Cluster, DEFAULT_SITE, Host, HostStage, Idc, ObCluster, ObLink, Package, Proxy, Site, SiteMap},
    plan::{Snapshot, config_server},
};

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
        config_url: config_server::config_url(cluster, base_url),
        create_time: cluster.created,
        creator_id: cluster.creator_id,
        creator_name: cluster.creator_name.clone(),
        id: cluster.id,
        name: cluster.name.clone(),
        ob_links: fleet.links_of(cluster.id).map(|link| ob_link(fleet, link)).collect(),
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

fn ob_link(fleet: &Snapshot, link: &ObLink) -> ObLinkView {
    let known = fleet.ob_clusters.get(&link.ob_cluster);
    ObLinkView {
        cluster_id: link.ob_cluster,
        cluster_name: link.name.clone(),
        cluster_type: known.map(|known| known.cluster_type).unwrap_or_default(),
        ob_cluster_id: known.and_then(|known| known.ob_cluster_id),
        root_servers: known
            .map(|known| known.root_servers.iter().map(|server| server.short()).collect())
            .unwrap_or_default(),
        status: link_status(fleet, link),
        username: link.username.clone(),
    }
}

/// A link to an OceanBase cluster nobody knows the servers of leads nowhere, whatever its row says.
fn link_status(fleet: &Snapshot, link: &ObLink) -> LinkStatus {
    let known = fleet.ob_clusters.get(&link.ob_cluster);
    match known.is_some_and(|known| !known.root_servers.is_empty()) {
        true => link.status,
        false => LinkStatus::Unavailable,
    }
}

/// An OceanBase cluster with those that serve it.
pub fn ob_cluster(fleet: &Snapshot, known: &ObCluster) -> ObClusterView {
    let links = fleet.ob_links.iter().filter(|link| link.ob_cluster == known.id);
    let served_by = links.filter_map(|link| {
        let cluster = fleet.clusters.get(&link.cluster_id)?;
        Some(ServedBy {
            id: cluster.id,
            name: cluster.name.clone(),
            status: link_status(fleet, link),
        })
    });
    ObClusterView {
        account_user: known.account.as_ref().map(|account| account.user.clone()),
        create_time: known.created,
        creator_id: known.creator_id,
        creator_name: known.creator_name.clone(),
        has_proxyro_password: known.proxyro_password.is_some(),
        id: known.id,
        name: known.name.clone(),
        ob_cluster_id: known.ob_cluster_id,
        obproxy_clusters: served_by.collect(),
        restart_needed: Vec::new(),
        root_servers: known.root_servers.clone(),
        task_id: None,
        cluster_type: known.cluster_type,
        update_time: known.updated,
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
        idc_name: host.map(|host| idc_name(fleet, host)).unwrap_or_default(),
        ip: host.map(|host| host.address.clone()).unwrap_or_default(),
        last_active_time: proxy.last_active,
        load_balance_status: if proxy.offline {
            LoadBalanceStatus::Offline
        } else {
            LoadBalanceStatus::Online
        },
        operate_status: proxy.operate_status,
        parameter_version: proxy.parameter_version,
        rpc_port: proxy.rpc_port,
        sql_port: proxy.sql_port,
        status: proxy.status,
        version: proxy.version.clone(),
    }
}

fn idc_name(fleet: &Snapshot, host: &Host) -> String {
    let idc = fleet.sites.idcs.get(&host.profile.place.idc_id);
    idc.map(|idc| idc.site.name.clone()).unwrap_or_default()
}

/// A region.
pub fn region(region: &Site) -> Region {
    Region {
        create_time: region.created,
        description: region.description.clone(),
        id: region.id,
        name: region.name.clone(),
        update_time: region.updated,
    }
}

/// An IDC.
pub fn idc(sites: &SiteMap, idc: &Idc) -> IdcView {
    let region = sites.regions.get(&idc.region_id);
    IdcView {
        create_time: idc.site.created,
        description: idc.site.description.clone(),
        id: idc.site.id,
        name: idc.site.name.clone(),
        region_id: idc.region_id,
        region_name: region.map(|region| region.name.clone()).unwrap_or_default(),
        update_time: idc.site.updated,
    }
}

/// A host type.
pub fn host_type(host_type: &Site) -> HostType {
    HostType {
        create_time: host_type.created,
        description: host_type.description.clone(),
        id: host_type.id,
        name: host_type.name.clone(),
        update_time: host_type.updated,
    }
}

/// A host with the proxies that are on it.
pub fn host<'f>(fleet: &Snapshot, host: &Host, proxies: impl IntoIterator<Item = &'f Proxy>) -> HostView {
    let services: Vec<_> = proxies
        .into_iter()
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
    let status = match (host.stage, host.online, host.reserved) {
        (HostStage::New, ..) => "NEW",
        (HostStage::Deleting, ..) => "DELETING",
        (HostStage::Ready, false, _) => "OFFLINE",
        (HostStage::Ready, true, true) => "ONLINE",
        (HostStage::Ready, true, false) => "AVAILABLE",
    };
    let profile = &host.profile;
    let idc = fleet.sites.idcs.get(&profile.place.idc_id);
    let region = idc.and_then(|idc| fleet.sites.regions.get(&idc.region_id));
    let host_type = fleet.sites.host_types.get(&profile.place.type_id);
    let name = |site: Option<&Site>| site.map(|site| site.name.clone()).unwrap_or_default();
    let description = |site: Option<&Site>| site.and_then(|site| site.description.clone());
    HostView {
        alias: profile.alias.clone(),
        architecture: host.facts.architecture.clone(),
        // Known to whoever talks to the agent.
        certificate_expire_time: None,
        create_time: host.created,
        description: profile.description.clone(),
        host_agent_id: host.id,
        host_agent_status: if host.online { "AVAILABLE" } else { "OFFLINE" }.to_owned(),
        host_agent_version: host.agent_version.clone(),
        id: host.id,
        idc_description: description(idc.map(|idc| &idc.site)),
        idc_id: profile.place.idc_id,
        idc_name: name(idc.map(|idc| &idc.site)),
        inner_ip_address: host.address.clone(),
        kind: profile.kind,
        name: host.facts.name.clone(),
        operating_system: host.facts.kernel.clone(),
        operating_system_release: host.facts.release.clone(),
        publish_ports: profile.publish_ports.clone(),
        region_description: description(region),
        region_id: region.map_or(DEFAULT_SITE, |region| region.id),
        region_name: name(region),
        serial_number: profile.serial_number.clone(),
        services,
        ssh_port: profile.ssh_port.unwrap_or(SSH_PORT),
        status: status.to_owned(),
        type_description: description(host_type),
        type_id: profile.place.type_id,
        type_name: name(host_type),
        update_time: host.updated,
    }
}

/// A proxy that runs what is in the package: its version, on its architecture. Which of several builds for different
/// systems a proxy was installed from is not known, so it counts as a user of each.
pub fn user_of<'a>(fleet: &'a Snapshot, package: &Package) -> Option<&'a Proxy> {
    let runs = |proxy: &&Proxy| {
        let host = fleet.hosts.get(&proxy.host_id);
        proxy.version == package.name.version && host.is_none_or(|host| host.facts.architecture == package.name.arch)
    };
    fleet.proxies.values().find(runs).filter(|_| package.is_proxy)
}

/// What OCP calls a package of this name.
fn package_type(package: &Package) -> &'static str {
    match package.name.name.as_str() {
        _ if package.is_proxy => "OBPROXY_INSTALL_PACKAGE",
        "oceanbase" | "oceanbase-ce" => "OB_SERVER_INSTALL_PACKAGE",
        "t-oceanbase-ocp-agent" => "OCP_AGENT_INSTALL_PACKAGE",
        _ => "OTHERS_RPM",
    }
}

/// A package; `deletable` when no proxy runs what is in it.
pub fn package(fleet: &Snapshot, package: &Package, base_url: &str) -> SoftwarePackage {
    let file_name = package.name.file_name();
    SoftwarePackage {
        architecture: package.name.arch.clone(),
        build_number: package.name.version.build.clone(),
        create_time: package.created,
        deletable: user_of(fleet, package).is_none(),
        download_url: format!("{base_url}/api/v2/files/sys-package/{file_name}"),
        extension: "rpm".to_owned(),
        file_name,
        id: package.id,
        installation_data_list: Vec::new(),
        name: package.name.name.clone(),
        operating_system: package.name.os.clone(),
        sha1: package.sha1.clone(),
        sha256: package.sha256.clone(),
        signed_by: package.signed_by.clone(),
        size: package.size,
        package_type: package_type(package).to_owned(),
        version: package.name.version.version.clone(),
    }
}
