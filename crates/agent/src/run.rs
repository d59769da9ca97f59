//! The agent as a process: from its options to its end by SIGTERM.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    net::{IpAddr, SocketAddr, TcpListener},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum_server::Handle;
use nix::fcntl::{Flock, FlockArg};
use obfleet_wire::time::Timestamp;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    api::{self, Api},
    certificate::Certificate,
    durable::FileError,
    enrol::{EnrolError, Enrolment, enrol},
    host,
    identity::{Identity, IdentityError},
    janitor,
    journal::Journal,
    layout::Layout,
    locks::Locks,
    metrics::Gauges,
    operations::Node,
    packages::Packages,
    proxies::Registry,
    readings::Readings,
    runner::Runner,
    status::StatusBoard,
    supervisor,
    tls::PkiError,
    token::Token,
};

/// How long a server that does not answer is asked to enrol this host.
const ENROL_PATIENCE: Duration = Duration::from_secs(60);
const ENROL_PAUSE: Duration = Duration::from_secs(1);
/// How long answers under way may take at the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// How an agent is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server, `http://host:port`; used to enrol only.
    pub server_url: String,
    /// Needed at the first start only, when the certificate has expired, or to go over to another server.
    pub token: Option<Token>,
    /// Identity, journal and registry.
    pub state_dir: PathBuf,
    /// Packages, slots and proxies' homes.
    pub root: PathBuf,
    /// Where the server reaches this host: an IP address.
    pub address: String,
    /// Where the API listens. With port 0 the system chooses one at the first start, and it is kept.
    pub listen: SocketAddr,
    /// The address proxies listen on.
    pub bind: IpAddr,
    /// The obfleet executable, whose `guard` command runs restarts.
    pub exe: PathBuf,
    /// How often proxies are measured.
    pub measure_every: Duration,
}

/// How often proxies are measured unless told otherwise.
pub const MEASURE_EVERY: Duration = Duration::from_secs(15);

