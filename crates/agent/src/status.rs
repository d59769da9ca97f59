//! What the agent runs, kept up to date in the background so that asking costs nothing.
//!
//! A proxy at rest is left alone: a pidfd tells of its end, the registry of whatever is ordered, and now and then it is
//! asked for a greeting. It is not held by an admin session: that would be a client to a process that drains, and keep
//! it from leaving.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use obfleet_obproxy::{
    admin::AdminConn,
    launch::sql_address,
    process::{self, ProcessHandle, ProcessId},
};
use obfleet_wire::{
    agent::{AgentStatus, HostFacts, Operation, ProxyReport},
    time::Timestamp,
    version::ProxyVersion,
};
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{
    certificate::Certificate,
    describe,
    each_proxy::each_proxy,
    operations::Node,
    proxies::{Owned, Phase},
};

/// Between two looks at a proxy that is on its way somewhere: down, or in a restart.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Between two looks at a proxy that serves: at what the kernel says of it.
const AT_REST: Duration = Duration::from_secs(2);
/// Between two greetings: a proxy logs each visitor that leaves without a login. With the time a greeting may take and what
/// the server needs to hear of it, one that hangs is known within ten seconds.
const GREETED: Duration = Duration::from_secs(4);
/// A port on this host that takes longer to greet is not serving.
const GREETING: Duration = Duration::from_secs(2);
const LOGIN: Duration = Duration::from_secs(2);

/// The last look at each proxy.
pub(crate) struct StatusBoard {
    host: HostFacts,
    node: Arc<Node>,
    certificate: Arc<Certificate>,
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
    pub(crate) fn new(host: HostFacts, node: Arc<Node>, certificate: Arc<Certificate>) -> Self {
        Self {
            host,
            node,
            certificate,
            seen: Mutex::default(),
        }
    }

    /// What is looked at.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<i64, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Host, operations, and each owned proxy as last seen.
    pub(crate) fn read(&self) -> AgentStatus {
        let seen = self.seen();
        let installed = self.node.registry.all().into_iter().filter(is_installed);
        AgentStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.host.clone(),
            operations: Operation::NAMES.map(str::to_owned).to_vec(),
            proxies: installed
                .map(|owned| {
                    let proxy_id = owned.spec.proxy_id;
                    let parameters = self.node.readings.digest(proxy_id);
                    ProxyReport {
                        trouble: self.node.trouble(proxy_id),
                        ..report(&owned, seen.get(&proxy_id), parameters)
                    }
                })
                .collect(),
            time: Timestamp::now(),
            certificate: self.certificate.validity(),
        }
    }

    /// Looks again and again, until dropped.
    pub(crate) async fn keep_fresh(self: Arc<Self>) {
        each_proxy(&self.node.registry, |proxy_id| Arc::clone(&self).watch(proxy_id)).await;
    }

    /// Ends when the proxy is no longer owned.
    async fn watch(self: Arc<Self>, proxy_id: i64) {
        let mut changes = self.node.registry.changes();
        loop {
            changes.mark_unchanged();
            let Some(owned) = self.node.registry.find(proxy_id) else {
                break;
            };
            let pause = if is_installed(&owned) {
                let before = self.seen().get(&proxy_id).cloned();
                let seen = self.look(&owned, before).await;
                let at_rest = seen.serving && self.node.guarded(&owned).is_none();
                if at_rest {
                    self.read_parameters(proxy_id, seen.process).await;
                }
                let end = end_of(seen.process, if at_rest { AT_REST } else { LOOK_AGAIN });
                self.seen().insert(proxy_id, seen);
                end
            } else {
                // What comes back to this home is looked at anew.
                self.seen().remove(&proxy_id);
                self.node.readings.forget(proxy_id);
                end_of(None, AT_REST)
            };
            tokio::select! {
                () = pause => {}
                // The registry outlives its watches.
                _ = changes.changed() => {}
            }
        }
        self.seen().remove(&proxy_id);
        self.node.readings.forget(proxy_id);
    }

    /// Reads the configuration if that is due. A proxy that does not let itself be read is asked again at the next look.
    async fn read_parameters(&self, proxy_id: i64, process: Option<ProcessId>) {
        if process.is_some_and(|process| self.node.readings.is_due(proxy_id, process))
            && let Err(error) = self.node.read_parameters(proxy_id).await
        {
            tracing::debug!(proxy = proxy_id, error = %describe(&error), "the configuration cannot be read");
        }
    }

    async fn look(&self, owned: &Owned, before: Option<Seen>) -> Seen {
        let address = sql_address(&owned.spec);
        // While a proxy drains after a hot restart there are two: the younger one serves.
        let process = process::of_home(&owned.home)
            .ok()
            .and_then(|mut found| found.pop())
            .map(|p| p.id);
        let listens = process.is_some_and(|p| process::listens_on(p.pid, address.port()).unwrap_or_default());
        let before = before.filter(|before| before.process == process);
        // One that is stopped takes connections and does not greet: that need not be tried.
        let listens = listens && !process.is_some_and(ProcessId::is_stopped);
        let recent = before.as_ref().filter(|b| b.serving && b.asked.elapsed() < GREETED);
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
        let password = self.node.registry.password(owned.spec.proxy_id).ok()?;
        let mut admin = AdminConn::connect(address, &password, LOGIN).await.ok()?;
        let version = admin.binary_info().await.ok();
        admin.close().await;
        version
    }
}

