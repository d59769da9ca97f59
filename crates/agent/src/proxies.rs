//! The proxies this host owns: what the server ordered, and what must be known to run them when it is away.
//!
//! One record a proxy, replaced as a whole; the password of root@proxysys lies beside it in a file of its own, and so do
//! the values its process started with.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use obfleet_obproxy::process::ProcessId;
use obfleet_wire::{
    agent::{AttemptKey, ProxySpec},
    version::ProxyVersion,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    durable::{self, FileError},
    origin::Origin,
    readings::Started,
};

/// A proxy this host owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owned {
    /// The server's order; its password is kept elsewhere and empty here.
    pub spec: ProxySpec,
    /// Working directory for life.
    pub home: PathBuf,
    /// The slot `bin/obproxy` was taken from.
    pub version: ProxyVersion,
    /// Whether it is installed or on its way in or out.
    pub phase: Phase,
    /// Whether it ought to run.
    pub wanted: bool,
    /// Whether it is started again when it dies.
    pub supervised: bool,
    /// Times the supervisor had to start it again.
    pub restarts: u64,
    /// The last restart.
    pub restart: Option<LastRestart>,
    /// The last time its process was replaced by another without a guard.
    #[serde(default)]
    pub cycle: Option<LastCycle>,
    /// The process that load balancers were told to keep away from, on order; another one is online.
    #[serde(default)]
    pub offline: Option<ProcessId>,
    /// Whether somebody else made its home: it is never moved and never deleted.
    #[serde(default)]
    pub adopted: bool,
}

/// Where a proxy stands between its making and its removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "camelCase")]
pub enum Phase {
    /// Its home is being made.
    Creating,
    /// It is there.
    Installed,
    /// Its home has been moved aside.
    Removed {
        /// Where it lies.
        aside: PathBuf,
        /// When, in seconds since the epoch.
        at: i64,
    },
}

/// A restart run by a guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastRestart {
    /// Its id, which names its directory.
    pub id: String,
    /// Ids by which later attempts of the same subtask took it over.
    pub also: Vec<String>,
    /// The attempt that began it.
    pub attempt: AttemptKey,
    /// The slot that ran before.
    pub from: ProxyVersion,
    /// The slot to go to.
    pub to: ProxyVersion,
    /// How much of the guard's log the attempt has told, in bytes.
    pub told: u64,
}

/// A process ended and another started on order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastCycle {
    /// The attempt that began it.
    pub attempt: AttemptKey,
    /// The processes there were, all to be ended.
    pub before: Vec<ProcessId>,
}

impl LastRestart {
    /// Whether the server knows it by this id.
    pub fn is(&self, restart_id: &str) -> bool {
        self.id == restart_id || self.also.iter().any(|other| other == restart_id)
    }

    /// Names the restart that undoes this one after its end.
    pub fn back_id(&self) -> String {
        format!("{}-back", self.id)
    }
}

/// The registry failed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No such proxy.
    #[error("proxy {0} is not owned by this host: create it first")]
    NotOwned(i64),
    /// Its password is gone.
    #[error("the password file of proxy {0} is missing: restore {1}")]
    NoPassword(i64, PathBuf),
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Extension of the file with the password that a proxy is about to be given.
const ANNOUNCED: &str = "next-secret";

/// All owned proxies, in memory and on disk.
pub struct Registry {
    dir: PathBuf,
    entries: Mutex<BTreeMap<i64, Owned>>,
    changes: watch::Sender<()>,
}

impl Registry {
    /// Reads the records.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn open(dir: PathBuf) -> Result<Self, FileError> {
        let mut entries = BTreeMap::new();
        for file in fs::read_dir(&dir).map_err(FileError::io("read", &dir))?.flatten() {
            let path = file.path();
            if path.extension().is_some_and(|x| x == "json")
                && let Some(owned) = durable::read_json::<Owned>(&path)?
            {
                entries.insert(owned.spec.proxy_id, owned);
            }
        }
        Ok(Self {
            dir,
            entries: Mutex::new(entries),
            changes: watch::Sender::new(()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i64, Owned>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, proxy_id: i64, extension: &str) -> PathBuf {
        self.dir.join(format!("{proxy_id}.{extension}"))
    }

    /// Every record, by id.
    pub fn all(&self) -> Vec<Owned> {
        self.lock().values().cloned().collect()
    }

    /// The record of a proxy.
    pub fn find(&self, proxy_id: i64) -> Option<Owned> {
        self.lock().get(&proxy_id).cloned()
    }

    /// [`Self::find`] for operations that need one.
    ///
    /// # Errors
    /// [`RegistryError::NotOwned`].
    pub fn get(&self, proxy_id: i64) -> Result<Owned, RegistryError> {
        self.find(proxy_id).ok_or(RegistryError::NotOwned(proxy_id))
    }

    /// Writes a new record with its password.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn insert(&self, mut owned: Owned) -> Result<(), RegistryError> {
        let password = std::mem::take(&mut owned.spec.sys_password);
        self.set_password(owned.spec.proxy_id, &password)?;
        self.store(owned)
    }

    /// Changes a record on disk, then in memory.
    ///
    /// # Errors
    /// When there is none or it cannot be written.
    pub fn update(&self, proxy_id: i64, change: impl FnOnce(&mut Owned)) -> Result<Owned, RegistryError> {
        let mut owned = self.get(proxy_id)?;
        change(&mut owned);
        self.store(owned.clone())?;
        Ok(owned)
    }

    fn store(&self, owned: Owned) -> Result<(), RegistryError> {
        let proxy_id = owned.spec.proxy_id;
        let mut entries = self.lock();
        durable::write_json(&self.path(proxy_id, "json"), &owned)?;
        entries.insert(proxy_id, owned);
        drop(entries);
        self.changes.send_replace(());
        Ok(())
    }

    /// Drops record and password, if they are there.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub fn forget(&self, proxy_id: i64) -> Result<(), RegistryError> {
        let mut entries = self.lock();
        durable::remove(&self.path(proxy_id, "json"))?;
        durable::remove(&self.path(proxy_id, "secret"))?;
        durable::remove(&self.path(proxy_id, ANNOUNCED))?;
        durable::remove(&self.path(proxy_id, "started"))?;
        durable::remove(&self.path(proxy_id, "origin"))?;
        entries.remove(&proxy_id);
        drop(entries);
        self.changes.send_replace(());
        Ok(())
    }

