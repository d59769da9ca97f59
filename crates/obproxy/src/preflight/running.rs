//! Checks of the process that is to be restarted.

use std::path::Path;

use super::{Findings, Request, installed};
use crate::{
    admin::{AdminConn, AdminError},
    process::{self, FileId, Process, Signal},
};

/// OBProxy hands its root to the child in a buffer of 128 bytes, the variable's name included.
const ROOT_LIMIT: usize = 114;

/// Whether the file to be replaced is the one a restart runs.
pub(super) fn executable(request: &Request<'_>, process: &Process, findings: &mut Findings) {
    let installed = installed(request.home);
    match FileId::of(&installed) {
        Ok(file) if file == process.exe_file => {}
        Ok(_) => findings.warn(format_args!(
            "{} is not the file process {} runs; what runs is kept for the way back",
            installed.display(),
            process.id.pid
        )),
        Err(error) => findings.unreadable(installed.display(), &error),
    }
    let resolved = process.argv0_path().and_then(|path| {
        let directory = path.parent()?.canonicalize().ok()?;
        Some(directory.join(path.file_name()?))
    });
    let wanted = request.home.canonicalize().map(|home| home.join("bin/obproxy")).ok();
    if resolved.is_none() || resolved != wanted {
        let reason = format!(
            "it was started as '{}', so a hot restart would not run {}",
            process.argv.first().map_or("", String::as_str),
            installed.display()
        );
        findings.obstacle(object(process), reason, "stop it and start it again by obfleet");
    }
}

/// What only a hot restart needs.
pub(super) async fn hot_restart(
    request: &Request<'_>,
    process: &Process,
    admin: &mut AdminConn,
    findings: &mut Findings,
) -> Result<(), AdminError> {
    match process::pid_in_own_namespace(process.id.pid) {
        Ok(own_pid) => place(process, own_pid, findings),
        Err(error) => findings.unreadable(object(process), &error),
    }
    if !process::listens_on_ipv4(process.id.pid, request.address.port()).unwrap_or_default() {
        let reason = "it does not listen on IPv4, and the child of a hot restart cannot start without";
        findings.obstacle(
            object(process),
            reason,
            "set ip_listen_mode to 1 or 3, or restart it cold",
        );
    }
    match process::environment(process.id.pid) {
        Ok(variables) => root_length(process, &variables, findings),
        Err(error) => findings.unreadable(object(process), &error),
    }
    let info = admin.upgrade_info().await?;
    if !info.is_at_rest() || !info.is_parent {
        let reason = format!("another restart or a drain is under way (state {})", info.state);
        findings.obstacle(object(process), reason, "wait until it has ended");
    }
    Ok(())
}

/// Its place among the processes: at its end a proxy sends SIGUSR2 to its parent, and as PID 1 its child never tells
/// it that it is ready.
fn place(process: &Process, own_pid: i32, findings: &mut Findings) {
    if own_pid == 1 {
        let reason = "as PID 1 of a container it goes back to the old version by itself after the rollback timeout";
        return findings.obstacle(object(process), reason, "put an init before it, or restart it cold");
    }
    let signals = [Signal::SIGUSR1, Signal::SIGUSR2];
    let safe = process.ppid <= 1
        || signals
            .iter()
            .all(|signal| process::survives(process.ppid, *signal).unwrap_or_default());
    if !safe {
        let reason = format!(
            "its parent, process {}, would be ended by the SIGUSR2 it sends at its end",
            process.ppid
        );
        findings.obstacle(
            object(process),
            reason,
            "let it daemonise: stop it and start it again by obfleet",
        );
    }
}

fn root_length(process: &Process, variables: &[(String, String)], findings: &mut Findings) {
    let root = variables.iter().find(|(name, _)| name == "OBPROXY_ROOT");
    if let Some((_, root)) = root.filter(|(_, root)| root.len() > ROOT_LIMIT) {
        let reason = format!(
            "its OBPROXY_ROOT has {} characters, at most {ROOT_LIMIT} can be handed on",
            root.len()
        );
        findings.obstacle(object(process), reason, "move it to a shorter path, or restart it cold");
    }
    if let Some((_, root)) = root.filter(|(_, root)| Path::new(root) != process.cwd) {
        findings.warn(format_args!(
            "process {} has OBPROXY_ROOT {root}, not its working directory",
            process.id.pid
        ));
    }
}

fn object(process: &Process) -> String {
    format!("process {}", process.id.pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ProcessId;

    fn process(pid: i32, ppid: i32) -> Process {
        Process {
            id: ProcessId { pid, start_ticks: 1 },
            ppid,
            cwd: "/h".into(),
            exe: "/h/bin/obproxy".into(),
            exe_file: FileId { dev: 1, inode: 1 },
            argv: vec!["./bin/obproxy".into()],
        }
    }

    #[test]
    fn refuses_pid_1_and_parents_that_would_die() {
        let mut findings = Findings::default();
        place(&process(7, 1), 7, &mut findings);
        assert!(findings.obstacles.is_empty());
        place(&process(4711, 4710), 1, &mut findings);
        assert!(findings.obstacles[0].reason.contains("PID 1"));
        let own = std::process::id() as i32;
        place(&process(7, own), 7, &mut findings);
        assert!(
            findings.obstacles[1].reason.contains("SIGUSR2"),
            "a test process handles neither signal"
        );
    }

    #[test]
    fn refuses_a_root_that_cannot_be_handed_on() {
        let root = |length: usize| vec![("OBPROXY_ROOT".to_owned(), format!("/{}", "x".repeat(length - 1)))];
        let mut findings = Findings::default();
        root_length(&process(7, 1), &root(ROOT_LIMIT), &mut findings);
        assert!(findings.obstacles.is_empty());
        root_length(&process(7, 1), &root(ROOT_LIMIT + 1), &mut findings);
        assert_eq!(findings.obstacles.len(), 1);
    }
}
