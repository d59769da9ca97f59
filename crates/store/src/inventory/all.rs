//! The inventory's tables by id: whole, without what is deleted, or some of their rows, deleted or not.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use obfleet_fleet::{
    inventory::{Cluster, Host, ObCluster, ObLink, Package, Proxy},
    plan::{Snapshot, Table},
};
use sqlx::Error;

use super::{
    ids::{IDS, among, bind_all},
    rows, site,
};
use crate::sql::{self, Row, Transaction};

const LINKS: &str = "SELECT l.cluster_id, l.name, l.ob_cluster, l.username, l.status, l.told FROM ob_link l \
                     JOIN obproxy_cluster c ON c.id = l.cluster_id WHERE c.deleted = FALSE";

/// All of it.
pub(super) async fn of_everything(tx: &mut Transaction) -> Result<Snapshot, Error> {
    let hosts = whole("SELECT * FROM host WHERE deleted = FALSE", rows::host, tx).await?;
    let clusters = whole("SELECT * FROM obproxy_cluster WHERE deleted = FALSE", rows::cluster, tx).await?;
    let proxies = whole("SELECT * FROM obproxy_server WHERE deleted = FALSE", rows::proxy, tx).await?;
    let packages = whole("SELECT * FROM software_package", rows::package, tx).await?;
    let ob_clusters = whole("SELECT * FROM ob_cluster", rows::ob_cluster, tx).await?;
    let mut ob_links = whole(LINKS, rows::ob_link, tx).await?;
    ob_links.sort_by(order_of_links);
    Ok(Snapshot {
        hosts: by_id(hosts, |host| Some(host.id)),
        clusters: by_id(clusters, |cluster| Some(cluster.id)),
        proxies: by_id(proxies, |proxy| Some(proxy.id)).into(),
        packages: by_id(packages, |package| Some(package.id)),
        sites: site::all(tx).await?,
        ob_clusters: by_id(ob_clusters, |known| Some(known.id)),
        ob_links,
    })
}

/// By cluster and name.
pub(super) fn order_of_links(one: &ObLink, other: &ObLink) -> Ordering {
    (one.cluster_id, &one.name).cmp(&(other.cluster_id, &other.name))
}

/// Those that have an id.
pub(super) fn by_id<T>(things: Vec<T>, id: impl Fn(&T) -> Option<i64>) -> Table<T> {
    things
        .into_iter()
        .filter_map(|thing| Some((id(&thing)?, thing)))
        .collect()
}

pub(super) async fn hosts_with(ids: &BTreeSet<i64>, tx: &mut Transaction) -> Result<Vec<Host>, Error> {
    some("SELECT * FROM host WHERE id", ids, rows::host, tx).await
}

pub(super) async fn clusters_with(ids: &BTreeSet<i64>, tx: &mut Transaction) -> Result<Vec<Cluster>, Error> {
    some("SELECT * FROM obproxy_cluster WHERE id", ids, rows::cluster, tx).await
}

pub(super) async fn proxies_with(ids: &BTreeSet<i64>, tx: &mut Transaction) -> Result<Vec<Proxy>, Error> {
    some("SELECT * FROM obproxy_server WHERE id", ids, rows::proxy, tx).await
}

/// The proxies of some hosts.
pub(super) async fn proxies_on(hosts: &BTreeSet<i64>, tx: &mut Transaction) -> Result<Vec<Proxy>, Error> {
    some("SELECT * FROM obproxy_server WHERE host_id", hosts, rows::proxy, tx).await
}

pub(super) async fn packages_with(ids: &BTreeSet<i64>, tx: &mut Transaction) -> Result<Vec<Package>, Error> {
    some("SELECT * FROM software_package WHERE id", ids, rows::package, tx).await
}

pub(super) async fn ob_clusters_with(ids: &BTreeSet<i64>, tx: &mut Transaction) -> Result<Vec<ObCluster>, Error> {
    some("SELECT * FROM ob_cluster WHERE id", ids, rows::ob_cluster, tx).await
}

/// The links of some clusters, without those of deleted ones.
pub(super) async fn links_of(clusters: &BTreeSet<i64>, tx: &mut Transaction) -> Result<Vec<ObLink>, Error> {
    some(&format!("{LINKS} AND l.cluster_id"), clusters, rows::ob_link, tx).await
}

async fn whole<T>(
    select: &'static str,
    row: impl Fn(&Row) -> Result<T, Error>,
    tx: &mut Transaction,
) -> Result<Vec<T>, Error> {
    sql::query(select).fetch_all(tx).await?.iter().map(row).collect()
}

/// The rows whose last named column is one of `ids`.
async fn some<T>(
    select: &str,
    ids: &BTreeSet<i64>,
    row: impl Fn(&Row) -> Result<T, Error>,
    tx: &mut Transaction,
) -> Result<Vec<T>, Error> {
    let mut found = Vec::new();
    for ids in Vec::from_iter(ids.iter().copied()).chunks(IDS) {
        let query = bind_all(among(select, ids.len()), ids);
        for found_row in query.fetch_all(&mut *tx).await? {
            found.push(row(&found_row)?);
        }
    }
    Ok(found)
}
