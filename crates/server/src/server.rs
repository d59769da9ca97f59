//! Starting and stopping a server: the one place where all parts are put together.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{Router, http::Uri};
use axum_server::{Handle, accept::NoDelayAcceptor};
use obfleet_agent::client::AgentClient;
use obfleet_engine::{Engine, EngineError, Registry, Sharing};
use obfleet_fleet::{
    Fleet,
    flows::{self, crew::Crew},
    inventory::{Inventory as _, InventoryChange, InventoryError},
    observer,
    secrets::Sealer,
};
use obfleet_store::{Address, Database, DatabaseError, Location};
use obfleet_wire::{agent::DrainPolicy, time::Timestamp};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    agents::Agents,
    api::task_events::{ListenerOptions, Listeners},
    app::App,
    auth::{
        Authenticator,
        first_user::{self, FirstUserError},
    },
    founding::{self, FoundingError},
    health::Health,
    metrics::{Metrics, agents::MeasuredAgents, store::MeasuredStore},
    pki::{Authority, PkiError},
    renewal::Renewal,
    retention,
    router::router,
    state_dir::{StateDir, StateDirError},
};

/// Time a client may take for the head of a request, so that slow ones do not pile up.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// How long requests under way may take at most once the server is told to stop; no longer than running steps, either.
const GRACE: Duration = Duration::from_secs(10);
/// A stolen certificate is of use for no longer, and a host may be away for four months.
const AGENTS_VALID: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Most steps are over in less; those that are not are agents' work, which goes on without the server.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// An OBProxy package has some 50 MB, with debug information some 500.
const MAX_PACKAGE_BYTES: u64 = 1 << 30;

/// How to run a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The directory that keeps the server's state.
    pub state_dir: PathBuf,
    /// The state database, when it is not the file in the state directory.
    pub database: Option<Address>,
    /// Where clients and agents reach the server, `http://host:port`; made from `listen` when absent.
    pub public_url: Option<String>,
    /// Holds the administrator's password, at the first start and whenever it is given.
    pub admin_password_file: Option<PathBuf>,
    /// Bytes an uploaded package may have.
    pub max_package_bytes: u64,
    /// How sessions of a proxy process that is to go are ended.
    pub drain: DrainPolicy,
    /// How long running steps may take to end once the server is told to stop; what is left is handed over to the next
    /// start.
    pub drain_timeout: Duration,
    /// How long an agent's certificate is good; it is renewed when two thirds are over.
    pub agents_valid: Duration,
    /// How long the history of tasks that are over is kept; for ever when absent.
    pub keep_tasks: Option<Duration>,
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
            public_url: None,
            admin_password_file: None,
            max_package_bytes: MAX_PACKAGE_BYTES,
            drain: DrainPolicy {
                window_ms: 60_000,
                closes_per_second: 50,
            },
            drain_timeout: DRAIN_TIMEOUT,
            agents_valid: AGENTS_VALID,
            keep_tasks: None,
            listeners: ListenerOptions::default(),
        }
    }
}

