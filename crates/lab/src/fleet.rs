//! A server and its agents as processes, each host an address of the loopback network.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use obfleet_standin::ports::PortLease;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{
    api::{self, Api},
    process::{self, Process, end_all_under},
    reaper::Reaper,
};

const START_PATIENCE: Duration = Duration::from_secs(60);
const ENROL_PATIENCE: Duration = Duration::from_secs(60);
const STOP_PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(5);
const BETWEEN_SIGNALS: Duration = Duration::from_millis(200);
/// Seconds that transactions on an old process get.
pub const DRAIN_WINDOW_S: u64 = 25;

/// Seconds that a server waits for its running steps when it is stopped: enough also on a slow machine.
const DRAIN_TIMEOUT_S: &str = "60";

/// A server process that answers.
#[derive(Debug)]
pub struct ServerProcess {
    /// The process.
    pub process: Process,
    /// How it is asked.
    pub api: Api,
    /// Milliseconds from its start to its first answer.
    pub start_ms: u64,
    /// Held for as long as the server may be started again.
    pub port: PortLease,
}

impl ServerProcess {
    /// Starts a server on `state_dir` and waits until it answers.
    pub async fn start(
        exe: &Path,
        state_dir: &Path,
        password: &str,
        port: PortLease,
        drain_window_s: u64,
    ) -> anyhow::Result<Self> {
        let password_file = state_dir.with_extension("password");
        fs::write(&password_file, password)?;
        let address = format!("127.0.0.1:{}", port.port());
        let api = Api::new(format!("http://{address}"), password.to_owned())?;
        let started = Instant::now();
        let mut command = Command::new(exe);
        command
            .args([
                "server",
                "--listen",
                &address,
                "--drain-window",
                &drain_window_s.to_string(),
                "--drain-timeout",
                DRAIN_TIMEOUT_S,
            ])
            .arg("--state-dir")
            .arg(state_dir)
            .arg("--admin-password-file")
            .arg(&password_file);
        let mut process = Process::start(&mut command, state_dir.with_extension("log"))?;
        while !api.answers().await {
            if process.ended().is_some() || started.elapsed() > START_PATIENCE {
                bail!("the server does not start:\n{}", process.last_words());
            }
            sleep(LOOK).await;
        }
        let start_ms = u64::try_from(started.elapsed().as_millis())?;
        Ok(Self {
            process,
            api,
            start_ms,
            port,
        })
    }

    /// Stops it. → its port, for the next start
    pub fn stop(self) -> PortLease {
        self.process.stop();
        self.port
    }

    /// Kills it as `kill -9` does. → its port, for the next start
    fn kill(self) -> PortLease {
        drop(self.process);
        self.port
    }
}

/// A host: an agent's process.
#[derive(Debug)]
pub struct Host {
    /// The host's id.
    pub id: i64,
    /// Its address.
    pub address: IpAddr,
    dir: PathBuf,
    agent: Process,
}

impl Host {
    /// Where the agent keeps packages, proxies and restarts.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// The end of what the agent said.
    pub fn last_words(&self) -> String {
        self.agent.last_words()
    }
}

/// A server and its hosts below one temporary directory. All of it ends with this.
#[derive(Debug)]
pub struct Fleet {
    /// Always there but while the server is started anew.
    server: Option<ServerProcess>,
    /// The hosts.
    pub hosts: Vec<Host>,
    exe: PathBuf,
    drain_window_s: u64,
    _reaper: Reaper,
    root: TempDir,
}

impl Fleet {
    /// Starts a server and `hosts` agents of the executable, and enrols them.
    pub async fn start(exe: &Path, hosts: u8) -> anyhow::Result<Self> {
        Self::start_with(exe, hosts, DRAIN_WINDOW_S).await
    }

    /// The same with another drain window than the demo's.
    pub async fn start_with(exe: &Path, hosts: u8, drain_window_s: u64) -> anyhow::Result<Self> {
        let root = tempfile::Builder::new().prefix("obfleet-").tempdir()?;
        let reaper = Reaper::start(exe, root.path())?;
        let password = format!("Demo-{:016x}", rand::random::<u64>());
        let state_dir = root.path().join("server");
        let server = ServerProcess::start(exe, &state_dir, &password, PortLease::take()?, drain_window_s).await?;
        let mut fleet = Self {
            server: Some(server),
            hosts: Vec::new(),
            exe: exe.to_owned(),
            drain_window_s,
            _reaper: reaper,
            root,
        };
        for number in 1..=hosts {
            let host = fleet.add_host(number).await?;
            fleet.hosts.push(host);
        }
        Ok(fleet)
    }

    /// The server.
    pub fn server(&self) -> anyhow::Result<&ServerProcess> {
        self.server.as_ref().context("the server was stopped")
    }

