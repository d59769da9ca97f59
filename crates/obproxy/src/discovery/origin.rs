//! Who started a proxy, and where its executable came from: told by the traces of each tool.

use std::path::Path;

use obfleet_wire::agent::{FoundWatchdog, PackageLayout, StartMethod};

use super::Seen;

/// obd names its files by address and port, obshell looks after one proxy only.
const OBSHELL_PID_FILE: &str = "obproxy.pid";

/// What lives beside it tells most; what lies in `run` is what the start left.
pub(super) fn start_method(run_files: &[String], watchdogs: &[FoundWatchdog]) -> StartMethod {
    let has = |wanted: fn(&FoundWatchdog) -> bool| watchdogs.iter().any(wanted);
    if has(|found| matches!(found, FoundWatchdog::Systemd { .. })) {
        StartMethod::Systemd
    } else if has(|found| matches!(found, FoundWatchdog::Obd { .. })) || run_files.iter().any(|name| is_obds(name)) {
        StartMethod::Obd
    } else if has(|found| matches!(found, FoundWatchdog::Obproxyd { .. })) {
        StartMethod::Obproxyd
    } else if run_files.iter().any(|name| name == OBSHELL_PID_FILE) {
        StartMethod::Obshell
    } else {
        StartMethod::ByHand
    }
}

/// `obproxy-<ip>-<port>.pid`, and the same with `obproxyd` for its watchdog.
fn is_obds(name: &str) -> bool {
    let name = name.strip_suffix(".pid").unwrap_or_default();
    let place = name.strip_prefix("obproxy-").or_else(|| name.strip_prefix("obproxyd-"));
    place
        .and_then(|place| place.rsplit_once('-'))
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// By the path of the executable that runs.
pub(super) fn layout(processes: &[Seen]) -> PackageLayout {
    let newest = processes.last();
    let (Some(home), Some(exe)) = (
        newest.and_then(|process| process.cwd.as_deref()),
        newest.and_then(|process| process.exe.as_deref()),
    ) else {
        return PackageLayout::Plain;
    };
    let is_versioned = home
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("obproxy"));
    let lies_in = |place: &str| is_versioned && home.parent().is_some_and(|parent| parent.ends_with(Path::new(place)));
    if !exe.starts_with(home) {
        PackageLayout::Linked
    } else if lies_in("home/admin") {
        PackageLayout::RpmAdmin
    } else if lies_in("opt/taobao/install") {
        PackageLayout::RpmTaobao
    } else {
        PackageLayout::Plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tool_is_known_by_its_traces() {
        let obd = || FoundWatchdog::Obd {
            pid: 7,
            script: "/h/obproxyd.sh".into(),
        };
        let package = || FoundWatchdog::Obproxyd {
            pid: 7,
            script: "bin/obproxyd.sh".into(),
        };
        let unit = || FoundWatchdog::Systemd {
            unit: "obproxy.service".into(),
            restarts: true,
            enabled: true,
        };
        let stranger = || FoundWatchdog::Unknown {
            pid: 7,
            command: "sh watch.sh".into(),
        };
        for (files, watchdogs, expected) in [
            (vec![], vec![], StartMethod::ByHand),
            (vec![], vec![stranger()], StartMethod::ByHand),
            (vec![], vec![obd()], StartMethod::Obd),
            (vec!["obproxy-10.0.0.1-2883.pid"], vec![], StartMethod::Obd),
            (vec!["obproxyd-10.0.0.1-2883.pid"], vec![], StartMethod::Obd),
            (
                vec!["obproxy-fd00::1-2883.pid", "obproxy.pid"],
                vec![],
                StartMethod::Obd,
            ),
            (vec!["obproxy.pid"], vec![], StartMethod::Obshell),
            (vec!["obproxy.pid"], vec![package()], StartMethod::Obproxyd),
            (vec!["obproxy.pid"], vec![package(), unit()], StartMethod::Systemd),
            (
                vec!["obproxy-x.pid", "obproxy--1", "x.pid"],
                vec![],
                StartMethod::ByHand,
            ),
        ] {
            let files: Vec<String> = files.into_iter().map(str::to_owned).collect();
            assert_eq!(start_method(&files, &watchdogs), expected, "{files:?} {watchdogs:?}");
        }
    }

    #[test]
    fn layouts_are_known_by_their_paths() {
        for (home, exe, expected) in [
            (
                "/home/admin/obproxy-4.2.1.0",
                "/home/admin/obproxy-4.2.1.0/bin/obproxy",
                PackageLayout::RpmAdmin,
            ),
            (
                "/opt/taobao/install/obproxy-3.2.0",
                "/opt/taobao/install/obproxy-3.2.0/bin/obproxy",
                PackageLayout::RpmTaobao,
            ),
            (
                "/home/admin/myproxy",
                "/home/admin/myproxy/bin/obproxy",
                PackageLayout::Plain,
            ),
            ("/data/obproxy", "/data/obproxy/bin/obproxy", PackageLayout::Plain),
            (
                "/data/obproxy",
                "/root/.obd/repository/obproxy-ce/4.2.1.0/ab/bin/obproxy",
                PackageLayout::Linked,
            ),
        ] {
            let process = Seen {
                cwd: Some(home.into()),
                exe: Some(exe.into()),
                ..Seen::sample("./bin/obproxy")
            };
            assert_eq!(layout(&[process]), expected, "{exe}");
        }
        let hidden = Seen {
            cwd: None,
            ..Seen::sample("./bin/obproxy")
        };
        assert_eq!(layout(&[hidden]), PackageLayout::Plain);
    }
}
