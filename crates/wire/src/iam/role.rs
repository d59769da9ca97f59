//! Roles, names for sets of rights: `/api/v2/iam/roles…`, an *extension*. OCP has them on its pages alone.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Body of `POST /api/v2/iam/roles`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewRole {
    /// For people; up to 255 characters.
    #[serde(default)]
    pub description: String,
    /// 2 to 32 letters, digits and `_`.
    pub name: String,
    /// What it lets its users do.
    pub rights: Vec<String>,
}

/// Body of `PATCH /api/v2/iam/roles/{roleName}`; what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeRole {
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
    /// All rights, in the place of those there are.
    #[serde(default)]
    pub rights: Option<Vec<String>>,
}

/// Where a role comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RoleKind {
    /// It is there from the beginning, with OCP's name.
    System,
    /// Somebody made it.
    Custom,
}

/// A role, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Role {
    /// When it was made; null for one that is there from the beginning.
    pub create_time: Option<Timestamp>,
    /// For people.
    pub description: String,
    /// Its name.
    pub name: String,
    /// What it lets its users do.
    pub rights: Vec<String>,
    /// Where it comes from.
    #[serde(rename = "type")]
    pub kind: RoleKind,
    /// When it was changed.
    pub update_time: Option<Timestamp>,
}
