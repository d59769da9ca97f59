//! Logins of browsers: `/api/v2/loginKey` and `/api/v2/login`.

use serde::{Deserialize, Serialize};

/// What passwords are encrypted with before they are sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginKey {
    /// An RSA key in Base64; empty when passwords are sent as they are.
    pub public_key: String,
}

/// What a browser is told that has logged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoggedIn {
    /// Where to go.
    pub location: String,
    /// Whether the user has to choose another password first.
    pub need_change_password: bool,
}
