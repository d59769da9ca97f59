//! Whole tables of the inventory, by id, without what is deleted; on a connection or in a transaction.

use obfleet_fleet::inventory::{Cluster, Host, ObCluster, ObLink, Package, Proxy};
use sqlx::Error;

use super::rows;
use crate::sql::{self, Row, Target};

pub(super) async fn hosts(db: impl Into<Target<'_>>) -> Result<Vec<Host>, Error> {
    read(db, "SELECT * FROM host WHERE deleted = FALSE ORDER BY id", rows::host).await
}

pub(super) async fn clusters(db: impl Into<Target<'_>>) -> Result<Vec<Cluster>, Error> {
    let select = "SELECT * FROM obproxy_cluster WHERE deleted = FALSE ORDER BY id";
    read(db, select, rows::cluster).await
}

pub(super) async fn proxies(db: impl Into<Target<'_>>) -> Result<Vec<Proxy>, Error> {
    let select = "SELECT * FROM obproxy_server WHERE deleted = FALSE ORDER BY id";
    read(db, select, rows::proxy).await
}

pub(super) async fn packages(db: impl Into<Target<'_>>) -> Result<Vec<Package>, Error> {
    read(db, "SELECT * FROM software_package ORDER BY id", rows::package).await
}

pub(super) async fn ob_clusters(db: impl Into<Target<'_>>) -> Result<Vec<ObCluster>, Error> {
    read(db, "SELECT * FROM ob_cluster ORDER BY id", rows::ob_cluster).await
}

pub(super) async fn ob_links(db: impl Into<Target<'_>>) -> Result<Vec<ObLink>, Error> {
    let select = "SELECT l.cluster_id, l.name, l.ob_cluster, l.username, l.status, l.told FROM ob_link l \
                  JOIN obproxy_cluster c ON c.id = l.cluster_id WHERE c.deleted = FALSE ORDER BY l.cluster_id, l.name";
    read(db, select, rows::ob_link).await
}

async fn read<T>(
    db: impl Into<Target<'_>>,
    select: &'static str,
    row: impl Fn(&Row) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    sql::query(select).fetch_all(db).await?.iter().map(row).collect()
}
