//! The config server of a proxy that was started with `obproxy_config_server_url`: which OceanBase clusters there are, and
//! the root servers of each.
//!
//! A start asks it; so does a timer, which begins anew with every `alter`. What was told is kept in memory and on disk, and
//! what is on disk is used when the server is away. A configuration is taken as a whole or not at all.

mod answers;
mod fetch;
mod kept;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use obfleet_obproxy::config_items;
use tokio::sync::Notify;
use tokio::time::sleep;

pub use self::answers::JsonConfig;
use self::answers::RsList;
use self::kept::Kept;
use crate::config::Config;
use crate::home::Home;
use crate::log::{Level, Log};
use crate::proxy::Proxy;

/// What the metadb's cluster is called.
pub const META_CLUSTER: &str = "MetaDataBase";
/// Tries of a start.
const ATTEMPTS: u32 = 3;
/// Switches that have the next turn of the timer fetch more than it would.
const FORCE_CONFIG: &str = "refresh_json_config";
const FORCE_LISTS: &str = "refresh_rslist";

/// The config server, and what it has told.
#[derive(Debug)]
pub struct ConfigServer {
    url: String,
    kept: Kept,
    known: Mutex<Known>,
    /// An item was altered.
    altered: Notify,
}

#[derive(Debug, Default)]
struct Known {
    config: Option<JsonConfig>,
    /// Root servers of the clusters somebody has logged in to.
    lists: BTreeMap<String, RsList>,
}

/// Why a login cannot be led to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCluster {
    /// There is no such cluster, or several and none was named.
    Unknown,
    /// Its root servers cannot be had.
    Unreachable,
}

/// A cluster as it is listed, and its root servers if they are known.
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Where its root servers are told.
    pub url: String,
    /// Its root servers.
    pub list: Option<RsList>,
}

impl ConfigServer {
    /// The one in force, of a proxy that has no list of root servers of its own.
    pub fn of(config: &Config, home: &Home) -> Option<Self> {
        let url = config.text("obproxy_config_server_url");
        (config.text("rootservice_list").is_empty() && !url.is_empty()).then(|| Self {
            url: url.to_owned(),
            kept: Kept::of(home),
            known: Mutex::default(),
            altered: Notify::new(),
        })
    }

