//! One client: greeting, login, and then to whom it belongs.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use obfleet_mysqlwire::auth::{SCRAMBLE_LEN, verify_native};
use obfleet_mysqlwire::protocol::{CHARSET_UTF8MB4_BIN, NATIVE_PASSWORD, capability};
use obfleet_mysqlwire::{ErrPacket, Greeting, Login, ServerConnection};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::proxy::Proxy;
use crate::sessions::{Identity, Session};
use crate::{admin, fake_backend, relay};

/// The scramble every client gets, unless `enable_proxy_scramble` is on.
const CONSTANT_SCRAMBLE: [u8; SCRAMBLE_LEN] = *b"aaaaaaaabbbbbbbbbbbb";
/// What every client is offered. Whether result sets end with EOF packets is left to the backend.
const CAPABILITIES: u32 = capability::LONG_PASSWORD
    | capability::FOUND_ROWS
    | capability::LONG_FLAG
    | capability::CONNECT_WITH_DB
    | capability::IGNORE_SPACE
    | capability::PROTOCOL_41
    | capability::INTERACTIVE
    | capability::TRANSACTIONS
    | capability::SECURE_CONNECTION
    | capability::MULTI_STATEMENTS
    | capability::MULTI_RESULTS
    | capability::PS_MULTI_RESULTS
    | capability::PLUGIN_AUTH
    | capability::CONNECT_ATTRS
    | capability::PLUGIN_AUTH_LENENC;

/// A killed session is closed within this time, and listed until then.
const CLOSED_WITHIN: Duration = Duration::from_millis(300);

/// Serves one client until it leaves or is closed.
pub async fn serve(proxy: Arc<Proxy>, stream: TcpStream, peer: SocketAddr) {
    let guard = proxy.sessions.open(peer);
    let session = guard.session();
    let mut talk = std::pin::pin!(talk(&proxy, session, stream));
    tokio::select! {
        biased;
        // Nothing that comes meanwhile is heard or answered.
        () = session.closing.cancelled() => sleep(CLOSED_WITHIN.mul_f64(rand::random())).await,
        // How a client left is of no interest.
        _ = &mut talk => {}
    }
}

async fn talk(proxy: &Arc<Proxy>, session: &Arc<Session>, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let greeting = greeting(proxy, session);
    let (mut connection, login) = ServerConnection::greet(stream, &greeting).await?;
    let identity = identify(&login);
    let is_admin = identity.tenant == "proxysys";
    let admitted = !proxy.build.faults.no_login && (!is_admin || may_administrate(proxy, session, &login, &greeting));
    if !admitted {
        return connection.send_err(&access_denied(&login, session.peer)).await;
    }
    if is_admin && login.database.is_some() {
        // The real proxy cuts such a login off.
        return Ok(());
    }
    if is_admin {
        session.identify(identity);
        admin::serve(proxy, session, connection).await
    } else if proxy.build.fake_backend {
        session.identify(identity);
        fake_backend::serve(session, connection).await
    } else {
        relay::serve(proxy, session, connection, login, identity).await
    }
}

fn greeting(proxy: &Proxy, session: &Session) -> Greeting {
    let config = proxy.config();
    let scramble = if config.flag("enable_proxy_scramble") {
        // Printable, as servers do: some clients stop at a NUL.
        std::array::from_fn(|_| rand::random_range(b'!'..=b'~'))
    } else {
        CONSTANT_SCRAMBLE
    };
    Greeting {
        server_version: config.text("mysql_version").to_owned(),
        connection_id: session.id,
        scramble,
        capabilities: CAPABILITIES | proxy.backend_capabilities.load(Ordering::Relaxed),
        charset: CHARSET_UTF8MB4_BIN as u8,
        status: 0,
        auth_plugin: NATIVE_PASSWORD.to_owned(),
    }
}

/// `user@tenant#cluster`, of which all but the user may be absent.
fn identify(login: &Login) -> Identity {
    let (user, place) = login.user.split_once('@').unwrap_or((&login.user, ""));
    let (tenant, cluster) = place.split_once(['#', ':']).unwrap_or((place, ""));
    Identity {
        user: user.to_owned(),
        tenant: tenant.to_owned(),
        cluster: cluster.to_owned(),
        database: login.database.clone(),
    }
}

/// Whether a user of the proxy itself may log in: the peer must be near, and the password right.
fn may_administrate(proxy: &Proxy, session: &Session, login: &Login, greeting: &Greeting) -> bool {
    let config = proxy.config();
    let stored = match login.user.split('@').next() {
        Some("root") => config.text("obproxy_sys_password"),
        Some("inspector") => config.text("inspector_password"),
        _ => return false,
    };
    let near = is_loopback_or_private(session.peer.ip()) || config.flag("skip_proxy_sys_private_check");
    let password_fits = if stored.is_empty() {
        login.auth_answer.is_empty()
    } else {
        let mut sha1 = [0; SCRAMBLE_LEN];
        hex::decode_to_slice(stored, &mut sha1).is_ok() && verify_native(&login.auth_answer, &sha1, &greeting.scramble)
    };
    near && password_fits
}

/// What the real proxy takes for loopback or private: exactly these, and not 10/8, 172.16/12 or the rest of 127/8.
fn is_loopback_or_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => matches!(ip.octets(), [127, 0, 0, 1] | [192, 168, _, _]),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
    }
}

/// The refusal of a login, for a wrong password and a wrong peer alike.
pub fn access_denied(login: &Login, peer: SocketAddr) -> ErrPacket {
    let using = if login.auth_answer.is_empty() { "NO" } else { "YES" };
    let message = format!(
        "Access denied for user '{}'@'{}' (using password: {using})",
        login.user,
        peer.ip()
    );
    ErrPacket::new(1045, "42000", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: &str) -> Login {
        Login {
            capabilities: 0,
            max_packet: 0,
            charset: 0,
            user: user.into(),
            auth_answer: vec![1],
            database: None,
            auth_plugin: None,
            attributes: Vec::new(),
        }
    }

    #[test]
    fn user_names_are_taken_apart() {
        let parts = |user| {
            let identity = identify(&login(user));
            [identity.user, identity.tenant, identity.cluster]
        };
        assert_eq!(parts("root@proxysys"), ["root", "proxysys", ""]);
        assert_eq!(parts("app@shop#north"), ["app", "shop", "north"]);
        assert_eq!(parts("app@shop:north"), ["app", "shop", "north"]);
        assert_eq!(parts("app"), ["app", "", ""]);
    }

    #[test]
    fn only_some_private_addresses_count() {
        let near = |ip: &str| is_loopback_or_private(ip.parse().unwrap());
        assert!(
            ["127.0.0.1", "::1", "192.168.7.1", "fd00::1", "::ffff:127.0.0.1"]
                .into_iter()
                .all(near)
        );
        assert!(
            !["127.0.0.2", "10.1.1.1", "172.16.0.1", "198.51.100.1", "fe80::1"]
                .into_iter()
                .any(near)
        );
    }

    #[test]
    fn the_refusal_names_user_and_peer() {
        let error = access_denied(&login("root@proxysys"), "10.1.1.1:5".parse().unwrap());
        assert_eq!(
            error.message,
            "Access denied for user 'root@proxysys'@'10.1.1.1' (using password: YES)"
        );
    }
}
