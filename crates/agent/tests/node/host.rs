//! One host: an agent process, its directories, and an end for whatever runs there.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use obfleet_agent::client::{AgentClient, CallError, Endpoint};
use obfleet_obproxy::process;
use obfleet_package::build::{BuildSpec, Layout, build_obproxy_rpm_as};
use obfleet_standin::{Faults, Trailer, pack, ports::PortLease};
use obfleet_wire::agent::{
    AgentStatus, DrainPolicy, Operation, OperationRequest, Outcome, ProxyFacts, ProxyReport, ProxySpec,
};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::authority::Authority;

/// For everything that is waited for; far above what it takes.
pub const LONG: Duration = Duration::from_secs(30);

pub const DRAIN: DrainPolicy = DrainPolicy {
    window_ms: 2_000,
    closes_per_second: 1_000,
};

/// The executable with all roles. `cargo test` with a filter does not build examples, and a stale one would test
/// yesterday's agent: so it is built here.
pub fn node() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let own = std::env::current_exe().unwrap();
        let profile = own.parent().and_then(Path::parent).unwrap();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        // With the features the workspace has, in which it is built already.
        cargo.args(["build", "--quiet", "--workspace", "--example", "node"]);
        cargo.arg("--target-dir").arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success());
        profile.join("examples/node")
    };
    BUILT.get_or_init(build).clone()
}

/// A host whose agent runs, or does not.
pub struct Host {
    dir: TempDir,
    server_url: String,
    token: String,
    agent: Option<Agent>,
    ports: Vec<PortLease>,
    file_blocks: Option<u32>,
}

struct Agent {
    process: Child,
    uid: String,
    address: SocketAddr,
    // Closed, the agent's later output would be an error to it.
    _output: BufReader<ChildStdout>,
}

