//! Users and what they are told of themselves: `/api/v2/iam/users…` and `/api/v2/profiles/me…`, an *extension*. OCP has them on
//! its pages alone.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// A role of a user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleOfUser {
    /// The proxy clusters it is for; null or left out is for everything.
    #[serde(default)]
    pub cluster_ids: Option<Vec<i64>>,
    /// The role's name.
    pub name: String,
}

/// Body of `POST /api/v2/iam/users`. Has no `Debug`: a password must not reach the log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewUser {
    /// For people; up to 255 characters.
    #[serde(default)]
    pub description: String,
    /// Login name: 4 to 48 letters, digits, `.`, `-` and `_`; upper and lower case differ.
    pub name: String,
    /// Whether the user has to choose another password first; so unless told otherwise.
    #[serde(default = "yes")]
    pub need_change_password: bool,
    /// The first password.
    pub password: String,
    /// What the user may do.
    #[serde(default)]
    pub roles: Vec<RoleOfUser>,
}

/// Body of `PATCH /api/v2/iam/users/{userId}`; what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeUser {
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
    /// Whether the user is let in.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// All roles, in the place of those there are.
    #[serde(default)]
    pub roles: Option<Vec<RoleOfUser>>,
}

/// Body of `POST /api/v2/iam/users/{userId}/resetPassword`. Has no `Debug`: a password must not reach the log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResetPassword {
    /// Whether the user has to choose another password first; so unless told otherwise.
    #[serde(default = "yes")]
    pub need_change_password: bool,
    /// The new password.
    pub password: String,
}

/// Body of `POST /api/v2/profiles/me/changePassword`. Has no `Debug`: a password must not reach the log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangePassword {
    /// The present one.
    pub current_password: String,
    /// The one to come.
    pub new_password: String,
}

/// A user, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// When it was made.
    pub create_time: Timestamp,
    /// For people.
    pub description: String,
    /// Whether the user is let in.
    pub enabled: bool,
    /// Its id.
    pub id: i64,
    /// Until when the name is locked for its failed logins; null when it is not.
    pub locked_until: Option<Timestamp>,
    /// Login name.
    pub name: String,
    /// Whether the user has to choose another password first.
    pub need_change_password: bool,
    /// What the user may do.
    pub roles: Vec<RoleOfUser>,
    /// When it was changed.
    pub update_time: Timestamp,
}

/// What a user is told of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// Its id.
    pub id: i64,
    /// Login name.
    pub name: String,
    /// Whether the user has to choose another password first.
    pub need_change_password: bool,
    /// What all roles add up to.
    pub rights: Vec<RightOfUser>,
    /// The roles.
    pub roles: Vec<RoleOfUser>,
}

/// A right of a user's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RightOfUser {
    /// The proxy clusters it is for; null is for everything.
    pub cluster_ids: Option<Vec<i64>>,
    /// The right's name.
    pub name: String,
}

fn yes() -> bool {
    true
}
