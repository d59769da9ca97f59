//! Credentials: how users log in to hosts. What proves a login is sealed.

use async_trait::async_trait;
use obfleet_wire::{credential::SshLoginType, time::Timestamp};

use super::InventoryError;
use crate::secrets::Sealed;

/// How a user logs in to hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Its id.
    pub id: i64,
    /// Whose it is.
    pub user_id: i64,
    /// Its name, unique among the user's.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// By password or key.
    pub login: SshLoginType,
    /// The user of the hosts.
    pub username: String,
    /// The password, or the text of the private key.
    pub secret: Sealed,
    /// What the private key is encrypted with.
    pub key_passphrase: Option<Sealed>,
    /// When it was made.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
}

/// What came of removing a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialRemoved {
    /// It is gone.
    Gone,
    /// The user has none of that id.
    Missing,
    /// A task is about to log in with it.
    HeldBy {
        /// The task.
        task: i64,
        /// Its name.
        name: String,
    },
}

/// Keeps credentials, and the keys by which the machines are known that they are for.
#[async_trait]
pub trait Vault: Send + Sync {
    /// A user's credentials, by id.
    async fn credentials(&self, user_id: i64) -> Result<Vec<Credential>, InventoryError>;
    /// One of a user's credentials.
    async fn credential(&self, user_id: i64, id: i64) -> Result<Option<Credential>, InventoryError>;
    /// Adds a credential, whose `id` is of no account. → its id; `None` when the user has one of that name
    async fn insert_credential(&self, credential: &Credential) -> Result<Option<i64>, InventoryError>;
    /// Removes one of a user's credentials that no task is about to use.
    async fn delete_credential(&self, user_id: i64, id: i64) -> Result<CredentialRemoved, InventoryError>;
    /// `SHA256:…` of the host key that an SSH server was known by when it was last logged in to.
    async fn ssh_host_key(&self, address: &str, port: u16) -> Result<Option<String>, InventoryError>;
}