    /// Password of root@proxysys.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn password(&self, proxy_id: i64) -> Result<String, RegistryError> {
        let path = self.path(proxy_id, "secret");
        let bytes = durable::read(&path)?.ok_or(RegistryError::NoPassword(proxy_id, path))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Keeps a new password.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_password(&self, proxy_id: i64, password: &str) -> Result<(), RegistryError> {
        // Several logins may find at once that it is another one.
        let _one_at_a_time = self.lock();
        durable::write(&self.path(proxy_id, "secret"), password.as_bytes())?;
        Ok(durable::remove(&self.path(proxy_id, ANNOUNCED))?)
    }

    /// Notes the password that the proxy is about to be given.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn announce_password(&self, proxy_id: i64, password: &str) -> Result<(), RegistryError> {
        Ok(durable::write(&self.path(proxy_id, ANNOUNCED), password.as_bytes())?)
    }

    /// The password that the proxy may have been given, if that was begun and is not known to be over.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn announced_password(&self, proxy_id: i64) -> Result<Option<String>, RegistryError> {
        let bytes = durable::read(&self.path(proxy_id, ANNOUNCED))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// What the proxy's process started with, when that was last noted.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn started(&self, proxy_id: i64) -> Result<Option<Started>, RegistryError> {
        Ok(durable::read_json(&self.path(proxy_id, "started"))?)
    }

    /// Notes what the proxy's process started with.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_started(&self, proxy_id: i64, started: &Started) -> Result<(), RegistryError> {
        Ok(durable::write_json(&self.path(proxy_id, "started"), started)?)
    }

    /// What an adopted proxy came with.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn origin(&self, proxy_id: i64) -> Result<Option<Origin>, RegistryError> {
        Ok(durable::read_json(&self.path(proxy_id, "origin"))?)
    }

    /// Notes what an adopted proxy came with.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_origin(&self, proxy_id: i64, origin: &Origin) -> Result<(), RegistryError> {
        Ok(durable::write_json(&self.path(proxy_id, "origin"), origin)?)
    }

    /// The proxies whose binary comes from the slot, or goes back to it.
    pub fn users_of(&self, version: &ProxyVersion) -> Vec<i64> {
        let back_to = |owned: &Owned| owned.restart.as_ref().is_some_and(|last| last.from == *version);
        let uses = |owned: &&Owned| owned.version == *version || back_to(owned);
        self.lock()
            .values()
            .filter(uses)
            .map(|owned| owned.spec.proxy_id)
            .collect()
    }

    /// Wakes those who wait for changes: something happened to a proxy that its record does not tell.
    pub fn announce(&self) {
        self.changes.send_replace(());
    }

    /// Wakes at each change.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }
}

/// A record for tests.
#[cfg(test)]
pub(crate) fn sample(proxy_id: i64) -> Owned {
    Owned {
        spec: ProxySpec {
            proxy_id,
            cluster_name: "c".into(),
            sql_port: 2883,
            exporter_port: 2884,
            rpc_port: None,
            ob_cluster: None,
            root_servers: vec!["127.0.0.1:2881".into()],
            parameters: Vec::new(),
            sys_password: "s3cret".into(),
        },
        home: "/h".into(),
        version: "4.2.1.0-11".parse().unwrap(),
        phase: Phase::Installed,
        wanted: true,
        supervised: true,
        restarts: 0,
        restart: None,
        cycle: None,
        offline: None,
        adopted: false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn records_survive_and_passwords_lie_apart() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path().to_owned()).unwrap();
        let mut changes = registry.changes();
        registry.insert(sample(7)).unwrap();
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        registry.update(7, |o| o.restarts = 3).unwrap();
        assert!(matches!(registry.update(8, |_| {}), Err(RegistryError::NotOwned(8))));

        let again = Registry::open(dir.path().to_owned()).unwrap();
        assert_eq!(again.get(7).unwrap().restarts, 3);
        assert_eq!(again.password(7).unwrap(), "s3cret");
        assert_eq!(again.users_of(&"4.2.1.0-11".parse().unwrap()), [7]);
        let record = fs::read_to_string(dir.path().join("7.json")).unwrap();
        assert!(!record.contains("s3cret"));
        let mode = fs::metadata(dir.path().join("7.secret")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        // As an earlier release wrote it.
        let mut older: serde_json::Value = serde_json::from_str(&record).unwrap();
        for newer in ["adopted", "cycle", "offline"] {
            older.as_object_mut().unwrap().remove(newer).unwrap();
        }
        assert_eq!(serde_json::from_value::<Owned>(older).unwrap(), again.get(7).unwrap());

        again.forget(7).unwrap();
        again.forget(7).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
