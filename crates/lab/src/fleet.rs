//! Servers and their agents as processes, each host an address of the loopback network.

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

/// Names a server's database.
pub(crate) const DATABASE: &str = "OBFLEET_DATABASE";
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
    /// Keeps its state.
    pub state_dir: PathBuf,
}

/// How the servers of a fleet are run.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The executable.
    pub exe: PathBuf,
    /// The administrator's password.
    pub password: String,
    /// Seconds that transactions on an old process get.
    pub drain_window_s: u64,
    /// URL of the database, if it is not a file of the server's.
    pub database: Option<String>,
}

impl ServerProcess {
    /// Starts a server on `state_dir` and waits until it answers.
    pub async fn start(setting: &Setting, state_dir: &Path, port: PortLease) -> anyhow::Result<Self> {
        let password_file = state_dir.with_extension("password");
        fs::write(&password_file, &setting.password)?;
        let address = format!("127.0.0.1:{}", port.port());
        let api = Api::new(format!("http://{address}"), setting.password.clone())?;
        let started = Instant::now();
        let mut command = Command::new(&setting.exe);
        command
            .args(["server", "--listen", &address, "--drain-timeout", DRAIN_TIMEOUT_S])
            .args(["--drain-window", &setting.drain_window_s.to_string()])
            .arg("--state-dir")
            .arg(state_dir)
            .arg("--admin-password-file")
            .arg(&password_file);
        match &setting.database {
            Some(database) => command.env(DATABASE, database),
            // Of whoever runs this it is the real one.
            None => command.env_remove(DATABASE),
        };
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
            state_dir: state_dir.to_owned(),
        })
    }

    /// Its id.
    pub fn id(&self) -> anyhow::Result<String> {
        let text = fs::read_to_string(self.state_dir.join("server-id"))?;
        Ok(text.trim_end().to_owned())
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

/// What is left of a server that was killed.
#[derive(Debug)]
pub struct LostServer {
    state_dir: PathBuf,
    port: PortLease,
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

    /// The agent's process.
    pub fn pid(&self) -> u32 {
        self.agent.pid()
    }

    /// The end of what the agent said.
    pub fn last_words(&self) -> String {
        self.agent.last_words()
    }
}

/// A server, or several, and hosts below one temporary directory. All of it ends with this.
#[derive(Debug)]
pub struct Fleet {
    /// The one that is asked. Always there but while the server is started anew.
    server: Option<ServerProcess>,
    /// Other servers on the same database.
    others: Vec<ServerProcess>,
    /// The hosts.
    pub hosts: Vec<Host>,
    setting: Setting,
    _reaper: Reaper,
    root: TempDir,
}

impl Fleet {
    /// Starts a server and `hosts` agents of the executable, and enrols them.
    pub async fn start(exe: &Path, hosts: u8) -> anyhow::Result<Self> {
        Self::start_with(exe, hosts, DRAIN_WINDOW_S, None).await
    }

    /// The same with another drain window than the demo's, and on the database with this URL, if any.
    pub async fn start_with(
        exe: &Path,
        hosts: u8,
        drain_window_s: u64,
        database: Option<String>,
    ) -> anyhow::Result<Self> {
        let root = tempfile::Builder::new().prefix("obfleet-").tempdir()?;
        let reaper = Reaper::start(exe, root.path())?;
        let setting = Setting {
            exe: exe.to_owned(),
            password: format!("Demo-{:016x}", rand::random::<u64>()),
            drain_window_s,
            database,
        };
        let server = ServerProcess::start(&setting, &root.path().join("server"), PortLease::take()?).await?;
        let mut fleet = Self {
            server: Some(server),
            others: Vec::new(),
            hosts: Vec::new(),
            setting,
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

    /// How its servers are run.
    pub fn setting(&self) -> &Setting {
        &self.setting
    }

    /// A place for files that go with the fleet.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Starts another server on the same database, which is given the key as a person would.
    pub async fn add_server(&mut self) -> anyhow::Result<()> {
        let state_dir = self.root().join(format!("server-{}", self.others.len() + 2));
        fs::create_dir(&state_dir)?;
        fs::copy(self.server()?.state_dir.join("key"), state_dir.join("key"))?;
        let other = ServerProcess::start(&self.setting, &state_dir, PortLease::take()?).await?;
        self.others.push(other);
        Ok(())
    }

    /// All servers.
    pub fn servers(&self) -> impl Iterator<Item = &ServerProcess> {
        self.server.iter().chain(&self.others)
    }

    /// Asks another server from now on than the one with this id. → that one, to be killed or left alone
    pub fn take_server(&mut self, id: &str) -> anyhow::Result<ServerProcess> {
        let mut all: Vec<_> = self.server.take().into_iter().chain(self.others.drain(..)).collect();
        let place = all.iter().position(|server| server.id().is_ok_and(|own| own == id));
        let taken = place.map(|place| all.remove(place));
        self.others = all;
        if !self.others.is_empty() {
            self.server = Some(self.others.remove(0));
        }
        taken.with_context(|| format!("no server has the id {id}"))
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
            let hosts = api.get("/api/v2/compute/hosts?size=1000").await?;
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
        let mut command = Command::new(&self.setting.exe);
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
        let lost = self.lose_server()?;
        self.bring_back(lost).await
    }

    /// Kills the server as `kill -9` does, and leaves it so. → what brings it back
    pub fn lose_server(&mut self) -> anyhow::Result<LostServer> {
        let server = self.server.take().context("the server was stopped")?;
        let state_dir = server.state_dir.clone();
        Ok(LostServer {
            state_dir,
            port: server.kill(),
        })
    }

    /// The server's process, unless the server was stopped.
    pub fn server_pid(&self) -> Option<u32> {
        self.server.as_ref().map(|server| server.process.pid())
    }

    /// Starts a server again that was killed.
    pub async fn bring_back(&mut self, lost: LostServer) -> anyhow::Result<()> {
        self.start_server(&lost.state_dir, lost.port).await
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
        self.start_server(&server.state_dir, server.port).await?;
        Ok(ended)
    }

    /// Kills the agent of a host, counted from 0, as `kill -9` does, and starts it again as a service manager would.
    pub fn crash_agent(&mut self, host: usize) -> anyhow::Result<()> {
        self.lose_agent(host)?;
        self.bring_back_agent(host)
    }

    /// Kills the agent of a host, counted from 0, as `kill -9` does, and leaves it so.
    pub fn lose_agent(&mut self, host: usize) -> anyhow::Result<()> {
        self.hosts.get_mut(host).context("no such host")?.agent.kill();
        Ok(())
    }

    /// Starts the agent of a host again that was killed.
    pub fn bring_back_agent(&mut self, host: usize) -> anyhow::Result<()> {
        let Host { dir, address, .. } = self.hosts.get(host).context("no such host")?;
        // It is enrolled already.
        self.hosts[host].agent = self.start_agent_in(dir, *address, None)?;
        Ok(())
    }

    async fn start_server(&mut self, state_dir: &Path, port: PortLease) -> anyhow::Result<()> {
        self.server = Some(ServerProcess::start(&self.setting, state_dir, port).await?);
        Ok(())
    }

    /// Copies the server's state to `to` while the server is stopped for a moment; agents and proxies do not notice.
    pub async fn copy_state(&mut self, to: &Path) -> anyhow::Result<()> {
        let server = self.server.take().context("the server was stopped")?;
        let state_dir = server.state_dir.clone();
        let port = server.stop();
        copy_dir(&state_dir, to).context("cannot copy the server's state")?;
        self.start_server(&state_dir, port).await
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // The agents first: they would start their proxies again.
        self.hosts.clear();
        self.server = None;
        self.others.clear();
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
