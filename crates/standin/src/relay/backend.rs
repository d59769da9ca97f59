//! The connection phase with the database behind the proxy.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use obfleet_mysqlwire::client::{log_in, read_greeting};
use obfleet_mysqlwire::protocol::capability;
use obfleet_mysqlwire::{ClientError, ErrPacket, Login, PacketStream};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// How long one server may take to be connected and to greet.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Flags that change packets after the login and not every server has. Clients are offered those the backend had last.
pub const OPTIONAL: u32 = capability::DEPRECATE_EOF | capability::SESSION_TRACK;
/// Flags of the login only, or unknown to the client's side: the proxy speaks for itself here.
const OWN: u32 = capability::CONNECT_ATTRS | capability::PLUGIN_AUTH_LENENC | capability::SSL | capability::COMPRESS;

/// A server that took the login.
#[derive(Debug)]
pub struct Backend {
    /// The connection, its sequence at the end of the login.
    pub packets: PacketStream<TcpStream>,
    /// The server's OK packet, for the client.
    pub login_ok: Vec<u8>,
}

/// Why there is no backend.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// No server of the list could be reached.
    #[error("no server of the list answers")]
    Unreachable,
    /// The server lacks capability flags the client was offered; the client may try again.
    #[error("the server's capabilities changed")]
    Changed {
        /// The optional flags it has now.
        optional: u32,
    },
    /// The server refused the login.
    #[error("refused by the server: {}", .0.message)]
    Refused(ErrPacket),
    /// The server went away, or is no MySQL-protocol server.
    #[error("the server broke off the login")]
    Broken(#[source] ClientError),
}

/// Connects to the first server of `list` (`host:port;host:port`) that greets, and logs in as `user` with an empty password and
/// the client's own flags. Also returns the optional flags the server has.
pub async fn connect(list: &str, login: &Login, user: &str) -> Result<(Backend, u32), BackendError> {
    for address in list.split(';').filter(|entry| !entry.trim().is_empty()) {
        let Ok(Ok((mut packets, greeting))) = timeout(CONNECT_TIMEOUT, open(address.trim())).await else {
            continue;
        };
        let optional = greeting.capabilities & OPTIONAL;
        if login.capabilities & OPTIONAL & !optional != 0 {
            return Err(BackendError::Changed { optional });
        }
        let own = capability::PROTOCOL_41 | capability::SECURE_CONNECTION | capability::PLUGIN_AUTH;
        let backend_login = Login {
            capabilities: (login.capabilities & !OWN & greeting.capabilities) | (own & greeting.capabilities),
            user: user.to_owned(),
            attributes: Vec::new(),
            ..login.clone()
        };
        return match log_in(&mut packets, &greeting, backend_login, "").await {
            Ok(login_ok) => Ok((Backend { packets, login_ok }, optional)),
            Err(ClientError::LoginRefused(error)) => Err(BackendError::Refused(error)),
            Err(error) => Err(BackendError::Broken(error)),
        };
    }
    Err(BackendError::Unreachable)
}

async fn open(address: &str) -> Result<(PacketStream<TcpStream>, obfleet_mysqlwire::Greeting), ClientError> {
    let resolved: SocketAddr = lookup_host(address)
        .await
        .and_then(|mut addresses| addresses.next().ok_or_else(|| io::ErrorKind::NotFound.into()))
        .map_err(ClientError::Io)?;
    let stream = TcpStream::connect(resolved).await.map_err(ClientError::Io)?;
    stream.set_nodelay(true).map_err(ClientError::Io)?;
    let mut packets = PacketStream::new(stream);
    let greeting = read_greeting(&mut packets).await?;
    Ok((packets, greeting))
}
