//! Who would start a proxy again: known loops by their script's name, units of systemd, and what looks as if it might.
//!
//! Two watchdogs are called `obproxyd.sh`: the loop of OceanBase Deployer gets the home as its first argument, the one of
//! the package works in the home or lies in it.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use obfleet_wire::agent::FoundWatchdog;

use super::{Seen, Units};
use crate::process::Stat;

/// Both known loops are called so.
pub const SCRIPT: &str = "obproxyd.sh";

/// What runs scripts. A shell without a script is a person's.
const INTERPRETERS: [&str; 12] = [
    "sh", "bash", "dash", "ash", "ksh", "zsh", "busybox", "python", "python2", "python3", "perl", "ruby",
];

/// Processes that take in orphans and start nobody again.
const REAPERS: [&str; 7] = [
    "systemd",
    "init",
    "tini",
    "dumb-init",
    "docker-init",
    "catatonit",
    "containerd-shim",
];

/// The watchdogs of the proxy whose processes these are. Nobody of `spared` is one: whoever runs the agent, its shell for
/// one.
pub(super) fn of(processes: &[Seen], all: &[Seen], units: &Units, spared: &BTreeSet<i32>) -> Vec<FoundWatchdog> {
    let Some(newest) = processes.last() else {
        return Vec::new();
    };
    let mut found: Vec<FoundWatchdog> = Vec::new();
    if let Some(home) = newest.cwd.as_deref() {
        found.extend(units.of_proxy(processes, home));
        let others = all
            .iter()
            .filter(|process| !process.is_proxy() && !spared.contains(&process.id.pid));
        found.extend(others.filter_map(|process| judge(process, home)));
    }
    for process in processes {
        if let Some(parent) = lingering_parent(process, processes, all)
            && !spared.contains(&parent.id.pid)
            && found.iter().all(|watchdog| watchdog.pid() != Some(parent.id.pid))
        {
            found.push(unknown(parent));
        }
    }
    found
}

/// What a process is to the proxy of a home.
fn judge(process: &Seen, home: &Path) -> Option<FoundWatchdog> {
    let pid = process.id.pid;
    let script = process
        .argv
        .iter()
        .position(|word| Path::new(word).file_name().is_some_and(|name| name == SCRIPT));
    if let Some(at) = script {
        let script = &process.argv[at];
        let is_path_of_home = |word: &String| Path::new(word).is_absolute() && normal(Path::new(word)) == normal(home);
        if process.argv.get(at + 1).is_some_and(is_path_of_home) {
            return Some(FoundWatchdog::Obd {
                pid,
                script: script.clone(),
            });
        }
        if process.cwd.as_deref() == Some(home) || lies_in(process, script, home) {
            return Some(FoundWatchdog::Obproxyd {
                pid,
                script: script.clone(),
            });
        }
        return None;
    }
    may_watch(process, home).then(|| unknown(process))
}

/// Whether an interpreter runs something that speaks of the home, lies in it or works there.
fn may_watch(process: &Seen, home: &Path) -> bool {
    let program = process
        .argv
        .first()
        .map(|argv0| Path::new(argv0).file_name().unwrap_or_default().to_os_string());
    let is_interpreter = program.is_some_and(|program| {
        let program = program.to_string_lossy();
        INTERPRETERS.contains(&program.trim_start_matches('-'))
    });
    let words = || process.argv.iter().skip(1);
    let script = words().find(|word| !word.starts_with('-'));
    is_interpreter
        && script.is_some_and(|script| {
            process.cwd.as_deref() == Some(home)
                || lies_in(process, script, home)
                || words().any(|word| mentions(word, home))
        })
}

fn lies_in(process: &Seen, script: &str, home: &Path) -> bool {
    let script = match (Path::new(script).is_absolute(), &process.cwd) {
        (false, Some(cwd)) => cwd.join(script),
        _ => PathBuf::from(script),
    };
    normal(&script).starts_with(normal(home))
}