    /// Asks for the first time. That nothing is to be had is no reason not to start.
    pub async fn initialise(&self, ignore_kept: bool, log: &Log) {
        let kept = || {
            self.kept
                .config()
                .map(|config| self.known().config = Some(config))
                .is_some()
        };
        self.known().lists = self.kept.lists();
        if !ignore_kept && kept() {
            return log.write(Level::Info, "config server info taken from the local file");
        }
        for attempt in 1..=ATTEMPTS {
            match self.fetch_config(false).await {
                Ok(_) => return log.write(Level::Info, "config server info fetched"),
                Err(error) => log.write(
                    Level::Wdiag,
                    format_args!("fail to fetch config server info({attempt}): {error}"),
                ),
            }
        }
        if kept() {
            log.write(Level::Wdiag, "config server info taken from the local file");
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The configuration in force.
    pub fn config(&self) -> Option<JsonConfig> {
        self.known().config.clone()
    }

    /// An item was altered: the timer begins anew.
    pub fn item_altered(&self) {
        self.altered.notify_one();
    }

    /// Every cluster of the configuration, that of the metadb last.
    pub fn listed(&self) -> Option<Vec<Listed>> {
        let known = self.known();
        let config = known.config.as_ref()?;
        let listed = |(name, url): (&String, &String)| Listed {
            name: name.clone(),
            url: url.clone(),
            list: known.lists.get(name).cloned(),
        };
        let mut all: Vec<_> = config.clusters.iter().map(listed).collect();
        all.push(listed((&META_CLUSTER.to_owned(), &config.meta_url)));
        Some(all)
    }

    /// The cluster a login is for, by the name it gives; a login without one is for the only cluster there is. With its root
    /// servers, `ip:sqlport` with `;` between them.
    pub async fn lead(&self, asked: &str, log: &Log) -> Result<(String, String), NoCluster> {
        let (name, url) = {
            let known = self.known();
            let clusters = known
                .config
                .as_ref()
                .map(|config| &config.clusters)
                .ok_or(NoCluster::Unknown)?;
            let found = match asked {
                "" if clusters.len() == 1 => clusters.iter().next(),
                "" => None,
                name => clusters.get_key_value(name),
            };
            let (name, url) = found.ok_or(NoCluster::Unknown)?;
            if let Some(list) = known.lists.get(name) {
                return Ok((name.clone(), list.sql_addresses()));
            }
            (name.clone(), url.clone())
        };
        match self.fetch_list(&name, &url).await {
            Ok(list) => Ok((name, list.sql_addresses())),
            Err(error) => {
                log.write(
                    Level::Wdiag,
                    format_args!("fail to fetch rslist(cluster={name}): {error}"),
                );
                Err(NoCluster::Unreachable)
            }
        }
    }

    /// Fetches the configuration if there is another than the one in force, or in any case.
    async fn fetch_config(&self, in_any_case: bool) -> Result<(), String> {
        let in_force = self.known().config.as_ref().map(|config| config.version.clone());
        if !in_any_case {
            let version = answers::version(&fetch::get(&format!("{}&VersionOnly=true", self.url)).await?)?;
            if in_force.as_ref() == Some(&version) {
                return Ok(());
            }
        }
        let body = fetch::get(&self.url).await?;
        let config = answers::config(&body)?;
        self.kept.keep_config(&body)?;
        let mut known = self.known();
        known
            .lists
            .retain(|name, _| name == META_CLUSTER || config.clusters.contains_key(name));
        known.config = Some(config);
        Ok(())
    }

    async fn fetch_list(&self, name: &str, url: &str) -> Result<RsList, String> {
        let list = answers::rs_list(&fetch::get(&format!("{url}&version=2")).await?, name)?;
        let mut known = self.known();
        known.lists.insert(name.to_owned(), list.clone());
        self.kept.keep_lists(&known.lists)?;
        Ok(list)
    }

    /// Fetches the root servers of every cluster somebody has logged in to, and those of the metadb.
    async fn fetch_lists(&self) -> Result<(), String> {
        let wanted: Vec<(String, String)> = {
            let known = self.known();
            let config = known.config.as_ref().ok_or("there is no config server info")?;
            let mut names: BTreeSet<&str> = known.lists.keys().map(String::as_str).collect();
            names.remove(META_CLUSTER);
            let urls = names.into_iter().filter_map(|name| config.clusters.get_key_value(name));
            let urls = urls.map(|(name, url)| (name.clone(), url.clone()));
            urls.chain([(META_CLUSTER.to_owned(), config.meta_url.clone())])
                .collect()
        };
        let mut failed = Ok(());
        for (name, url) in wanted {
            let fetched = self.fetch_list(&name, &url).await;
            failed = failed.and(fetched.map(drop).map_err(|error| format!("{name}: {error}")));
        }
        failed
    }

    /// One turn of the timer.
    async fn refresh(&self, proxy: &Proxy) {
        let (force_config, force_lists) = {
            let config = proxy.config();
            (config.flag(FORCE_CONFIG), config.flag(FORCE_LISTS))
        };
        let fetched = self.fetch_config(force_config).await;
        settle(proxy, FORCE_CONFIG, force_config, "config server info", fetched);
        if force_lists {
            let fetched = self.fetch_lists().await;
            settle(proxy, FORCE_LISTS, true, "rslist", fetched);
        }
    }
}

/// A switch stays on until what it asks for was done.
fn settle(proxy: &Proxy, switch: &str, was_on: bool, what: &str, fetched: Result<(), String>) {
    match fetched {
        Ok(()) if was_on => {
            if let Some(item) = config_items::find(switch) {
                proxy.config().alter(item, "False".to_owned());
            }
        }
        Ok(()) => {}
        Err(error) => proxy
            .log
            .write(Level::Wdiag, format_args!("fail to refresh {what}: {error}")),
    }
}

/// Asks the proxy's config server, if it has one, for as long as the process lives.
pub async fn keep_asking(proxy: Arc<Proxy>) {
    let Some(server) = &proxy.config_server else { return };
    loop {
        let interval = proxy.config().duration("config_server_refresh_interval");
        let pause = interval.mul_f64(rand::random_range(0.5..=1.0));
        tokio::select! {
            () = sleep(pause) => server.refresh(&proxy).await,
            () = server.altered.notified() => {}
        }
    }
}
