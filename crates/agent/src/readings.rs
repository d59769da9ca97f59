//! What proxies are configured with, as last read: a digest, for whoever wants to know whether there is news; and the values
//! their processes started with, since a proxy shows the new value of an item that needs a restart before it acts on it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use obfleet_obproxy::{admin::ConfigItem, process::ProcessId};
use obfleet_wire::{
    agent::{ParameterReading, ProxyParameters, SECRET_VALUE},
    version::ProxyVersion,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::proxies::{Registry, RegistryError};

/// A change by SQL is to be known within a minute, with time left for those who ask. Proxies are looked at every ten seconds,
/// so it is twenty in the end.
const READ_AGAIN: Duration = Duration::from_secs(15);

/// The values with which a process started, of the items that need a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The process.
    pub process: ProcessId,
    /// Values by name.
    pub values: BTreeMap<String, String>,
}

/// The last reading of each proxy.
#[derive(Default)]
pub(crate) struct Readings(Mutex<HashMap<i64, Reading>>);

struct Reading {
    at: Instant,
    process: ProcessId,
    digest: String,
}

impl Readings {
    fn known(&self) -> MutexGuard<'_, HashMap<i64, Reading>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Digest of the last reading.
    pub(crate) fn digest(&self, proxy_id: i64) -> Option<String> {
        self.known().get(&proxy_id).map(|reading| reading.digest.clone())
    }

    /// Whether this process of the proxy should be read again.
    pub(crate) fn is_due(&self, proxy_id: i64, process: ProcessId) -> bool {
        let known = self.known();
        let recent = |reading: &Reading| reading.process == process && reading.at.elapsed() < READ_AGAIN;
        !known.get(&proxy_id).is_some_and(recent)
    }

    /// Drops what is known of a proxy that is gone.
    pub(crate) fn forget(&self, proxy_id: i64) {
        self.known().remove(&proxy_id);
    }

    /// Notes what a process shows. The first reading of a process tells what it started with: it is read as soon as it
    /// serves, and before anything of it is changed here.
    pub(crate) fn note(
        &self,
        registry: &Registry,
        proxy_id: i64,
        process: ProcessId,
        version: ProxyVersion,
        items: Vec<ConfigItem>,
    ) -> Result<ProxyParameters, RegistryError> {
        let known = registry.started(proxy_id)?.filter(|started| started.process == process);
        let started = match known {
            Some(started) => started,
            None => {
                let started = started(process, &items);
                registry.set_started(proxy_id, &started)?;
                started
            }
        };
        let parameters = parameters(version, items, &started);
        let reading = Reading {
            at: Instant::now(),
            process,
            digest: parameters.digest.clone(),
        };
        self.known().insert(proxy_id, reading);
        Ok(parameters)
    }
}

fn started(process: ProcessId, items: &[ConfigItem]) -> Started {
    let fixed = items.iter().filter(|item| item.need_reboot && !item.is_virtual());
    Started {
        process,
        values: fixed.map(|item| (item.name.clone(), item.value.clone())).collect(),
    }
}

fn parameters(version: ProxyVersion, items: Vec<ConfigItem>, started: &Started) -> ProxyParameters {
    let mut digest = Sha256::new();
    let items = items.into_iter().filter(|item| !item.is_virtual());
    // Proxies list them in no order.
    let mut items: Vec<_> = items.map(|item| (item.is_passing(), reading(item, started))).collect();
    items.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
    for (_, item) in items.iter().filter(|(passing, _)| !passing) {
        let waits = item.in_force.as_deref();
        digest.update(format!(
            "{}\0{}\0{}\0",
            item.name,
            item.value,
            waits.unwrap_or_default()
        ));
    }
    ProxyParameters {
        digest: hex::encode(digest.finalize()),
        version,
        items: items.into_iter().map(|(_, item)| item).collect(),
    }
}

/// What a proxy shows of which it is not known what it started with.
pub(crate) fn told(version: ProxyVersion, items: Vec<ConfigItem>) -> ProxyParameters {
    let process = ProcessId { pid: 0, start_ticks: 0 };
    let values = BTreeMap::new();
    parameters(version, items, &Started { process, values })
}

