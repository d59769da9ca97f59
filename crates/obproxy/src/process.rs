//! Processes of proxies, as `/proc` shows them.
//!
//! OBProxy writes no pid file, changes its pid at every hot restart and loses its command line: what stays is its
//! working directory, the *home*, and the executable below it. A process is named by pid **and** start time, so that
//! a recycled pid is never taken for it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

mod handle;
mod ports;
mod sockets;
mod usage;

pub use handle::{ProcessHandle, SignalError};
pub use nix::sys::signal::Signal;
pub use ports::{listening_of, listens_on, listens_on_ipv4, port_owners, port_user};
pub use usage::Usage;

/// One process for ever: a pid alone is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    /// Its pid.
    pub pid: i32,
    /// Its start in clock ticks since boot.
    pub start_ticks: u64,
}

impl ProcessId {
    /// The process that runs this code.
    pub fn own() -> io::Result<Self> {
        let pid = nix::unistd::getpid().as_raw();
        let stat = Stat::read(pid)?;
        Ok(Self {
            pid,
            start_ticks: stat.start_ticks,
        })
    }

    /// Whether it is stopped, by a signal or a debugger: it is there and does nothing.
    pub fn is_stopped(self) -> bool {
        Stat::read(self.pid).is_ok_and(|stat| stat.start_ticks == self.start_ticks && matches!(stat.state, 'T' | 't'))
    }

    /// Whether it still runs; a zombie does not.
    pub fn is_alive(self) -> bool {
        Stat::read(self.pid).is_ok_and(|stat| stat.start_ticks == self.start_ticks && !stat.is_gone())
    }
}

/// A file, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileId {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub inode: u64,
}

impl FileId {
    /// The file at the path, links followed.
    pub fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        Ok(Self {
            dev: meta.dev(),
            inode: meta.ino(),
        })
    }
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its identity.
    pub id: ProcessId,
    /// Its parent's pid.
    pub ppid: i32,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Where its executable was when it started; without the mark the kernel adds once that file is replaced.
    pub exe: PathBuf,
    /// The executable itself.
    pub exe_file: FileId,
    /// Its command line.
    pub argv: Vec<String>,
}

impl Process {
    /// Reads one process. [`io::ErrorKind::NotFound`] when there is none of this pid, or only a zombie.
    pub fn read(pid: i32) -> io::Result<Self> {
        let base = proc_dir(pid);
        let stat = Stat::read(pid)?;
        if stat.is_gone() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let exe = fs::read_link(base.join("exe"))?;
        Ok(Self {
            id: ProcessId {
                pid,
                start_ticks: stat.start_ticks,
            },
            ppid: stat.ppid,
            cwd: fs::read_link(base.join("cwd"))?,
            exe: without_deleted(exe),
            exe_file: FileId::of(&base.join("exe"))?,
            argv: split_nul(&fs::read(base.join("cmdline"))?),
        })
    }

    /// The file its `argv[0]` names now: what a hot restart would run.
    pub fn argv0_path(&self) -> Option<PathBuf> {
        self.argv.first().map(|argv0| self.cwd.join(argv0))
    }

    /// Whether its `argv[0]` is this path, however it is written.
    fn is_called(&self, path: &Path) -> bool {
        let Some(called) = self.argv0_path() else {
            return false;
        };
        let directory = called.parent().and_then(|parent| parent.canonicalize().ok());
        directory.as_deref() == path.parent() && called.file_name() == path.file_name()
    }

    /// A path that reads the executable it really runs, also after the file was replaced.
    pub fn exe_path(&self) -> PathBuf {
        proc_dir(self.id.pid).join("exe")
    }
}

/// The proxies that run in a home, oldest first: working directory `home`, executable in its `bin` or called by the
/// name it has there. That may be a link to somewhere else.
pub fn of_home(home: &Path) -> io::Result<Vec<Process>> {
    let home = home.canonicalize()?;
    let bin = home.join("bin");
    let mut found = in_directory(&home)?;
    found.retain(|process| process.exe.starts_with(&bin) || process.is_called(&bin.join("obproxy")));
    Ok(found)
}

/// The processes whose parent is `pid` and whose working directory is `home`, oldest first. Right after its fork the
/// child of a hot restart still shows the executable of its parent.
pub fn children_of(pid: i32, home: &Path) -> io::Result<Vec<Process>> {
    let mut found = in_directory(&home.canonicalize()?)?;
    found.retain(|process| process.ppid == pid);
    Ok(found)
}

