//! A server that runs, until it is stopped.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum_server::Handle;
use obfleet_fleet::Fleet;
use obfleet_store::Database;
use tokio::{
    task::{JoinError, JoinHandle},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{app::App, pki::Authority, server::ServerError, state_dir::StateDir, tls::Reload};

/// How long requests under way may take at most once the server is told to stop; no longer than running steps, either.
const GRACE: Duration = Duration::from_secs(10);
/// Statements under way are over in less.
const CLOSING: Duration = Duration::from_secs(2);

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
    pub(crate) app: Arc<App>,
    pub(crate) handle: Handle<SocketAddr>,
    pub(crate) reload: Reload,
    pub(crate) stop: CancellationToken,
    pub(crate) serving: JoinHandle<io::Result<()>>,
    pub(crate) observing: JoinHandle<()>,
    pub(crate) renewing: JoinHandle<()>,
    pub(crate) collecting: JoinHandle<()>,
    pub(crate) database: Database,
    pub(crate) _nudging: Option<AbortOnDropHandle<()>>,
    pub(crate) drain_timeout: Duration,
    // Last: the directory stays locked until everything else is gone.
    pub(crate) _state_dir: StateDir,
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
