//! The runtimes of the roles: how many threads each may have.

use std::thread::available_parallelism;

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};

/// Threads that serve requests and drive tasks at most. More would only wait for the database's one writer.
const SERVER_WORKERS: usize = 8;
/// Threads of a server for what blocks, at most: files, and one password at a time.
const SERVER_BLOCKING: usize = 16;

/// A server's: as small on a large machine as on a small one.
pub fn of_server() -> anyhow::Result<Runtime> {
    let cores = available_parallelism().map_or(2, usize::from);
    Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, SERVER_WORKERS))
        .max_blocking_threads(SERVER_BLOCKING)
        .enable_all()
        .build()
        .context("the server's threads cannot be started")
}

/// Everybody else's: a thread a core, and as many for what blocks as are needed.
pub fn usual() -> anyhow::Result<Runtime> {
    Runtime::new().context("the process's threads cannot be started")
}
