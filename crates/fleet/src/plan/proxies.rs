//! The proxies of a snapshot, by id and by cluster.

use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::{Arc, OnceLock},
};

use super::Table;
use crate::inventory::Proxy;

/// Proxies by id, which also tell those of one cluster without a look at all others.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    by_id: Table<Proxy>,
    /// Made by the first who asks, and again after a change.
    by_cluster: OnceLock<Arc<HashMap<i64, Vec<Arc<Proxy>>>>>,
}

impl Proxies {
    /// Those of a cluster, in the order of their ids.
    pub fn of_cluster(&self, cluster_id: i64) -> impl Iterator<Item = &Proxy> + Clone {
        let by_cluster = self.by_cluster.get_or_init(|| {
            let mut by_cluster = HashMap::<_, Vec<_>>::new();
            for proxy in self.by_id.shared() {
                by_cluster.entry(proxy.cluster_id).or_default().push(Arc::clone(proxy));
            }
            Arc::new(by_cluster)
        });
        let these = by_cluster.get(&cluster_id).map(Vec::as_slice).unwrap_or_default();
        these.iter().map(Arc::as_ref)
    }
}

impl From<Table<Proxy>> for Proxies {
    fn from(by_id: Table<Proxy>) -> Self {
        Self {
            by_id,
            by_cluster: OnceLock::new(),
        }
    }
}

impl PartialEq for Proxies {
    fn eq(&self, other: &Self) -> bool {
        self.by_id == other.by_id
    }
}

impl Deref for Proxies {
    type Target = Table<Proxy>;

    fn deref(&self) -> &Table<Proxy> {
        &self.by_id
    }
}

impl DerefMut for Proxies {
    /// Whoever may change something may change of which cluster it is.
    fn deref_mut(&mut self) -> &mut Table<Proxy> {
        self.by_cluster.take();
        &mut self.by_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_change_counts_at_once_and_not_in_another_copy() {
        let mut proxies = testing::fleet_of(3, "4.2.1.0-11").proxies;
        let of = |proxies: &Proxies, cluster| proxies.of_cluster(cluster).map(|proxy| proxy.id).collect::<Vec<_>>();
        assert_eq!((of(&proxies, 1), of(&proxies, 2)), (vec![10, 11, 12], vec![]));
        let before = proxies.clone();
        proxies.get_mut(&11).unwrap().cluster_id = 2;
        proxies.remove(&12);
        assert_eq!((of(&proxies, 1), of(&proxies, 2)), (vec![10], vec![11]));
        assert_eq!(of(&before, 1), [10, 11, 12]);
        assert_ne!(proxies, before);
    }
}
