//! Servers with the access keys they are asked with, in a file for its owner only.

use std::{
    collections::BTreeMap,
    env, fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// A server, and the key it is asked with. Has no `Debug`: a secret must not reach the log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Context {
    /// Names the key.
    pub access_key: String,
    /// The authority its certificate is from, PEM; one the system knows when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// What requests are signed with.
    pub secret_key: String,
    /// Where the server is.
    pub url: String,
}

/// All of them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contexts {
    /// By name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
    /// The one that is meant when none is named.
    #[serde(default)]
    pub current: Option<String>,
}

/// The file of contexts cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextsError {
    /// There is no place for it.
    #[error("there is no home directory; name the file in OBFLEET_CONTEXTS")]
    NoHome,
    /// It cannot be read or written.
    #[error("{path} cannot be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read it.
    #[error("{path} holds secrets and others may read it; run: chmod 600 {path}")]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// It is damaged.
    #[error("{path} is no list of contexts; correct it, or remove it and add them again")]
    Content {
        /// The file.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
}

/// Where they are kept: `OBFLEET_CONTEXTS`, or a file in the user's configuration.
///
/// # Errors
/// When there is neither that nor a home directory.
pub fn path() -> Result<PathBuf, ContextsError> {
    let given = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = given("OBFLEET_CONTEXTS") {
        return Ok(path);
    }
    let config = given("XDG_CONFIG_HOME").or_else(|| given("HOME").map(|home| home.join(".config")));
    Ok(config.ok_or(ContextsError::NoHome)?.join("obfleet/contexts.json"))
}

impl Contexts {
    /// Those in a file; none if there is no file.
    ///
    /// # Errors
    /// When it cannot be read, others may read it, or it is damaged.
    pub fn load(path: &Path) -> Result<Self, ContextsError> {
        let failed = |source| ContextsError::File {
            path: path.to_owned(),
            source,
        };
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            text => text.map_err(failed)?,
        };
        if fs::metadata(path).map_err(failed)?.permissions().mode() & 0o077 != 0 {
            return Err(ContextsError::Open { path: path.to_owned() });
        }
        serde_json::from_str(&text).map_err(|source| ContextsError::Content {
            path: path.to_owned(),
            source,
        })
    }

    /// Writes them, whole or not at all, for the owner only.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), ContextsError> {
        let write = || {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            let dir = dir.unwrap_or(Path::new("."));
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            // A file of tempfile's is for its owner only.
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(|source| ContextsError::File {
            path: path.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config/contexts.json");
        assert!(Contexts::load(&path).unwrap() == Contexts::default());
        let context = Context {
            access_key: "AK".into(),
            ca: None,
            secret_key: "SK".into(),
            url: "http://127.0.0.1:8080".into(),
        };
        let contexts = Contexts {
            contexts: BTreeMap::from([("lab".into(), context)]),
            current: Some("lab".into()),
        };
        for _ in 0..2 {
            contexts.save(&path).unwrap();
            assert!(Contexts::load(&path).unwrap() == contexts);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "nothing is left beside it"
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Contexts::load(&path), Err(ContextsError::Open { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "{\"context\":{}}").unwrap();
        assert!(matches!(Contexts::load(&path), Err(ContextsError::Content { .. })));
    }
}
