//! Whole tables of the inventory, by id, without what is deleted; on a connection or in a transaction.

use obfleet_fleet::inventory::{Cluster, Host, Package, Proxy};
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

async fn read<T>(
    db: impl Into<Target<'_>>,
    select: &'static str,
    row: impl Fn(&Row) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    sql::query(select).fetch_all(db).await?.iter().map(row).collect()
}