/// The path without `.` and doubled or closing slashes.
fn normal(path: &Path) -> PathBuf {
    path.components()
        .filter(|component| *component != Component::CurDir)
        .collect()
}

/// Whether a text speaks of a path: of itself or of something below it, not of another one that begins alike.
pub fn mentions(text: &str, path: &Path) -> bool {
    let Some(path) = path.to_str().filter(|path| path.len() > 1) else {
        return false;
    };
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    text.match_indices(path).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + path.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The parent of a process that did not become a daemon: it may start it again, and gets its signals. The parent of a hot
/// restart is a proxy itself.
fn lingering_parent<'a>(process: &Seen, processes: &[Seen], all: &'a [Seen]) -> Option<&'a Seen> {
    if process.ppid <= 1 || processes.iter().any(|other| other.id.pid == process.ppid) {
        return None;
    }
    let parent = all.iter().find(|other| other.id.pid == process.ppid)?;
    let is_reaper = REAPERS.iter().any(|reaper| parent.name.starts_with(reaper));
    (!is_reaper).then_some(parent)
}

/// Program and script alone: what follows may be secret.
fn unknown(process: &Seen) -> FoundWatchdog {
    let mut words = process.argv.iter();
    let program = words.next().cloned().unwrap_or_else(|| process.name.clone());
    let script = words.next().filter(|word| !word.starts_with('-'));
    FoundWatchdog::Unknown {
        pid: process.id.pid,
        command: script.map_or(program.clone(), |script| format!("{program} {script}")),
    }
}

