//! The server's lease on the database: got at start, renewed, trusted for a little less time than the database trusts it,
//! and got anew, for a fresh incarnation, when it was lost.
//!
//! A server alone on its database has a lease without end: it is asked for once, and only another process that starts under
//! the same name can end it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::shared::Shared;
use super::{dispatch, handover, watch};
use crate::state::Owner;
use crate::store::{LeaseRequest, Store, StoreError};

/// A lease that lasts longer than any process.
const ENDLESS: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Wait before a renewal is tried again that the database did not answer.
const RENEWAL_RETRY: Duration = Duration::from_millis(100);

/// Wait before a new lease is asked for again.
const GRANT_RETRY: Duration = Duration::from_millis(250);

/// One lease of this process, from its grant to its end. It never begins again.
pub(super) struct Tenure {
    pub owner: Owner,
    /// Fires when it is over.
    lost: CancellationToken,
    /// Fires when its attempts must stop: when it is over, or the engine shuts down.
    pub stop: CancellationToken,
    /// Until when it is trusted; without end if `None`.
    trusted_until: Mutex<Option<Instant>>,
}

impl Tenure {
    fn new(owner: Owner, shutdown: &CancellationToken, trusted_until: Option<Instant>) -> Self {
        Self {
            owner,
            lost: CancellationToken::new(),
            stop: shutdown.child_token(),
            trusted_until: Mutex::new(trusted_until),
        }
    }

    /// Whether this process may believe at `now` that the database still grants it. If not, it is over: somebody has been
    /// told so, and a renewal that is answered late must not bring it back.
    pub fn is_trusted(&self, now: Instant) -> bool {
        if self.trusted_until().is_some_and(|until| until <= now) {
            self.lose();
        }
        !self.lost.is_cancelled()
    }

    /// It is over, and so is everything begun under it.
    pub fn lose(&self) {
        self.lost.cancel();
        self.stop.cancel();
    }

    fn trusted_until(&self) -> Option<Instant> {
        *self.trusted_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a renewal that was asked for at `asked`: the database granted it at that moment at the earliest.
    fn renewed(&self, asked: Instant, trust: Duration) {
        *self.trusted_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked + trust);
    }
}

/// The place of the current lease.
pub(super) struct Lease {
    tenure: Mutex<Arc<Tenure>>,
    /// Wakes whoever looks for work, once there is a new lease or somebody told of work.
    pub look_now: Notify,
}

impl Lease {
    pub fn new(tenure: Tenure) -> Self {
        Self {
            tenure: Mutex::new(Arc::new(tenure)),
            look_now: Notify::new(),
        }
    }

    /// The last lease, over or not.
    pub fn tenure(&self) -> Arc<Tenure> {
        Arc::clone(&self.tenure.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The lease to act under now.
    pub fn current(&self) -> Result<Arc<Tenure>, StoreError> {
        let tenure = self.tenure();
        if tenure.is_trusted(Instant::now()) {
            Ok(tenure)
        } else {
            Err(StoreError::LeaseLost)
        }
    }

    fn replace(&self, tenure: Tenure) {
        *self.tenure.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(tenure);
    }
}

/// Asks for a lease for a new incarnation. `replaces` as in [`LeaseRequest`].
pub(super) async fn grant<C: 'static>(
    store: &dyn Store<C>,
    options: &super::Options,
    shutdown: &CancellationToken,
    replaces: bool,
) -> Result<Tenure, StoreError> {
    let owner = Owner {
        server: options.server.clone(),
        incarnation: uuid::Uuid::new_v4().simple().to_string(),
    };
    let sharing = options.sharing.as_ref();
    let asked = Instant::now();
    let request = LeaseRequest {
        owner: &owner,
        ttl: sharing.map_or(ENDLESS, |sharing| sharing.ttl),
        replaces,
        version: env!("CARGO_PKG_VERSION"),
        url: options.url.as_deref(),
    };
    store.grant_lease(&request).await?;
    let trusted_until = sharing.map(|sharing| asked + sharing.trust());
    Ok(Tenure::new(owner, shutdown, trusted_until))
}

/// Holds the lease for as long as the engine runs.
pub(super) async fn keep<C: Send + Sync + 'static>(shared: Arc<Shared<C>>) {
    loop {
        let tenure = shared.lease.tenure();
        hold(&shared, &tenure).await;
        tenure.lose();
        if shared.shutdown.is_cancelled() {
            return;
        }
        tracing::error!(
            server = tenure.owner.server,
            "the lease on the state database is lost: what runs here is given up, for other servers to take over"
        );
        shared.forget_everything();
        regain(&shared).await;
        tracing::info!(server = tenure.owner.server, "there is a lease again: going on");
        // What the ended incarnation held was not ended by a death, unless another server was faster and thought so.
        handover::give_back(&shared).await;
        if let Err(error) = take_up(&shared).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "unfinished tasks could not be taken up"
            );
        }
        shared.lease.look_now.notify_one();
    }
}

