//! Units of systemd that proxies run in. A process is in the control group of whatever started it, so a unit is the proxy's
//! own only if the proxy is its main process or its command.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use obfleet_wire::agent::FoundWatchdog;

use super::{Seen, mentions};
use crate::process;

/// Asks systemd.
const SYSTEMCTL: &str = "systemctl";
/// There when systemd runs the machine.
const BOOTED: &str = "/run/systemd/system";
const DEADLINE: Duration = Duration::from_secs(10);
const PROPERTIES: &str = "--property=MainPID,Restart,KillMode,UnitFileState,ExecStart";

/// A unit, as systemd tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// Its name, `obproxy.service`.
    pub name: String,
    /// Its main process.
    pub main_pid: Option<i32>,
    /// What it does when that ends: `no`, `always`, `on-failure`…
    pub restart: String,
    /// Whom a stop ends: `control-group`, `process`, `none`…
    pub kill_mode: String,
    /// `enabled`, `disabled`, `static`…
    pub file_state: String,
    /// Its command, as systemd tells it.
    pub exec_start: String,
}

impl Unit {
    /// Reads what `systemctl show` prints.
    pub fn parse(name: &str, text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().to_owned()
        };
        Self {
            name: name.to_owned(),
            main_pid: value("MainPID").parse().ok().filter(|pid| *pid > 0),
            restart: value("Restart"),
            kill_mode: value("KillMode"),
            file_state: value("UnitFileState"),
            exec_start: value("ExecStart"),
        }
    }

    /// Asks systemd about a unit; `None` when it does not answer.
    pub async fn ask(name: &str) -> Option<Self> {
        if !Path::new(BOOTED).exists() {
            return None;
        }
        let mut command = tokio::process::Command::new(SYSTEMCTL);
        command.args(["show", PROPERTIES, "--", name]).kill_on_drop(true);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let output = tokio::time::timeout(DEADLINE, command.output()).await.ok()?.ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        output.status.success().then(|| Self::parse(name, &text))
    }

    /// Whether it runs the proxy with these processes in this home.
    fn runs(&self, processes: &[Seen], home: &Path) -> bool {
        let is_main = processes.iter().any(|process| Some(process.id.pid) == self.main_pid);
        is_main || mentions(&self.exec_start, home)
    }

    /// Whether it starts its main process again when that fails.
    pub fn restarts(&self) -> bool {
        !matches!(self.restart.as_str(), "" | "no" | "on-success")
    }

    /// Whether it starts at boot.
    pub fn is_enabled(&self) -> bool {
        self.file_state.starts_with("enabled")
    }
}

/// The units of some processes, by pid.
#[derive(Debug, Clone, Default)]
pub struct Units(BTreeMap<i32, Unit>);

impl Units {
    /// Asks systemd about the units these processes are in.
    pub(super) async fn read<'a>(processes: impl Iterator<Item = &'a Seen>) -> Self {
        let own = process::control_groups(std::process::id().cast_signed()).unwrap_or_default();
        let own = unit_of(&own);
        let mut units = BTreeMap::new();
        for process in processes {
            let Some(name) = unit_of(&process.control_groups).filter(|name| Some(name.as_str()) != own.as_deref())
            else {
                continue;
            };
            if let Some(unit) = Unit::ask(&name).await {
                units.insert(process.id.pid, unit);
            }
        }
        Self(units)
    }

    /// The units that run the proxy.
    pub(super) fn of_proxy(&self, processes: &[Seen], home: &Path) -> Vec<FoundWatchdog> {
        let mut units: Vec<&Unit> = Vec::new();
        for process in processes {
            if let Some(unit) = self.0.get(&process.id.pid)
                && unit.runs(processes, home)
                && units.iter().all(|known| known.name != unit.name)
            {
                units.push(unit);
            }
        }
        let told = units.into_iter().map(|unit| FoundWatchdog::Systemd {
            unit: unit.name.clone(),
            restarts: unit.restarts(),
            enabled: unit.is_enabled(),
        });
        told.collect()
    }
}

/// The service of the machine's systemd whose control group this is; a person's session or a user's own services are none.
pub fn unit_of(control_groups: &str) -> Option<String> {
    let path = control_groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        matches!(controllers, "" | "name=systemd").then(|| PathBuf::from(path))
    })?;
    let name = path.file_name()?.to_str()?.to_owned();
    let is_users = path
        .components()
        .any(|part| part.as_os_str().to_string_lossy().starts_with("user@"));
    (name.ends_with(".service") && !is_users).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ProcessId;

    #[test]
    fn a_service_is_known_by_its_control_group() {
        for (groups, unit) in [
            ("0::/system.slice/obproxy.service\n", Some("obproxy.service")),
            (
                "4:memory:/\n1:name=systemd:/system.slice/obproxy@1.service\n0::/\n",
                Some("obproxy@1.service"),
            ),
            ("0::/user.slice/user-0.slice/session-3.scope\n", None),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service\n",
                None,
            ),
            ("9:name=systemd:/\n0::/\n", None),
            ("", None),
        ] {
            assert_eq!(unit_of(groups).as_deref(), unit, "{groups}");
        }
    }

    const SHOWN: &str = "MainPID=4711\nRestart=always\nKillMode=control-group\nUnitFileState=enabled\n\
                         ExecStart={ path=/h/bin/obproxy ; argv[]=/h/bin/obproxy -N ; ignore_errors=no }\n";

    #[test]
    fn what_systemd_tells_is_read() {
        let unit = Unit::parse("obproxy.service", SHOWN);
        assert_eq!((unit.main_pid, unit.kill_mode.as_str()), (Some(4711), "control-group"));
        assert!(unit.restarts() && unit.is_enabled());
        let quiet = Unit::parse("x.service", "MainPID=0\nRestart=no\nUnitFileState=static\n");
        assert_eq!(quiet.main_pid, None);
        assert!(!quiet.restarts() && !quiet.is_enabled());
        assert!(!Unit::parse("x.service", "").restarts());
    }

    #[test]
    fn a_unit_is_the_proxys_own_only_if_it_runs_it() {
        let proxy = |pid| Seen {
            id: ProcessId { pid, start_ticks: 1 },
            ..Seen::sample("/h/bin/obproxy")
        };
        let told = |main_pid: i32, exec_start: &str, pid: i32| {
            let unit = Unit {
                name: "x.service".into(),
                main_pid: Some(main_pid),
                exec_start: exec_start.into(),
                ..Unit::default()
            };
            let units = Units(BTreeMap::from([(pid, unit)]));
            units.of_proxy(&[proxy(pid)], Path::new("/h")).len()
        };
        assert_eq!(told(7, "", 7), 1, "its main process");
        assert_eq!(
            told(6, "{ path=/usr/bin/start ; argv[]=/usr/bin/start /h }", 7),
            1,
            "its command"
        );
        assert_eq!(
            told(6, "{ path=/usr/sbin/crond }", 7),
            0,
            "started from a service that is not about it"
        );
    }
}
