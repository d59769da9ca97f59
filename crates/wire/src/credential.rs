//! How to log in to hosts: `/api/v2/profiles/me/credentials…`. What proves a login goes in and never comes out.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What a credential is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TargetType {
    /// Logging in to hosts by SSH.
    Host,
}

/// How an SSH server is shown who logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SshLoginType {
    /// By a password.
    Password,
    /// By a private key.
    PrivateKey,
}

/// Body of `POST /api/v2/profiles/me/credentials`.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewCredential {
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
    /// Unique among a user's.
    pub name: String,
    /// Sent by some clients; of no effect, as there are no credentials for databases.
    #[serde(default)]
    pub ob_jdbc_credential_property: Option<serde_json::Value>,
    /// The login.
    pub ssh_credential_property: NewSshCredential,
    /// HOST.
    pub target_type: TargetType,
    /// Sent by some clients; of no effect: no login is tried.
    #[serde(default)]
    pub validate: Option<bool>,
}

/// A login by SSH, as it is given.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewSshCredential {
    /// Sent by some clients; of no effect: a credential is for any host.
    #[serde(default)]
    pub host_id_list: Option<Vec<i64>>,
    /// *Extension*: what the private key is encrypted with.
    #[serde(default)]
    pub key_passphrase: Option<String>,
    /// PASSWORD or PRIVATE_KEY.
    #[serde(rename = "type")]
    pub login_type: SshLoginType,
    /// The password, or the text of the private key: that is where clients of OCP put it.
    pub passphrase: String,
    /// The user of the host.
    pub username: String,
}

/// A credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// When it was made.
    pub create_time: Timestamp,
    /// For people.
    pub description: Option<String>,
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The login.
    pub ssh_credential_property: SshCredential,
    /// HOST.
    pub target_type: TargetType,
    /// When it last changed.
    pub update_time: Timestamp,
}

/// A login by SSH, without what proves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SshCredential {
    /// PASSWORD or PRIVATE_KEY.
    #[serde(rename = "type")]
    pub login_type: SshLoginType,
    /// The user of the host.
    pub username: String,
}