/// The server cannot start, or did not stop well.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The state directory.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// The address.
    #[error("cannot listen on {address}; give --listen an address of this host and a port that nobody uses")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The public URL.
    #[error("'{0}' is no URL that clients could be given; write --public-url as http://host:port")]
    PublicUrl(String),
    /// The state database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The inventory in it.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// Its key and its authority.
    #[error(transparent)]
    Founding(#[from] FoundingError),
    /// The administrator.
    #[error(transparent)]
    FirstUser(#[from] FirstUserError),
    /// This server's certificate.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The client for agents.
    #[error("agents cannot be called")]
    Agents(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The task engine.
    #[error("the task engine cannot start")]
    Engine(#[from] EngineError),
    /// Accepting connections.
    #[error("the server stopped listening")]
    Serve(#[source] io::Error),
}

/// A server in this process.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where clients reach it.
    pub url: String,
    /// The administrator's password, when this start has made one: show it, it is not kept.
    pub admin_password: Option<String>,
    app: Arc<App>,
    handle: Handle<SocketAddr>,
    stop: CancellationToken,
    serving: JoinHandle<io::Result<()>>,
    observing: JoinHandle<()>,
    renewing: JoinHandle<()>,
    drain_timeout: Duration,
    // Last: the directory stays locked until everything else is gone.
    _state_dir: StateDir,
}

/// Starts servers.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Starts a server: unfinished tasks go on at once, and requests are answered when this returns.
    pub async fn start(options: Options) -> Result<Running, ServerError> {
        let state_dir = StateDir::open(&options.state_dir)?;
        let failed = |source| ServerError::Listen {
            address: options.listen,
            source,
        };
        let listener = TcpListener::bind(options.listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let url = match &options.public_url {
            Some(given) => checked_url(given)?,
            None => format!("http://{}", reachable(address)),
        };
        let server_id = state_dir.server_id()?;

        let place = location(options.database.as_ref(), &options.state_dir);
        let database = Database::at(&place).await?;
        // Before anything is written: this may be the wrong database.
        let common = founding::common(&state_dir, &database, options.agents_valid).await?;
        let authority = common.authority;
        let users = database.users();
        let password_file = options.admin_password_file.as_deref();
        let admin_password = first_user::ensure(&users, password_file, Timestamp::now()).await?;
        let metrics = Arc::new(Metrics::default());
        let agents = Arc::new(agents(&authority)?);
        let crew = crew(
            &options,
            &state_dir,
            &database,
            common.sealer,
            Arc::clone(&agents),
            &metrics,
        )
        .await?;
        let fleet = fleet(&crew, &database, &server_id, &url, &metrics).await?;
        let stop = CancellationToken::new();
        let app = Arc::new(App {
            listeners: Listeners::new(options.listeners),
            stop: stop.clone(),
            health: Health::new(Arc::clone(&crew.inventory), fleet.engine().clone()),
            metrics: Arc::clone(&metrics),
            agents: Arc::clone(&agents),
            fleet,
            authenticator: Authenticator::new(users.clone()),
            users,
            authority: authority.clone(),
            installation: crew.installation.id.clone(),
            store: place.to_string(),
            uploads: state_dir.uploads(),
            max_package_bytes: options.max_package_bytes,
        });

        let renewal = Renewal {
            agents,
            inventory: Arc::clone(&crew.inventory),
            authority,
            metrics,
        };
        let renewing = tokio::spawn(renewal.keep_up(stop.clone()));
        if let Some(keep) = options.keep_tasks {
            tokio::spawn(retention::keep(app.fleet.engine().clone(), keep, stop.clone()));
        }
        let observing = tokio::spawn(observer::observe(crew, stop.clone()));
        let handle = Handle::new();
        let serving = tokio::spawn(serve(listener, router(Arc::clone(&app), &server_id), handle.clone()));
        tracing::info!(%address, url, database = %place, "server started");
        Ok(Running {
            address,
            url,
            admin_password,
            app,
            handle,
            stop,
            serving,
            observing,
            renewing,
            drain_timeout: options.drain_timeout,
            _state_dir: state_dir,
        })
    }
}

/// Where the state of a server is: at this address, or in a file of its state directory.
pub fn location(database: Option<&Address>, state_dir: &Path) -> Location {
    match database {
        Some(address) => Location::Server(address.clone()),
        None => Location::File(StateDir::database(state_dir)),
    }
}

/// Paths are put behind it as it is.
fn checked_url(given: &str) -> Result<String, ServerError> {
    let url = given.trim_end_matches('/');
    let parsed: Option<Uri> = url.parse().ok();
    let good = parsed.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() && uri.query().is_none()
    });
    if good {
        Ok(url.to_owned())
    } else {
        Err(ServerError::PublicUrl(given.to_owned()))
    }
}

/// What clients on this machine can connect to.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
        _ => address,
    }
}

fn agents(authority: &Authority) -> Result<Agents, ServerError> {
    let identity = authority.server_identity()?;
    let client = AgentClient::new(
        authority.certificate_pem(),
        &identity.certificate_pem,
        &identity.key_pem,
    );
    Ok(Agents::new(client.map_err(|error| ServerError::Agents(error.into()))?))
}

async fn crew(
    options: &Options,
    state_dir: &StateDir,
    database: &Database,
    sealer: Sealer,
    agents: Arc<Agents>,
    metrics: &Arc<Metrics>,
) -> Result<Arc<Crew>, ServerError> {
    let inventory = database.inventory();
    let installation = inventory.installation().await?;
    Ok(Arc::new(Crew {
        inventory: Arc::new(inventory),
        agents: Arc::new(MeasuredAgents::new(agents, Arc::clone(metrics))),
        packages: state_dir.packages(),
        sealer,
        installation,
        drain: options.drain,
    }))
}

