//! Regions, IDCs and host types. Whoever adds or removes one, or puts a host into one, waits for the others, so that nothing
//! is removed from under what is about to use it.

use std::collections::BTreeMap;

use obfleet_fleet::inventory::{Added, DEFAULT_SITE, HostPlace, Idc, Removed, Site, SiteKind, SiteMap};
use sqlx::Error;

use super::news::{self, News};
use super::take_id;
use crate::sql::{self, Row, Target, Transaction};

/// Users of something that are told when it cannot be removed.
const TOLD: i64 = 10;

/// The table of a kind.
fn table(kind: SiteKind) -> &'static str {
    match kind {
        SiteKind::Region => "region",
        SiteKind::Idc => "idc",
        SiteKind::HostType => "host_type",
    }
}

/// What uses one of a kind, lowest ids first.
fn users(kind: SiteKind) -> &'static str {
    match kind {
        SiteKind::Region => "SELECT id FROM idc WHERE region_id = ? ORDER BY id LIMIT ?",
        SiteKind::Idc => "SELECT id FROM host WHERE idc_id = ? AND deleted = FALSE ORDER BY id LIMIT ?",
        SiteKind::HostType => "SELECT id FROM host WHERE type_id = ? AND deleted = FALSE ORDER BY id LIMIT ?",
    }
}

/// Waits until nobody else adds or removes any, nor puts a host into one.
pub(super) async fn one_at_a_time(tx: &mut Transaction) -> Result<(), Error> {
    let for_update = tx.dialect().for_update();
    let wait = sql::composed(format!("SELECT id FROM installation{for_update}"));
    wait.fetch_optional(tx).await.map(drop)
}

pub(super) async fn all(tx: &mut Transaction) -> Result<SiteMap, Error> {
    let regions = sql::query("SELECT * FROM region").fetch_all(&mut *tx).await?;
    let idcs = sql::query("SELECT * FROM idc").fetch_all(&mut *tx).await?;
    let types = sql::query("SELECT * FROM host_type").fetch_all(&mut *tx).await?;
    let idcs: Result<BTreeMap<i64, Idc>, Error> = idcs
        .iter()
        .map(|row| {
            let idc = Idc {
                site: site(row)?,
                region_id: row.get("region_id")?,
            };
            Ok((idc.site.id, idc))
        })
        .collect();
    Ok(SiteMap {
        regions: by_id(&regions)?,
        idcs: idcs?,
        host_types: by_id(&types)?,
    })
}

fn by_id(rows: &[Row]) -> Result<BTreeMap<i64, Site>, Error> {
    let sites = rows.iter().map(site);
    sites.map(|site| site.map(|site| (site.id, site))).collect()
}

fn site(row: &Row) -> Result<Site, Error> {
    let time = |column| Ok::<_, Error>(row.get::<Option<i64>>(column)?.map(obfleet_wire::time::Timestamp));
    Ok(Site {
        id: row.get("id")?,
        name: row.get("name")?,
        description: row.get("description")?,
        created: time("created_at")?,
        updated: time("updated_at")?,
    })
}

/// `region_id` is that of an IDC.
pub(super) async fn insert(
    tx: &mut Transaction,
    kind: SiteKind,
    site: &Site,
    region_id: Option<i64>,
) -> Result<Added, Error> {
    one_at_a_time(tx).await?;
    if let Some(region) = region_id
        && !exists(&mut *tx, SiteKind::Region, region).await?
    {
        return Ok(Added::NoRegion);
    }
    let table = table(kind);
    let taken = sql::composed(format!("SELECT id FROM {table} WHERE name = ?")).bind(&site.name);
    if taken.fetch_optional(&mut *tx).await?.is_some() {
        return Ok(Added::NameTaken);
    }
    let mut id = take_id(&mut *tx).await?;
    if id == DEFAULT_SITE {
        // There from the beginning, before any id was given.
        id = take_id(&mut *tx).await?;
    }
    let columns = "id, name, description, created_at, updated_at";
    let insert = match region_id {
        Some(_) => format!("INSERT INTO {table} ({columns}, region_id) VALUES (?, ?, ?, ?, ?, ?)"),
        None => format!("INSERT INTO {table} ({columns}) VALUES (?, ?, ?, ?, ?)"),
    };
    let query = sql::composed(insert).bind(id).bind(&site.name).bind(&site.description);
    let query = query
        .bind(site.created.map(|at| at.millis()))
        .bind(site.updated.map(|at| at.millis()));
    let query = match region_id {
        Some(region) => query.bind(region),
        None => query,
    };
    query.execute(&mut *tx).await?;
    news::tell(tx, News::Sites);
    Ok(Added::Id(id))
}

pub(super) async fn delete(tx: &mut Transaction, kind: SiteKind, id: i64) -> Result<Removed, Error> {
    one_at_a_time(tx).await?;
    let users = sql::query(users(kind)).bind(id).bind(TOLD);
    let users = users.fetch_all(&mut *tx).await?;
    let users: Result<Vec<i64>, Error> = users.iter().map(|row| row.get("id")).collect();
    let users = users?;
    if !users.is_empty() {
        return Ok(Removed::UsedBy(users));
    }
    let delete = sql::composed(format!("DELETE FROM {} WHERE id = ?", table(kind))).bind(id);
    if delete.execute(&mut *tx).await? == 0 {
        return Ok(Removed::Missing);
    }
    news::tell(tx, News::Sites);
    Ok(Removed::Gone)
}

async fn exists(db: impl Into<Target<'_>>, kind: SiteKind, id: i64) -> Result<bool, Error> {
    let query = sql::composed(format!("SELECT id FROM {} WHERE id = ?", table(kind))).bind(id);
    Ok(query.fetch_optional(db).await?.is_some())
}

/// The place, with what of it is gone replaced by what is there for ever: a token outlives what it names.
pub(super) async fn still_there(tx: &mut Transaction, place: HostPlace) -> Result<HostPlace, Error> {
    one_at_a_time(tx).await?;
    let mut there = HostPlace::default();
    if exists(&mut *tx, SiteKind::Idc, place.idc_id).await? {
        there.idc_id = place.idc_id;
    }
    if exists(&mut *tx, SiteKind::HostType, place.type_id).await? {
        there.type_id = place.type_id;
    }
    Ok(there)
}