    /// How the server is asked.
    pub fn api(&self) -> anyhow::Result<&Api> {
        Ok(&self.server()?.api)
    }

    /// A place for files that go with the fleet.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    async fn add_host(&self, number: u8) -> anyhow::Result<Host> {
        let api = self.api()?;
        let token = api.post_nothing("/api/v2/compute/agents/tokens").await?;
        let token = token["token"].as_str().context("no token")?;
        let address = IpAddr::V4(Ipv4Addr::new(127, 0, 0, number + 1));
        let dir = self.root().join(format!("host-{number}"));
        fs::create_dir(&dir)?;
        let mut agent = self.start_agent_in(&dir, address, Some(token))?;
        let deadline = Instant::now() + ENROL_PATIENCE;
        loop {
            let hosts = api.get("/api/v2/compute/hosts").await?;
            let of_agent = |host: &&serde_json::Value| host["innerIpAddress"] == json!(address.to_string());
            if let Some(host) = api::contents(&hosts).iter().find(of_agent) {
                return Ok(Host {
                    id: api::id(host)?,
                    address,
                    dir,
                    agent,
                });
            }
            if agent.ended().is_some() || Instant::now() > deadline {
                bail!("the agent of {address} does not enrol:\n{}", agent.last_words());
            }
            sleep(LOOK).await;
        }
    }

    fn start_agent_in(&self, dir: &Path, address: IpAddr, token: Option<&str>) -> anyhow::Result<Process> {
        let mut command = Command::new(&self.exe);
        command
            .args(["agent", "--server", &self.api()?.url, "--address", &address.to_string()])
            .args(["--listen", &format!("{address}:0"), "--bind", &address.to_string()])
            .arg("--state-dir")
            .arg(dir.join("state"))
            .arg("--root")
            .arg(dir.join("root"));
        if let Some(token) = token {
            command.env("OBFLEET_TOKEN", token);
        }
        Process::start(&mut command, dir.join("agent.log"))
    }

    /// Kills the server as `kill -9` does, and starts it again as a service manager would.
    pub async fn crash_server(&mut self) -> anyhow::Result<()> {
        let server = self.server.take().context("the server was stopped")?;
        let password = server.api.password.clone();
        let port = server.kill();
        self.start_server(&password, port).await
    }

    /// Stops the server with this many SIGTERMs, and starts it again as a service manager would. → how it ended
    pub async fn restart_server(&mut self, signals: usize) -> anyhow::Result<ExitStatus> {
        let mut server = self.server.take().context("the server was stopped")?;
        let deadline = Instant::now() + STOP_PATIENCE;
        for _ in 0..signals {
            process::signal(server.process.pid(), Signal::SIGTERM);
            // Signals of one kind that are not taken yet are one signal.
            sleep(BETWEEN_SIGNALS).await;
        }
        let ended = loop {
            if let Some(status) = server.process.ended() {
                break status;
            }
            if Instant::now() > deadline {
                bail!("the server does not stop:\n{}", server.process.last_words());
            }
            sleep(LOOK).await;
        };
        self.start_server(&server.api.password, server.port).await?;
        Ok(ended)
    }

    /// Kills the agent of a host, counted from 0, as `kill -9` does, and starts it again as a service manager would.
    pub fn crash_agent(&mut self, host: usize) -> anyhow::Result<()> {
        let Host {
            dir, address, agent, ..
        } = self.hosts.get_mut(host).context("no such host")?;
        agent.kill();
        let (dir, address) = (dir.clone(), *address);
        // It is enrolled already.
        self.hosts[host].agent = self.start_agent_in(&dir, address, None)?;
        Ok(())
    }

    async fn start_server(&mut self, password: &str, port: PortLease) -> anyhow::Result<()> {
        let state_dir = self.root().join("server");
        let started = ServerProcess::start(&self.exe, &state_dir, password, port, self.drain_window_s).await?;
        self.server = Some(started);
        Ok(())
    }

    /// Copies the server's state to `to` while the server is stopped for a moment; agents and proxies do not notice.
    pub async fn copy_state(&mut self, to: &Path) -> anyhow::Result<()> {
        let server = self.server.take().context("the server was stopped")?;
        let password = server.api.password.clone();
        let port = server.stop();
        let state_dir = self.root().join("server");
        copy_dir(&state_dir, to).context("cannot copy the server's state")?;
        self.start_server(&password, port).await
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // The agents first: they would start their proxies again.
        self.hosts.clear();
        self.server = None;
        end_all_under(self.root.path());
    }
}

fn copy_dir(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else if entry.path().extension().is_some_and(|extension| extension == "rpm") {
            // Packages are large and never changed.
            fs::hard_link(entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
