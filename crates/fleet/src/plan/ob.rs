//! OceanBase clusters: what can be registered, and which a link means.

use std::collections::BTreeSet;

use obfleet_wire::{
    Code, Refusal,
    ob::{ClusterType, RootServer, UpdateObCluster},
    obproxy::{ObLinkParam, Parameter, WorkMode},
    reason::{Reason, Thing},
};

use super::Snapshot;
use crate::inventory::ObCluster;

/// Root servers of a cluster at most: OceanBase has one a zone.
const MAX_ROOT_SERVERS: usize = 32;
/// Bytes of a name at most.
const MAX_NAME: usize = 128;
/// The largest cluster_id OceanBase takes.
const MAX_CLUSTER_ID: i64 = 4_294_901_759;
/// What proxies call the cluster of the metadb.
pub const META_CLUSTER: &str = "MetaDataBase";

/// Parameters that follow from the work mode and the links; a proxy that were given others would not be what it is said
/// to be.
const CONFIG_URL_PARAMETERS: [&str; 4] = [
    "obproxy_config_server_url",
    "rootservice_list",
    "rootservice_cluster_name",
    "enable_metadb_used",
];

/// Checks the name of an OceanBase cluster. It comes to stand in URLs and behind `#` in users' names.
pub fn check_name(field: &str, name: &str) -> Result<(), Refusal> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if first && rest && name.len() <= MAX_NAME && name != META_CLUSTER {
        Ok(())
    } else {
        Err(Refusal::invalid(field, Reason::ObClusterNameForm))
    }
}

/// Checks a cluster_id parameter.
pub fn check_cluster_id(field: &str, id: Option<i64>) -> Result<(), Refusal> {
    match id {
        Some(id) if !(1..=MAX_CLUSTER_ID).contains(&id) => Err(Refusal::invalid(field, Reason::ObClusterIdRange(id))),
        _ => Ok(()),
    }
}

/// Checks root servers, of which there must be some, and leaves out those given twice.
pub fn check_root_servers(field: &str, given: &[RootServer]) -> Result<Vec<RootServer>, Refusal> {
    let mut seen = BTreeSet::new();
    let mut servers = given.to_vec();
    servers.retain(|server| seen.insert(server.sql_address()));
    if servers.is_empty() {
        return Err(Refusal::invalid(field, Reason::Empty));
    }
    if servers.len() > MAX_ROOT_SERVERS {
        let limit = MAX_ROOT_SERVERS;
        return Err(Refusal::invalid(field, Reason::TooManyRootServers { limit }));
    }
    let usable = |server: &RootServer| !server.ip.is_unspecified() && server.sql_port > 0 && server.rpc_port > 0;
    match servers.iter().find(|server| !usable(server)) {
        Some(wrong) => Err(Refusal::invalid(field, Reason::RootServerForm(wrong.to_string()))),
        None => Ok(servers),
    }
}

/// Checks that an OceanBase cluster can be told from the others of its name: each has an id of its own, and one is PRIMARY.
/// `itself` is its id when it is among them already.
pub fn check_namesakes(
    fleet: &Snapshot,
    name: &str,
    ob_cluster_id: Option<i64>,
    cluster_type: ClusterType,
    itself: Option<i64>,
) -> Result<(), Refusal> {
    let mut others = fleet.ob_clusters_named(name);
    others.retain(|other| Some(other.id) != itself);
    if others.iter().any(|other| other.ob_cluster_id == ob_cluster_id) {
        return Err(Refusal::about(Code::Com10006, [Thing::ObClusterKind.into(), name.into()]).field("name"));
    }
    if !others.is_empty() && (ob_cluster_id.is_none() || others.iter().any(|other| other.ob_cluster_id.is_none())) {
        let name = name.to_owned();
        return Err(Refusal::invalid("obClusterId", Reason::ObClusterIdNeeded { name }));
    }
    let primary = others.iter().find(|other| other.cluster_type == ClusterType::Primary);
    match primary {
        Some(other) if cluster_type == ClusterType::Primary => {
            let (name, id) = (name.to_owned(), other.id);
            Err(Refusal::invalid("type", Reason::SecondPrimary { name, id }))
        }
        _ => Ok(()),
    }
}

