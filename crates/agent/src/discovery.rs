//! What runs on this host, the agent's own or not.

use std::io;

use obfleet_obproxy::discovery::{self, Found};
use obfleet_wire::agent::StartMethod;

use crate::proxies::{Owned, Phase, Registry};

/// Every proxy that runs here; those of the agent are marked.
pub(crate) async fn find(registry: &Registry) -> io::Result<Vec<Found>> {
    let mut found = discovery::find().await?;
    let owned = registry.all();
    for proxy in &mut found {
        if let Some(owner) = owner_of(proxy, &owned) {
            proxy.told.managed = true;
            proxy.told.obproxy_server_id = Some(owner.spec.proxy_id);
            proxy.told.start_method = StartMethod::Obfleet;
        }
    }
    Ok(found)
}

/// The record of the proxy in whose home it runs.
pub(crate) fn owner_of<'a>(found: &Found, owned: &'a [Owned]) -> Option<&'a Owned> {
    let home = found.home()?;
    owned
        .iter()
        .filter(|owned| !matches!(owned.phase, Phase::Removed { .. }))
        .find(|owned| owned.home.canonicalize().is_ok_and(|of_owned| of_owned == home))
}
