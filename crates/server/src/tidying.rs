//! What a server clears up by the way: the package files of this server are to be the same as everybody's, those of deleted
//! packages go, missing ones come; and signatures are forgotten once they are too old to be let in.

use std::{sync::Arc, time::Duration};

use obfleet_fleet::{flows::crew::Crew, inventory::Inventory};
use obfleet_wire::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::auth::Authenticator;

/// Time between two looks. An upload brings the file to all servers that are up, and a step fetches what it misses.
const PERIOD: Duration = Duration::from_secs(60);

/// How long it is kept what befell hosts and proxies, in ms.
const KEEP_EVENTS: i64 = 90 * 24 * 60 * 60 * 1000;
/// And how much of it.
const MOST_EVENTS: u64 = 20_000;

/// Tidies at once and then every minute, until told to stop.
pub async fn keep_tidy(crew: Arc<Crew>, stop: CancellationToken) {
    let mut told = None;
    while !stop.is_cancelled() {
        let trouble = crew.packages.tidy(&*crew.inventory).await.err();
        let trouble = trouble.map(|error| error.to_string());
        // Once for each trouble, not once a minute.
        if let Some(trouble) = trouble.as_ref().filter(|trouble| told.as_ref() != Some(*trouble)) {
            tracing::warn!(trouble, "the package files are not all here");
        }
        told = trouble;
        prune_events(&*crew.inventory, Timestamp::now()).await;
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Forgets old signatures, sessions and failed logins every minute, until told to stop.
pub async fn forget_signatures(authenticator: Authenticator, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
        if let Err(error) = authenticator.forget_signatures().await {
            tracing::warn!(%error, "old signatures are not forgotten yet; trying again in a minute");
        }
        if let Err(error) = authenticator.forget_sessions().await {
            tracing::warn!(%error, "sessions that are over are not forgotten yet; trying again in a minute");
        }
        if let Err(error) = authenticator.forget_failures().await {
            tracing::warn!(%error, "old failures to log in are not forgotten yet; trying again in a minute");
        }
    }
}

/// In small steps; what is left goes a minute later.
async fn prune_events(inventory: &dyn Inventory, now: Timestamp) {
    let before = Timestamp(now.millis() - KEEP_EVENTS);
    if let Err(error) = inventory.prune_events(before, MOST_EVENTS).await {
        tracing::debug!(%error, "old events are not deleted yet");
    }
}