/// What proxies are told of an OceanBase cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its cluster_id parameter.
    pub ob_cluster_id: Option<i64>,
    /// PRIMARY or STANDBY.
    pub cluster_type: ClusterType,
    /// Its root servers.
    pub root_servers: Vec<RootServer>,
}

impl Facts {
    /// As they are.
    pub fn of(known: &ObCluster) -> Self {
        Self {
            ob_cluster_id: known.ob_cluster_id,
            cluster_type: known.cluster_type,
            root_servers: known.root_servers.clone(),
        }
    }
}

/// What an OceanBase cluster will be after a change; what the change does not name stays.
pub fn plan_update(fleet: &Snapshot, known: &ObCluster, change: &UpdateObCluster) -> Result<Facts, Refusal> {
    check_cluster_id("obClusterId", change.ob_cluster_id)?;
    let facts = Facts {
        ob_cluster_id: change.ob_cluster_id.or(known.ob_cluster_id),
        cluster_type: change.cluster_type.unwrap_or(known.cluster_type),
        root_servers: match &change.root_servers {
            Some(given) => check_root_servers("rootServers", given)?,
            None => known.root_servers.clone(),
        },
    };
    check_namesakes(
        fleet,
        &known.name,
        facts.ob_cluster_id,
        facts.cluster_type,
        Some(known.id),
    )?;
    Ok(facts)
}

/// A link that will be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewLink {
    /// Name of the OceanBase cluster.
    pub name: String,
    /// Account the proxies use there.
    pub username: String,
    /// Which OceanBase cluster it is.
    pub backend: Backend,
}

/// The OceanBase cluster of a link.
#[derive(Debug, Clone, PartialEq)]
pub enum Backend {
    /// A registered one, by its id here.
    Known(i64),
    /// One that the link brings.
    New {
        /// Its cluster_id parameter.
        ob_cluster_id: Option<i64>,
        /// Its root servers; none of one that is only named.
        root_servers: Vec<RootServer>,
    },
}

/// What becomes of a link to an OceanBase cluster nobody knows the root servers of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// It is refused.
    Refused,
    /// It is made, and its proxies are told once the root servers are registered.
    Kept,
}

/// Plans the links of a new proxy cluster. In RS_LIST mode it has one, whose root servers may also come from the start
/// parameter `rootservice_list`.
pub fn plan_first_links(
    fleet: &Snapshot,
    mode: WorkMode,
    links: &[ObLinkParam],
    startup_parameters: &[Parameter],
    unknown: Unknown,
) -> Result<Vec<NewLink>, Refusal> {
    if mode == WorkMode::ConfigUrl {
        return plan_links(fleet, links, unknown);
    }
    let [link] = links else {
        return Err(Refusal::invalid("obLinks", Reason::OneLink { given: links.len() }));
    };
    let listed = startup_parameters
        .iter()
        .find(|parameter| parameter.name == "rootservice_list");
    let (field, given): (_, Vec<&str>) = match listed {
        Some(list) => ("startupParameters", list.value.split(';').collect()),
        None => ("obLinks", link.root_servers.iter().map(String::as_str).collect()),
    };
    let new = plan_link(fleet, link, read_root_servers(field, &given)?, Unknown::Kept)?;
    match &new.backend {
        Backend::New { root_servers, .. } if root_servers.is_empty() => {
            Err(Refusal::invalid("obLinks", Reason::NoRootServers))
        }
        Backend::Known(id) if fleet.ob_cluster(*id)?.root_servers.is_empty() => {
            Err(Refusal::invalid("obLinks", Reason::NoRootServers))
        }
        _ => Ok(vec![new]),
    }
}

/// Plans links of a CONFIG_URL cluster.
pub fn plan_links(fleet: &Snapshot, links: &[ObLinkParam], unknown: Unknown) -> Result<Vec<NewLink>, Refusal> {
    let mut new: Vec<NewLink> = Vec::new();
    for link in links {
        let given: Vec<_> = link.root_servers.iter().map(String::as_str).collect();
        let link = plan_link(fleet, link, read_root_servers("obLinks", &given)?, unknown)?;
        if new.iter().any(|other| other.name == link.name) {
            return Err(Refusal::invalid("obLinks", Reason::LinkedTwice { name: link.name }));
        }
        new.push(link);
    }
    Ok(new)
}