fn in_directory(directory: &Path) -> io::Result<Vec<Process>> {
    let mut found: Vec<Process> = all_pids()?
        .filter(|pid| fs::read_link(proc_dir(*pid).join("cwd")).is_ok_and(|cwd| cwd == directory))
        .filter_map(|pid| Process::read(pid).ok())
        .collect();
    found.sort_by_key(|process| (process.id.start_ticks, process.id.pid));
    Ok(found)
}

/// The pids of all processes that can be seen.
pub fn all_pids() -> io::Result<impl Iterator<Item = i32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
}

/// The environment a process was started with.
pub fn environment(pid: i32) -> io::Result<Vec<(String, String)>> {
    let variables = split_nul(&fs::read(proc_dir(pid).join("environ"))?);
    Ok(variables
        .into_iter()
        .filter_map(|variable| {
            variable
                .split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        })
        .collect())
}

/// The command line of a process.
pub fn command_line(pid: i32) -> io::Result<Vec<String>> {
    Ok(split_nul(&fs::read(proc_dir(pid).join("cmdline"))?))
}

/// The user a process runs as.
pub fn user(pid: i32) -> io::Result<u32> {
    effective(pid, "Uid:")
}

/// The group a process runs as.
pub fn group(pid: i32) -> io::Result<u32> {
    effective(pid, "Gid:")
}

/// Of the real, the effective and the others, the second.
fn effective(pid: i32, field: &str) -> io::Result<u32> {
    let status = fs::read_to_string(proc_dir(pid).join("status"))?;
    let id = status_field(&status, field).and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok());
    id.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The name the kernel has for a process, cut to 15 characters; anybody may read it.
pub fn short_name(pid: i32) -> io::Result<String> {
    Ok(fs::read_to_string(proc_dir(pid).join("comm"))?.trim_end().to_owned())
}

/// Whether it shares mounts with this process: if not, its paths are not those of this process.
pub fn shares_mounts(pid: i32) -> io::Result<bool> {
    let of = |whose: &Path| fs::read_link(whose.join("ns/mnt"));
    Ok(of(&proc_dir(pid))? == of(Path::new("/proc/self"))?)
}

/// The control groups of a process, as the kernel lists them.
pub fn control_groups(pid: i32) -> io::Result<String> {
    fs::read_to_string(proc_dir(pid).join("cgroup"))
}

/// The pid a process sees as its own: another one than here if it lives in a pid namespace of its own.
pub fn pid_in_own_namespace(pid: i32) -> io::Result<i32> {
    let status = fs::read_to_string(proc_dir(pid).join("status"))?;
    // A kernel without this field has no namespace either that could be looked into from here.
    let innermost = status_field(&status, "NSpid:").and_then(|pids| pids.split_whitespace().next_back());
    Ok(innermost.and_then(|own| own.parse().ok()).unwrap_or(pid))
}

/// Whether a process ignores or handles the signal, so that it survives one.
pub fn survives(pid: i32, signal: Signal) -> io::Result<bool> {
    let status = fs::read_to_string(proc_dir(pid).join("status"))?;
    let mask = |field| {
        let hex = status_field(&status, field);
        hex.and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0)
    };
    let bit = 1u64 << (signal as u32 - 1);
    Ok((mask("SigIgn:") | mask("SigCgt:")) & bit != 0)
}

