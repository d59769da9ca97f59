//! Takes away what is kept for a while only: homes of removed proxies.

use std::{sync::Arc, time::Duration};

use obfleet_wire::time::Timestamp;
use tokio::time::interval;

use crate::{
    describe,
    operations::{Node, OperationError, Thing, remove_dir},
    proxies::{Owned, Phase},
};

/// How long a removed proxy can be restored.
const KEPT: Duration = Duration::from_secs(24 * 3600);
const ROUND: Duration = Duration::from_secs(3600);

/// Goes round every hour, until dropped.
pub(crate) async fn sweep(node: Arc<Node>) {
    let mut rounds = interval(ROUND);
    loop {
        rounds.tick().await;
        for owned in node.registry.all() {
            if let Err(e) = purge(&node, &owned, Timestamp::now()) {
                tracing::warn!(proxy = owned.spec.proxy_id, error = %describe(&e), "a removed home stays");
            }
        }
    }
}

/// Deletes the home of a proxy removed long ago, and forgets the proxy.
fn purge(node: &Node, owned: &Owned, now: Timestamp) -> Result<(), OperationError> {
    let proxy_id = owned.spec.proxy_id;
    let Phase::Removed { aside, at } = &owned.phase else {
        return Ok(());
    };
    let age = now.millis() / 1000 - at;
    if age < KEPT.as_secs().cast_signed() {
        return Ok(());
    }
    let Some(_turn) = node.things.try_lock(Thing::Proxy(proxy_id)) else {
        return Ok(());
    };
    remove_dir(aside)?;
    node.registry.forget(proxy_id)?;
    Ok(())
}
