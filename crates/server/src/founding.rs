//! What all servers of a database have in common: the key that seals its secrets, and the enrolment authority. The first
//! start makes both, and what the others find decides whether they may start.
//!
//! The key is never in the database, so it has to be copied to every other server. The authority is: its private key is one
//! of the secrets.

use std::{path::PathBuf, time::Duration};

use obfleet_agent::token;
use obfleet_fleet::{
    inventory::{Inventory, InventoryError},
    secrets::{SealError, Sealer, fingerprint},
};
use obfleet_store::{
    Database,
    authority::{Authorities, AuthorityError, StoredAuthority},
};

use crate::{
    pki::{Authority, Identity, PkiError},
    state_dir::{AUTHORITY, StateDir, StateDirError},
};

/// A server may not start on this database.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    /// The state directory, or its key.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// The database.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The database, asked for the authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Sealing or opening the authority's key.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The authority.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The state directory has an authority that is not the database's.
    #[error(
        "{path} holds authority {found}, but the database's is {kept}: start with the --database that the file belongs \
         to, or move the file away and enrol again the agents that were enrolled with it"
    )]
    ForeignAuthority {
        /// The file.
        path: PathBuf,
        /// Fingerprint of the authority in it.
        found: String,
        /// Fingerprint of the authority in the database.
        kept: String,
    },
}

/// What the servers of a database have in common.
pub struct Common {
    /// The key.
    pub key: [u8; 32],
    /// Seals and opens with it.
    pub sealer: Sealer,
    /// Signs certificates.
    pub authority: Authority,
}

/// Finds key and authority, or makes them for a new database. Agents' certificates will be good for `agents_valid`.
pub async fn common(dir: &StateDir, database: &Database, agents_valid: Duration) -> Result<Common, FoundingError> {
    let key = sealing_key(dir, &database.inventory()).await?;
    let sealer = Sealer::new(&key)?;
    let authority = authority(dir, &database.authorities(), &sealer, agents_valid).await?;
    Ok(Common { key, sealer, authority })
}

async fn sealing_key(dir: &StateDir, inventory: &impl Inventory) -> Result<[u8; 32], FoundingError> {
    let known = inventory.key_fingerprint().await?;
    let had_one = dir.has_key();
    let key = dir.sealing_key(known.as_deref())?;
    if known.is_some() {
        return Ok(key);
    }
    inventory.keep_key_fingerprint(&fingerprint(&key)).await?;
    let known = inventory.key_fingerprint().await?;
    if known.as_ref() != Some(&fingerprint(&key)) && !had_one {
        // Another server that starts for the first time was faster. Ours would only take the place of the right one.
        dir.drop_key()?;
    }
    Ok(dir.sealing_key(known.as_deref())?)
}

async fn authority(
    dir: &StateDir,
    authorities: &Authorities,
    sealer: &Sealer,
    agents_valid: Duration,
) -> Result<Authority, FoundingError> {
    let in_file = in_file(dir)?;
    let kept = match authorities.find().await? {
        Some(kept) => kept,
        None => {
            let new = match &in_file {
                Some(found) => found,
                None => &Authority::generate()?,
            };
            let new = StoredAuthority {
                certificate_pem: new.certificate_pem.clone(),
                key: sealer.seal(&new.key_pem)?,
            };
            authorities.keep(&new).await?;
            // Another server may have been faster.
            authorities.find().await?.ok_or(PkiError::Damaged)?
        }
    };
    let kept = Identity {
        key_pem: sealer.open(&kept.key)?,
        certificate_pem: kept.certificate_pem,
    };
    let authority = Authority::new(&kept, agents_valid)?;
    let found = in_file.and_then(|found| token::fingerprint(&found.certificate_pem));
    match found {
        Some(found) if found != authority.fingerprint() => Err(FoundingError::ForeignAuthority {
            path: dir.file(AUTHORITY),
            found,
            kept: authority.fingerprint().to_owned(),
        }),
        _ => Ok(authority),
    }
}

/// The authority that an earlier release kept in the state directory.
fn in_file(dir: &StateDir) -> Result<Option<Identity>, StateDirError> {
    let Some(text) = dir.read(AUTHORITY)? else {
        return Ok(None);
    };
    let damaged = || dir.damaged(AUTHORITY);
    let start = text.find("-----BEGIN CERTIFICATE-----").ok_or_else(damaged)?;
    let (key, certificate) = text.split_at(start);
    let found = Identity {
        certificate_pem: certificate.to_owned() + "\n",
        key_pem: key.to_owned(),
    };
    Authority::new(&found, Duration::ZERO).map_err(|_| damaged())?;
    Ok(Some(found))
}
