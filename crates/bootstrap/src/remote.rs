//! A shell on another machine.

use std::path::Path;

use async_trait::async_trait;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its status; `None` when a signal ended it.
    pub status: Option<u32>,
    /// What it wrote.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

/// A command did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The connection broke, or the server of it would not run the command.
    #[error("the connection to {machine} broke ({reason})")]
    Broken {
        /// `address:port`.
        machine: String,
        /// What was seen of it.
        reason: String,
    },
    /// It took too long.
    #[error("{machine} did nothing for {seconds} s")]
    Silent {
        /// `address:port`.
        machine: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A local file cannot be read.
    #[error("{} cannot be read", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Runs commands on one machine, as one user.
#[async_trait]
pub trait Remote: Send + Sync {
    /// Runs a command to its end, with `input` on its standard input.
    async fn exec(&self, command: &str, input: &[u8]) -> Result<Exit, RemoteError>;

    /// The same, with a local file on its standard input.
    async fn upload(&self, command: &str, file: &Path) -> Result<Exit, RemoteError>;
}