/// A field of `/proc/<pid>/status`.
fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn proc_dir(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

/// The kernel marks an executable that was replaced or removed.
pub(crate) fn without_deleted(exe: PathBuf) -> PathBuf {
    match exe.to_str().and_then(|text| text.strip_suffix(" (deleted)")) {
        Some(path) => PathBuf::from(path),
        None => exe,
    }
}

fn split_nul(bytes: &[u8]) -> Vec<String> {
    let parts = bytes.split(|b| *b == 0).filter(|part| !part.is_empty());
    parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// The fields of `/proc/<pid>/stat` used here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    state: char,
    pub(crate) ppid: i32,
    pub(crate) start_ticks: u64,
    /// In its own code and in the kernel.
    cpu_ticks: u64,
}

impl Stat {
    pub(crate) fn read(pid: i32) -> io::Result<Self> {
        let text = fs::read_to_string(proc_dir(pid).join("stat"))?;
        Self::parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The command name, in parentheses, may itself contain spaces and parentheses.
    fn parse(text: &str) -> Option<Self> {
        const PPID: usize = 1;
        const USER_TIME: usize = 11;
        const SYSTEM_TIME: usize = 12;
        const START_TIME: usize = 19;
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field)?.parse::<u64>().ok();
        Some(Self {
            state: fields.first()?.chars().next()?,
            ppid: fields.get(PPID)?.parse().ok()?,
            start_ticks: fields.get(START_TIME)?.parse().ok()?,
            cpu_ticks: number(USER_TIME)? + number(SYSTEM_TIME)?,
        })
    }

    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_itself() {
        let own = ProcessId::own().unwrap();
        assert!(own.is_alive());
        assert!(
            !ProcessId {
                start_ticks: own.start_ticks + 1,
                ..own
            }
            .is_alive()
        );
        let process = Process::read(own.pid).unwrap();
        assert_eq!(process.id, own);
        assert_eq!(process.exe, std::env::current_exe().unwrap());
        assert_eq!(process.exe_file, FileId::of(&process.exe).unwrap());
        assert_eq!(process.cwd, std::env::current_dir().unwrap());
        assert!(!environment(own.pid).unwrap().is_empty());
        assert!(all_pids().unwrap().any(|pid| pid == own.pid));
        assert_eq!(pid_in_own_namespace(own.pid).unwrap(), own.pid);
        assert_eq!(user(own.pid).unwrap(), nix::unistd::geteuid().as_raw());
        assert!(shares_mounts(own.pid).unwrap());
        assert!(!short_name(own.pid).unwrap().is_empty());
    }

    #[test]
    fn the_innermost_pid_is_the_last() {
        let status = "Name:\tobproxy\nNSpid:\t4711\t12\t1\nThreads:\t3\n";
        assert_eq!(status_field(status, "NSpid:"), Some("4711\t12\t1"));
        assert_eq!(status_field(status, "Threads:"), Some("3"));
        assert_eq!(status_field(status, "SigIgn:"), None);
    }

    #[test]
    fn a_command_name_may_hold_anything() {
        let mut text = "12 (a) b (c)) S 7 0 0 0 -1 4194304 0 0 0 0 30 12 0 0 20 0 1 0 991 1 1".to_owned();
        let stat = Stat::parse(&text).unwrap();
        assert_eq!(
            stat,
            Stat {
                state: 'S',
                ppid: 7,
                start_ticks: 991,
                cpu_ticks: 42
            }
        );
        text.truncate(20);
        assert_eq!(Stat::parse(&text), None);
    }

    #[test]
    fn the_mark_of_a_replaced_file_is_taken_off() {
        assert_eq!(
            without_deleted("/h/bin/obproxy (deleted)".into()),
            Path::new("/h/bin/obproxy")
        );
        assert_eq!(without_deleted("/h/bin/obproxy".into()), Path::new("/h/bin/obproxy"));
    }

    #[test]
    fn finds_a_process_by_home_after_its_file_was_replaced() {
        let home = tempfile::tempdir().unwrap();
        let bin = home.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let exe = bin.join("obproxy");
        fs::copy("/bin/sleep", &exe).unwrap();
        let mut child = std::process::Command::new(&exe)
            .arg("60")
            .current_dir(home.path())
            .spawn()
            .unwrap();
        fs::copy("/bin/sleep", bin.join("other")).unwrap();
        fs::rename(bin.join("other"), &exe).unwrap();
        let found = of_home(home.path()).unwrap();
        assert_eq!(found.len(), 1);
        let process = &found[0];
        assert_eq!(process.id.pid, child.id() as i32);
        assert_eq!(process.exe, exe.canonicalize().unwrap());
        assert_ne!(process.exe_file, FileId::of(&exe).unwrap());
        let own = nix::unistd::getpid().as_raw();
        assert_eq!(children_of(own, home.path()).unwrap().len(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(of_home(home.path()).unwrap(), []);
    }

    #[test]
    fn finds_a_process_whose_file_is_a_link_out_of_the_home() {
        let (home, repository) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let bin = home.path().join("bin");
        fs::create_dir(&bin).unwrap();
        fs::copy("/bin/sleep", repository.path().join("obproxy")).unwrap();
        std::os::unix::fs::symlink(repository.path().join("obproxy"), bin.join("obproxy")).unwrap();
        for argv0 in ["./bin/obproxy", bin.join("obproxy").to_str().unwrap()] {
            let mut command = std::process::Command::new(bin.join("obproxy"));
            std::os::unix::process::CommandExt::arg0(&mut command, argv0);
            let mut child = command.arg("60").current_dir(home.path()).spawn().unwrap();
            // Another program that works there is none.
            let mut other = std::process::Command::new("/bin/sleep");
            let mut other = other.arg("60").current_dir(home.path()).spawn().unwrap();
            let found = of_home(home.path()).unwrap();
            for process in [&mut child, &mut other] {
                process.kill().unwrap();
                process.wait().unwrap();
            }
            let pids: Vec<_> = found.iter().map(|process| process.id.pid).collect();
            assert_eq!(pids, [child.id() as i32], "{argv0}");
        }
    }
}
