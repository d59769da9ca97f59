//! A small client that tells apart the ways a connection can fail, because that is what an upgrade is measured by.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::auth::{SCRAMBLE_LEN, native_answer};
use crate::codec::DecodeError;
use crate::frame::PacketStream;
use crate::greeting::Greeting;
use crate::login::{AuthSwitch, Login};
use crate::protocol::{
    CHARSET_UTF8MB4_BIN, HEADER_EOF, HEADER_LOCAL_INFILE, HEADER_OK, NATIVE_PASSWORD, capability, command, status,
};
use crate::reply::{EofPacket, ErrPacket, OkPacket};
use crate::resultset::{Column, Row, decode_column_count, decode_row};

/// Why a connection could not be made or was lost.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens (ECONNREFUSED).
    #[error("connection refused")]
    Refused,
    /// The connection was closed or reset before the server said anything.
    #[error("connection closed before the greeting")]
    ClosedBeforeGreeting,
    /// The server said nothing before the deadline.
    #[error("no greeting before the deadline")]
    NoGreeting,
    /// The server greeted but the login was not finished before the deadline.
    #[error("login not finished before the deadline")]
    LoginTimedOut,
    /// The server refused the login.
    #[error("login refused with {}: {}", .0.code, .0.message)]
    LoginRefused(ErrPacket),
    /// The server refused a command; the connection goes on.
    #[error("refused with {}: {}", .0.code, .0.message)]
    Refusal(ErrPacket),
    /// The connection was lost after the greeting.
    #[error("connection lost")]
    Lost(#[source] io::Error),
    /// The server sent something that is no answer.
    #[error("unexpected answer")]
    Protocol(#[from] DecodeError),
    /// The connection could not be tried for a reason on this side.
    #[error("cannot connect")]
    Io(#[source] io::Error),
}

/// What a statement gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryResult {
    /// [`status`] flags after the statement.
    pub status: u16,
    /// Rows changed.
    pub affected_rows: u64,
    /// Columns, none for a statement without rows.
    pub columns: Vec<Column>,
    /// Rows.
    pub rows: Vec<Row>,
}

impl QueryResult {
    /// Whether a transaction is open after the statement.
    pub fn in_transaction(&self) -> bool {
        self.status & status::IN_TRANS != 0
    }

    /// The value at `row` and the column named `column` (any case), as text; `None` for NULL and for what is not there.
    pub fn text(&self, row: usize, column: &str) -> Option<String> {
        let index = self
            .columns
            .iter()
            .position(|known| known.name.eq_ignore_ascii_case(column))?;
        let value = self.rows.get(row)?.get(index)?.as_deref()?;
        Some(String::from_utf8_lossy(value).into_owned())
    }
}

/// Bytes of one answer: all packets of all its results. What a proxy or a server says of itself has some thousands.
const MOST_ANSWER: usize = 64 << 20;
/// What a packet takes beside its bytes, so that empty ones do not come for nothing.
const PACKET: usize = 64;

/// A connection to a MySQL-protocol server.
#[derive(Debug)]
pub struct Client<S = TcpStream> {
    packets: PacketStream<S>,
    greeting: Greeting,
    capabilities: u32,
    /// Bytes that may still come in the present answer.
    room: usize,
}

/// What this client can do, apart from what the server offers.
const WANTED: u32 = capability::LONG_PASSWORD
    | capability::LONG_FLAG
    | capability::PROTOCOL_41
    | capability::TRANSACTIONS
    | capability::SECURE_CONNECTION
    | capability::MULTI_RESULTS
    | capability::PLUGIN_AUTH
    | capability::DEPRECATE_EOF;

impl Client {
    /// Connects and logs in before `deadline`; there is no default database.
    pub async fn connect(addr: SocketAddr, user: &str, password: &str, deadline: Instant) -> Result<Self, ClientError> {
        let greeted = timeout_at(deadline, Self::open(addr))
            .await
            .unwrap_or(Err(ClientError::NoGreeting));
        let (packets, greeting) = greeted?;
        timeout_at(deadline, Self::enter(packets, greeting, user, password))
            .await
            .unwrap_or(Err(ClientError::LoginTimedOut))
    }

    async fn open(addr: SocketAddr) -> Result<(PacketStream<TcpStream>, Greeting), ClientError> {
        let stream = TcpStream::connect(addr).await.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => ClientError::Refused,
            io::ErrorKind::ConnectionReset => ClientError::ClosedBeforeGreeting,
            io::ErrorKind::TimedOut => ClientError::NoGreeting,
            _ => ClientError::Io(error),
        })?;
        stream.set_nodelay(true).map_err(ClientError::Io)?;
        let mut packets = PacketStream::new(stream);
        let greeting = read_greeting(&mut packets).await?;
        Ok((packets, greeting))
    }

    /// What the server at `addr` says first, if it does before `deadline`; nobody logs in.
    pub async fn greet(addr: SocketAddr, deadline: Instant) -> Result<Greeting, ClientError> {
        let greeted = timeout_at(deadline, Self::open(addr)).await;
        let (_, greeting) = greeted.unwrap_or(Err(ClientError::NoGreeting))?;
        Ok(greeting)
    }

    /// The address of this end.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.packets.get_ref().local_addr()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Logs in over a stream that is there already; there is no default database, and no deadline here.
    pub async fn over(stream: S, user: &str, password: &str) -> Result<Self, ClientError> {
        let mut packets = PacketStream::new(stream);
        let greeting = read_greeting(&mut packets).await?;
        Self::enter(packets, greeting, user, password).await
    }

    async fn enter(
        mut packets: PacketStream<S>,
        greeting: Greeting,
        user: &str,
        password: &str,
    ) -> Result<Self, ClientError> {
        let login = Login {
            capabilities: WANTED & greeting.capabilities,
            max_packet: 1 << 24,
            charset: CHARSET_UTF8MB4_BIN as u8,
            user: user.to_owned(),
            auth_answer: Vec::new(),
            database: None,
            auth_plugin: None,
            attributes: Vec::new(),
        };
        let capabilities = login.capabilities;
        log_in(&mut packets, &greeting, login, password).await?;
        Ok(Self {
            packets,
            greeting,
            capabilities,
            room: MOST_ANSWER,
        })
    }

    /// What the server said first.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Runs one statement and takes its whole answer, up to 64 MiB; of several results the last with columns is kept.
    ///
    /// There is no deadline here: wrap the call, and drop the client when it did not come back, or with
    /// [`ClientError::Protocol`].
    pub async fn query(&mut self, sql: &str) -> Result<QueryResult, ClientError> {
        self.command(command::QUERY, sql.as_bytes()).await?;
        self.room = MOST_ANSWER;
        let mut result = QueryResult::default();
        loop {
            let payload = self.answer().await?;
            match payload.first() {
                Some(&HEADER_OK) => {
                    let ok = OkPacket::decode(&payload, self.capabilities)?;
                    result.status = ok.status;
                    result.affected_rows = ok.affected_rows;
                }
                Some(&HEADER_LOCAL_INFILE) => return Err(DecodeError::Malformed("a request for a local file").into()),
                _ => self.read_rows(decode_column_count(&payload)?, &mut result).await?,
            }
            if result.status & status::MORE_RESULTS_EXISTS == 0 {
                return Ok(result);
            }
        }
    }

    async fn read_rows(&mut self, column_count: usize, result: &mut QueryResult) -> Result<(), ClientError> {
        let deprecate_eof = self.capabilities & capability::DEPRECATE_EOF != 0;
        result.columns.clear();
        result.rows.clear();
        for _ in 0..column_count {
            let payload = self.answer().await?;
            result.columns.push(Column::decode(&payload)?);
        }
        if !deprecate_eof {
            EofPacket::decode(&self.answer().await?)?;
        }
        loop {
            let payload = self.answer().await?;
            if deprecate_eof && payload.first() == Some(&HEADER_EOF) && payload.len() < crate::frame::MAX_FRAME_PAYLOAD
            {
                result.status = OkPacket::decode(&payload, self.capabilities)?.status;
                return Ok(());
            }
            if !deprecate_eof && EofPacket::is_eof(&payload) {
                result.status = EofPacket::decode(&payload)?.status;
                return Ok(());
            }
            result.rows.push(decode_row(&payload, column_count)?);
        }
    }

    /// Asks whether the server is there.
    pub async fn ping(&mut self) -> Result<(), ClientError> {
        self.command(command::PING, &[]).await?;
        self.room = MOST_ANSWER;
        OkPacket::decode(&self.answer().await?, self.capabilities)?;
        Ok(())
    }

    /// Says goodbye and closes the connection.
    pub async fn close(mut self) {
        // A server that is already gone is as good as one that was told.
        let _ = self.command(command::QUIT, &[]).await;
    }

    async fn command(&mut self, code: u8, body: &[u8]) -> Result<(), ClientError> {
        self.packets.start_command();
        self.packets
            .write(&[&[code], body].concat())
            .await
            .map_err(ClientError::Lost)
    }

    /// The next packet of an answer, an ERR packet being an error.
    async fn answer(&mut self) -> Result<Vec<u8>, ClientError> {
        let payload = next_packet(&mut self.packets).await?;
        let room = self.room.checked_sub(payload.len() + PACKET);
        self.room = room.ok_or(DecodeError::Malformed("an answer of more than 64 MiB"))?;
        if ErrPacket::is_err(&payload) {
            return Err(ClientError::Refusal(ErrPacket::decode(&payload)?));
        }
        Ok(payload)
    }
}

