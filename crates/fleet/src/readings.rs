//! What proxies are configured with: agents tell a digest of it with everything else, and what is new is fetched and written
//! down. Never in the way of the observer's looks, and a few at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use obfleet_engine::ActionError;
use obfleet_wire::time::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    flows::crew::Crew,
    inventory::{Host, InventoryError, ProxyConfig, seen_items},
};

/// An agent has just told that there is news, so it answers; if not, it will tell again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Configurations read at a time: each is some tens of kilobytes.
const AT_A_TIME: usize = 16;

/// What an agent tells of a proxy's configuration.
#[derive(Debug, Clone)]
pub struct Report {
    /// The proxy's host.
    pub host: Host,
    /// The digest.
    pub digest: String,
}

/// By proxy.
pub type Reports = BTreeMap<i64, Report>;

/// Reads what is new until told to stop.
pub async fn follow(crew: Arc<Crew>, mut reports: watch::Receiver<Reports>, stop: CancellationToken) {
    let mut known = BTreeMap::<i64, String>::new();
    let versions = Versions::default();
    loop {
        tokio::select! {
            changed = reports.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
        let told = reports.borrow_and_update().clone();
        known.retain(|proxy_id, _| told.contains_key(proxy_id));
        let news = told
            .into_iter()
            .filter(|(proxy_id, report)| known.get(proxy_id) != Some(&report.digest));
        let news: Vec<_> = news.collect();
        let reading = stream::iter(news).map(|(proxy_id, report)| learn(&crew, &versions, proxy_id, report));
        let learned = tokio::select! {
            learned = reading.buffer_unordered(AT_A_TIME).collect::<Vec<_>>() => learned,
            () = stop.cancelled() => return,
        };
        known.extend(learned.into_iter().flatten());
    }
}

/// Versions of which the items are kept already.
#[derive(Default)]
struct Versions(Mutex<BTreeSet<String>>);

impl Versions {
    fn known(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn are_kept(&self, crew: &Crew, version: &str) -> Result<bool, InventoryError> {
        if self.known().contains(version) {
            return Ok(true);
        }
        let kept = crew.parameters.seen_items(version).await?.is_some();
        if kept {
            self.known().insert(version.to_owned());
        }
        Ok(kept)
    }
}

/// → what is known of the proxy now; nothing if that is not written down, so that it is still news at the next look.
async fn learn(crew: &Crew, versions: &Versions, proxy_id: i64, report: Report) -> Option<(i64, String)> {
    match read(crew, versions, proxy_id, &report).await {
        Ok(digest) => digest.map(|digest| (proxy_id, digest)),
        Err(error) => {
            tracing::debug!(proxy = proxy_id, %error, "its configuration is not read yet");
            None
        }
    }
}

async fn read(crew: &Crew, versions: &Versions, proxy_id: i64, report: &Report) -> Result<Option<String>, ActionError> {
    let before = crew.parameters.config(proxy_id).await?;
    // A task may have written it down.
    if let Some(before) = &before
        && before.digest == report.digest
        && versions.are_kept(crew, &before.version.version).await?
    {
        return Ok(Some(report.digest.clone()));
    }
    let parameters = crew.agents.parameters(&report.host, proxy_id, PATIENCE).await?;
    let version = &parameters.version.version;
    if !versions.are_kept(crew, version).await? {
        crew.parameters
            .keep_seen_items(version, &seen_items(&parameters))
            .await?;
    }
    let config = ProxyConfig::read(proxy_id, before.as_ref(), &parameters, Timestamp::now());
    let digest = before.as_ref().map(|before| before.digest.as_str());
    // A task that has just changed it knows better.
    let written = crew.parameters.record_config(&config, digest).await?;
    Ok(written.then_some(config.digest))
}