fn read_root_servers(field: &str, given: &[&str]) -> Result<Vec<RootServer>, Refusal> {
    let read = |text: &&str| {
        let wrong = |_| Refusal::invalid(field, Reason::RootServerForm((*text).to_owned()));
        text.parse().map_err(wrong)
    };
    let servers = given.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    match servers.as_slice() {
        [] => Ok(servers),
        some => check_root_servers(field, some),
    }
}

fn plan_link(
    fleet: &Snapshot,
    link: &ObLinkParam,
    root_servers: Vec<RootServer>,
    unknown: Unknown,
) -> Result<NewLink, Refusal> {
    check_cluster_id("obLinks", link.ob_cluster_id)?;
    let known = known(fleet, link)?;
    let new = |name: &str, backend| NewLink {
        name: name.to_owned(),
        username: link.username.clone(),
        backend,
    };
    let unusable = |asked: &str| {
        let asked = asked.to_owned();
        Err(Refusal::invalid("obLinks", Reason::UnknownObCluster { asked }))
    };
    let Some(known) = known else {
        check_name("obLinks", &link.cluster_name)?;
        let type_here = ClusterType::Primary;
        check_namesakes(fleet, &link.cluster_name, link.ob_cluster_id, type_here, None)
            .map_err(|refusal| refusal.field("obLinks"))?;
        if root_servers.is_empty() && unknown == Unknown::Refused {
            return unusable(&link.cluster_name);
        }
        let ob_cluster_id = link.ob_cluster_id;
        return Ok(new(
            &link.cluster_name,
            Backend::New {
                ob_cluster_id,
                root_servers,
            },
        ));
    };
    if !root_servers.is_empty() && !are_the_same(&root_servers, &known.root_servers) {
        let (name, id) = (known.name.clone(), known.id);
        return Err(Refusal::invalid("obLinks", Reason::OtherRootServers { name, id }));
    }
    if known.root_servers.is_empty() && unknown == Unknown::Refused {
        return unusable(&known.name);
    }
    Ok(new(&known.name, Backend::Known(known.id)))
}

/// The registered OceanBase cluster a link names. Clients of OCP send the id OCP knows it by, which is not its id here: the
/// name counts where there is one.
fn known<'a>(fleet: &'a Snapshot, link: &ObLinkParam) -> Result<Option<&'a ObCluster>, Refusal> {
    if link.cluster_name.is_empty() {
        let id = link
            .cluster_id
            .ok_or_else(|| Refusal::invalid("obLinks", Reason::ObClusterNeeded))?;
        let asked = format!("id {id}");
        let unknown = || Refusal::invalid("obLinks", Reason::UnknownObCluster { asked });
        return fleet.ob_clusters.get(&id).ok_or_else(unknown).map(Some);
    }
    let named = fleet.ob_clusters_named(&link.cluster_name);
    let Some(id) = link.ob_cluster_id else {
        return Ok(named.first().copied());
    };
    // One whose id nobody has told may be any.
    let fits = |known: &&&ObCluster| known.ob_cluster_id.is_none_or(|known| known == id);
    Ok(named.iter().find(fits).copied())
}

/// Whether proxies would be told the same SQL addresses; a link tells no RPC ports.
fn are_the_same(one: &[RootServer], other: &[RootServer]) -> bool {
    let addresses = |servers: &[RootServer]| {
        servers
            .iter()
            .map(|server| server.sql_address())
            .collect::<BTreeSet<_>>()
    };
    addresses(one) == addresses(other)
}

/// Checks that no parameter of a new proxy cluster says what its work mode says.
pub fn check_parameters(mode: WorkMode, startup: &[Parameter], running: &[Parameter]) -> Result<(), Refusal> {
    for (field, parameters) in [("startupParameters", startup), ("parameters", running)] {
        let follows = |name: &str| match mode {
            WorkMode::ConfigUrl => CONFIG_URL_PARAMETERS.contains(&name),
            // `rootservice_list` is how OCP's clients give the root servers of the first start.
            WorkMode::RsList => {
                CONFIG_URL_PARAMETERS.contains(&name)
                    && !(field == "startupParameters" && name == "rootservice_list")
                    && name != "enable_metadb_used"
            }
        };
        if let Some(parameter) = parameters.iter().find(|parameter| follows(&parameter.name)) {
            let name = parameter.name.clone();
            return Err(Refusal::invalid(field, Reason::FollowsFromWorkMode { name }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
