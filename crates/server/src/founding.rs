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
    let inventory = database.inventory();
    let known = inventory.key_fingerprint().await?;
    let key = sealing_key(dir, &inventory, known).await?;
    let sealer = Sealer::new(&key)?;
    let authorities = database.authorities();
    let kept = authorities.find().await?;
    let authority = authority(dir, &authorities, &sealer, kept, agents_valid).await?;
    Ok(Common { key, sealer, authority })
}

/// The key. `known` is the fingerprint that the inventory had a moment ago.
async fn sealing_key(
    dir: &StateDir,
    inventory: &impl Inventory,
    known: Option<String>,
) -> Result<[u8; 32], FoundingError> {
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

/// The authority. `kept` is the one that the database had a moment ago.
async fn authority(
    dir: &StateDir,
    authorities: &Authorities,
    sealer: &Sealer,
    kept: Option<StoredAuthority>,
    agents_valid: Duration,
) -> Result<Authority, FoundingError> {
    let in_file = in_file(dir)?;
    let kept = match kept {
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

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

    #[tokio::test]
    async fn of_two_first_starts_one_makes_the_key_and_the_authority() {
        let temp = tempfile::tempdir().unwrap();
        let database = Database::open(&temp.path().join("state.db")).await.unwrap();
        let [one, two] = ["one", "two"].map(|name| StateDir::open(&temp.path().join(name)).unwrap());
        // Both have seen a database that has neither.
        let inventory = database.inventory();
        let key = sealing_key(&one, &inventory, None).await.unwrap();
        let refused = sealing_key(&two, &inventory, None).await;
        assert!(
            matches!(
                &refused,
                Err(FoundingError::StateDir(StateDirError::KeyMissing { fingerprint: known, .. }))
                    if *known == fingerprint(&key)
            ),
            "{refused:?}"
        );
        assert!(
            one.has_key() && !two.has_key(),
            "a key that opens nothing is in the way"
        );

        let (authorities, sealer) = (database.authorities(), Sealer::new(&key).unwrap());
        let first = authority(&one, &authorities, &sealer, None, YEAR).await.unwrap();
        let second = authority(&two, &authorities, &sealer, None, YEAR).await.unwrap();
        assert_eq!(first.certificate_pem(), second.certificate_pem());
    }
}
