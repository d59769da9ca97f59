//! Whether a proxy that somebody else installed can be taken over into a cluster, and what that changes of it.

use obfleet_config_items as config_items;
use obfleet_wire::{
    agent::{Caution, Examination, FoundProxy, Obstacle, ProxyParameters, SECRET_VALUE, StartMethod},
    obproxy::{ParameterDifference, WorkMode},
    version::ProxyVersion,
};

use super::{Snapshot, config_server, install::Ports, parameters, upgrade::FIRST_HOT_VERSION};
use crate::inventory::{Cluster, ObCluster, WantedValue};

/// OCP takes over from this version on.
const LEAST_VERSION: &str = "1.8.0";
/// Clusters are of one of two families, which this version divides.
const SECOND_FAMILY: &str = "4.0.0";

/// A proxy that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Its host.
    pub host_id: i64,
    /// The port it serves on.
    pub sql_port: u16,
    /// The port its metrics are to be on.
    pub exporter_port: Option<u16>,
    /// The port its OBKV service is to be on.
    pub rpc_port: Option<u16>,
}

/// A proxy as it was judged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    /// What stands in the way.
    pub obstacles: Vec<Obstacle>,
    /// What is to be known.
    pub cautions: Vec<Caution>,
    /// What would be changed.
    pub differences: Vec<ParameterDifference>,
    /// What it will be in the inventory, where that is known.
    pub taken: Option<Taken>,
}

/// A proxy that can be taken over.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// Its ports.
    pub ports: Ports,
    /// The version it runs.
    pub version: ProxyVersion,
}

/// Judges what was found. `rows` is what was set for the cluster since it was made.
pub fn judge(
    fleet: &Snapshot,
    cluster: &Cluster,
    rows: &[WantedValue],
    wish: Wish,
    examination: &Examination,
) -> Judged {
    let mut judged = Judged {
        obstacles: examination.obstacles.clone(),
        ..Judged::default()
    };
    let Some(proxy) = &examination.proxy else {
        return judged;
    };
    let version = examination.parameters.as_ref().map(|parameters| &parameters.version);
    let version = version.or(proxy.version.as_ref());
    if let Some(version) = version {
        judge_version(fleet, cluster, version, &mut judged);
    }
    judge_ports(fleet, wish, proxy, version, &mut judged);
    if let Some(has) = &examination.parameters {
        judge_backend(fleet, cluster, has, &mut judged);
        judged.differences = differences(has, &values(fleet, cluster, rows));
    }
    judged.cautions.extend(cautions(proxy));
    judged
}

fn judge_version(fleet: &Snapshot, cluster: &Cluster, version: &ProxyVersion, judged: &mut Judged) {
    if !version.at_least(LEAST_VERSION) {
        judged.obstacles.push(Obstacle::VersionTooLow {
            version: version.clone(),
            least: LEAST_VERSION.to_owned(),
        });
    }
    let of_cluster = fleet.proxies_of(cluster.id).map(|proxy| &proxy.version).max();
    let family = |version: &ProxyVersion| version.at_least(SECOND_FAMILY);
    if let Some(known) = of_cluster.filter(|known| family(known) != family(version)) {
        judged.obstacles.push(Obstacle::OtherFamily {
            version: version.clone(),
            cluster: known.clone(),
        });
    }
    if !version.at_least(FIRST_HOT_VERSION) {
        judged.cautions.push(Caution::NoHotRestart {
            version: version.clone(),
        });
    }
}

fn judge_ports(fleet: &Snapshot, wish: Wish, proxy: &FoundProxy, version: Option<&ProxyVersion>, judged: &mut Judged) {
    let (has, asked) = (proxy.exporter_port, wish.exporter_port);
    // One whose port cannot be told may well be where it is said to be.
    let exporter = match (has, asked) {
        (Some(has), Some(asked)) if has != asked => None,
        (has, asked) => has.or(asked),
    };
    if exporter.is_none() {
        judged.obstacles.push(Obstacle::ExporterPort { has, asked });
    }
    if let Some(asked) = wish.rpc_port.filter(|asked| proxy.rpc_port != Some(*asked)) {
        let has = proxy.rpc_port;
        judged.obstacles.push(Obstacle::RpcPort { has, asked });
    }
    let ports = [Some(wish.sql_port), exporter, proxy.rpc_port];
    for other in fleet.proxies.values().filter(|other| other.host_id == wish.host_id) {
        let taken = [Some(other.sql_port), Some(other.exporter_port), other.rpc_port];
        if let Some(port) = ports.iter().flatten().find(|port| taken.contains(&Some(**port))) {
            let (port, proxy_id) = (*port, other.id);
            judged.obstacles.push(Obstacle::PortInUse { port, proxy_id });
        }
    }
    if let (Some(exporter), Some(version)) = (exporter, version) {
        judged.taken = Some(Taken {
            ports: Ports {
                sql: wish.sql_port,
                exporter,
                rpc: proxy.rpc_port,
            },
            version: version.clone(),
        });
    }
}