fn is_installed(owned: &Owned) -> bool {
    owned.phase == Phase::Installed
}

fn report(owned: &Owned, seen: Option<&Seen>, parameters: Option<String>) -> ProxyReport {
    let process = seen.and_then(|seen| seen.process);
    ProxyReport {
        proxy_id: owned.spec.proxy_id,
        // Who asks in the moment between its end and the next look is told so.
        serving: seen.map(|seen| seen.serving && process.is_some_and(ProcessId::is_alive)),
        stopped: !owned.wanted,
        offline: process.is_some() && process == owned.offline,
        pid: process.map(|process| process.pid),
        version: seen.and_then(|s| s.version.clone()),
        restarts: owned.restarts,
        parameters,
        trouble: None,
    }
}

/// Completes when the process ends, at the latest after `limit`.
async fn end_of(process: Option<ProcessId>, limit: Duration) {
    match process.and_then(|id| ProcessHandle::open(id).ok().flatten()) {
        Some(handle) => {
            handle.wait(limit).await;
        }
        // It has ended already, or nothing tells of its end.
        None => sleep(limit.min(LOOK_AGAIN)).await,
    }
}

/// Whether the port is not only open: while a hot restart hangs, connections wait and nobody greets them.
async fn greets(address: SocketAddr) -> bool {
    let greeting = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.read_u8().await
    };
    timeout(GREETING, greeting).await.is_ok_and(|first| first.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxies::sample;

    #[test]
    fn a_proxy_is_neither_up_nor_down_before_the_first_look() {
        let owned = sample(7);
        assert_eq!(report(&owned, None, None).serving, None);
        let seen = Seen {
            serving: false,
            asked: Instant::now(),
            process: None,
            version: None,
        };
        assert_eq!(report(&owned, Some(&seen), None).serving, Some(false));
    }

    #[test]
    fn a_process_that_ended_since_the_last_look_does_not_serve() {
        let seen = |process| Seen {
            serving: true,
            asked: Instant::now(),
            process: Some(process),
            version: None,
        };
        let own = ProcessId::own().unwrap();
        let gone = ProcessId {
            start_ticks: own.start_ticks + 1,
            ..own
        };
        let mut owned = sample(7);
        assert_eq!(report(&owned, Some(&seen(own)), None).serving, Some(true));
        assert_eq!(report(&owned, Some(&seen(gone)), None).serving, Some(false));

        // The word was for one process.
        owned.offline = Some(gone);
        assert!(!report(&owned, Some(&seen(own)), None).offline);
        owned.offline = Some(own);
        assert!(report(&owned, Some(&seen(own)), None).offline);
        assert!(!report(&owned, Some(&seen(own)), None).stopped);
        owned.wanted = false;
        assert!(report(&owned, Some(&seen(own)), None).stopped);
    }
}
