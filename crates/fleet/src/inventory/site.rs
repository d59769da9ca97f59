//! Regions, IDCs and host types: where hosts are, and what kind they are.

use std::collections::BTreeMap;

use async_trait::async_trait;
use obfleet_wire::time::Timestamp;

use super::InventoryError;

/// The region, IDC and host type of hosts that name no other. Each is there from the beginning and for ever.
pub const DEFAULT_SITE: i64 = 1;

/// The IDC and host type of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPlace {
    /// The IDC it is in.
    pub idc_id: i64,
    /// What kind of machine it is.
    pub type_id: i64,
}

impl Default for HostPlace {
    fn default() -> Self {
        Self {
            idc_id: DEFAULT_SITE,
            type_id: DEFAULT_SITE,
        }
    }
}

/// Which of the three something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SiteKind {
    /// IDCs that are near each other.
    Region,
    /// A data centre in a region.
    Idc,
    /// A kind of machine.
    HostType,
}

/// A region, IDC or host type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its id.
    pub id: i64,
    /// Its name, unique among its like.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// When it was made; `None` for a [`DEFAULT_SITE`].
    pub created: Option<Timestamp>,
    /// When it last changed.
    pub updated: Option<Timestamp>,
}

/// An IDC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idc {
    /// What it has in common with the others.
    pub site: Site,
    /// The region it is in.
    pub region_id: i64,
}

/// All of them, by id.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SiteMap {
    /// Regions.
    pub regions: BTreeMap<i64, Site>,
    /// IDCs.
    pub idcs: BTreeMap<i64, Idc>,
    /// Host types.
    pub host_types: BTreeMap<i64, Site>,
}

/// What came of adding a region, IDC or host type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It has this id.
    Id(i64),
    /// There is one of its name.
    NameTaken,
    /// The region of the IDC is gone.
    NoRegion,
}

/// What came of removing one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Gone,
    /// There was none.
    Missing,
    /// These use it: IDCs of a region, or hosts; the lowest ids of them.
    UsedBy(Vec<i64>),
}

/// Keeps them.
#[async_trait]
pub trait Sites: Send + Sync {
    /// All of them, as of one moment.
    async fn sites(&self) -> Result<SiteMap, InventoryError>;
    /// Adds a region or host type, whose `id` is of no account.
    async fn insert_site(&self, kind: SiteKind, site: &Site) -> Result<Added, InventoryError>;
    /// Adds an IDC, whose `id` is of no account.
    async fn insert_idc(&self, idc: &Idc) -> Result<Added, InventoryError>;
    /// Removes one that nothing uses.
    async fn delete_site(&self, kind: SiteKind, id: i64) -> Result<Removed, InventoryError>;
}