async fn fleet(
    crew: &Arc<Crew>,
    database: &Database,
    server_id: &str,
    url: &str,
    metrics: &Arc<Metrics>,
) -> Result<Fleet, ServerError> {
    let registry = Registry::<InventoryChange>::new(flows::actions(crew))?;
    let options = obfleet_engine::Options {
        executor: host_of(url).to_owned(),
        url: Some(url.to_owned()),
        sharing: database.is_shared().then(Sharing::default),
        ..obfleet_engine::Options::new(server_id)
    };
    let store = MeasuredStore::new(database.tasks(), Arc::clone(metrics));
    let engine = Engine::start(Arc::new(store), registry, options).await?;
    Ok(Fleet::new(Arc::clone(crew), engine, url))
}

/// The host in a URL, without the port: what OCP calls the executor.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

async fn serve(listener: TcpListener, router: Router, handle: Handle<SocketAddr>) -> io::Result<()> {
    let mut server = axum_server::from_tcp(listener)?.handle(handle).http1_only();
    server.http_builder().http1().header_read_timeout(HEAD_TIMEOUT);
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    // Answers are small and wanted at once.
    server.acceptor(NoDelayAcceptor::new()).serve(service).await
}

impl Running {
    /// The fleet behind the API.
    pub fn fleet(&self) -> &Fleet {
        &self.app.fleet
    }

    /// The authority that agents are enrolled with.
    pub fn authority(&self) -> &Authority {
        &self.app.authority
    }

    /// Number of password verifications so far.
    pub fn verifications(&self) -> u64 {
        self.app.authenticator.verifications()
    }

    /// Serves until `shutdown` is ready, then stops.
    pub async fn run_until(mut self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let ended = tokio::select! {
            () = shutdown => None,
            ended = &mut self.serving => Some(ended),
        };
        self.finish(ended).await
    }

    /// Stops: no new requests and no new steps, a while for those under way; then the engine lets go of what is left. Tasks
    /// go on at the next start, and what agents have in hand goes on without us.
    pub async fn stop(self) -> Result<(), ServerError> {
        self.finish(None).await
    }

    async fn finish(self, ended: Option<Result<io::Result<()>, JoinError>>) -> Result<(), ServerError> {
        let limit = self.drain_timeout;
        self.handle.graceful_shutdown(Some(limit.min(GRACE)));
        self.stop.cancel();
        let engine = self.app.fleet.engine().clone();
        tracing::info!(seconds = limit.as_secs(), "draining");
        let draining = tokio::spawn(async move { engine.drain(limit).await });
        let ended = match ended {
            Some(ended) => ended,
            None => self.serving.await,
        };
        let engine = self.app.fleet.engine();
        let left = draining.await.unwrap_or_default();
        engine.shutdown().await;
        tracing::info!(steps_handed_over = left, "server stopped");
        for (who, ended) in [("observer", self.observing.await), ("renewal", self.renewing.await)] {
            if let Err(error) = ended {
                tracing::warn!(who, %error, "ended badly");
            }
        }
        ended.map_err(io::Error::other).flatten().map_err(ServerError::Serve)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_one_that_paths_can_be_put_behind() {
        for (given, url) in [
            ("http://10.0.0.1:8080", "http://10.0.0.1:8080"),
            ("https://fleet.example/", "https://fleet.example"),
            ("https://example.org/fleet/", "https://example.org/fleet"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(checked_url(given).unwrap(), url);
        }
        for given in [
            "",
            "foo",
            "10.0.0.1:8080",
            "ftp://x",
            "http://",
            "http://a b",
            "http://x?y=1",
            "/",
        ] {
            assert!(matches!(checked_url(given), Err(ServerError::PublicUrl(_))), "{given}");
        }
    }

    #[test]
    fn the_executor_is_the_host_of_the_url() {
        assert_eq!(host_of("http://10.0.0.1:8080"), "10.0.0.1");
        assert_eq!(host_of("https://fleet.example/"), "fleet.example");
        assert_eq!(host_of("http://[::1]:8080/x"), "[::1]");
        assert_eq!(host_of("http://[::1]"), "[::1]");
    }
}
