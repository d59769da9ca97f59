//! What is measured of each owned proxy at a steady pace: its process by `/proc`, its exporter, and its own counters by
//! SQL. Some minutes of it are kept, so that a server that was away misses nothing.
//!
//! Proxies do not wait for each other, and each question has a deadline. While a guard has a proxy, no session is opened
//! to it: that would be one more on a process that drains.

mod kept;
mod reduced;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use obfleet_obproxy::{
    admin::AdminConn,
    exposition,
    launch::sql_address,
    process::{self, ProcessId, Usage},
};
use obfleet_wire::{
    agent::{AgentMetrics, Series},
    time::Timestamp,
};
use reqwest::Client;
use tokio::time::{Instant, sleep};

use self::kept::Kept;
use crate::{
    describe,
    each_proxy::each_proxy,
    operations::Node,
    proxies::{Owned, Phase},
    tls::{self, PkiError},
};

/// Time of one question to a proxy, login and exporter alike.
const ANSWER: Duration = Duration::from_secs(3);
/// Bytes of an exporter's answer that are read at most.
const MOST_BYTES: usize = 4 << 20;

/// The last measurements of each proxy.
pub(crate) struct Gauges {
    node: Arc<Node>,
    http: Client,
    period: Duration,
    kept: Mutex<HashMap<i64, Kept>>,
}

impl Gauges {
    /// Measures once a `period`.
    ///
    /// # Errors
    /// When no client can be made.
    pub(crate) fn new(node: Arc<Node>, period: Duration) -> Result<Self, PkiError> {
        let http = Client::builder()
            // Exporters speak plain HTTP; a client wants to know all the same.
            .tls_backend_preconfigured(tls::unauthenticated_config()?)
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(ANSWER)
            .build()
            .map_err(PkiError::Client)?;
        Ok(Self {
            node,
            http,
            period,
            kept: Mutex::default(),
        })
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<i64, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was measured after that moment; with what the exporters said last, if that is wanted.
    pub(crate) fn read(&self, after: Timestamp, exported: bool) -> AgentMetrics {
        let kept = self.kept();
        let mut ids: Vec<i64> = kept.keys().copied().collect();
        ids.sort_unstable();
        let of = || ids.iter().filter_map(|id| Some((*id, kept.get(id)?)));
        AgentMetrics {
            time: Timestamp::now(),
            samples: of().flat_map(|(_, kept)| kept.after(after)).cloned().collect(),
            exported: if exported {
                of().filter_map(|(id, kept)| kept.exported(id)).collect()
            } else {
                Vec::new()
            },
        }
    }

    /// Measures again and again, until dropped.
    pub(crate) async fn keep_measuring(self: Arc<Self>) {
        each_proxy(&self.node.registry, |proxy_id| Arc::clone(&self).watch(proxy_id)).await;
    }

    /// Ends when the proxy is no longer owned.
    async fn watch(self: Arc<Self>, proxy_id: i64) {
        while let Some(owned) = self.node.registry.find(proxy_id) {
            let began = Instant::now();
            if owned.phase == Phase::Installed {
                self.measure(&owned).await;
            }
            sleep(self.period.saturating_sub(began.elapsed())).await;
        }
        self.kept().remove(&proxy_id);
    }

    async fn measure(&self, owned: &Owned) {
        // While a proxy drains after a hot restart there are two: the younger one serves.
        let found = process::of_home(&owned.home).ok();
        let process = found.and_then(|mut found| found.pop()).map(|process| process.id);
        let (at, began) = (Timestamp::now(), Instant::now());
        let mut values = BTreeMap::from([("obproxy_up".to_owned(), f64::from(u8::from(process.is_some())))]);
        let mut usage = None;
        let mut exported = None;
        if let Some(process) = process {
            usage = Usage::of(process.pid).ok();
            let (series, counters) = tokio::join!(self.scrape(owned), self.ask(owned, process));
            values.extend(series.iter().flat_map(|series| reduced::of_exporter(series)));
            values.extend(counters);
            exported = series;
        }
        let (proxy_id, mut kept) = (owned.spec.proxy_id, self.kept());
        let kept = kept.entry(proxy_id).or_default();
        if let (Some(process), Some(usage)) = (process, usage) {
            values.extend(reduced::of_process(&usage));
            let percent = kept.cpu_percent(process, usage.cpu, began);
            values.extend(percent.map(|percent| ("obproxy_process_cpu_percent".to_owned(), percent)));
        }
        kept.keep(proxy_id, at, values, exported);
    }

    /// What the exporter says; one that is silent or broken says nothing.
    async fn scrape(&self, owned: &Owned) -> Option<Vec<Series>> {
        let address = SocketAddr::new(sql_address(&owned.spec).ip(), owned.spec.exporter_port);
        match self.fetch(address).await {
            Ok(text) => Some(exposition::parse(&text)),
            Err(error) => {
                tracing::debug!(proxy = owned.spec.proxy_id, error = %describe(&error), "no answer of the exporter");
                None
            }
        }
    }

    async fn fetch(&self, address: SocketAddr) -> reqwest::Result<String> {
        let answer = self.http.get(format!("http://{address}/metrics")).send().await?;
        let mut answer = answer.error_for_status()?;
        let mut bytes = Vec::new();
        // What is beyond the limit is not read: a last line that was cut is none.
        while let Some(more) = answer.chunk().await? {
            bytes.extend_from_slice(&more[..more.len().min(MOST_BYTES - bytes.len())]);
            if bytes.len() == MOST_BYTES {
                bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0));
                break;
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What the proxy tells root@proxysys of itself.
    async fn ask(&self, owned: &Owned, process: ProcessId) -> BTreeMap<String, f64> {
        let address = sql_address(&owned.spec);
        let serves = process::listens_on(process.pid, address.port()).unwrap_or_default();
        if !serves || self.node.guarded(owned).is_some() {
            return BTreeMap::new();
        }
        let Ok(password) = self.node.registry.password(owned.spec.proxy_id) else {
            return BTreeMap::new();
        };
        let asked = async {
            let mut admin = AdminConn::connect(address, &password, ANSWER).await?;
            let counters = admin.counters().await?;
            let most = admin.config_value("client_max_connections").await?;
            admin.close().await;
            Ok::<_, obfleet_obproxy::admin::AdminError>(reduced::of_counters(&counters, most.as_deref()))
        };
        asked.await.unwrap_or_else(|error| {
            tracing::debug!(proxy = owned.spec.proxy_id, error = %describe(&error), "it does not tell its counters");
            BTreeMap::new()
        })
    }
}
