//! Logins of browsers ([`login`]), users ([`user`]), roles ([`role`]), and access keys, by which programs sign their requests: `/api/v2/iam/accessKeys…`, an *extension*. OCP has them on its pages
//! alone; how a request is signed with one is OCP's.

pub mod login;
pub mod role;
pub mod user;

pub use login::{LoggedIn, LoginKey};
pub use role::{ChangeRole, NewRole, Role, RoleKind};
use serde::{Deserialize, Serialize};

pub use user::{ChangePassword, ChangeUser, NewUser, Profile, ResetPassword, RightOfUser, RoleOfUser, User};

use crate::time::Timestamp;

/// Body of `POST /api/v2/iam/accessKeys`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewAccessKey {
    /// For people; up to 255 characters.
    #[serde(default)]
    pub description: String,
}

/// Body of `PATCH /api/v2/iam/accessKeys/{accessKey}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeAccessKey {
    /// What it shall be.
    pub status: AccessKeyStatus,
}

/// Whether a key lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AccessKeyStatus {
    /// Requests signed with it are refused.
    Disabled,
    /// It lets in.
    Enabled,
}

/// An access key, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessKey {
    /// Names it: 16 letters and digits.
    pub access_key: String,
    /// When it was made.
    pub create_time: Timestamp,
    /// For people.
    pub description: String,
    /// Whether it lets in.
    pub status: AccessKeyStatus,
}

/// An access key, told once, when it is made. Has no `Debug`: a secret must not reach the log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedAccessKey {
    /// Names it.
    pub access_key: String,
    /// When it was made.
    pub create_time: Timestamp,
    /// For people.
    pub description: String,
    /// What requests are signed with: 32 lower-case hexadecimal digits. Not shown again.
    pub secret_key: String,
    /// Whether it lets in.
    pub status: AccessKeyStatus,
}