/// This process, its parent, and so on.
pub(super) fn ancestors_of_this_process() -> BTreeSet<i32> {
    let mut ancestors = BTreeSet::new();
    let mut pid = nix::unistd::getpid().as_raw();
    while pid > 1 && ancestors.insert(pid) {
        pid = Stat::read(pid).map_or(0, |stat| stat.ppid);
    }
    ancestors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ProcessId;

    const HOME: &str = "/data/obproxy";

    fn process(pid: i32, cwd: &str, argv: &[&str]) -> Seen {
        let argv: Vec<String> = argv.iter().map(ToString::to_string).collect();
        Seen {
            id: ProcessId { pid, start_ticks: 1 },
            cwd: Some(cwd.into()),
            argv,
            ..Seen::sample("x")
        }
    }

    fn proxy(pid: i32, ppid: i32) -> Seen {
        Seen {
            ppid,
            ..process(pid, HOME, &["./bin/obproxy"])
        }
    }

    fn watchdogs(all: &[Seen]) -> Vec<FoundWatchdog> {
        of(&[proxy(10, 1)], all, &Units::default(), &BTreeSet::new())
    }

    #[test]
    fn the_loops_of_both_tools_are_told_apart() {
        let obd = [
            "bash",
            "/data/obproxy/obproxyd.sh",
            "/data/obproxy",
            "10.0.0.1",
            "2883",
            "daemon",
        ];
        let found = watchdogs(&[process(7, "/root", &obd)]);
        let script = "/data/obproxy/obproxyd.sh".to_owned();
        assert_eq!(found, [FoundWatchdog::Obd { pid: 7, script }]);
        let trailing = ["sh", "obproxyd.sh", "/data/obproxy/", "10.0.0.1", "2883"];
        assert!(matches!(
            watchdogs(&[process(7, "/root", &trailing)])[..],
            [FoundWatchdog::Obd { pid: 7, .. }]
        ));

        let package = ["/bin/bash", "bin/obproxyd.sh", "-c", "start", "-n", "ob1", "-p", "2883"];
        for (cwd, script) in [(HOME, "bin/obproxyd.sh"), ("/", "/data/obproxy/bin/obproxyd.sh")] {
            let mut words = package;
            words[1] = script;
            let found = watchdogs(&[process(7, cwd, &words)]);
            assert!(
                matches!(found[..], [FoundWatchdog::Obproxyd { pid: 7, .. }]),
                "{found:?}"
            );
        }
        // Of the neighbour.
        let other = [
            "bash",
            "/data/obproxy2/obproxyd.sh",
            "/data/obproxy2",
            "10.0.0.1",
            "3883",
        ];
        assert_eq!(
            watchdogs(&[process(7, "/data/obproxy2", &other), process(8, "/", &package)]),
            []
        );
    }

    #[test]
    fn what_may_be_one_is_told_without_its_arguments() {
        let script = [
            "/bin/sh",
            "/usr/local/bin/watch.sh",
            "/data/obproxy",
            "--password",
            "s3cret",
        ];
        let found = watchdogs(&[process(7, "/", &script)]);
        let command = "/bin/sh /usr/local/bin/watch.sh".to_owned();
        assert_eq!(found, [FoundWatchdog::Unknown { pid: 7, command }]);
        let text = ["bash", "-c", "while :; do cd /data/obproxy; ./bin/obproxy -N; done"];
        let found = watchdogs(&[process(7, "/", &text)]);
        let command = "bash".to_owned();
        assert_eq!(found, [FoundWatchdog::Unknown { pid: 7, command }]);
        assert_eq!(watchdogs(&[process(7, HOME, &["python3", "keep.py"])]).len(), 1);
    }

    #[test]
    fn people_and_their_tools_are_none() {
        for (cwd, argv) in [
            (HOME, &["-bash"][..]),
            (HOME, &["bash"]),
            (HOME, &["tail", "-f", "log/obproxy.log"]),
            ("/", &["vi", "/data/obproxy/etc/x"]),
            ("/", &["sh", "/data/obproxy2/watch.sh"]),
            ("/", &["python3", "/usr/bin/other", "/data/obproxy-4.2"]),
        ] {
            assert_eq!(watchdogs(&[process(7, cwd, argv)]), [], "{argv:?}");
        }
        let script = process(7, "/", &["sh", "/opt/agent.sh", "/data/obproxy"]);
        let spared = BTreeSet::from([7]);
        assert_eq!(of(&[proxy(10, 1)], &[script], &Units::default(), &spared), []);
    }

    #[test]
    fn a_parent_that_stays_may_be_one() {
        let of_parent = |parent: Seen| of(&[proxy(10, 7)], &[parent], &Units::default(), &BTreeSet::new());
        let supervisor = process(7, "/", &["/usr/bin/supervisord", "-c", "/etc/supervisord.conf"]);
        let command = "/usr/bin/supervisord".to_owned();
        assert_eq!(of_parent(supervisor), [FoundWatchdog::Unknown { pid: 7, command }]);
        let reaper = Seen {
            name: "tini".into(),
            ..process(7, "/", &["/tini", "--", "x"])
        };
        assert_eq!(of_parent(reaper), []);
        let known = ["bash", "/data/obproxy/obproxyd.sh", "/data/obproxy", "1", "2"];
        assert_eq!(of_parent(process(7, "/", &known)).len(), 1, "told once");
        // The child of a hot restart.
        let both = [proxy(7, 1), proxy(10, 7)];
        assert_eq!(of(&both, &both, &Units::default(), &BTreeSet::new()), []);
    }

    #[test]
    fn a_path_is_told_from_one_that_begins_alike() {
        let home = Path::new("/h/obproxy");
        for text in [
            "/h/obproxy",
            "cd /h/obproxy; x",
            "'/h/obproxy/bin'",
            "--home=/h/obproxy",
        ] {
            assert!(mentions(text, home), "{text}");
        }
        for text in ["/h/obproxy2", "/h/obproxy-4", "/h/obproxy.old", "x/h/obproxy", "", "/h"] {
            assert!(!mentions(text, home), "{text}");
        }
        assert!(!mentions("/ is the root", Path::new("/")));
    }

    #[test]
    fn whoever_runs_this_is_spared() {
        let ancestors = ancestors_of_this_process();
        assert!(ancestors.contains(&nix::unistd::getpid().as_raw()));
        assert!(ancestors.contains(&nix::unistd::getppid().as_raw()) || nix::unistd::getppid().as_raw() <= 1);
    }
}
