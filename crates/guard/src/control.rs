//! The socket through which a guard is spoken to: one JSON line there, one back.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use obfleet_wire::agent::DrainPolicy;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
};

const SOCKET: &str = "control.sock";

/// A guard answers from memory.
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(10);

/// A command is shorter by far.
const LINE_LIMIT: u64 = 64 * 1024;

/// What a guard can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "camelCase")]
pub(crate) enum Command {
    /// Is anybody there?
    Ping,
    /// Go back to what served before.
    Revert {
        /// How sessions of the processes that go are ended.
        drain: DrainPolicy,
    },
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reply {
    pub(crate) refused: Option<String>,
}

/// A socket path may have 107 bytes, a directory more: the way through its descriptor is always short.
struct SocketPath {
    path: PathBuf,
    _directory: File,
}

impl SocketPath {
    fn open(dir: &Path) -> io::Result<Self> {
        let directory = File::open(dir)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()));
        Ok(Self {
            path,
            _directory: directory,
        })
    }
}

/// Listens, for the guard that holds the directory's lock.
pub(crate) fn listen(dir: &Path) -> io::Result<UnixListener> {
    let socket = SocketPath::open(dir)?;
    match std::fs::remove_file(&socket.path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(&socket.path)
}

/// Answers commands until the task is dropped.
pub(crate) async fn serve(listener: UnixListener, mut answer: impl FnMut(Command) -> Reply) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            // A caller that breaks off gets no answer; the command, if one came, was carried out.
            drop(tokio::time::timeout(EXCHANGE_DEADLINE, exchange(stream, &mut answer)).await);
        }
    }
}

async fn exchange(mut stream: UnixStream, answer: &mut impl FnMut(Command) -> Reply) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    BufReader::new(reading.take(LINE_LIMIT)).read_line(&mut line).await?;
    let reply = match serde_json::from_str(&line) {
        Ok(command) => answer(command),
        Err(error) => Reply {
            refused: Some(format!("the command cannot be read: {error}")),
        },
    };
    let mut text = serde_json::to_vec(&reply)?;
    text.push(b'\n');
    writing.write_all(&text).await
}

/// Sends a command to the guard of a directory.
pub(crate) async fn send(dir: &Path, command: Command) -> io::Result<Reply> {
    let talk = async {
        let socket = SocketPath::open(dir)?;
        let mut stream = UnixStream::connect(&socket.path).await?;
        let mut text = serde_json::to_vec(&command)?;
        text.push(b'\n');
        stream.write_all(&text).await?;
        let mut line = String::new();
        BufReader::new(stream.take(LINE_LIMIT)).read_line(&mut line).await?;
        Ok(serde_json::from_str(&line)?)
    };
    tokio::time::timeout(EXCHANGE_DEADLINE, talk)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Whether somebody listens, without a runtime.
pub(crate) fn is_listening(dir: &Path) -> bool {
    SocketPath::open(dir).is_ok_and(|socket| std::os::unix::net::UnixStream::connect(&socket.path).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn commands_go_and_replies_come_however_deep_the_directory_lies() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("d".repeat(120));
        std::fs::create_dir(&dir).unwrap();
        assert!(!is_listening(&dir));
        let listener = listen(&dir).unwrap();
        let server = tokio::spawn(serve(listener, |command| Reply {
            refused: (command != Command::Ping).then(|| "too late".to_owned()),
        }));
        assert!(is_listening(&dir));
        assert_eq!(send(&dir, Command::Ping).await.unwrap().refused, None);
        let revert = Command::Revert {
            drain: DrainPolicy {
                window_ms: 1,
                closes_per_second: 1,
            },
        };
        assert_eq!(send(&dir, revert).await.unwrap().refused.as_deref(), Some("too late"));
        server.abort();
        drop(listen(&dir).unwrap());
        assert!(
            send(&dir, Command::Ping).await.is_err(),
            "a socket left behind is nobody"
        );
    }
}
