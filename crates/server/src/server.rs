//! Starting and stopping a server: the one place where all parts are put together.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use axum_server::{
    Handle,
    accept::NoDelayAcceptor,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use obfleet_agent::client::AgentClient;
use obfleet_engine::{Engine, EngineError, Registry, Sharing};
use obfleet_fleet::{
    Fleet, PackageKeys, PackageKeysError,
    flows::{self, crew::Crew},
    inventory::{Inventory as _, InventoryChange, InventoryError},
    monitor::Monitor,
    observer,
    package_files::PackageFiles,
    secrets::Sealer,
};
use obfleet_store::{Address, Database, DatabaseError, Location};
use obfleet_wire::{agent::DrainPolicy, time::Timestamp};
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinHandle},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    address::{AddressError, Addresses},
    agents::Agents,
    api::{
        packages::MOST_UPLOADS,
        task_events::{ListenerOptions, Listeners},
    },
    app::App,
    auth::{
        Authenticator,
        first_user::{self, FirstUserError},
        signed::SignedRequests,
    },
    bootstrap::Machines,
    collector::Collector,
    founding::{self, FoundingError},
    health::Health,
    metrics::{Metrics, agents::MeasuredAgents, store::MeasuredStore},
    peers::{Peers, PeersError, nudges::Nudges, pass::Passes},
    pki::{Authority, PkiError},
    redirect,
    renewal::Renewal,
    retention,
    router::router,
    state_dir::{StateDir, StateDirError},
    tidying,
    tls::{Reload, Tls, TlsError, TlsFiles, own},
};

/// Time a client may take for the head of a request, so that slow ones do not pile up.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes a request's head may have: a thousand ids in the path, and room for all else.
const MOST_HEAD_BYTES: usize = 64 * 1024;
/// How long requests under way may take at most once the server is told to stop; no longer than running steps, either.
const GRACE: Duration = Duration::from_secs(10);
/// A stolen certificate is of use for no longer, and a host may be away for four months.
const AGENTS_VALID: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Statements under way are over in less.
const CLOSING: Duration = Duration::from_secs(2);
/// Most steps are over in less; those that are not are agents' work, which goes on without the server.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// An OBProxy package has some 50 MB, with debug information some 500.
const MAX_PACKAGE_BYTES: u64 = 1 << 30;
/// A thousand a second, which no tool needs and a script gone wild exceeds.
const REQUESTS_PER_MINUTE: u32 = 60_000;
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

