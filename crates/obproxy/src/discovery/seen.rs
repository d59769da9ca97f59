//! Processes as `/proc` shows them to whoever asks: of another user's, less.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::process::{self, FileId, ProcessId, Stat};

/// What proxies are called.
const PROXY: &str = "obproxy";

/// A process. What may not be read is `None` or empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its identity.
    pub id: ProcessId,
    /// Its parent.
    pub ppid: i32,
    /// The user it runs as.
    pub uid: u32,
    /// The kernel's short name of it.
    pub name: String,
    /// Its command line.
    pub argv: Vec<String>,
    /// Its working directory.
    pub cwd: Option<PathBuf>,
    /// Its executable when it started.
    pub exe: Option<PathBuf>,
    /// Whether that path holds another file now; of proxies only.
    pub exe_replaced: bool,
    /// Where it listens; of proxies only.
    pub listening: Vec<SocketAddr>,
    /// Whether its pids or mounts are its own; of proxies only.
    pub container: bool,
    /// Its control groups; of proxies only.
    pub control_groups: String,
    /// `OBPROXY_ROOT`; of proxies only.
    pub root: Option<PathBuf>,
}

/// Every process there is. One that ends meanwhile is none.
pub(super) fn all() -> io::Result<Vec<Seen>> {
    Ok(process::all_pids()?.filter_map(|pid| Seen::read(pid).ok()).collect())
}

impl Seen {
    /// Reads one process.
    fn read(pid: i32) -> io::Result<Self> {
        let stat = Stat::read(pid)?;
        if stat.is_gone() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let base = PathBuf::from(format!("/proc/{pid}"));
        let exe = fs::read_link(base.join("exe")).ok();
        let mut seen = Self {
            id: ProcessId {
                pid,
                start_ticks: stat.start_ticks,
            },
            ppid: stat.ppid,
            uid: process::user(pid)?,
            name: process::short_name(pid)?,
            argv: process::command_line(pid)?,
            cwd: fs::read_link(base.join("cwd")).ok(),
            exe: exe.map(process::without_deleted),
            exe_replaced: false,
            listening: Vec::new(),
            container: false,
            control_groups: String::new(),
            root: None,
        };
        if seen.is_proxy() {
            seen.read_more(&base);
        }
        Ok(seen)
    }

    fn read_more(&mut self, base: &Path) {
        let pid = self.id.pid;
        let running = FileId::of(&base.join("exe")).ok();
        self.exe_replaced = self
            .exe
            .as_ref()
            .is_some_and(|exe| running.is_some() && FileId::of(exe).ok() != running);
        self.listening = process::listening_of(pid).unwrap_or_default();
        let own_pid = process::pid_in_own_namespace(pid).unwrap_or(pid);
        self.container = own_pid != pid || !process::shares_mounts(pid).unwrap_or(true);
        self.control_groups = process::control_groups(pid).unwrap_or_default();
        let variables = process::environment(pid).unwrap_or_default();
        let root = variables.into_iter().find(|(name, _)| name == "OBPROXY_ROOT");
        self.root = root.map(|(_, root)| PathBuf::from(root));
    }

    /// Whether it is a proxy, by the name of its executable or the one it was called by. A file of that name that was
    /// linked to from a home has another name itself.
    pub fn is_proxy(&self) -> bool {
        let is_name = |path: &Path| path.file_name().is_some_and(|name| name == PROXY);
        self.name == PROXY
            || self.exe.as_deref().is_some_and(is_name)
            || self.argv.first().is_some_and(|argv0| is_name(Path::new(argv0)))
    }

    /// The file its `argv[0]` names: what a hot restart would run.
    pub fn argv0_path(&self) -> Option<PathBuf> {
        Some(self.cwd.as_ref()?.join(self.argv.first()?))
    }

    /// Its root where that is another directory than the one it works in.
    pub fn foreign_root(&self) -> Option<&Path> {
        self.root.as_deref().filter(|root| self.cwd.as_deref() != Some(*root))
    }

    /// The SQL port on its command line.
    pub fn port_option(&self) -> Option<u16> {
        let mut words = self.argv.iter().skip(1);
        while let Some(word) = words.next() {
            let value = match word.as_str() {
                "-p" | "--listen_port" => words.next().map(String::as_str),
                word => word.strip_prefix("--listen_port=").or_else(|| word.strip_prefix("-p")),
            };
            if let Some(port) = value.and_then(|value| value.parse().ok()) {
                return Some(port);
            }
        }
        None
    }

    /// The login name of its user, or the number of one without a name.
    pub fn user_name(&self) -> String {
        let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(self.uid));
        user.ok()
            .flatten()
            .map_or_else(|| self.uid.to_string(), |user| user.name)
    }

    /// A process for tests, called by this command line in `/h`.
    #[cfg(test)]
    pub(crate) fn sample(command_line: &str) -> Self {
        let argv: Vec<String> = command_line.split(' ').map(str::to_owned).collect();
        Self {
            id: ProcessId {
                pid: 4711,
                start_ticks: 1,
            },
            ppid: 1,
            uid: 0,
            name: Path::new(&argv[0]).file_name().unwrap().to_string_lossy().into_owned(),
            argv,
            cwd: Some("/h".into()),
            exe: None,
            exe_replaced: false,
            listening: Vec::new(),
            container: false,
            control_groups: String::new(),
            root: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_known_by_any_of_their_names() {
        let named = |name: &str, exe: Option<&str>, argv0: &str| Seen {
            name: name.into(),
            exe: exe.map(PathBuf::from),
            ..Seen::sample(argv0)
        };
        assert!(named("obproxy", None, "x").is_proxy(), "another user's");
        assert!(named("x", Some("/h/bin/obproxy"), "x").is_proxy());
        assert!(named("obproxy-4.2.1", Some("/repo/obproxy-4.2.1"), "./bin/obproxy").is_proxy());
        for (name, exe, argv0) in [
            ("bash", "/bin/bash", "/bin/bash"),
            ("obproxyd.sh", "/bin/bash", "./bin/obproxyd.sh"),
            ("obproxy_tmp", "/h/bin/obproxy_tmp", "/h/bin/obproxy_tmp"),
        ] {
            assert!(!named(name, Some(exe), argv0).is_proxy(), "{name}");
        }
    }

    #[test]
    fn the_port_is_read_from_the_command_line() {
        for (line, port) in [
            ("./bin/obproxy --listen_port 2883", Some(2883)),
            ("./bin/obproxy -o a=1 -p 2883 -l 2884", Some(2883)),
            ("./bin/obproxy --listen_port=2883", Some(2883)),
            ("./bin/obproxy -p2883", Some(2883)),
            ("./bin/obproxy", None),
            ("./bin/obproxy -p", None),
        ] {
            assert_eq!(Seen::sample(line).port_option(), port, "{line}");
        }
    }

    #[test]
    fn a_root_elsewhere_is_told() {
        let root = |root: &str| Seen {
            root: Some(root.into()),
            ..Seen::sample("./bin/obproxy")
        };
        assert_eq!(root("/h").foreign_root(), None);
        assert_eq!(root("/other").foreign_root(), Some(Path::new("/other")));
    }

    #[test]
    fn sees_this_process() {
        let own = ProcessId::own().unwrap();
        let seen = all().unwrap();
        let this = seen.iter().find(|process| process.id == own).unwrap();
        assert_eq!(this.cwd, std::env::current_dir().ok());
        assert_eq!(this.uid, nix::unistd::geteuid().as_raw());
        assert!(!this.is_proxy());
    }
}
