//! The administrator of a new installation.

use std::{
    io,
    path::{Path, PathBuf},
};

use obfleet_store::users::{User, UserRole, Users, UsersError};
use obfleet_wire::time::Timestamp;

use super::{
    password::{self, HashError},
    role,
};

/// Login name of the first user.
pub const ADMIN: &str = "admin";
/// Its id, as in OCP.
const ADMIN_ID: i64 = 100;
/// A shorter password is no password.
const SHORTEST: usize = 8;

/// The first user cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum FirstUserError {
    /// The password file cannot be read.
    #[error("the password file {path} cannot be read; correct --admin-password-file or the file's permissions")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The password is too short.
    #[error("the password in {path} has fewer than {SHORTEST} characters; write a longer one into the file")]
    TooShort {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The users cannot be read or written.
    #[error(transparent)]
    Users(#[from] UsersError),
}

/// Sees to it that there is an administrator.
///
/// With a password file, that is the administrator's password, now and at every later start: the way back for somebody
/// who has lost it. Without one, a new installation gets a random password, which is returned to be shown once.
pub async fn ensure(
    users: &Users,
    password_file: Option<&Path>,
    now: Timestamp,
) -> Result<Option<String>, FirstUserError> {
    let given = password_file.map(read).transpose()?;
    let admin = users.find(ADMIN).await?;
    match (admin, given) {
        (Some(_), None) => Ok(None),
        (Some(admin), Some(given)) => {
            if !password::verify(&given, &admin.password_hash) {
                users.set_password_hash(admin.id, &password::hash(&given)?, now).await?;
            }
            users.forgive(ADMIN).await?;
            Ok(None)
        }
        (None, given) => {
            let generated = given.is_none().then(password::generate);
            let password = given.or_else(|| generated.clone()).unwrap_or_default();
            let roles = vec![UserRole::everywhere(role::ADMIN)];
            let admin = User::new(ADMIN_ID, ADMIN, password::hash(&password)?, roles);
            // Another server may have been faster: then its password is the one, or the one that was given to us.
            match users.insert(&admin, now).await? {
                true => Ok(generated),
                false => Box::pin(ensure(users, password_file, now)).await,
            }
        }
    }
}

fn read(path: &Path) -> Result<String, FirstUserError> {
    let text = std::fs::read_to_string(path).map_err(|source| FirstUserError::File {
        path: path.to_owned(),
        source,
    })?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.chars().count() < SHORTEST {
        return Err(FirstUserError::TooShort { path: path.to_owned() });
    }
    Ok(password.to_owned())
}
