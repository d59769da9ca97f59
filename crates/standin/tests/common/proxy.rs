//! A stand-in in a home of its own, ended with all its children when dropped.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use obfleet_mysqlwire::{Client, ClientError, QueryResult};
use obfleet_standin::ports::PortLease;
use obfleet_standin::{Faults, Trailer, pack};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// Longest any condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);

/// Held while an executable is written and while a process is forked: a child forked in between would have the file open for
/// writing, and executing it would fail.
static EXECUTABLES: Mutex<()> = Mutex::new(());

/// The version before an upgrade.
pub const OLD: &str = "4.2.1.0";
/// The version after it.
pub const NEW: &str = "4.3.1.0";

/// A home with ports of its own.
pub struct ProxyHome {
    dir: TempDir,
    sql: PortLease,
    prometheus: PortLease,
    rpc: PortLease,
}

impl ProxyHome {
    /// A fresh home whose `bin/obproxy` is the old version.
    pub fn new() -> Self {
        let lease = || PortLease::take().unwrap();
        let home = Self {
            dir: tempfile::tempdir().unwrap(),
            sql: lease(),
            prometheus: lease(),
            rpc: lease(),
        };
        fs::create_dir(home.path().join("bin")).unwrap();
        home.install(OLD, Faults::default());
        home
    }

    /// The home's directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The SQL port's address.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.sql.port()))
    }

    /// The RPC port.
    pub fn rpc_port(&self) -> u16 {
        self.rpc.port()
    }

    /// The prometheus port.
    pub fn prometheus_port(&self) -> u16 {
        self.prometheus.port()
    }

    /// Renames a build with these properties over `bin/obproxy`.
    pub fn install(&self, version: &str, faults: Faults) {
        self.install_build(&Trailer {
            version: version.into(),
            release: "1.el7".into(),
            faults,
            fake_backend: false,
        });
    }

    /// Renames this build over `bin/obproxy`.
    pub fn install_build(&self, build: &Trailer) {
        let _exclusive = EXECUTABLES.lock().unwrap();
        let staged = self.path().join("bin/staged");
        pack(Path::new(env!("CARGO_BIN_EXE_standin")), build, &staged).unwrap();
        fs::rename(staged, self.path().join("bin/obproxy")).unwrap();
    }

    /// Runs `bin/obproxy` with these arguments to the launcher's end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.spawn(arguments).wait_with_output().unwrap()
    }

    /// Starts `bin/obproxy` with these arguments.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let _exclusive = EXECUTABLES.lock().unwrap();
        Command::new("./bin/obproxy")
            .args(arguments)
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// The arguments of a first start, with these items in `-o`.
    pub fn first_arguments(&self, items: &str) -> Vec<String> {
        // Nobody listens on port 1.
        self.arguments_for(SocketAddr::from(([127, 0, 0, 1], 1)), items)
    }

    fn arguments_for(&self, backend: SocketAddr, items: &str) -> Vec<String> {
        self.arguments_with(&format!("-r {backend} "), items)
    }

    fn arguments_with(&self, root_servers: &str, items: &str) -> Vec<String> {
        let (sql, prometheus, rpc) = (self.sql.port(), self.prometheus.port(), self.rpc.port());
        let ports = format!("-p {sql} -l {prometheus} -s {rpc} {root_servers}-o");
        let mut words: Vec<String> = ports.split(' ').map(str::to_owned).collect();
        words.push(format!(
            "local_bound_ip=127.0.0.1,proxy_hot_upgrade_check_interval=1s{items}"
        ));
        words
    }

    /// Starts the proxy for the first time, with these items appended to `-o`, and waits until it answers.
    pub async fn start(&self, items: &str) {
        self.start_with(self.first_arguments(items)).await;
    }

    /// Starts the proxy for the first time, in front of this server, and waits until it answers.
    pub async fn start_with_backend(&self, backend: SocketAddr) {
        self.start_with(self.arguments_for(backend, "")).await;
    }

    /// Starts the proxy for the first time, with this config server, and waits until it answers.
    pub async fn start_with_config_server(&self, url: &str) {
        let items =
            format!(",obproxy_config_server_url={url},enable_metadb_used=false,config_server_refresh_interval=10s");
        self.start_with(self.arguments_with("", &items)).await;
    }

    /// Starts the proxy with what it has stored, and waits until it answers.
    pub async fn start_again(&self) {
        self.start_with(Vec::new()).await;
    }

    async fn start_with(&self, arguments: Vec<String>) {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert!(self.run(&arguments).status.success());
        until("the proxy answers", async || self.version().await.is_ok()).await;
    }

    /// An administrator's session.
    pub async fn admin(&self) -> Client {
        self.try_admin().await.unwrap()
    }

    /// An administrator's session, if it can be had.
    pub async fn try_admin(&self) -> Result<Client, ClientError> {
        Client::connect(self.address(), "root@proxysys", "", Instant::now() + PATIENCE).await
    }

    /// The version a new session sees.
    pub async fn version(&self) -> Result<String, ClientError> {
        let mut admin = self.try_admin().await?;
        let version = admin
            .query("select proxy_version()")
            .await?
            .text(0, "proxy_version()")
            .unwrap_or_default();
        admin.close().await;
        Ok(version)
    }

    /// Waits until new sessions see this version.
    pub async fn until_version(&self, version: &str) {
        until(&format!("new sessions see {version}"), async || {
            self.version().await.is_ok_and(|seen| seen == version)
        })
        .await;
    }

    /// The processes that live in this home.
    pub fn pids(&self) -> Vec<i32> {
        let home = self.path().canonicalize().unwrap();
        let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        entries
            .filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == home))
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| !is_zombie(*pid))
            .collect()
    }

    /// Waits until exactly this many processes live in this home.
    pub async fn until_process_count(&self, count: usize) {
        until(&format!("{count} processes"), async || self.pids().len() == count).await;
    }

    /// Text of a file in the home.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path().join(path)).unwrap_or_default()
    }

    /// A path in the home.
    pub fn join(&self, path: &str) -> PathBuf {
        self.path().join(path)
    }
}

impl Drop for ProxyHome {
    fn drop(&mut self) {
        for pid in self.pids() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('Z'))
    })
}

/// Waits for a condition; fails the test when it does not come true.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Sends a signal to a process of the test.
pub fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// The code of a refusal.
pub fn refusal(result: Result<QueryResult, ClientError>) -> u16 {
    match result {
        Err(ClientError::Refusal(error)) => error.code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// A field of `show proxyinfo upgrade`.
pub async fn upgrade_field(admin: &mut Client, field: &str) -> String {
    let info = admin
        .query("show proxyinfo upgrade")
        .await
        .unwrap()
        .text(0, "info")
        .unwrap();
    let start = info
        .find(&format!(" {field}:"))
        .or_else(|| info.find(&format!("{{{field}:")))
        .unwrap();
    let value = &info[start + field.len() + 2..];
    value[..value.find([',', '}']).unwrap()].trim_matches('"').to_owned()
}
