//! Ordinary users' sessions: the proxy logs in to a server of their OceanBase cluster for them, then passes packets on untouched.
//!
//! The client's password answer was made for the proxy's own scramble and cannot be replayed, so accounts behind a stand-in have
//! empty passwords, and a login that brings one is refused. `LOAD DATA LOCAL` is not offered.

mod backend;
mod tracker;

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use obfleet_mysqlwire::frame::{FrameHeader, HEADER_LEN, put_packet};
use obfleet_mysqlwire::protocol::command;
use obfleet_mysqlwire::{ErrPacket, Login, OkPacket, ServerConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use self::backend::{BackendError, connect};
use self::tracker::Tracker;
use crate::config_server::NoCluster;
use crate::proxy::Proxy;
use crate::session::access_denied;
use crate::sessions::{Activity, Identity, Session};

/// Serves an ordinary user's session until either side ends it.
pub async fn serve(
    proxy: &Arc<Proxy>,
    session: &Arc<Session>,
    mut client: ServerConnection<TcpStream>,
    login: Login,
    identity: Identity,
) -> io::Result<()> {
    if !login.auth_answer.is_empty() {
        return client.send_err(&access_denied(&login, session.peer)).await;
    }
    // Only flags both ends know may shape the packets from here on.
    let login = Login {
        capabilities: client.capabilities(),
        ..login
    };
    let (identity, list) = match lead(proxy, identity).await {
        Ok(led) => led,
        Err(error) => return client.send_err(&error).await,
    };
    let backend = match connect(&list, &login, &identity.user).await {
        Ok((backend, optional)) => {
            remember(proxy, optional);
            backend
        }
        Err(BackendError::Refused(error)) => return client.send_err(&error).await,
        Err(error) => {
            if let BackendError::Changed { optional } = error {
                remember(proxy, optional);
            }
            return client
                .send_err(&ErrPacket::new(4016, "HY000", format!("Internal error: {error}")))
                .await;
        }
    };
    let login_status = OkPacket::decode(&backend.login_ok, login.capabilities).map_or(0, |ok| ok.status);
    session.identify(identity);
    let observed = Observed {
        session: Arc::clone(session),
        tracker: Mutex::new(Tracker::new(login.capabilities, login_status)),
    };
    observed.publish();
    client.send_payload(&backend.login_ok).await?;

    let (client, client_ahead) = client.into_packets().into_parts();
    let (server, server_ahead) = backend.packets.into_parts();
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::select! {
        ended = pump_to_server(&observed, client_read, client_ahead, server_write) => ended,
        ended = pump_to_client(&observed, server_read, server_ahead, client_write) => ended,
    }
}

/// The next clients are offered what this server has. Behind a proxy with a config server there are several clusters, and
/// before the login it is not known which of them it is for: there, clients are offered only what every server has.
fn remember(proxy: &Proxy, optional: u32) {
    if proxy.config_server.is_none() {
        proxy.backend_capabilities.store(optional, Ordering::Relaxed);
    }
}

/// Where the login leads: to the root servers the proxy was started with, or those of the cluster it names.
async fn lead(proxy: &Proxy, identity: Identity) -> Result<(Identity, String), ErrPacket> {
    let Some(server) = &proxy.config_server else {
        let list = proxy.config().text("rootservice_list").to_owned();
        return Ok((identity, list));
    };
    match server.lead(&identity.cluster, &proxy.log).await {
        Ok((cluster, list)) => Ok((Identity { cluster, ..identity }, list)),
        Err(NoCluster::Unknown) => Err(ErrPacket::new(4669, "HY000", "cluster does not exist")),
        Err(NoCluster::Unreachable) => Err(ErrPacket::new(4016, "HY000", "Internal error")),
    }
}

/// A session and the tracker that both directions feed.
struct Observed {
    session: Arc<Session>,
    tracker: Mutex<Tracker>,
}

impl Observed {
    fn feed(&self, feed: impl FnOnce(&mut Tracker)) {
        feed(&mut self.tracker.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Shows the tracker's state to whoever lists sessions.
    fn publish(&self) {
        self.feed(|tracker| {
            self.session.set_activity(Activity {
                busy: tracker.is_busy(),
                in_transaction: tracker.in_transaction(),
                transactions: tracker.transactions(),
                server_sessions: 1,
            });
        });
    }
}

async fn pump_to_server(
    observed: &Observed,
    mut from: OwnedReadHalf,
    mut buffer: BytesMut,
    mut to: OwnedWriteHalf,
) -> io::Result<()> {
    let mut continued = false;
    loop {
        while let Some((header, mut frame)) = take_frame(&mut buffer) {
            if !continued {
                let payload = &frame[HEADER_LEN..];
                observed.feed(|tracker| tracker.client_packet(header.sequence, payload));
                if header.sequence == 0 && payload.first() == Some(&command::CHANGE_USER) {
                    frame = with_reduced_user(payload);
                }
            }
            continued = header.is_continued();
            // Busy before the server can know of the command, so that nobody takes the session for idle.
            observed.publish();
            to.write_all(&frame).await?;
        }
        if from.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

async fn pump_to_client(
    observed: &Observed,
    mut from: OwnedReadHalf,
    mut buffer: BytesMut,
    mut to: OwnedWriteHalf,
) -> io::Result<()> {
    let mut continued = false;
    loop {
        let mut ready = 0;
        while let Some(header) =
            FrameHeader::peek(&buffer[ready..]).filter(|header| buffer.len() >= ready + header.frame_len())
        {
            if !continued {
                let payload = &buffer[ready + HEADER_LEN..ready + header.frame_len()];
                observed.feed(|tracker| tracker.server_packet(payload));
            }
            continued = header.is_continued();
            ready += header.frame_len();
        }
        if ready > 0 {
            to.write_all(&buffer.split_to(ready)).await?;
            // Idle only after the client was sent the whole answer: closing it earlier would lose the answer.
            observed.publish();
        }
        if from.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// The first frame of `buffer`, if it is there as a whole.
fn take_frame(buffer: &mut BytesMut) -> Option<(FrameHeader, BytesMut)> {
    let header = FrameHeader::peek(buffer).filter(|header| buffer.len() >= header.frame_len())?;
    Some((header, buffer.split_to(header.frame_len())))
}

/// A COM_CHANGE_USER frame with the tenant and cluster taken off the user's name.
fn with_reduced_user(payload: &[u8]) -> BytesMut {
    let end = payload.iter().position(|byte| *byte == 0).unwrap_or(payload.len());
    let (name, rest) = payload.split_at(end);
    let user = name.split(|byte| *byte == b'@').next().unwrap_or(name);
    let mut frame = BytesMut::new();
    put_packet(&mut frame, &[user, rest].concat(), 0);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changing_the_user_reduces_the_name() {
        let frame = with_reduced_user(b"\x11app@shop#north\0\0db\0");
        assert_eq!(&frame[HEADER_LEN..], b"\x11app\0\0db\0");
        let plain = with_reduced_user(b"\x11app\0rest");
        assert_eq!(&plain[HEADER_LEN..], b"\x11app\0rest");
    }
}