fn value<'a>(has: &'a ProxyParameters, name: &str) -> Option<&'a str> {
    let item = has.items.iter().find(|item| item.name == name);
    // What it started with is what it goes by.
    let value = item.map(|item| item.in_force.as_deref().unwrap_or(&item.value));
    value.filter(|value| !value.is_empty())
}

/// The proxy finds the same OceanBase servers the cluster's proxies do.
fn judge_backend(fleet: &Snapshot, cluster: &Cluster, has: &ProxyParameters, judged: &mut Judged) {
    let by_list = value(has, "rootservice_list").is_some();
    let by_url = value(has, "obproxy_config_server_url").is_some();
    let as_the_cluster = match cluster.work_mode {
        WorkMode::RsList => by_list && !by_url,
        WorkMode::ConfigUrl => by_url && !by_list,
    };
    if !as_the_cluster {
        let cluster = cluster.work_mode;
        return judged.obstacles.push(Obstacle::OtherWorkMode { cluster });
    }
    let Some(behind) = only_link(fleet, cluster) else {
        return;
    };
    let name = value(has, "rootservice_cluster_name").filter(|name| *name != "undefined");
    let servers = value(has, "rootservice_list").unwrap_or_default();
    let same = match name {
        Some(name) => name.eq_ignore_ascii_case(&behind.name),
        // One that knows no name is told by where it leads.
        None => servers
            .split(';')
            .any(|server| behind.root_servers.iter().any(|known| known.to_string() == server)),
    };
    if !same {
        let serves = name.unwrap_or(servers).to_owned();
        judged.obstacles.push(Obstacle::OtherObCluster { serves });
    }
}

/// The OceanBase cluster of an RS_LIST cluster.
fn only_link<'a>(fleet: &'a Snapshot, cluster: &Cluster) -> Option<&'a ObCluster> {
    let mut links = fleet.links_of(cluster.id);
    let link = links.next().filter(|_| cluster.work_mode == WorkMode::RsList)?;
    fleet.ob_clusters.get(&link.ob_cluster)
}

/// What a proxy of the cluster should have. Passwords are not among it: one that serves the same OceanBase cluster logs in
/// there already.
pub fn values(fleet: &Snapshot, cluster: &Cluster, rows: &[WantedValue]) -> Vec<(String, String)> {
    let mut values = parameters::values_of(&parameters::wanted(cluster, rows, None));
    let mut unless_given = |name: &str, value: String| {
        if !values.iter().any(|(given, _)| given == name) {
            values.push((name.to_owned(), value));
        }
    };
    // What a restart that fails costs; it acts from a process's start.
    unless_given("proxy_hot_upgrade_check_interval", "1s".to_owned());
    match cluster.work_mode {
        WorkMode::RsList => {
            let servers = only_link(fleet, cluster).map(|behind| &behind.root_servers);
            let servers: Vec<_> = servers.into_iter().flatten().map(ToString::to_string).collect();
            if !servers.is_empty() {
                unless_given("rootservice_list", servers.join(";"));
            }
        }
        WorkMode::ConfigUrl => {
            let url = config_server::config_url(cluster, &cluster.settings.config_base);
            unless_given("obproxy_config_server_url", url);
            unless_given("enable_metadb_used", "false".to_owned());
            unless_given("config_server_refresh_interval", "10s".to_owned());
        }
    }
    values
}

/// The values that are others than the proxy has, without what its version lacks.
pub fn differences(has: &ProxyParameters, values: &[(String, String)]) -> Vec<ParameterDifference> {
    let differs = |(name, wanted): &(String, String)| {
        let item = has.items.iter().find(|item| item.name == *name)?;
        let same = item.value == SECRET_VALUE || is_same(name, &item.value, wanted);
        (!same).then(|| ParameterDifference {
            cluster_value: wanted.clone(),
            name: name.clone(),
            need_restart: item.need_restart || config_items::find(name).is_some_and(|item| item.need_reboot),
            proxy_value: item.value.clone(),
        })
    };
    values.iter().filter_map(differs).collect()
}

/// A list of servers is the same in any order.
fn is_same(name: &str, one: &str, other: &str) -> bool {
    if name != "rootservice_list" {
        return parameters::means_same(name, one, other);
    }
    let sorted = |list: &str| {
        let mut servers: Vec<_> = list.split(';').map(str::to_owned).collect();
        servers.sort();
        servers
    };
    sorted(one) == sorted(other)
}

fn cautions(proxy: &FoundProxy) -> Vec<Caution> {
    let mut cautions = Vec::new();
    let tool = proxy.start_method;
    if matches!(tool, StartMethod::Obd | StartMethod::Obshell) {
        cautions.push(Caution::StartedBy { tool });
    }
    cautions.extend(proxy.cron_entries.iter().map(|entry| Caution::Cron {
        file: entry.file.clone(),
        line: entry.line,
    }));
    let newest = proxy.processes.last().filter(|process| process.executable_replaced);
    if let Some(path) = newest.and_then(|process| process.executable.clone()) {
        cautions.push(Caution::ExecutableReplaced { path });
    }
    cautions
}

#[cfg(test)]
mod tests;
