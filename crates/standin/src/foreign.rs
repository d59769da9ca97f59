//! Stand-ins started the way other tools start a proxy: with their command lines, their pid files and their watchdogs. The
//! scripts are this project's own and do what those of the tools do.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use obfleet_obproxy::{
    launch::password_hash,
    process::{self, ProcessId},
};

const OBD_WATCHDOG: &str = include_str!("../scripts/obd-watchdog.sh");
const PACKAGE_WATCHDOG: &str = include_str!("../scripts/obproxyd.sh");
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// Whose way it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// OceanBase Deployer: a start with all options, a pid file, then a watchdog that starts it once more.
    Obd,
    /// obshell: a start with all options, a pid file, no watchdog.
    Obshell,
    /// The script of the package, which is the watchdog itself.
    Package,
    /// A person who leaves nothing behind.
    Hand,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Order {
    /// The stand-in, made by [`crate::pack`].
    pub binary: PathBuf,
    /// Where it is to live; made if it is not there.
    pub home: PathBuf,
    /// SQL port.
    pub sql_port: u16,
    /// Metrics port.
    pub exporter_port: u16,
    /// OBKV port.
    pub rpc_port: u16,
    /// `ip:port;ip:port`.
    pub root_servers: String,
    /// Name of the OceanBase cluster.
    pub ob_cluster: String,
    /// Of root@proxysys.
    pub password: String,
    /// Other items.
    pub items: Vec<(String, String)>,
    /// User and group to run it as; only root may choose.
    pub user: Option<(u32, u32)>,
}

/// A proxy that somebody else started. It ends with this, its watchdog first.
#[derive(Debug)]
pub struct Foreign {
    /// Its home.
    pub home: PathBuf,
    /// How it was started.
    pub tool: Tool,
    sql_port: u16,
}

impl Foreign {
    /// Installs and starts it, and returns when it listens as it will from then on.
    pub fn start(tool: Tool, order: &Order) -> io::Result<Self> {
        let foreign = Self {
            home: order.home.clone(),
            tool,
            sql_port: order.sql_port,
        };
        order.install()?;
        match tool {
            Tool::Obd => foreign.as_obd(order)?,
            Tool::Obshell => {
                order.shell(&order.home, &format!("./bin/obproxy {}", order.options()))?;
                let pid = foreign.await_listening(None)?;
                order.write("run/obproxy.pid", &pid.to_string(), 0o644)?;
            }
            Tool::Package => {
                order.write("bin/obproxyd.sh", PACKAGE_WATCHDOG, 0o755)?;
                let script = format!("./bin/obproxyd.sh -c start -e daily {}", order.short_options());
                order.shell(&order.home, &script)?;
                foreign.await_listening(None)?;
            }
            Tool::Hand => {
                order.shell(&order.home, &format!("./bin/obproxy {}", order.options()))?;
                foreign.await_listening(None)?;
            }
        }
        Ok(foreign)
    }

    fn as_obd(&self, order: &Order) -> io::Result<()> {
        let (home, port) = (order.home.display(), order.sql_port);
        let parent = order.home.parent().unwrap_or(&order.home).to_owned();
        let library = format!("export LD_LIBRARY_PATH={home}/lib; ");
        order.shell(
            &order.home,
            &format!("{library}cd {home}; {home}/bin/obproxy {}", order.options()),
        )?;
        let first = self.await_listening(None)?;
        order.write(&format!("run/{}", self.obd_pid_file()), &first.to_string(), 0o644)?;
        order.write("obproxyd.sh", OBD_WATCHDOG, 0o755)?;
        order.shell(
            &parent,
            &format!("{library}bash {home}/obproxyd.sh {home} {} {port}", Ipv4Addr::LOCALHOST),
        )?;
        let second = self.await_listening(Some(first))?;
        self.until("obd's pid file", || self.obd_pid() == Some(second))
    }

    fn obd_pid_file(&self) -> String {
        format!("obproxy-{}-{}.pid", Ipv4Addr::LOCALHOST, self.sql_port)
    }

    /// The pid that obd's watchdog wrote down last.
    pub fn obd_pid(&self) -> Option<i32> {
        let text = fs::read_to_string(self.home.join("run").join(self.obd_pid_file())).ok()?;
        text.trim().parse().ok()
    }

