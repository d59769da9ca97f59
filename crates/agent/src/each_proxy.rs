//! One background task for each owned proxy, for as long as it is owned.

use std::collections::HashSet;

use tokio::task::JoinSet;

use crate::proxies::Registry;

/// Runs `watch` for every proxy of the registry, also for those that come later, until dropped.
///
/// A watch ends by itself when its proxy is no longer owned.
pub(crate) async fn each_proxy<W>(registry: &Registry, watch: impl Fn(i64) -> W)
where
    W: Future<Output = ()> + Send + 'static,
{
    let mut changes = registry.changes();
    let mut watched = HashSet::new();
    let mut watches = JoinSet::new();
    loop {
        for owned in registry.all() {
            let proxy_id = owned.spec.proxy_id;
            if watched.insert(proxy_id) {
                let watch = watch(proxy_id);
                watches.spawn(async move {
                    watch.await;
                    proxy_id
                });
            }
        }
        tokio::select! {
            Some(Ok(gone)) = watches.join_next() => {
                watched.remove(&gone);
            }
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}