/// Goes on with what is unfinished, and takes over from processes that are dead.
pub(super) async fn take_up<C: Send + Sync + 'static>(shared: &Arc<Shared<C>>) -> Result<(), StoreError> {
    match &shared.options.sharing {
        None => dispatch::resume(shared).await,
        Some(_) => watch::look(shared).await.map(drop),
    }
}

/// Renews a lease until it is over.
async fn hold<C: Send + Sync + 'static>(shared: &Arc<Shared<C>>, tenure: &Tenure) {
    let Some(sharing) = &shared.options.sharing else {
        return tenure.lost.cancelled().await;
    };
    let mut wait = sharing.renewal;
    while let Some(until) = tenure.trusted_until() {
        let due = (Instant::now() + wait).min(until);
        tokio::select! {
            () = tenure.lost.cancelled() => return,
            () = sleep_until(due) => {}
        }
        let asked = Instant::now();
        if asked >= until {
            return;
        }
        let draining = shared.draining.is_cancelled();
        let renewal = shared.store.renew_lease(&tenure.owner, sharing.ttl, draining);
        match timeout_at(until, renewal).await {
            Ok(Ok(())) => {
                tenure.renewed(asked, sharing.trust());
                wait = sharing.renewal;
            }
            Ok(Err(StoreError::LeaseLost)) | Err(_) => return,
            Ok(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the lease could not be renewed; trying again"
                );
                wait = RENEWAL_RETRY;
            }
        }
    }
}

async fn regain<C: Send + Sync + 'static>(shared: &Arc<Shared<C>>) {
    let mut told = false;
    loop {
        match grant(&*shared.store, &shared.options, &shared.shutdown, false).await {
            Ok(tenure) => return shared.lease.replace(tenure),
            Err(error) if !told => {
                told = true;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "no new lease yet; asking again until there is"
                );
            }
            Err(_) => {}
        }
        sleep(GRANT_RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenure(trusted_until: Option<Instant>) -> Tenure {
        let owner = Owner {
            server: "server".into(),
            incarnation: "1".into(),
        };
        Tenure::new(owner, &CancellationToken::new(), trusted_until)
    }

    #[test]
    fn a_lease_is_trusted_from_before_it_was_asked_for() {
        let start = Instant::now();
        let (second, trust) = (Duration::from_secs(1), Duration::from_millis(2500));
        let lease = tenure(Some(start + trust));
        assert!(lease.is_trusted(start + 2 * second));
        lease.renewed(start + second, trust);
        assert!(lease.is_trusted(start + 3 * second));
        assert!(!lease.is_trusted(start + second + trust));
    }

    #[test]
    fn a_lease_that_was_not_trusted_once_does_not_come_back() {
        let now = Instant::now();
        let lease = tenure(Some(now));
        assert!(!lease.is_trusted(now));
        lease.renewed(now, ENDLESS);
        assert!(!lease.is_trusted(now));
        assert!(lease.stop.is_cancelled(), "its attempts are told");
    }

    #[test]
    fn a_lease_that_ended_is_not_trusted_whatever_was_renewed() {
        let now = Instant::now();
        for lease in [tenure(None), tenure(Some(now + ENDLESS))] {
            assert!(lease.is_trusted(now));
            lease.lose();
            lease.renewed(now, ENDLESS);
            assert!(!lease.is_trusted(now));
        }
    }
}