fn reading(item: ConfigItem, started: &Started) -> ParameterReading {
    let in_force = started.values.get(&item.name).filter(|value| **value != item.value);
    let mut reading = ParameterReading {
        in_force: in_force.cloned(),
        name: item.name,
        value: item.value,
        info: item.info,
        need_restart: item.need_reboot,
        range: item.range,
        visible: item.visible_level.to_ascii_uppercase(),
    };
    if is_secret(&reading.name) {
        reading.value = SECRET_VALUE.to_owned();
        reading.in_force = None;
    }
    reading
}

/// Whether its value is the hash of a password.
fn is_secret(name: &str) -> bool {
    name.to_ascii_lowercase().contains("password")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: ProcessId = ProcessId { pid: 7, start_ticks: 1 };

    fn item(name: &str, value: &str, need_reboot: bool, visible_level: &str) -> ConfigItem {
        ConfigItem {
            name: name.into(),
            value: value.into(),
            need_reboot,
            info: String::new(),
            range: String::new(),
            visible_level: visible_level.into(),
        }
    }

    fn shown(threads: &str, command: &str, hash: &str) -> Vec<ConfigItem> {
        vec![
            item("work_thread_num", threads, true, "USER"),
            item("proxy_local_cmd", command, false, "MEMORY"),
            item("obproxy_sys_password", hash, false, "SYS"),
            item("json_config_version", command, false, "virtual"),
        ]
    }

    struct Place {
        readings: Readings,
        registry: Registry,
        _dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self {
                readings: Readings::default(),
                registry: Registry::open(dir.path().to_owned()).unwrap(),
                _dir: dir,
            }
        }

        fn note(&self, process: ProcessId, items: Vec<ConfigItem>) -> ProxyParameters {
            let version = "4.3.1.0-1".parse().unwrap();
            self.readings.note(&self.registry, 3, process, version, items).unwrap()
        }
    }

    fn waits(parameters: &ProxyParameters) -> Option<&str> {
        let item = parameters.items.iter().find(|item| item.name == "work_thread_num");
        item.unwrap().in_force.as_deref()
    }

    #[test]
    fn what_waits_for_a_restart_is_known_until_there_is_another_process() {
        let place = Place::new();
        let first = place.note(PROCESS, shown("128", "0", "a"));
        assert_eq!(waits(&first), None);
        let changed = place.note(PROCESS, shown("64", "0", "a"));
        assert_eq!(waits(&changed), Some("128"));
        assert_ne!(changed.digest, first.digest);

        // The agent was started again.
        let place = Place {
            readings: Readings::default(),
            ..place
        };
        assert_eq!(place.readings.digest(3), None);
        assert_eq!(waits(&place.note(PROCESS, shown("64", "0", "a"))), Some("128"));
        let restarted = ProcessId { pid: 8, start_ticks: 2 };
        let after = place.note(restarted, shown("64", "0", "a"));
        assert_eq!(waits(&after), None);
        assert_ne!(after.digest, changed.digest, "it is news that nothing waits any more");
        assert_eq!(place.readings.digest(3), Some(after.digest));
    }

    #[test]
    fn secrets_and_passing_things_are_no_news() {
        let place = Place::new();
        let mut items = shown("128", "0", "a");
        let first = place.note(PROCESS, items.clone());
        items.reverse();
        assert_eq!(place.note(PROCESS, items), first, "whatever their order");
        let other = place.note(PROCESS, shown("128", "2", "b"));
        assert_eq!(other.digest, first.digest);
        let names: Vec<_> = other.items.iter().map(|item| item.name.as_str()).collect();
        assert_eq!(names, ["obproxy_sys_password", "proxy_local_cmd", "work_thread_num"]);
        assert_eq!(other.items[0].value, SECRET_VALUE);
    }

    #[test]
    fn another_process_is_due_at_once() {
        let place = Place::new();
        assert!(place.readings.is_due(3, PROCESS));
        place.note(PROCESS, shown("128", "0", "a"));
        assert!(!place.readings.is_due(3, PROCESS));
        let other = ProcessId { pid: 9, ..PROCESS };
        assert!(place.readings.is_due(3, other));
        place.readings.forget(3);
        assert!(place.readings.is_due(3, PROCESS));
    }
}