impl Host {
    /// A host that has not been started.
    pub fn new(authority: &Authority) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            server_url: authority.url.clone(),
            token: authority.token().to_string(),
            agent: None,
            ports: (0..3).map(|_| PortLease::take().unwrap()).collect(),
            file_blocks: None,
        }
    }

    /// Lets no file of the agent's become longer than so many blocks, as on a disk that is full.
    pub fn limit_files(&mut self, blocks: u32) {
        self.file_blocks = Some(blocks);
    }

    /// A host with a running, enrolled agent.
    pub fn started(authority: &Authority) -> Self {
        let mut host = Self::new(authority);
        host.start().unwrap();
        host.token = "-".into();
        host
    }

    pub fn use_token(&mut self, token: String) {
        self.token = token;
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Starts the agent; the error is what it said when it ended instead.
    pub fn start(&mut self) -> Result<(), String> {
        self.agent = Some(self.spawn()?);
        Ok(())
    }

    /// Starts another agent beside the first, which must end; returns what it said.
    pub fn start_second(&self) -> String {
        match self.spawn() {
            Err(said) => said,
            Ok(mut second) => {
                second.process.kill().unwrap();
                second.process.wait().unwrap();
                panic!("it runs")
            }
        }
    }

    fn spawn(&self) -> Result<Agent, String> {
        let errors = self.dir.path().join("agent.err");
        let mut command = match self.file_blocks {
            None => Command::new(node()),
            Some(blocks) => {
                let mut command = Command::new("sh");
                // A write that goes too far is to fail, and not to end the process by a signal.
                let limited = format!(r#"trap '' XFSZ; ulimit -f {blocks}; exec "$0" "$@""#);
                command.args(["-c", &limited]).arg(node());
                command
            }
        };
        let mut process = command
            .args(["agent", &self.server_url, &self.token])
            .args([self.state(), self.root()])
            .args(["127.0.0.1", "127.0.0.1:0", "127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&errors).unwrap())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["agent", uid, "is", "ready", "on", address] = words[..] else {
            process.wait().unwrap();
            return Err(fs::read_to_string(errors).unwrap());
        };
        Ok(Agent {
            uid: uid.to_owned(),
            address: address.parse().unwrap(),
            process,
            _output: output,
        })
    }

    /// kill -9.
    pub fn kill_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.process.kill().unwrap();
        agent.process.wait().unwrap();
    }

    /// SIGTERM; whether it ended well.
    pub fn stop_agent(&mut self) -> bool {
        let mut agent = self.agent.take().unwrap();
        kill(Pid::from_raw(agent.process.id().cast_signed()), Signal::SIGTERM).unwrap();
        agent.process.wait().unwrap().success()
    }

    pub fn uid(&self) -> String {
        self.agent.as_ref().unwrap().uid.clone()
    }

    pub fn address(&self) -> SocketAddr {
        self.agent.as_ref().unwrap().address
    }

    pub fn endpoint(&self, client: &AgentClient) -> Endpoint {
        client.endpoint(&self.uid(), self.address())
    }

    /// The order for a stand-in on this host's ports.
    pub fn spec(&self, proxy_id: i64) -> ProxySpec {
        let port = |n: usize| self.ports[n].port();
        ProxySpec {
            proxy_id,
            cluster_name: "ob proxy/1".into(),
            sql_port: port(0),
            exporter_port: port(1),
            rpc_port: Some(port(2)),
            ob_cluster: None,
            root_servers: vec!["127.0.0.1:2881".into()],
            parameters: vec![("proxy_mem_limited".into(), "1G".into())],
            sys_password: "Sys-s3cret".into(),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.agent.is_some() {
            self.kill_agent();
        }
        for restart in entries(&self.root().join("restarts")) {
            if let Ok(state) = obfleet_guard::Handle::attach(&restart).state()
                && let Some(guard) = state.guard.filter(|guard| guard.is_alive())
            {
                end(guard.pid);
            }
        }
        for home in entries(&self.root().join("proxies")) {
            // A stand-in that is restarting hot may be about to have a child.
            let give_up = Instant::now() + LONG;
            while let Ok(found) = process::of_home(&home)
                && !found.is_empty()
                && Instant::now() < give_up
            {
                found.iter().for_each(|p| end(p.id.pid));
            }
        }
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

pub fn end(pid: i32) {
    // It may have gone by itself.
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok();
}

pub fn kill_process(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

pub const OLD: &str = "4.2.1.0-11";
pub const NEW: &str = "4.3.1.0-1";

/// A package of a stand-in.
pub struct Rpm {
    pub path: PathBuf,
    pub sha256: String,
    _dir: TempDir,
}

/// Builds the package of a version, with faults that show after the swap.
pub fn rpm(version: &str, faults: Faults) -> Rpm {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (dotted, build) = version.split_once('-').unwrap();
    let release = format!("{build}.el7");
    let binary = dir.path().join("obproxy");
    let trailer = Trailer {
        version: dotted.into(),
        release: release.clone(),
        faults,
        fake_backend: true,
    };
    pack(&node(), &trailer, &binary).unwrap();
    // Upgrades of the tests begin with a package as it was named and laid out before OBProxy had a community edition.
    let (name, layout) = match version {
        OLD => ("obproxy", Layout::OptTaobao),
        _ => ("obproxy-ce", Layout::HomeAdmin),
    };
    let spec = BuildSpec {
        name: name.into(),
        version: dotted.into(),
        release,
        arch: std::env::consts::ARCH.into(),
    };
    let path = build_obproxy_rpm_as(layout, &spec, &binary, dir.path()).unwrap();
    fs::remove_file(binary).unwrap();
    let sha256 = hex::encode(Sha256::digest(fs::read(&path).unwrap()));
    Rpm {
        path,
        sha256,
        _dir: dir,
    }
}

/// Sends operations, each under a key of its own.
pub struct Caller {
    pub endpoint: Endpoint,
    task: i64,
    sent: i64,
    pub lines: Vec<String>,
}

impl Caller {
    pub fn new(endpoint: Endpoint, task: i64) -> Self {
        Self {
            endpoint,
            task,
            sent: 0,
            lines: Vec::new(),
        }
    }

    /// A request no other call has used.
    pub fn request(&mut self, operation: Operation) -> OperationRequest {
        self.sent += 1;
        let (task, subtask) = (self.task, self.sent);
        OperationRequest {
            key: format!("inst.1.{task}.{subtask}.EXECUTE.1").parse().unwrap(),
            epoch: 1,
            operation,
        }
    }

    pub async fn call(&mut self, operation: Operation) -> Result<Outcome, CallError> {
        let request = self.request(operation);
        self.perform(&request).await
    }

    pub async fn perform(&mut self, request: &OperationRequest) -> Result<Outcome, CallError> {
        let lines = &mut self.lines;
        let performed = self.endpoint.perform(request, LONG, |line| lines.push(line.to_owned()));
        match tokio::time::timeout(2 * LONG, performed).await {
            Ok(result) => result,
            Err(_) => panic!("{request:?} does not end; said: {:#?}", self.lines),
        }
    }

    pub async fn proxy(&mut self, operation: Operation) -> ProxyFacts {
        match self.call(operation).await {
            Ok(Outcome::Proxy(facts)) => facts,
            other => panic!("{other:?}; said: {:#?}", self.lines),
        }
    }

    /// Puts and installs the package.
    pub async fn install(&mut self, rpm: &Rpm, version: &str) -> Outcome {
        self.endpoint.put_package(&rpm.sha256, &rpm.path, LONG).await.unwrap();
        let operation = Operation::InstallPackage {
            sha256: rpm.sha256.clone(),
            version: version.parse().unwrap(),
        };
        self.call(operation).await.unwrap()
    }

    /// Creates a sound proxy at [`OLD`], with the slot of [`NEW`] beside it.
    pub async fn create_upgradable(&mut self, spec: ProxySpec) -> ProxyFacts {
        for version in [OLD, NEW] {
            self.install(&rpm(version, Faults::default()), version).await;
        }
        let version = OLD.parse().unwrap();
        self.proxy(Operation::CreateProxy { spec, version }).await
    }

    /// What the agent tells of a proxy once `condition` holds of it.
    pub async fn proxy_status(&self, proxy_id: i64, condition: impl Fn(&ProxyReport) -> bool) -> ProxyReport {
        let give_up = Instant::now() + LONG;
        loop {
            let status: AgentStatus = self.endpoint.status().await.unwrap();
            let report = status.proxies.into_iter().find(|p| p.proxy_id == proxy_id);
            match report {
                Some(report) if condition(&report) => return report,
                other => assert!(Instant::now() < give_up, "last seen: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
