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
    net::TcpStream,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::proxies::{Owned, Phase, Registry};

/// Between two looks at the processes.
const REFRESH: Duration = Duration::from_secs(1);
/// A port on this host that takes longer is not serving.
const CONNECT: Duration = Duration::from_millis(500);
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
        let serving = process.is_some() && accepts(address).await;
        let before = self.seen().get(&owned.spec.proxy_id).cloned();
        let version = match before {
            Some(before) if before.process == process && before.version.is_some() => before.version,
            _ if serving => self.ask_version(owned, address).await,
            _ => None,
        };
        Seen {
            serving,
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

async fn accepts(address: SocketAddr) -> bool {
    timeout(CONNECT, TcpStream::connect(address))
        .await
        .is_ok_and(|c| c.is_ok())
}
