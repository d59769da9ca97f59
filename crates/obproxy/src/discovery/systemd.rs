//! Units of systemd that proxies run in. A process is in the control group of whatever started it, so a unit is the proxy's
//! own only if the proxy is its main process or its command.

use std::{collections::BTreeMap, path::Path, process::Stdio, time::Duration};

use obfleet_wire::agent::{FoundWatchdog, HOLDING_DROP_IN};

use super::{Seen, mentions};
use crate::process;

/// Asks systemd.
const SYSTEMCTL: &str = "systemctl";
/// There when systemd runs the machine.
const BOOTED: &str = "/run/systemd/system";
/// Services that start what is none of theirs.
const STARTERS: [&str; 5] = [
    "atd.service",
    "cron.service",
    "crond.service",
    "ssh.service",
    "sshd.service",
];
const DEADLINE: Duration = Duration::from_secs(10);
const PROPERTIES: &str =
    "--property=ActiveState,DropInPaths,ExecStart,ExecStop,ExecStopPost,KillMode,MainPID,Restart,UnitFileState";

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
    /// Its commands to stop it and after that, in the same way.
    pub exec_stop: String,
    /// `active`, `inactive`, `failed`…
    pub active_state: String,
    /// Files that say more of it than its own one.
    pub drop_ins: String,
    /// Whether systemd did not tell of it: its bus is not for everybody.
    pub is_hidden: bool,
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
            exec_stop: value("ExecStop") + &value("ExecStopPost"),
            active_state: value("ActiveState"),
            drop_ins: value("DropInPaths"),
            is_hidden: false,
        }
    }

    /// Asks systemd about a unit; `None` when it does not answer.
    pub async fn ask(name: &str) -> Option<Self> {
        let mut command = tokio::process::Command::new(SYSTEMCTL);
        command.args(["show", PROPERTIES, "--", name]).kill_on_drop(true);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let output = tokio::time::timeout(DEADLINE, command.output()).await.ok()?.ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        output.status.success().then(|| Self::parse(name, &text))
    }

    /// Whether it runs the proxy with these processes in this home; one that is hidden may, unless it is of those that
    /// people and their tables start things from.
    fn runs(&self, processes: &[Seen], home: &Path) -> bool {
        if self.is_hidden {
            return !STARTERS.contains(&self.name.as_str());
        }
        let is_main = processes.iter().any(|process| Some(process.id.pid) == self.main_pid);
        is_main || mentions(&self.exec_start, home)
    }

    /// Whether it starts its main process again when that fails.
    pub fn restarts(&self) -> bool {
        !matches!(self.restart.as_str(), "" | "no" | "on-success")
    }

    /// Whether its main process runs, or one it takes for that.
    pub fn is_active(&self) -> bool {
        self.active_state == "active"
    }

    /// Whether [`HOLDING_DROP_IN`] keeps it from its proxy, whoever put it there.
    pub fn is_held(&self) -> bool {
        let is_there = self
            .drop_ins
            .split_whitespace()
            .any(|path| Path::new(path).file_name().is_some_and(|name| name == HOLDING_DROP_IN));
        is_there && self.restart == "no" && self.kill_mode == "none" && self.exec_stop.is_empty()
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
        if !Path::new(BOOTED).exists() {
            return Self::default();
        }
        let own = process::control_groups(std::process::id().cast_signed()).unwrap_or_default();
        let own = unit_of(&own);
        let mut units = BTreeMap::new();
        for process in processes {
            let Some(name) = unit_of(&process.control_groups).filter(|name| Some(name.as_str()) != own.as_deref())
            else {
                continue;
            };
            let told = Unit::ask(&name).await;
            let unit = told.unwrap_or_else(|| Unit {
                name,
                is_hidden: true,
                ..Unit::default()
            });
            units.insert(process.id.pid, unit);
        }
        Self(units)
    }

    /// The units that run the proxy, and would start it again or end it.
    pub(super) fn of_proxy(&self, processes: &[Seen], home: &Path) -> Vec<FoundWatchdog> {
        let mut units: Vec<&Unit> = Vec::new();
        for process in processes {
            if let Some(unit) = self.0.get(&process.id.pid)
                && unit.runs(processes, home)
                && !unit.is_held()
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
/// Where there are both versions of control groups, systemd may go by either.
pub fn unit_of(control_groups: &str) -> Option<String> {
    let paths = control_groups.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        matches!(controllers, "" | "name=systemd").then_some(Path::new(path))
    });
    let service = |path: &Path| {
        let name = path.file_name()?.to_str()?.to_owned();
        let is_users = path
            .components()
            .any(|part| part.as_os_str().to_string_lossy().starts_with("user@"));
        (name.ends_with(".service") && !is_users).then_some(name)
    };
    paths.into_iter().find_map(service)
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
            (
                "9:name=systemd:/\n0::/system.slice/obproxy.service\n",
                Some("obproxy.service"),
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
    fn a_unit_is_held_when_it_goes_by_the_drop_in() {
        let held = "Restart=no\nKillMode=none\nDropInPaths=/etc/systemd/system/x.service.d/a.conf \
                    /etc/systemd/system/x.service.d/zz-obfleet.conf\n";
        assert!(Unit::parse("x.service", held).is_held());
        for (instead, of) in [
            ("Restart=always", "Restart=no"),
            ("KillMode=process", "KillMode=none"),
            ("zz-obfleet.config", "zz-obfleet.conf"),
            ("ExecStop={ path=/bin/kill }\nRestart=no", "Restart=no"),
            ("ExecStopPost={ path=/bin/kill }\nRestart=no", "Restart=no"),
        ] {
            assert!(
                !Unit::parse("x.service", &held.replace(of, instead)).is_held(),
                "{instead}"
            );
        }
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
        let hidden = |name: &str| {
            let unit = Unit {
                name: name.into(),
                is_hidden: true,
                ..Unit::default()
            };
            let units = Units(BTreeMap::from([(7, unit)]));
            units.of_proxy(&[proxy(7)], Path::new("/h")).len()
        };
        assert_eq!(hidden("obproxy.service"), 1, "nobody knows what it would do");
        assert_eq!(hidden("crond.service"), 0);
    }
}
