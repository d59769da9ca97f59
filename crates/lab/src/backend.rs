//! What the proxies serve: a small MySQL-protocol server that knows transactions and keeps no data, a real database, or somebody's own.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::databases::{MariaDb, SeekDb};
use obfleet_mysqlwire::{
    Column, Greeting, ServerConnection,
    protocol::{CHARSET_UTF8MB4_BIN, NATIVE_PASSWORD, capability, command, status},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Which server the proxies are to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendChoice {
    /// The small one here.
    Builtin,
    /// Debian's MariaDB, started for the occasion.
    MariaDb,
    /// The OceanBase kernel, started for the occasion.
    SeekDb,
    /// One that runs already; its root has an empty password.
    At(SocketAddr),
}

impl BackendChoice {
    /// Reads `builtin`, `mariadb`, `seekdb` or `ip:port`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "builtin" => Ok(Self::Builtin),
            "mariadb" => Ok(Self::MariaDb),
            "seekdb" => Ok(Self::SeekDb),
            _ => text.parse().map(Self::At).map_err(|_| {
                "'builtin', 'mariadb', 'seekdb', or ip:port of a server where root has an empty password".to_owned()
            }),
        }
    }
}

/// The server the proxies serve; the built-in one ends with this.
#[derive(Debug)]
pub struct Backend {
    /// Where it is.
    pub address: SocketAddr,
    _server: Server,
}

/// What ends with the backend.
#[derive(Debug)]
enum Server {
    Builtin(JoinHandle<()>),
    MariaDb(#[expect(dead_code, reason = "held for its end")] MariaDb),
    SeekDb(#[expect(dead_code, reason = "held for its end")] SeekDb),
    /// Somebody else's.
    Foreign,
}

impl Backend {
    /// Starts the server in the empty folder `dir`, or takes the one that is there.
    pub async fn start(choice: BackendChoice, dir: &Path) -> anyhow::Result<Self> {
        match choice {
            BackendChoice::At(address) => Ok(Self {
                address,
                _server: Server::Foreign,
            }),
            BackendChoice::Builtin => {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                let address = listener.local_addr()?;
                Ok(Self {
                    address,
                    _server: Server::Builtin(tokio::spawn(accept(listener))),
                })
            }
            BackendChoice::MariaDb => {
                let server = MariaDb::start(dir).await?;
                Ok(Self {
                    address: server.address(),
                    _server: Server::MariaDb(server),
                })
            }
            BackendChoice::SeekDb => {
                let server = SeekDb::start(dir).await?;
                Ok(Self {
                    address: server.address(),
                    _server: Server::SeekDb(server),
                })
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Self::Builtin(serving) = self {
            serving.abort();
        }
    }
}

async fn accept(listener: TcpListener) {
    loop {
        match listener.accept().await {
            // How a client left is of no interest.
            Ok((stream, _)) => drop(tokio::spawn(session(stream))),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// One client. Its transaction, having no data, ends with it.
async fn session(stream: TcpStream) -> io::Result<()> {
    static LAST_ID: AtomicU32 = AtomicU32::new(0);
    stream.set_nodelay(true)?;
    let greeting = Greeting {
        server_version: "5.7.25-obfleet-demo".to_owned(),
        connection_id: LAST_ID.fetch_add(1, Ordering::Relaxed) + 1,
        scramble: *b"obfleet-demo-backend",
        capabilities: capability::LONG_PASSWORD
            | capability::CONNECT_WITH_DB
            | capability::PROTOCOL_41
            | capability::TRANSACTIONS
            | capability::SECURE_CONNECTION
            | capability::PLUGIN_AUTH,
        charset: CHARSET_UTF8MB4_BIN as u8,
        status: status::AUTOCOMMIT,
        auth_plugin: NATIVE_PASSWORD.to_owned(),
    };
    let (mut connection, _) = ServerConnection::greet(stream, &greeting).await?;
    connection.send_ok(status::AUTOCOMMIT).await?;
    let mut flags = status::AUTOCOMMIT;
    while let Some(asked) = connection.next_command().await? {
        match asked.code {
            command::QUIT => break,
            command::QUERY => {
                let sql = String::from_utf8_lossy(&asked.body).to_ascii_lowercase();
                flags = after(&sql, flags);
                if sql.starts_with("select") {
                    let row = vec![Some(b"1".to_vec())];
                    connection.send_rows(&[Column::integer("1")], &[row], flags).await?;
                } else {
                    connection.send_ok(flags).await?;
                }
            }
            _ => connection.send_ok(flags).await?,
        }
    }
    Ok(())
}

/// The status flags after a statement.
fn after(sql: &str, flags: u16) -> u16 {
    let is = |words: &[&str]| words.iter().any(|word| sql.trim_start().starts_with(word));
    if is(&["begin", "start transaction"]) {
        flags | status::IN_TRANS
    } else if is(&["commit", "rollback"]) {
        flags & !status::IN_TRANS
    } else {
        flags
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use obfleet_mysqlwire::Client;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn tells_who_is_in_a_transaction() {
        let backend = Backend::start(BackendChoice::Builtin, Path::new(".")).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut client = Client::connect(backend.address, "root", "", deadline).await.unwrap();
        for (sql, inside) in [
            ("select 1", false),
            ("BEGIN", true),
            ("select 1", true),
            ("update t set a = 1", true),
            ("COMMIT", false),
            ("start transaction", true),
            ("rollback", false),
        ] {
            assert_eq!(client.query(sql).await.unwrap().in_transaction(), inside, "{sql}");
        }
    }

    #[test]
    fn a_database_is_named_by_its_kind_or_its_address() {
        assert_eq!(BackendChoice::parse("builtin"), Ok(BackendChoice::Builtin));
        assert!(matches!(
            BackendChoice::parse("127.0.0.1:3306"),
            Ok(BackendChoice::At(_))
        ));
        assert_eq!(BackendChoice::parse("mariadb"), Ok(BackendChoice::MariaDb));
        assert_eq!(BackendChoice::parse("seekdb"), Ok(BackendChoice::SeekDb));
        assert!(BackendChoice::parse("postgres").unwrap_err().contains("ip:port"));
    }
}
