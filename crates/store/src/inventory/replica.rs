//! The whole inventory in this server's memory.
//!
//! Nearly every request needs some of it, and a large fleet takes long to read. So it is read once; after that, only what
//! has changed ([`news`]). Every look first asks the database whether anything has: what is answered is never older than the
//! question, also where several servers write.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use obfleet_fleet::plan::{Snapshot, Table};
use sqlx::Error;
use tokio::sync::Mutex;

use super::news::{self, KEPT, News};
use super::{all, site};
use crate::sql::{Pool, Transaction};

/// Changes that are read one by one; to read all of it takes hardly longer than more of them.
const FEW: usize = 2_000;

/// Every so many changes, a development build compares what it knows with what there is.
const COMPARED: i64 = 16;

/// What is known of the inventory.
#[derive(Debug, Default)]
pub(super) struct Replica {
    known: RwLock<Known>,
    /// Held by whoever reads what has changed.
    reading: Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// `None` before the first look.
    revision: Option<i64>,
    fleet: Arc<Snapshot>,
}

impl Replica {
    /// The inventory as it is now.
    pub(super) async fn look(&self, readers: &Pool) -> Result<Arc<Snapshot>, Error> {
        let now = news::revision(readers).await?;
        if let Some(fleet) = self.as_of(now) {
            return Ok(fleet);
        }
        let _one = self.reading.lock().await;
        // Whoever was reading may have seen to it.
        if let Some(fleet) = self.as_of(now) {
            return Ok(fleet);
        }
        // One transaction is one state of the database: nothing can be half-way between two of the reads.
        let mut tx = readers.read().await?;
        let now = news::revision(&mut tx).await?;
        let known = self.revision().filter(|known| now - known <= KEPT);
        let news = match known {
            Some(known) => news::since(&mut tx, known, FEW).await?,
            None => None,
        };
        let Some(news) = news else {
            let all = all::of_everything(&mut tx).await?;
            return Ok(self.write(now, |fleet| *fleet = all));
        };
        let changes = Changes::read(&mut tx, &news).await?;
        let fleet = self.write(now, |fleet| changes.apply(fleet));
        if cfg!(debug_assertions) && now % COMPARED == 0 {
            // A change that nobody told of is missing from then on.
            let all = all::of_everything(&mut tx).await?;
            assert!(*fleet == all, "not all was told of: {fleet:?} should be {all:?}");
        }
        Ok(fleet)
    }

    fn revision(&self) -> Option<i64> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).revision
    }

    /// What is known, if it is not older than that.
    fn as_of(&self, revision: i64) -> Option<Arc<Snapshot>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let is_new = known.revision.is_some_and(|known| known >= revision);
        is_new.then(|| Arc::clone(&known.fleet))
    }

    /// Changes what is known in place, unless somebody still looks at it.
    fn write(&self, revision: i64, change: impl FnOnce(&mut Snapshot)) -> Arc<Snapshot> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut known.fleet));
        known.revision = Some(revision);
        Arc::clone(&known.fleet)
    }
}

/// Ids of what may have changed, and of that what there is now; the rest of it is gone.
#[derive(Default)]
struct Changes {
    hosts: BTreeSet<i64>,
    proxies: BTreeSet<i64>,
    clusters: BTreeSet<i64>,
    packages: BTreeSet<i64>,
    ob_clusters: BTreeSet<i64>,
    sites: bool,
    now: Snapshot,
}

impl Changes {
    async fn read(tx: &mut Transaction, news: &[News]) -> Result<Self, Error> {
        let mut changes = Self::default();
        let mut seen = BTreeSet::new();
        for news in news {
            let (ids, id) = match *news {
                News::Host(id) => (&mut changes.hosts, id),
                News::Seen(id) => {
                    seen.insert(id);
                    (&mut changes.hosts, id)
                }
                News::Proxy(id) => (&mut changes.proxies, id),
                News::Cluster(id) => (&mut changes.clusters, id),
                News::Package(id) => (&mut changes.packages, id),
                News::ObCluster(id) => (&mut changes.ob_clusters, id),
                News::Sites => {
                    changes.sites = true;
                    continue;
                }
            };
            ids.insert(id);
        }
        let mut proxies = all::proxies_with(&changes.proxies, tx).await?;
        proxies.extend(all::proxies_on(&seen, tx).await?);
        for proxy in &proxies {
            changes.proxies.insert(proxy.id);
            changes.clusters.insert(proxy.cluster_id);
        }
        let now = &mut changes.now;
        now.proxies = all::by_id(proxies, |proxy| (!proxy.deleted).then_some(proxy.id)).into();
        let hosts = all::hosts_with(&changes.hosts, tx).await?;
        now.hosts = all::by_id(hosts, |host| (!host.deleted).then_some(host.id));
        let clusters = all::clusters_with(&changes.clusters, tx).await?;
        now.clusters = all::by_id(clusters, |cluster| (!cluster.deleted).then_some(cluster.id));
        now.ob_links = all::links_of(&changes.clusters, tx).await?;
        let packages = all::packages_with(&changes.packages, tx).await?;
        now.packages = all::by_id(packages, |package| Some(package.id));
        let ob_clusters = all::ob_clusters_with(&changes.ob_clusters, tx).await?;
        now.ob_clusters = all::by_id(ob_clusters, |known| Some(known.id));
        if changes.sites {
            now.sites = site::all(tx).await?;
        }
        Ok(changes)
    }

    fn apply(self, fleet: &mut Snapshot) {
        let now = self.now;
        replace(&mut fleet.hosts, &self.hosts, &now.hosts);
        replace(&mut fleet.proxies, &self.proxies, &now.proxies);
        replace(&mut fleet.clusters, &self.clusters, &now.clusters);
        replace(&mut fleet.packages, &self.packages, &now.packages);
        replace(&mut fleet.ob_clusters, &self.ob_clusters, &now.ob_clusters);
        fleet.ob_links.retain(|link| !self.clusters.contains(&link.cluster_id));
        fleet.ob_links.extend(now.ob_links);
        fleet.ob_links.sort_by(all::order_of_links);
        if self.sites {
            fleet.sites = now.sites;
        }
    }
}

fn replace<T>(known: &mut Table<T>, ids: &BTreeSet<i64>, now: &Table<T>) {
    for id in ids {
        known.remove(id);
    }
    known.extend(now);
}