/// The server cannot start, or did not stop well.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The state directory.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// The address.
    #[error("cannot listen on {address}; give {option} an address of this host and a port that nobody uses")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What it was given by.
        option: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Everybody on the way could read passwords.
    #[error(
        "without TLS, passwords sent to {address} can be read on their way: give --tls-cert and --tls-key, or listen on \
         127.0.0.1 behind a proxy with TLS, or say --insecure-http where the network is your own"
    )]
    Insecure {
        /// The address.
        address: SocketAddr,
    },
    /// There is no HTTPS to send to.
    #[error(
        "--redirect-http sends to HTTPS, which this server does not speak: give --tls-cert and --tls-key, or --tls-generate"
    )]
    NothingToRedirectTo,
    /// The certificate or its key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A URL that was given.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The client for other servers.
    #[error(transparent)]
    Peers(#[from] PeersError),
    /// The keys of packages.
    #[error(transparent)]
    PackageKeys(#[from] PackageKeysError),
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
    /// Where it answers plain HTTP with the way to HTTPS, if it was told to.
    pub redirecting: Option<SocketAddr>,
    /// Where clients reach it.
    pub url: String,
    /// The administrator's password, when this start has made one: show it, it is not kept.
    pub admin_password: Option<String>,
    app: Arc<App>,
    handle: Handle<SocketAddr>,
    reload: Reload,
    stop: CancellationToken,
    serving: JoinHandle<io::Result<()>>,
    observing: JoinHandle<()>,
    renewing: JoinHandle<()>,
    collecting: JoinHandle<()>,
    database: Database,
    _nudging: Option<AbortOnDropHandle<()>>,
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
        let is_local = options.listen.ip().to_canonical().is_loopback();
        let is_secure = options.tls.is_some() || options.own_certificate;
        if !is_secure && !is_local && !options.insecure_http {
            return Err(ServerError::Insecure {
                address: options.listen,
            });
        }
        if options.redirect_http.is_some() && !is_secure {
            return Err(ServerError::NothingToRedirectTo);
        }
        let mut tls = match &options.tls {
            Some(files) => Some(Tls::open(files.clone()).await?),
            None => None,
        };
        if let Some(keys) = &options.package_keys {
            let trusted = PackageKeys::read(keys)?.fingerprints();
            tracing::info!(keys = %trusted.join(" "), "packages have to be signed by one of these keys");
        }
        let state_dir = StateDir::open(&options.state_dir)?;
        if options.own_certificate && tls.is_none() {
            let names = own::names(options.listen, options.public_url.as_deref());
            tls = Some(Tls::open(own::make(&options.state_dir, names)?).await?);
        }
        let (listener, address) = listen(options.listen, "--listen")?;
        let redirect = options.redirect_http.map(|address| listen(address, "--redirect-http"));
        let redirect = redirect.transpose()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (public, peer) = (options.public_url.as_deref(), options.peer_url.as_deref());
        let addresses = Addresses::of(scheme, address, public, peer)?;
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
        let peers = peers(&database, &common.key, &server_id, &metrics)?;
        let machines = Machines {
            inventory: Arc::new(database.inventory()),
            authority: authority.clone(),
            server_url: addresses.public.clone(),
            executables: state_dir.agents(),
        };
        let crew = crew(
            &options,
            &state_dir,
            &database,
            common.sealer,
            peers.as_ref(),
            (Arc::clone(&agents), machines),
            &metrics,
        )
        .await?;
        let nudges = Arc::new(Nudges::default());
        let fleet = fleet(
            options.package_keys.as_deref(),
            &crew,
            &database,
            &server_id,
            &addresses,
            &nudges,
            &metrics,
        )
        .await?;
        let stop = CancellationToken::new();
        let signed = SignedRequests::new(
            database.access_keys(),
            crew.sealer.clone(),
            state_dir.uploads(),
            options.max_package_bytes,
        );
        let monitor = Monitor::new(
            Arc::new(database.metrics()),
            Arc::clone(&crew.inventory),
            Arc::clone(&crew.agents),
        );
        let app = Arc::new(App {
            listeners: Listeners::new(options.listeners),
            upload_places: Semaphore::new(MOST_UPLOADS),
            stop: stop.clone(),
            health: Health::new(Arc::clone(&crew.inventory), fleet.engine().clone()),
            metrics: Arc::clone(&metrics),
            agents: Arc::clone(&agents),
            fleet,
            monitor: monitor.clone(),
            authenticator: Authenticator::new(users.clone(), signed, database.sessions(), options.requests_per_minute),
            sessions: database.sessions(),
            audit: database.audit(),
            is_https: options.tls.is_some() || addresses.public.starts_with("https://"),
            users,
            access_keys: database.access_keys(),
            sealer: crew.sealer.clone(),
            authority: authority.clone(),
            peers: peers.clone(),
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
        if let Some(keep) = options.keep_audit {
            tokio::spawn(retention::keep_audit(database.audit(), keep, stop.clone()));
        }
        tokio::spawn(tidying::forget_signatures(app.authenticator.clone(), stop.clone()));
        let collector = Collector {
            monitor,
            peers: peers.clone(),
            keep: options.keep_metrics,
        };
        let collecting = tokio::spawn(collector.keep_up(stop.clone()));
        tokio::spawn(tidying::keep_tidy(Arc::clone(&crew), stop.clone()));
        // To the very end: a server that stops has the most to tell.
        let nudging = peers.map(|peers| AbortOnDropHandle::new(tokio::spawn(nudges.send(peers))));
        let observing = tokio::spawn(observer::observe(crew, stop.clone()));
        let handle = Handle::new();
        let config = tls.as_ref().map(Tls::config);
        let reload = tls.as_ref().map(Tls::reload).unwrap_or_default();
        if let Some(tls) = tls {
            tokio::spawn(tls.follow(stop.clone()));
        }
        let router = router(Arc::clone(&app), &server_id);
        let serving = tokio::spawn(serve(listener, config, router, handle.clone()));
        let url = addresses.public;
        let redirecting = redirect.as_ref().map(|(_, address)| *address);
        if let Some((listener, _)) = redirect {
            let router = redirect::router(redirect::port(&url, address));
            tokio::spawn(serve(listener, None, router, handle.clone()));
        }
        tracing::info!(%address, url, database = %place, "server started");
        Ok(Running {
            address,
            redirecting,
            url,
            admin_password,
            app,
            handle,
            reload,
            stop,
            serving,
            observing,
            renewing,
            collecting,
            database,
            _nudging: nudging,
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

fn agents(authority: &Authority) -> Result<Agents, ServerError> {
    let identity = authority.server_identity()?;
    let client = AgentClient::new(
        authority.certificate_pem(),
        &identity.certificate_pem,
        &identity.key_pem,
    );
    Ok(Agents::new(client.map_err(|error| ServerError::Agents(error.into()))?))
}

/// The other servers, if the database is one that others may use.
fn peers(
    database: &Database,
    key: &[u8; 32],
    server_id: &str,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<Peers>>, ServerError> {
    if !database.is_shared() {
        return Ok(None);
    }
    let peers = Peers::new(Passes::new(key, server_id), database.servers(), Arc::clone(metrics))?;
    Ok(Some(Arc::new(peers)))
}

async fn crew(
    options: &Options,
    state_dir: &StateDir,
    database: &Database,
    sealer: Sealer,
    peers: Option<&Arc<Peers>>,
    (agents, machines): (Arc<Agents>, Machines),
    metrics: &Arc<Metrics>,
) -> Result<Arc<Crew>, ServerError> {
    let inventory = database.inventory();
    let installation = inventory.installation().await?;
    let packages = match peers {
        Some(peers) => PackageFiles::new(state_dir.packages(), state_dir.uploads(), Arc::clone(peers) as _),
        None => PackageFiles::alone(state_dir.packages()),
    };
    Ok(Arc::new(Crew {
        inventory: Arc::new(inventory.clone()),
        bootstrap: Arc::new(machines),
        parameters: Arc::new(inventory),
        agents: Arc::new(MeasuredAgents::new(agents, Arc::clone(metrics))),
        packages,
        sealer,
        installation,
        drain: options.drain,
    }))
}

async fn fleet(
    package_keys: Option<&Path>,
    crew: &Arc<Crew>,
    database: &Database,
    server_id: &str,
    addresses: &Addresses,
    nudges: &Arc<Nudges>,
    metrics: &Arc<Metrics>,
) -> Result<Fleet, ServerError> {
    let registry = Registry::<InventoryChange>::new(flows::actions(crew))?;
    let options = obfleet_engine::Options {
        executor: addresses.host().to_owned(),
        url: Some(addresses.peer.clone()),
        sharing: database.is_shared().then(|| Sharing {
            peers: Arc::clone(nudges) as _,
            ..Sharing::default()
        }),
        ..obfleet_engine::Options::new(server_id)
    };
    let store = MeasuredStore::new(database.tasks(), Arc::clone(metrics));
    let engine = Engine::start(Arc::new(store), registry, options).await?;
    Ok(Fleet::new(Arc::clone(crew), engine, &addresses.public).trusting(package_keys))
}

/// Listens there; `option` is what the address was given by.
fn listen(address: SocketAddr, option: &'static str) -> Result<(TcpListener, SocketAddr), ServerError> {
    let listening = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    listening().map_err(|source| ServerError::Listen {
        address,
        option,
        source,
    })
}

async fn serve(
    listener: TcpListener,
    tls: Option<RustlsConfig>,
    router: Router,
    handle: Handle<SocketAddr>,
) -> io::Result<()> {
    let mut server = axum_server::from_tcp(listener)?.handle(handle).http1_only();
    let mut http = server.http_builder().http1();
    // Beyond it, or beyond a hundred headers, the answer is 431.
    http.header_read_timeout(HEAD_TIMEOUT).max_buf_size(MOST_HEAD_BYTES);
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    // Answers are small and wanted at once.
    let plain = NoDelayAcceptor::new();
    match tls {
        Some(config) => {
            let acceptor = RustlsAcceptor::new(config).acceptor(plain);
            server.acceptor(acceptor).serve(service).await
        }
        None => server.acceptor(plain).serve(service).await,
    }
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

    /// Has the files of the certificate read at once, whatever their time.
    pub fn reload(&self) -> Reload {
        self.reload.clone()
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
        if let Some(peers) = &self.app.peers {
            peers.nudge().await;
        }
        tracing::info!(steps_handed_over = left, "server stopped");
        for (who, ended) in [
            ("observer", self.observing.await),
            ("renewal", self.renewing.await),
            ("collector", self.collecting.await),
        ] {
            if let Err(error) = ended {
                tracing::warn!(who, %error, "ended badly");
            }
        }
        // Whoever copies the state next finds whole files, without what SQLite has beside them.
        if timeout(CLOSING, self.database.close()).await.is_err() {
            tracing::warn!("somebody still uses the database: it is closed when the process ends");
        }
        ended.map_err(io::Error::other).flatten().map_err(ServerError::Serve)
    }
}