/// The agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another agent uses the state directory.
    #[error("another agent runs with state directory {}: stop it, or give this one its own", .0.display())]
    Taken(PathBuf),
    /// A file or directory.
    #[error(transparent)]
    File(#[from] FileError),
    /// Host uid or key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The port of the API.
    #[error("cannot listen on {address}: free the port, or choose another and enrol again")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Enrolment.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The stored certificate.
    #[error("the stored certificate cannot be used: enrol again with a new token")]
    Certificate(#[from] PkiError),
    /// Signals.
    #[error("cannot prepare for signals")]
    Signals(#[source] std::io::Error),
    /// The API ended.
    #[error("the API ended")]
    Serve(#[source] std::io::Error),
}

/// Runs the agent until SIGTERM or SIGINT. Proxies and guards go on without it.
///
/// Prints one line, `agent <host uid> is ready on <address>`, when the API answers.
///
/// # Errors
/// When the agent cannot start, or its API ends.
pub async fn run(options: Options) -> Result<(), RunError> {
    let layout = Layout::open(options.root.clone(), options.state_dir.clone())?;
    let _only_agent = lock(&layout)?;
    let mut signals = Signals::listen().map_err(RunError::Signals)?;
    let mut identity = Identity::load_or_create(&layout.identity())?;
    let listener = listen(&options, &identity)?;
    let address = listener.local_addr().map_err(RunError::Signals)?;
    tokio::select! {
        enrolled = ensure_enrolled(&options, &layout, &mut identity, address.port()) => enrolled?,
        () = signals.end() => return Ok(()),
    }
    let host_uid = identity.host_uid.clone();
    let certificate = Arc::new(Certificate::open(identity, layout.identity())?);

    let node = Arc::new(Node {
        packages: Packages::open(layout.packages()),
        registry: Arc::new(Registry::open(layout.registry())?),
        bind: options.bind,
        things: Locks::default(),
        readings: Readings::default(),
        troubles: Mutex::default(),
        exe: options.exe,
        layout: layout.clone(),
    });
    let status = Arc::new(StatusBoard::new(
        host::facts(&host_uid),
        Arc::clone(&node),
        Arc::clone(&certificate),
    ));
    let gauges = Gauges::new(Arc::clone(&node), options.measure_every)?;
    let gauges = Arc::new(gauges);
    let journal = Journal::open(&layout.journal(), Timestamp::now())?;
    let api = Api {
        packages: node.packages.clone(),
        registry: Arc::clone(&node.registry),
        status: Arc::clone(&status),
        gauges: Arc::clone(&gauges),
        certificate: Arc::clone(&certificate),
        runner: Runner::new(journal, Arc::clone(&node) as _),
    };
    // Dropped at the end of this function, and with it what it does in the background.
    let mut background = JoinSet::new();
    background.spawn(status.keep_fresh());
    background.spawn(gauges.keep_measuring());
    background.spawn(supervisor::supervise(Arc::clone(&node)));
    background.spawn(janitor::sweep(node));

    let handle = Handle::new();
    let serving = axum_server::from_tcp_rustls(listener, certificate.tls())
        .map_err(|source| RunError::Listen { address, source })?
        .handle(handle.clone())
        .serve(api::router(api).into_make_service());
    announce(&host_uid, address);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        ended = &mut serving => return ended.map_err(RunError::Serve),
        () = signals.end() => handle.graceful_shutdown(Some(FAREWELL)),
    }
    serving.await.map_err(RunError::Serve)
}

/// Held for life: two agents of one state directory would undo each other's work.
fn lock(layout: &Layout) -> Result<Flock<File>, RunError> {
    let path = layout.lock();
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(FileError::io("open", &path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| RunError::Taken(path))
}

fn listen(options: &Options, identity: &Identity) -> Result<TcpListener, RunError> {
    let mut address = options.listen;
    if let (0, Some(port)) = (address.port(), identity.port) {
        address.set_port(port);
    }
    let listener = TcpListener::bind(address);
    let listener = listener.and_then(|l| l.set_nonblocking(true).map(|()| l));
    listener.map_err(|source| RunError::Listen { address, source })
}

/// The certificate of an earlier start, or a new one for the token.
async fn ensure_enrolled(
    options: &Options,
    layout: &Layout,
    identity: &mut Identity,
    port: u16,
) -> Result<(), RunError> {
    let expired = identity
        .validity()
        .filter(|validity| validity.not_after < Timestamp::now());
    if identity.port.is_some_and(|known| known != port) {
        tracing::warn!(
            port,
            "the server knows this agent at another port: enrol again to tell it"
        );
    }
    let token = match (&options.token, &identity.enrolment) {
        (None, None) => return Err(EnrolError::TokenNeeded.into()),
        (None, Some(_)) => {
            if let Some(validity) = expired {
                let at = validity.not_after;
                tracing::error!(%at, "the agent's certificate has expired, the server will not talk to it: enrol again");
            }
            return Ok(());
        }
        (Some(token), Some(_)) if expired.is_none() && identity.belongs_to(&token.ca_sha256) => {
            tracing::info!("enrolled already, the token is not used");
            return Ok(());
        }
        (Some(token), _) => token,
    };
    let enrolment = Enrolment {
        server_url: &options.server_url,
        token,
        address: &options.address,
        port,
    };
    let give_up = Instant::now() + ENROL_PATIENCE;
    let response = loop {
        match enrol(identity, &enrolment).await {
            Ok(response) => break response,
            Err(e @ EnrolError::Unreachable { .. }) if Instant::now() < give_up => {
                tracing::warn!("{e}; asking again");
                sleep(ENROL_PAUSE).await;
            }
            Err(e) => return Err(e.into()),
        }
    };
    let (host_id, installation) = (response.host_id, response.installation.clone());
    identity.enrolment = Some(response);
    identity.port = Some(port);
    identity.store(&layout.identity())?;
    tracing::info!(host_id, installation, "enrolled");
    Ok(())
}

fn announce(host_uid: &str, address: SocketAddr) {
    tracing::info!(%host_uid, %address, "ready");
    // Nobody need be listening on the other side of the pipe.
    let told = writeln!(std::io::stdout(), "agent {host_uid} is ready on {address}");
    drop(told);
}

/// SIGTERM and SIGINT end the agent. SIGUSR1 and SIGUSR2, which a proxy sends its parent in a hot restart, would too
/// if they were not handled; handled rather than ignored, because ignoring is inherited by what the agent starts.
struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        // The handler stays for the life of the process.
        drop(signal(SignalKind::user_defined1())?);
        drop(signal(SignalKind::user_defined2())?);
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    async fn end(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
