//! What every task of the process shares.

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Config;
use crate::config_server::ConfigServer;
use crate::home::Home;
use crate::hot_restart::HotRestart;
use crate::listen::Gate;
use crate::log::Log;
use crate::sessions::Sessions;
use crate::store::Store;
use crate::trailer::Trailer;

/// One running proxy.
#[derive(Debug)]
pub struct Proxy {
    /// Version, release, faults.
    pub build: Trailer,
    /// The arguments this process was started with, its own name first.
    pub argv: Vec<String>,
    /// Whether it is the child of a hot restart.
    pub is_inherited: bool,
    /// Where the files are.
    pub home: Home,
    /// The logs.
    pub log: Log,
    /// The config server, of a proxy that was started with one.
    pub config_server: Option<ConfigServer>,
    /// Optional capability flags the backend offered last; new clients are offered no others.
    pub backend_capabilities: AtomicU32,
    /// Client connections.
    pub sessions: Arc<Sessions>,
    /// The configuration store; closed from a fork on.
    pub store: tokio::sync::Mutex<Option<Store>>,
    /// Whether connections are accepted.
    pub gate: watch::Sender<Gate>,
    config: Mutex<Config>,
    restart: Mutex<RestartView>,
    offline_since: Mutex<Option<Instant>>,
    endpoints: OnceLock<Endpoints>,
}

/// The sockets as `show proxyinfo upgrade` tells them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Endpoints {
    /// Port of the SQL socket.
    pub sql_port: u16,
    /// Number of the SQL socket on IPv4, or -1.
    pub sql_fd: i32,
    /// Number of the SQL socket on IPv6, or -1.
    pub sql_ipv6_fd: i32,
    /// Number of the RPC socket on IPv4, or -1.
    pub rpc_fd: i32,
    /// Number of the RPC socket on IPv6, or -1.
    pub rpc_ipv6_fd: i32,
}

/// The hot restart with what only the display needs.
#[derive(Debug, Clone)]
pub struct RestartView {
    /// The state machine.
    pub machine: HotRestart,
    /// The last signal, -1 for none.
    pub received_sig: i32,
}

/// The answer of `select proxy_status()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// In service.
    Active,
    /// Marked offline, but still with clients.
    BecomingInactive,
    /// Marked offline.
    Inactive,
}

impl Proxy {
    /// Puts the parts together; nothing is accepted yet.
    pub fn new(
        build: Trailer,
        argv: Vec<String>,
        is_inherited: bool,
        home: Home,
        log: Log,
        config: Config,
        store: Store,
    ) -> Self {
        Self {
            build,
            argv,
            is_inherited,
            home,
            log,
            config_server: None,
            backend_capabilities: AtomicU32::new(0),
            sessions: Arc::default(),
            store: tokio::sync::Mutex::new(Some(store)),
            gate: watch::Sender::new(Gate::Paused),
            config: Mutex::new(config),
            restart: Mutex::new(RestartView {
                machine: HotRestart::default(),
                received_sig: -1,
            }),
            offline_since: Mutex::new(None),
            endpoints: OnceLock::new(),
        }
    }

    /// The same, with the config server it learns its clusters from, if any.
    pub fn told_by(self, config_server: Option<ConfigServer>) -> Self {
        Self { config_server, ..self }
    }

    /// Numbers and addresses of the sockets, for show.
    pub fn endpoints(&self) -> Endpoints {
        self.endpoints.get().copied().unwrap_or_default()
    }

    /// Notes the sockets, once they are there.
    pub fn set_endpoints(&self, endpoints: Endpoints) {
        // Set once, by the start.
        let _ = self.endpoints.set(endpoints);
    }

    /// The configuration, locked.
    pub fn config(&self) -> MutexGuard<'_, Config> {
        lock(&self.config)
    }

    /// The hot restart, locked.
    pub fn restart(&self) -> MutexGuard<'_, RestartView> {
        lock(&self.restart)
    }

    /// Whether a drain is under way.
    pub fn is_draining(&self) -> bool {
        self.restart().machine.drain.is_some()
    }

    /// The version told over SQL.
    pub fn reported_version(&self) -> &str {
        self.build
            .faults
            .wrong_version
            .as_deref()
            .unwrap_or(&self.build.version)
    }

    /// Marks the proxy offline, or online again.
    pub fn set_offline(&self, offline: bool) {
        *lock(&self.offline_since) = offline.then(Instant::now);
    }

    /// How the proxy describes itself to a load balancer. The session that asks is one of those counted.
    pub fn status(&self) -> Status {
        let Some(since) = *lock(&self.offline_since) else {
            return Status::Active;
        };
        let waited_enough = self.exit_timeout().is_some_and(|timeout| since.elapsed() >= timeout);
        if waited_enough || self.sessions.count() <= 1 {
            Status::Inactive
        } else {
            Status::BecomingInactive
        }
    }

    /// How long a drain lasts at most; `None` for ever.
    pub fn exit_timeout(&self) -> Option<Duration> {
        u64::try_from(self.config().int("hot_upgrade_exit_timeout"))
            .ok()
            .map(Duration::from_micros)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
