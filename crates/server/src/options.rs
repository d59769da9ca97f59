//! How a server is run.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use obfleet_store::Address;
use obfleet_wire::agent::DrainPolicy;

use crate::{api::task_events::ListenerOptions, tls::TlsFiles};

/// A stolen certificate is of use for no longer, and a host may be away for four months.
const AGENTS_VALID: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Most steps are over in less; those that are not are agents' work, which goes on without the server.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// An OBProxy package has some 50 MB, with debug information some 500.
const MAX_PACKAGE_BYTES: u64 = 1 << 30;
/// A thousand a second, which no tool needs and a script gone wild exceeds.
const REQUESTS_PER_MINUTE: u32 = 60_000;
/// More than a browser or a script needs, and a small part of what a system allows a server.
const CONNECTIONS_PER_ADDRESS: u32 = 1_000;
/// A proxy costs some megabytes in this time.
const KEEP_METRICS: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How to run a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The directory that keeps the server's state.
    pub state_dir: PathBuf,
    /// The state database, when it is not the file in the state directory.
    pub database: Option<Address>,
    /// Certificate and key to listen with; plain HTTP when absent.
    pub tls: Option<TlsFiles>,
    /// Without `tls`: speaks HTTPS with a certificate of its own making, from an authority in the state directory.
    pub own_certificate: bool,
    /// Where plain HTTP is answered with the way to HTTPS; with TLS only.
    pub redirect_http: Option<SocketAddr>,
    /// Whether to listen beyond this machine without TLS, where passwords can be read on their way.
    pub insecure_http: bool,
    /// Where clients and agents reach the server, `http://host:port`; made from `listen` when absent.
    pub public_url: Option<String>,
    /// Where the other servers on the database reach this one, `http://host:port`; the public URL when absent, or, where
    /// that is none of HTTP, made from `listen`.
    pub peer_url: Option<String>,
    /// Holds the administrator's password, at the first start and whenever it is given.
    pub admin_password_file: Option<PathBuf>,
    /// Bytes an uploaded package may have.
    pub max_package_bytes: u64,
    /// The directory with the public keys that packages may be signed with; any package is taken when absent.
    pub package_keys: Option<PathBuf>,
    /// Requests each user may make in a minute; 0 for any number.
    pub requests_per_minute: u32,
    /// Connections that each address, or /64 of IPv6 addresses, may have open; 0 for any number.
    pub connections_per_address: u32,
    /// How sessions of a proxy process that is to go are ended.
    pub drain: DrainPolicy,
    /// How long running steps may take to end once the server is told to stop; what is left is handed over to the next
    /// start.
    pub drain_timeout: Duration,
    /// How long an agent's certificate is good; it is renewed when two thirds are over.
    pub agents_valid: Duration,
    /// How long the history of tasks that are over is kept; for ever when absent.
    pub keep_tasks: Option<Duration>,
    /// How long audit records are kept; for ever when absent.
    pub keep_audit: Option<Duration>,
    /// How long what is measured of proxies is kept, by the minute.
    pub keep_metrics: Duration,
    /// How clients that listen to events are served.
    pub listeners: ListenerOptions,
}

impl Options {
    /// With everything else as it is usual.
    pub fn new(listen: SocketAddr, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            listen,
            state_dir: state_dir.into(),
            database: None,
            tls: None,
            own_certificate: false,
            redirect_http: None,
            insecure_http: false,
            public_url: None,
            peer_url: None,
            admin_password_file: None,
            max_package_bytes: MAX_PACKAGE_BYTES,
            package_keys: None,
            requests_per_minute: REQUESTS_PER_MINUTE,
            connections_per_address: CONNECTIONS_PER_ADDRESS,
            drain: DrainPolicy {
                window_ms: 60_000,
                closes_per_second: 50,
            },
            drain_timeout: DRAIN_TIMEOUT,
            agents_valid: AGENTS_VALID,
            keep_tasks: None,
            keep_audit: None,
            keep_metrics: KEEP_METRICS,
            listeners: ListenerOptions::default(),
        }
    }
}
