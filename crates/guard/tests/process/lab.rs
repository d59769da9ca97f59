//! One stand-in proxy that serves, a build to restart it onto, and everything to watch it with.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use obfleet_guard::{Handle, Phase, Plan, State};
use obfleet_mysqlwire::{Client, ClientError};
use obfleet_obproxy::{
    admin::AdminConn,
    binary, launch,
    process::{self, ProcessId},
};
use obfleet_standin::{Faults, Trailer, pack, ports::PortLease};
use obfleet_wire::agent::{DrainPolicy, ProbeQuery, ProxySpec, RestartMethod};
use tempfile::TempDir;
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, sleep},
};

/// The version before.
pub const OLD: &str = "4.2.1.0-11";
/// The version to go to.
pub const NEW: &str = "4.3.1.0-1";
/// Password of root@proxysys.
pub const PASSWORD: &str = "Secret'1";
/// Longest any condition may take to come true.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// A drain that gives transactions two seconds.
pub const DRAIN: DrainPolicy = DrainPolicy {
    window_ms: 2_000,
    closes_per_second: 100,
};

/// Held while an executable is written and while a process is forked: a child forked in between would have the file
/// open for writing, and executing it would fail.
static EXECUTABLES: Mutex<()> = Mutex::const_new(());

/// A proxy, its builds, and the directory of its restart.
pub struct Lab {
    root: TempDir,
    restart_id: String,
    ports: [PortLease; 3],
}

impl Lab {
    /// A proxy that serves as [`OLD`]; the build to go to is [`NEW`] with these faults.
    pub async fn new(faults: Faults) -> Self {
        let lab = Self {
            root: tempfile::tempdir().unwrap(),
            restart_id: "r-1".to_owned(),
            ports: std::array::from_fn(|_| PortLease::take().unwrap()),
        };
        let _exclusive = EXECUTABLES.lock().await;
        fs::create_dir_all(lab.home().join("bin")).unwrap();
        lab.build(&lab.home().join("bin/obproxy"), OLD, Faults::default());
        lab.build(&lab.slot(), NEW, faults);
        launch::first_start(&lab.home(), &lab.spec()).await.unwrap();
        lab
    }

    /// What is planned from now on is another restart of the same proxy, onto a build of [`NEW`] with these faults.
    pub async fn next_restart(&mut self, faults: Faults) {
        let _exclusive = EXECUTABLES.lock().await;
        self.restart_id.push_str("-next");
        self.build(&self.slot(), NEW, faults);
    }

    /// What is planned from now on is a restart onto the executable that runs.
    pub async fn restart_onto_itself(&self) {
        let _exclusive = EXECUTABLES.lock().await;
        fs::copy(self.home().join("bin/obproxy"), self.slot()).unwrap();
    }

    fn build(&self, to: &Path, version: &str, faults: Faults) {
        let (version, build) = version.split_once('-').unwrap();
        let trailer = Trailer {
            version: version.to_owned(),
            release: format!("{build}.el7"),
            faults,
            fake_backend: true,
        };
        pack(&executable(), &trailer, to).unwrap();
    }

    fn spec(&self) -> ProxySpec {
        let [sql, exporter, rpc] = &self.ports;
        ProxySpec {
            proxy_id: 7,
            cluster_name: "lab".to_owned(),
            sql_port: sql.port(),
            exporter_port: exporter.port(),
            rpc_port: Some(rpc.port()),
            ob_cluster: Some("ob1".to_owned()),
            // Nobody listens on port 1; the stand-in answers clients by itself.
            root_servers: vec!["127.0.0.1:1".to_owned()],
            parameters: vec![("local_bound_ip".to_owned(), "127.0.0.1".to_owned())],
            sys_password: PASSWORD.to_owned(),
        }
    }

    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    pub fn slot(&self) -> PathBuf {
        self.root.path().join("slot-obproxy")
    }

