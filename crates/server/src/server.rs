//! Starting and stopping a server: the one place where all parts are put together.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
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
use obfleet_wire::time::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    address::{AddressError, Addresses},
    agents::Agents,
    api::{packages::MOST_UPLOADS, task_events::Listeners},
    app::App,
    auth::{
        Authenticator,
        first_user::{self, FirstUserError},
        signed::SignedRequests,
    },
    bootstrap::Machines,
    collector::Collector,
    connections::{PerNetwork, Places},
    founding::{self, FoundingError},
    health::Health,
    metrics::{Metrics, agents::MeasuredAgents, store::MeasuredStore},
    options::Options,
    peers::{Peers, PeersError, nudges::Nudges, pass::Passes},
    pki::{Authority, PkiError},
    redirect,
    renewal::Renewal,
    retention,
    router::router,
    running::Running,
    state_dir::{StateDir, StateDirError},
    tidying,
    tls::{Tls, TlsError, own},
};

/// Time a client may take for the head of a request, so that slow ones do not pile up.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes a request's head may have: a thousand ids in the path, and room for all else.
const MOST_HEAD_BYTES: usize = 64 * 1024;

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
        let places = Places::new(options.connections_per_address);
        let serving = tokio::spawn(serve(listener, config, router, places.clone(), handle.clone()));
        let url = addresses.public;
        let redirecting = redirect.as_ref().map(|(_, address)| *address);
        if let Some((listener, _)) = redirect {
            let router = redirect::router(redirect::port(&url, address));
            tokio::spawn(serve(listener, None, router, places, handle.clone()));
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
    places: Places,
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
            let secure = RustlsAcceptor::new(config).acceptor(plain);
            server.acceptor(PerNetwork::new(secure, places)).serve(service).await
        }
        None => server.acceptor(PerNetwork::new(plain, places)).serve(service).await,
    }
}
