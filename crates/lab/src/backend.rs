//! What the proxies serve: a small MySQL-protocol server that knows transactions and keeps no data, a real
//! database, or somebody's own.

use std::{
    fmt, io,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::Context as _;
use obfleet_mysqlwire::{
    Column, Greeting, ServerConnection,
    protocol::{CHARSET_UTF8MB4_BIN, NATIVE_PASSWORD, capability, command, status},
};
use obfleet_testdb::Database;
use tokio::{
    net::{TcpListener, TcpStream, lookup_host},
    task::JoinHandle,
};

/// Which server the proxies are to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendChoice {
    /// The small one here.
    Builtin,
    /// Debian's MariaDB, started for the occasion.
    MariaDb,
    /// The OceanBase kernel, started for the occasion.
    SeekDb,
    /// One that runs already.
    At(Foreign),
}

/// A server of somebody else's, and an account there with an empty password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    user: String,
    /// `host:port`.
    place: String,
}

/// The account of every other backend.
const ROOT: &str = "root";
const DEFAULT_PORT: u16 = 3306;

impl BackendChoice {
    /// Reads `builtin`, `mariadb`, `seekdb`, `host:port` or `mysql://user@host:port`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "builtin" => Ok(Self::Builtin),
            "mariadb" => Ok(Self::MariaDb),
            "seekdb" => Ok(Self::SeekDb),
            _ => Foreign::parse(text).map(Self::At),
        }
    }
}

impl fmt::Display for BackendChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin => f.write_str("builtin"),
            Self::MariaDb => f.write_str("mariadb"),
            Self::SeekDb => f.write_str("seekdb"),
            Self::At(Foreign { user, place }) => write!(f, "mysql://{user}@{place}"),
        }
    }
}

impl Foreign {
    fn parse(text: &str) -> Result<Self, String> {
        let usage = "'builtin', 'mariadb', 'seekdb', host:port, or mysql://user@host:port";
        let Some(url) = text.strip_prefix("mysql://") else {
            let has_port = text
                .rsplit_once(':')
                .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            return if has_port && !text.contains(['/', '@']) {
                Ok(Self {
                    user: ROOT.to_owned(),
                    place: text.to_owned(),
                })
            } else {
                Err(usage.to_owned())
            };
        };
        let (account, place) = url.rsplit_once('@').unwrap_or((ROOT, url));
        let (user, password) = account.split_once(':').unwrap_or((account, ""));
        if !password.is_empty() {
            return Err(
                "a password cannot be used: the demo's proxies are stand-ins, which cannot pass it on to the server; \
                 name an account there that has an empty one"
                    .to_owned(),
            );
        }
        let place = place.strip_suffix('/').unwrap_or(place);
        if place.contains(['/', '?']) {
            return Err("no database can be named: the demo makes one of its own".to_owned());
        }
        if user.is_empty() || place.is_empty() {
            return Err(usage.to_owned());
        }
        let place = match place.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => place.to_owned(),
            Some((_, rest)) if !rest.ends_with(']') => return Err(usage.to_owned()),
            _ => format!("{place}:{DEFAULT_PORT}"),
        };
        Ok(Self {
            user: user.to_owned(),
            place,
        })
    }
}

/// The server the proxies serve. It ends with this, unless it is somebody else's.
#[derive(Debug)]
pub struct Backend {
    /// Where it is.
    pub address: SocketAddr,
    /// An account there whose password is empty.
    pub user: String,
    /// Whether what is written can be read again.
    pub keeps_rows: bool,
    /// Whether it goes on when the demo has ended.
    pub is_foreign: bool,
    _server: Server,
}

/// What ends with the backend.
#[derive(Debug)]
enum Server {
    Builtin(JoinHandle<()>),
    Started(#[expect(dead_code, reason = "held for its end")] Box<Database>),
    /// Somebody else's.
    Foreign,
}

impl Backend {
    /// Starts the server in the empty folder `dir`, or takes the one that is there.
    pub async fn start(choice: &BackendChoice, dir: &Path) -> anyhow::Result<Self> {
        let mut user = ROOT.to_owned();
        let (address, server) = match choice {
            BackendChoice::At(foreign) => {
                let mut found = lookup_host(&foreign.place)
                    .await
                    .with_context(|| format!("cannot find {}", foreign.place))?;
                user.clone_from(&foreign.user);
                let address = found
                    .next()
                    .with_context(|| format!("{} has no address", foreign.place))?;
                (address, Server::Foreign)
            }
            BackendChoice::Builtin => {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                let address = listener.local_addr()?;
                (address, Server::Builtin(tokio::spawn(accept(listener))))
            }
            BackendChoice::MariaDb => {
                let server = Database::mariadb(dir).await?;
                (server.address(), Server::Started(Box::new(server)))
            }
            BackendChoice::SeekDb => {
                let server = Database::seekdb(dir).await?;
                (server.address(), Server::Started(Box::new(server)))
            }
        };
        Ok(Self {
            address,
            user,
            keeps_rows: !matches!(server, Server::Builtin(_)),
            is_foreign: matches!(server, Server::Foreign),
            _server: server,
        })
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
        let backend = Backend::start(&BackendChoice::Builtin, Path::new(".")).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut client = Client::connect(backend.address, "root", "", deadline).await.unwrap();
        for (sql, inside) in [
            ("select 1", false),
            ("BEGIN", true),
            ("select 1", true),
            ("insert into demo.entries values (1, 2, 0)", true),
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
        for (text, shown) in [
            ("builtin", "builtin"),
            ("mariadb", "mariadb"),
            ("seekdb", "seekdb"),
            ("127.0.0.1:3307", "mysql://root@127.0.0.1:3307"),
            ("db.example:3307", "mysql://root@db.example:3307"),
            ("mysql://app@db.example:3307", "mysql://app@db.example:3307"),
            ("mysql://app:@db.example/", "mysql://app@db.example:3306"),
            ("mysql://[::1]", "mysql://root@[::1]:3306"),
            ("mysql://[::1]:3307", "mysql://root@[::1]:3307"),
        ] {
            assert_eq!(BackendChoice::parse(text).unwrap().to_string(), shown, "{text}");
        }
        for (text, why) in [
            ("postgres", "host:port"),
            ("db.example:x", "host:port"),
            ("mysql://db.example:x", "host:port"),
            ("mysql://@db.example", "host:port"),
            ("app@db.example:3307", "host:port"),
            ("mysql://app:secret@db.example", "password"),
            ("mysql://app@db.example/shop", "database"),
        ] {
            let error = BackendChoice::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("secret"));
        }
    }
}