    /// The directory of the restart.
    pub fn dir(&self) -> PathBuf {
        self.root.path().join("restarts").join(&self.restart_id)
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[0].port()))
    }

    /// A plan to go to the very version that runs.
    pub fn plan_onto_itself(&self, method: RestartMethod, drain: DrainPolicy) -> Plan {
        Plan {
            version: OLD.parse().unwrap(),
            ..self.plan(method, drain)
        }
    }

    /// A plan to go to the new build.
    pub fn plan(&self, method: RestartMethod, drain: DrainPolicy) -> Plan {
        Plan {
            restart_id: self.restart_id.clone(),
            proxy_id: 7,
            home: self.home(),
            address: self.address(),
            sys_password: PASSWORD.to_owned(),
            binary: self.slot(),
            binary_sha256: binary::sha256(&self.slot()).unwrap(),
            version: NEW.parse().unwrap(),
            method,
            drain,
            probe: Some(ProbeQuery {
                user: "app@t#ob1".to_owned(),
                password: String::new(),
                sql: "select 1 from t".to_owned(),
            }),
        }
    }

    /// Orders the guard to end as by `kill -9` in a phase.
    pub fn die_at(&self, phase: &str) {
        fs::create_dir_all(self.dir()).unwrap();
        fs::write(self.dir().join("die-at"), phase).unwrap();
    }

    /// Starts the guard.
    pub async fn start(&self, plan: &Plan) -> Handle {
        self.try_start(plan).await.unwrap();
        Handle::attach(&self.dir())
    }

    /// Starts the guard, which may die before it says hello.
    pub async fn try_start(&self, plan: &Plan) -> std::io::Result<()> {
        let _exclusive = EXECUTABLES.lock().await;
        let (exe, dir, plan) = (executable(), self.dir(), plan.clone());
        tokio::task::spawn_blocking(move || obfleet_guard::start(&exe, &dir, &plan))
            .await
            .unwrap()
    }

    /// Starts another guard for the restart of one that died.
    pub async fn recover(&self) {
        let _exclusive = EXECUTABLES.lock().await;
        let (exe, dir) = (executable(), self.dir());
        tokio::task::spawn_blocking(move || obfleet_guard::recover(&exe, &dir))
            .await
            .unwrap()
            .unwrap();
    }

    pub async fn admin(&self) -> AdminConn {
        AdminConn::connect(self.address(), PASSWORD, PATIENCE).await.unwrap()
    }

    /// A client that is logged in.
    pub async fn client(&self) -> Client {
        self.try_client().await.unwrap()
    }

    async fn try_client(&self) -> Result<Client, ClientError> {
        Client::connect(self.address(), "app@t#ob1", "", Instant::now() + PATIENCE).await
    }

    /// The processes of the proxy.
    pub fn processes(&self) -> Vec<ProcessId> {
        process::of_home(&self.home())
            .unwrap()
            .into_iter()
            .map(|process| process.id)
            .collect()
    }

    /// Short connections, one after the other, until the traffic is stopped.
    pub fn traffic(self: &Arc<Self>) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let (lab, stopped) = (Arc::clone(self), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let mut seen: HashMap<String, u64> = HashMap::new();
            while !stopped.load(Ordering::Relaxed) {
                let outcome = match lab.try_client().await {
                    Ok(client) => {
                        client.close().await;
                        "served".to_owned()
                    }
                    Err(error) => error.to_string(),
                };
                *seen.entry(outcome).or_default() += 1;
                sleep(Duration::from_millis(10)).await;
            }
            seen
        });
        Traffic { stop, task }
    }

    /// Asserts that one process of this version serves, from its file on disk, with the settings as they were and
    /// nothing left behind.
    pub async fn assert_serves(&self, version: &str) {
        let mut admin = self.admin().await;
        assert_eq!(admin.binary_info().await.unwrap().to_string(), version);
        let processes = self.processes();
        assert_eq!(processes.len(), 1, "{}", self.log());
        assert_eq!(admin.answering_pid().await.unwrap(), processes[0].pid);
        let installed = binary::sha256(&self.home().join("bin/obproxy")).unwrap();
        assert_eq!(
            installed,
            binary::sha256(&PathBuf::from(format!("/proc/{}/exe", processes[0].pid))).unwrap()
        );
        let timeout = admin
            .config_value("hot_upgrade_rollback_timeout")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(timeout, "24h", "{}", self.log());
        assert_eq!(
            admin.config_value("hot_upgrade_exit_timeout").await.unwrap().unwrap(),
            "30000000"
        );
        // The guard's last act, after the end is on disk.
        let deadline = Instant::now() + PATIENCE;
        while self.binaries() != ["obproxy"] {
            assert!(Instant::now() < deadline, "{:?}", self.binaries());
            sleep(Duration::from_millis(20)).await;
        }
        admin.close().await;
    }

    fn binaries(&self) -> Vec<OsString> {
        let entries = fs::read_dir(self.home().join("bin")).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

    /// What the guard wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let guard = State::load(&self.dir()).ok().and_then(|state| state.guard);
        for id in guard.into_iter().filter(|id| id.is_alive()).chain(self.processes()) {
            let _ = kill(Pid::from_raw(id.pid), Signal::SIGKILL);
        }
    }
}

/// Short connections under way.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    task: JoinHandle<HashMap<String, u64>>,
}

impl Traffic {
    /// Ends them; how often each outcome was met.
    pub async fn stop(self) -> HashMap<String, u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }

    /// Ends them and asserts that every one was served.
    pub async fn assert_all_served(self) {
        let seen = self.stop().await;
        assert!(seen.contains_key("served") && seen.len() == 1, "{seen:?}");
    }
}

/// The end of a restart.
pub async fn end(lab: &Lab, handle: &Handle) -> State {
    match handle.wait_end(PATIENCE).await {
        Ok(state) => state,
        Err(error) => panic!("{error}: {}", lab.log()),
    }
}

/// The reason of a restart that was undone.
pub fn reverted(lab: &Lab, state: &State) -> String {
    match &state.phase {
        Phase::Reverted { reason, .. } => reason.clone(),
        other => panic!("{other:?}: {}", lab.log()),
    }
}

/// The executable that is guard and stand-in. `cargo test` with a filter does not build examples, and a stale one would
/// test yesterday's guard: so it is built here.
fn executable() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let own = std::env::current_exe().unwrap();
        let profile = own.parent().and_then(Path::parent).unwrap();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        // With the features the workspace has, in which it is built already.
        cargo.args(["build", "--quiet", "--workspace", "--example", "guard"]);
        cargo.arg("--target-dir").arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success());
        profile.join("examples/guard")
    };
    BUILT.get_or_init(build).clone()
}