    /// Where clients on this host reach it.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.sql_port))
    }

    /// The processes of the proxy, the oldest first.
    pub fn processes(&self) -> Vec<ProcessId> {
        let found = process::of_home(&self.home).unwrap_or_default();
        found.into_iter().map(|process| process.id).collect()
    }

    /// The processes of its watchdog, whatever they are waiting for.
    pub fn watchdogs(&self) -> Vec<i32> {
        let Ok(pids) = process::all_pids() else {
            return Vec::new();
        };
        pids.filter(|pid| *pid != std::process::id().cast_signed() && self.is_watchdog(*pid))
            .collect()
    }

    fn is_watchdog(&self, pid: i32) -> bool {
        let words = process::command_line(pid).unwrap_or_default();
        let is_script = words
            .iter()
            .any(|word| Path::new(word).file_name().is_some_and(|name| name == "obproxyd.sh"));
        let works_here = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == self.home);
        is_script && (works_here || words.iter().any(|word| Path::new(word).starts_with(&self.home)))
    }

    fn await_listening(&self, not: Option<i32>) -> io::Result<i32> {
        let mut listening = None;
        self.until("a process that listens", || {
            let pids = self.processes().into_iter().map(|id| id.pid);
            listening = pids
                .filter(|pid| Some(*pid) != not)
                .find(|pid| process::listens_on(*pid, self.sql_port).unwrap_or_default());
            listening.is_some() && TcpStream::connect(self.address()).is_ok()
        })?;
        listening.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn until(&self, what: &str, mut condition: impl FnMut() -> bool) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        while !condition() {
            if Instant::now() > end {
                let log = fs::read_to_string(self.home.join("log/obproxy.log")).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(5).collect();
                let text = format!("{what} does not come up in {}: {last:?}", self.home.display());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let end = Instant::now() + PATIENCE;
        loop {
            // The watchdogs first, or they would bring back what goes.
            let mut left = self.watchdogs();
            left.extend(self.processes().into_iter().map(|id| id.pid));
            if left.is_empty() || Instant::now() > end {
                return;
            }
            for pid in left {
                // It may have gone by itself.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            thread::sleep(LOOK);
        }
    }
}

impl Order {
    /// Puts its files where it is to live.
    pub fn install(&self) -> io::Result<()> {
        for dir in ["bin", "etc", "lib", "log", "run"] {
            fs::create_dir_all(self.home.join(dir))?;
        }
        let binary = self.home.join("bin/obproxy");
        if !binary.exists() {
            fs::copy(&self.binary, &binary)?;
        }
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
        self.own(&self.home)?;
        for dir in ["bin", "bin/obproxy", "etc", "lib", "log", "run"] {
            self.own(&self.home.join(dir))?;
        }
        Ok(())
    }

    /// The unit by which systemd would run it, as somebody may have written it who wants it to be up at all times.
    pub fn unit(&self) -> String {
        let (home, user) = (self.home.display(), self.user.map_or(0, |(uid, _)| uid));
        format!(
            "[Unit]\nDescription=OBProxy\n\n[Service]\nUser={user}\nWorkingDirectory={home}\n\
             ExecStart={home}/bin/obproxy -N {}\nExecStop=/bin/kill -KILL $MAINPID\nRestart=always\nRestartSec=1\n\n\
             [Install]\nWantedBy=multi-user.target\n",
            self.short_options()
        )
    }

    fn own(&self, path: &Path) -> io::Result<()> {
        match self.user {
            Some((uid, gid)) => std::os::unix::fs::lchown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> io::Result<()> {
        let path = self.home.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        self.own(&path)
    }

    /// Runs a line in a shell, as the user, and waits for the shell: what it leaves behind stays.
    fn shell(&self, dir: &Path, line: &str) -> io::Result<()> {
        let mut command = Command::new("/bin/bash");
        command.args(["-c", line]).current_dir(dir);
        // A session of its own, as over ssh.
        command.process_group(0);
        if let Some((uid, gid)) = self.user {
            command.gid(gid).uid(uid);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("the shell ended with {status}")))
        }
    }

    /// All items of `-o`, as a shell takes them.
    fn items(&self, quote: &str) -> String {
        let password = ("obproxy_sys_password".to_owned(), password_hash(&self.password));
        let items = std::iter::once(&password).chain(&self.items);
        let items: Vec<_> = items
            .map(|(name, value)| format!("{name}={quote}{value}{quote}"))
            .collect();
        items.join(",")
    }

    fn options(&self) -> String {
        format!(
            "-o {} --listen_port {} --prometheus_listen_port {} --rs_list '{}' --cluster_name {} --rpc_listen_port {}",
            self.items("'"),
            self.sql_port,
            self.exporter_port,
            self.root_servers,
            self.ob_cluster,
            self.rpc_port
        )
    }

    fn short_options(&self) -> String {
        format!(
            "-n {} -p {} -l {} -s {} -r '{}' -o '{}'",
            self.ob_cluster,
            self.sql_port,
            self.exporter_port,
            self.rpc_port,
            self.root_servers,
            self.items("")
        )
    }
}
