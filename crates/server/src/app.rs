//! What the routes work with.

use std::{path::PathBuf, sync::Arc};

use obfleet_fleet::{Fleet, monitor::Monitor, secrets::Sealer};
use obfleet_store::{access_keys::AccessKeys, audit::Audit, sessions::Sessions, users::Users};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    agents::Agents, api::task_events::Listeners, auth::Authenticator, health::Health, metrics::Metrics, peers::Peers,
    pki::Authority,
};

/// The routes' surroundings, shared by all of them.
pub struct App {
    /// Hosts, clusters, packages and the tasks on them.
    pub fleet: Fleet,
    /// What is measured of proxies.
    pub monitor: Monitor,
    /// What was changed, and by whom.
    pub audit: Audit,
    /// Who may log in.
    pub users: Users,
    /// The keys by which programs sign their requests.
    pub access_keys: AccessKeys,
    /// Seals their secrets.
    pub sealer: Sealer,
    /// Browsers that are logged in.
    pub sessions: Sessions,
    /// Whether clients come by HTTPS: to this server, or by the public URL.
    pub is_https: bool,
    /// Checks credentials.
    pub authenticator: Authenticator,
    /// Signs agents' certificates.
    pub authority: Authority,
    /// Calls agents, and knows their certificates.
    pub agents: Arc<Agents>,
    /// The other servers on the database, if it is one that others may use.
    pub peers: Option<Arc<Peers>>,
    /// Id of the database, told to agents.
    pub installation: String,
    /// Where the state is kept, for people to read.
    pub store: String,
    /// Where uploads are written first.
    pub uploads: PathBuf,
    /// Bytes a package file may have.
    pub max_package_bytes: u64,
    /// Room for uploads that are on their way.
    pub upload_places: Semaphore,
    /// Clients that listen to events.
    pub listeners: Listeners,
    /// Fires when the server is told to stop.
    pub stop: CancellationToken,
    /// Whether the server can do its work.
    pub health: Health,
    /// What Prometheus is told.
    pub metrics: Arc<Metrics>,
}

/// How handlers get at it.
pub type AppState = axum::extract::State<Arc<App>>;
