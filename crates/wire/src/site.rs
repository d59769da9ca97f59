//! Where hosts are and what kind they are: `/api/v2/compute/regions…`, `…/idcs…` and `…/hostTypes…`. Absent values are
//! `null`, as in OCP's answers.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Body of `POST /api/v2/compute/regions` and `POST /api/v2/compute/hostTypes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewSite {
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
    /// Unique among its like.
    pub name: String,
}

/// Body of `POST /api/v2/compute/idcs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewIdc {
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
    /// Unique among IDCs.
    pub name: String,
    /// The region it is in.
    pub region_id: i64,
}

/// A region: IDCs that are near each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Region {
    /// When it was made; null for the one that is there from the beginning.
    pub create_time: Option<Timestamp>,
    /// For people.
    pub description: Option<String>,
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// When it last changed.
    pub update_time: Option<Timestamp>,
}

/// A data centre.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Idc {
    /// When it was made; null for the one that is there from the beginning.
    pub create_time: Option<Timestamp>,
    /// For people.
    pub description: Option<String>,
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The region it is in.
    pub region_id: i64,
    /// That region's name.
    pub region_name: String,
    /// When it last changed.
    pub update_time: Option<Timestamp>,
}

/// A kind of machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostType {
    /// When it was made; null for the one that is there from the beginning.
    pub create_time: Option<Timestamp>,
    /// For people.
    pub description: Option<String>,
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// When it last changed.
    pub update_time: Option<Timestamp>,
}
