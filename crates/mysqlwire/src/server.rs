//! The server's end: enough for a tiny SQL server or a proxy's own answers.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::codec::DecodeError;
use crate::frame::PacketStream;
use crate::greeting::Greeting;
use crate::login::Login;
use crate::reply::{ErrPacket, OkPacket};
use crate::resultset::{Column, Row, encode_result_set};

/// A command of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// One of [`crate::protocol::command`].
    pub code: u8,
    /// What follows the command byte; the statement's text for a query.
    pub body: Vec<u8>,
}

/// One client as the server sees it, past the greeting.
#[derive(Debug)]
pub struct ServerConnection<S> {
    packets: PacketStream<S>,
    capabilities: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> ServerConnection<S> {
    /// Greets the client and reads its login. The caller judges the login and answers with
    /// [`ServerConnection::send_ok`] or [`ServerConnection::send_err`].
    pub async fn greet(stream: S, greeting: &Greeting) -> io::Result<(Self, Login)> {
        let mut packets = PacketStream::new(stream);
        packets.write(&greeting.encode()).await?;
        let payload = packets.read().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let login = Login::decode(&payload).map_err(invalid)?;
        let capabilities = login.capabilities & greeting.capabilities;
        Ok((Self { packets, capabilities }, login))
    }

    /// Capability flags both sides have.
    pub fn capabilities(&self) -> u32 {
        self.capabilities
    }

    /// The next command; `None` when the client closed the connection.
    ///
    /// Cancel safe.
    pub async fn next_command(&mut self) -> io::Result<Option<Command>> {
        let Some(mut payload) = self.packets.read().await? else {
            return Ok(None);
        };
        if payload.is_empty() {
            return Err(invalid(DecodeError::Truncated("command byte")));
        }
        let code = payload.remove(0);
        Ok(Some(Command { code, body: payload }))
    }

    /// Answers with a bare OK.
    pub async fn send_ok(&mut self, status: u16) -> io::Result<()> {
        let ok = OkPacket::with_status(status).encode(self.capabilities);
        self.packets.write(&ok).await
    }

    /// Answers with an error.
    pub async fn send_err(&mut self, error: &ErrPacket) -> io::Result<()> {
        self.packets.write(&error.encode()).await
    }

    /// Answers with a result set.
    pub async fn send_rows(&mut self, columns: &[Column], rows: &[Row], status: u16) -> io::Result<()> {
        for payload in encode_result_set(columns, rows, status, self.capabilities) {
            self.packets.put(&payload);
        }
        self.packets.flush().await
    }

    /// Sends a packet made elsewhere as it is.
    pub async fn send_payload(&mut self, payload: &[u8]) -> io::Result<()> {
        self.packets.write(payload).await
    }

    /// The packets underneath, for somebody who goes on with them raw.
    pub fn into_packets(self) -> PacketStream<S> {
        self.packets
    }
}

fn invalid(error: DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