async fn next_packet<S: AsyncRead + Unpin>(packets: &mut PacketStream<S>) -> Result<Vec<u8>, ClientError> {
    let read = packets.read().await.map_err(ClientError::Lost)?;
    read.ok_or_else(|| ClientError::Lost(io::ErrorKind::UnexpectedEof.into()))
}

/// Reads the server's greeting; an ERR packet in its place is [`ClientError::LoginRefused`].
pub async fn read_greeting<S: AsyncRead + Unpin>(packets: &mut PacketStream<S>) -> Result<Greeting, ClientError> {
    let payload = packets
        .read()
        .await
        .ok()
        .flatten()
        .ok_or(ClientError::ClosedBeforeGreeting)?;
    if ErrPacket::is_err(&payload) {
        return Err(ClientError::LoginRefused(ErrPacket::decode(&payload)?));
    }
    Ok(Greeting::decode(&payload)?)
}

/// Answers `greeting` with `login` and goes through the authentication; returns the payload of the server's OK packet.
///
/// `login`'s answer and plugin are filled in here. `caching_sha2_password` works with an empty password only, since
/// anything else wants TLS or RSA.
pub async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
    packets: &mut PacketStream<S>,
    greeting: &Greeting,
    mut login: Login,
    password: &str,
) -> Result<Vec<u8>, ClientError> {
    login.auth_answer = native_answer(password, &greeting.scramble);
    login.auth_plugin = Some(NATIVE_PASSWORD.to_owned());
    packets.write(&login.encode()).await.map_err(ClientError::Lost)?;
    loop {
        let payload = next_packet(packets).await?;
        match payload.first() {
            Some(&HEADER_OK) => return Ok(payload),
            Some(&HEADER_EOF) => {
                let switch = AuthSwitch::decode(&payload[1..]);
                let answer = answer_to_switch(&switch, password)?;
                packets.write(&answer).await.map_err(ClientError::Lost)?;
            }
            // More data of the plugin, such as "fast authentication succeeded": the verdict follows.
            Some(1) => {}
            _ => return Err(ClientError::LoginRefused(ErrPacket::decode(&payload)?)),
        }
    }
}

fn answer_to_switch(switch: &AuthSwitch, password: &str) -> Result<Vec<u8>, DecodeError> {
    if password.is_empty() {
        return Ok(Vec::new());
    }
    let scramble: Option<[u8; SCRAMBLE_LEN]> = switch.scramble.as_slice().try_into().ok();
    match scramble {
        Some(scramble) if switch.plugin == NATIVE_PASSWORD => Ok(native_answer(password, &scramble)),
        _ => Err(DecodeError::Malformed(
            "a demand for an authentication plugin that is not supported",
        )),
    }
}
