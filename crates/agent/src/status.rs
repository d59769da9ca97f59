//! What the agent runs, kept up to date in the background so that asking costs nothing.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use obfleet_obproxy::{
    admin::AdminConn,
    launch::sql_address,
    process::{self, ProcessId},
};
use obfleet_wire::{
    agent::{AgentStatus, HostFacts, Operation, ProxyReport},
    time::Timestamp,
    version::ProxyVersion,
};
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use crate::proxies::{Owned, Phase, Registry};

/// Between two looks at the processes.
const REFRESH: Duration = Duration::from_secs(1);
/// A port on this host that takes longer to greet is not serving.
const GREETING: Duration = Duration::from_millis(500);
/// A process that greeted is not asked again before: it logs each visitor that leaves without a login.
const ASK_AGAIN: Duration = Duration::from_secs(10);
const LOGIN: Duration = Duration::from_secs(2);

/// The last look.
pub(crate) struct StatusBoard {
    host: HostFacts,
    registry: Arc<Registry>,
    seen: Mutex<HashMap<i64, Seen>>,
}

#[derive(Clone)]
struct Seen {
    serving: bool,
    /// When it last greeted or failed to.
    asked: Instant,
    process: Option<ProcessId>,
    version: Option<ProxyVersion>,
}

impl StatusBoard {
    pub(crate) fn new(host: HostFacts, registry: Arc<Registry>) -> Self {
        Self {
            host,
            registry,
            seen: Mutex::default(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<i64, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Host, operations, and each owned proxy as last seen.
    pub(crate) fn read(&self) -> AgentStatus {
        let seen = self.seen();
        let report = |owned: Owned| {
            let last = seen.get(&owned.spec.proxy_id);
            ProxyReport {
                proxy_id: owned.spec.proxy_id,
                serving: last.is_some_and(|s| s.serving),
                pid: last.and_then(|s| s.process).map(|p| p.pid),
                version: last.and_then(|s| s.version.clone()),
                restarts: owned.restarts,
            }
        };
        AgentStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.host.clone(),
            operations: Operation::NAMES.map(str::to_owned).to_vec(),
            proxies: installed(&self.registry).map(report).collect(),
            time: Timestamp::now(),
        }
    }

    /// Looks again and again, until dropped.
    pub(crate) async fn keep_fresh(self: Arc<Self>) {
        let mut ticks = interval(REFRESH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let board = &self;
            let looks =
                installed(&self.registry).map(|owned| async move { (owned.spec.proxy_id, board.look(&owned).await) });
            let seen = futures::future::join_all(looks).await.into_iter().collect();
            *self.seen() = seen;
        }
    }

    async fn look(&self, owned: &Owned) -> Seen {
        let address = sql_address(&owned.spec);
        // While a proxy drains after a hot restart there are two: the younger one serves.
        let process = process::of_home(&owned.home)
            .ok()
            .and_then(|mut found| found.pop())
            .map(|p| p.id);
        let listens = process.is_some_and(|p| process::listens_on(p.pid, address.port()).unwrap_or_default());
        let before = self.seen().get(&owned.spec.proxy_id).cloned();
        let before = before.filter(|before| before.process == process);
        let recent = before.as_ref().filter(|b| b.serving && b.asked.elapsed() < ASK_AGAIN);
        let (asked, serving) = match recent {
            Some(recent) => (recent.asked, listens),
            None => (Instant::now(), listens && greets(address).await),
        };
        let version = match before.and_then(|before| before.version) {
            None if serving => self.ask_version(owned, address).await,
            known => known,
        };
        Seen {
            serving,
            asked,
            process,
            version,
        }
    }

    async fn ask_version(&self, owned: &Owned, address: SocketAddr) -> Option<ProxyVersion> {
        let password = self.registry.password(owned.spec.proxy_id).ok()?;
        let mut admin = AdminConn::connect(address, &password, LOGIN).await.ok()?;
        let version = admin.binary_info().await.ok();
        admin.close().await;
        version
    }
}

fn installed(registry: &Registry) -> impl Iterator<Item = Owned> + use<> {
    registry
        .all()
        .into_iter()
        .filter(|owned| owned.phase == Phase::Installed)
}

/// Whether the port is not only open: while a hot restart hangs, connections wait and nobody greets them.
async fn greets(address: SocketAddr) -> bool {
    let greeting = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.read_u8().await
    };
    timeout(GREETING, greeting).await.is_ok_and(|first| first.is_ok())
}
