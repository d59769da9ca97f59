//! The other servers on the database: telling them of work ([`nudges`]) and sharing package files with them ([`files`]).
//!
//! What servers know of each other is in the database: where each can be reached, and that it has its lease. They call each
//! other at the address of the API, below `/internal`, and each call has a [`pass`].

pub mod files;
pub mod nudges;
pub mod pass;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use obfleet_store::servers::{OtherServer, Servers};
use obfleet_wire::time::Timestamp;
use reqwest::{Client, Method, RequestBuilder, StatusCode};

use self::pass::Passes;
use crate::metrics::Metrics;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two pieces of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long nudges go to those that were found. A lease lasts longer.
const BELIEVED: Duration = Duration::from_secs(1);

/// The client for other servers cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("other servers cannot be called")]
pub struct PeersError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Calls the other servers.
pub struct Peers {
    /// Makes and checks the passes of calls.
    pub passes: Passes,
    servers: Servers,
    http: Client,
    metrics: Arc<Metrics>,
    known: Mutex<Option<(Instant, Vec<OtherServer>)>>,
    /// Those that did not answer the last nudge.
    deaf: Mutex<BTreeSet<String>>,
}

impl Peers {
    /// The peers of the server that has these passes.
    pub fn new(passes: Passes, servers: Servers, metrics: Arc<Metrics>) -> Result<Self, PeersError> {
        // Calls are known by their passes, with TLS as without: the certificates are for clients, and of whichever authority
        // these know.
        let tls = obfleet_agent::unauthenticated_config().map_err(|error| PeersError(error.into()))?;
        let http = Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build()
            .map_err(|error| PeersError(error.into()))?;
        Ok(Self {
            passes,
            servers,
            http,
            metrics,
            known: Mutex::default(),
            deaf: Mutex::default(),
        })
    }

    /// The others that have a lease, as of a second ago at most.
    async fn lately(&self) -> Vec<OtherServer> {
        let known = self.known().clone();
        match known {
            Some((at, others)) if at.elapsed() < BELIEVED => others,
            _ => self.others().await,
        }
    }

    /// The others that have a lease now; those last known when the database does not tell.
    async fn others(&self) -> Vec<OtherServer> {
        let found = self.servers.others(self.passes.own()).await;
        let mut known = self.known();
        let others = found.unwrap_or_else(|error| {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "nobody knows where the other servers are"
            );
            known.take().map(|(_, others)| others).unwrap_or_default()
        });
        *known = Some((Instant::now(), others.clone()));
        others
    }

    fn known(&self) -> MutexGuard<'_, Option<(Instant, Vec<OtherServer>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This server's number among those that have a lease, from 0, and how many there are: for work of which each does its
    /// share.
    pub async fn place(&self) -> (i64, i64) {
        let others = self.lately().await;
        let before = others
            .iter()
            .filter(|other| other.id.as_str() < self.passes.own())
            .count();
        let number = |count: usize| i64::try_from(count).unwrap_or(0);
        (number(before), number(others.len()) + 1)
    }

    /// A call to another server, with a pass.
    fn call(&self, to: &OtherServer, method: Method, path: &str) -> RequestBuilder {
        let pass = self.passes.make(&to.id, method.as_str(), path, Timestamp::now());
        let url = format!("{}{path}", to.url.trim_end_matches('/'));
        self.http.request(method, url).header(pass::HEADER, pass)
    }
}

/// Says what is wrong with an answer that is not the one asked for.
fn checked(to: &OtherServer, answer: reqwest::Response) -> Result<reqwest::Response, String> {
    let OtherServer { id, url } = to;
    match answer.status() {
        status if status.is_success() => Ok(answer),
        StatusCode::MISDIRECTED_REQUEST => Err(format!(
            "{url} leads to another server than {id}; start that one with a --peer-url of its own"
        )),
        status => Err(format!("server {id} at {url} answered {status}")),
    }
}
