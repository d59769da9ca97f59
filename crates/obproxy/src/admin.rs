//! Admin SQL: one session of `root@proxysys`, answered by the proxy itself.
//!
//! The session speaks the text protocol only and sends nothing of its own: a proxy refuses prepared statements and
//! closes a session that names a default database. Every call has the deadline given at the connect.

use std::{collections::HashMap, future::Future, io, net::SocketAddr, time::Duration};

use obfleet_wire::version::ProxyVersion;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlRow, MySqlSslMode},
};

mod answer;
mod statement;

use answer::parse_binary_info;
pub use answer::{ConfigItem, Session, UpgradeInfo};
use statement::Statement;
pub use statement::set_config as set_config_statement;

/// The user every admin session logs in as.
pub const ADMIN_USER: &str = "root@proxysys";

/// Why an admin call failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody listens at the address.
    #[error("{address} refuses connections")]
    Refused {
        /// The SQL address.
        address: SocketAddr,
    },
    /// No answer within the deadline; the session cannot be used any more.
    #[error("no answer within {} ms", after.as_millis())]
    TimedOut {
        /// The deadline.
        after: Duration,
    },
    /// The proxy turned the login away: wrong password, or a source address it does not let in.
    #[error("the login was refused: {message}")]
    Denied {
        /// The proxy's words.
        message: String,
    },
    /// The proxy answered with an error.
    #[error("error {code}: {message}")]
    Server {
        /// Its number.
        code: u16,
        /// Its words.
        message: String,
    },
    /// The answer, or what was to be sent, has not the expected form.
    #[error("{what}")]
    Malformed {
        /// What is wrong with it.
        what: String,
    },
    /// The session broke.
    #[error("the session broke")]
    Io(#[source] io::Error),
}

impl AdminError {
    /// Whether the proxy did answer, only not as hoped: its process is alive and its SQL port served.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::Server { .. } | Self::Malformed { .. })
    }
}

/// Access denied, also for a source that is not let in.
const ER_ACCESS_DENIED: u16 = 1045;

/// There is nothing to list.
const ER_ENTRY_NOT_EXIST: u16 = 4018;

/// An open admin session.
///
/// As long as the value lives the connection stays open, even when a call timed out: a session to a draining proxy
/// keeps that process alive.
#[derive(Debug)]
pub struct AdminConn {
    connection: MySqlConnection,
    address: SocketAddr,
    deadline: Duration,
    /// Set while a call is under way: one that was given up leaves the protocol in an unknown place.
    spoiled: bool,
}

impl AdminConn {
    /// Logs in as `root@proxysys`. `deadline` bounds the login, and then each call.
    pub async fn connect(address: SocketAddr, password: &str, deadline: Duration) -> Result<Self, AdminError> {
        let options = quiet_options(address, ADMIN_USER, password);
        let connection = within(deadline, MySqlConnection::connect_with(&options))
            .await?
            .map_err(|error| connect_error(address, error))?;
        Ok(Self {
            connection,
            address,
            deadline,
            spoiled: false,
        })
    }

    /// The address it was opened to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the deadline of the calls to come.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// The dotted version, `4.3.1.0`, without the build.
    pub async fn proxy_version(&mut self) -> Result<String, AdminError> {
        let rows = self.ask(Statement::ProxyVersion).await?;
        only_value(&rows, "select proxy_version()")
    }

    /// `ACTIVE`, `BE_INACTIVE` or `INACTIVE`.
    pub async fn proxy_status(&mut self) -> Result<String, AdminError> {
        let rows = self.ask(Statement::ProxyStatus).await?;
        only_value(&rows, "select proxy_status()")
    }

    /// Fails while the proxy drains: it then drops the session, so never ping through one that must stay.
    pub async fn ping_proxy(&mut self) -> Result<(), AdminError> {
        self.ask(Statement::Ping).await.map(drop)
    }

    /// The configuration items whose names match the SQL pattern.
    pub async fn show_config(&mut self, like: &str) -> Result<Vec<ConfigItem>, AdminError> {
        let rows = self.ask(Statement::ShowConfig { like }).await?;
        rows.iter().map(ConfigItem::read).collect()
    }

    /// The value of one configuration item, `None` if the proxy does not have it.
    pub async fn config_value(&mut self, name: &str) -> Result<Option<String>, AdminError> {
        let items = self.show_config(name).await?;
        Ok(items.into_iter().find(|item| item.name == name).map(|item| item.value))
    }

    /// Sets a configuration item; the proxy has stored it when this returns. What it says against a password is not told:
    /// an error may quote the statement.
    pub async fn set_config(&mut self, name: &str, value: &str) -> Result<(), AdminError> {
        let set = self.ask(Statement::SetConfig { name, value }).await.map(drop);
        set.map_err(|error| without_quotes(name, error))
    }

    /// Version of the configuration it has from its config server, `None` while it has none.
    pub async fn config_version(&mut self) -> Result<Option<String>, AdminError> {
        let items = self.show_config("json_config%").await?;
        let version = items.into_iter().find(|item| item.name == "json_config_version");
        Ok(version.map(|item| item.value).filter(|version| !version.is_empty()))
    }

    /// Names of the OceanBase clusters its config server told it of, each once, that of the metadb among them; none of a
    /// proxy that has no config server, or no configuration from it yet.
    pub async fn ob_clusters(&mut self) -> Result<Vec<String>, AdminError> {
        let rows = match self.ask(Statement::Clusters).await {
            Err(AdminError::Server {
                code: ER_ENTRY_NOT_EXIST,
                ..
            }) => return Ok(Vec::new()),
            rows => rows?,
        };
        let mut names: Vec<String> = Vec::new();
        for row in &rows {
            let name = named(row, "cluster_name")?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Version and build.
    pub async fn binary_info(&mut self) -> Result<ProxyVersion, AdminError> {
        let rows = self.ask(Statement::BinaryInfo).await?;
        parse_binary_info(&named(first(&rows, "show proxyinfo binary")?, "info")?)
    }

    /// Where the proxy stands in a hot restart.
    pub async fn upgrade_info(&mut self) -> Result<UpgradeInfo, AdminError> {
        let rows = self.ask(Statement::UpgradeInfo).await?;
        let info = named(first(&rows, "show proxyinfo upgrade")?, "info")?;
        Ok(UpgradeInfo::parse(&info))
    }

    /// The client sessions of the process that answers, this one among them.
    pub async fn sessions(&mut self) -> Result<Vec<Session>, AdminError> {
        let rows = self.ask(Statement::Sessions).await?;
        rows.iter().map(Session::read).collect()
    }

    /// Closes a client session. Error 1094: it is gone already.
    pub async fn kill_session(&mut self, id: u64) -> Result<(), AdminError> {
        self.ask(Statement::KillSession { id }).await.map(drop)
    }

    /// The id of the process that answers, in its own pid namespace.
    pub async fn answering_pid(&mut self) -> Result<i32, AdminError> {
        let rows = self.ask(Statement::Processes).await?;
        let pid = named(first(&rows, "show processlist")?, "pid")?;
        pid.parse().map_err(|_| AdminError::Malformed {
            what: format!("pid '{pid}' of show processlist is no number"),
        })
    }

    /// The proxy's own counters, by name; what is no number is left out.
    pub async fn counters(&mut self) -> Result<HashMap<String, i64>, AdminError> {
        let rows = self.ask(Statement::Counters).await?;
        let mut counters = HashMap::with_capacity(rows.len());
        for row in &rows {
            if let Ok(value) = named(row, "value")?.trim().parse() {
                counters.insert(named(row, "stat_name")?, value);
            }
        }
        Ok(counters)
    }

    /// Orders a local command: 1 exit, 2 hot restart, 3 offline, 4 online; 0 takes back one not yet begun. The proxy
    /// obeys at its next tick.
    pub async fn local_command(&mut self, command: u8) -> Result<(), AdminError> {
        self.set_config("proxy_local_cmd", &command.to_string()).await
    }

    /// Says goodbye. Dropping the session closes the connection as well.
    pub async fn close(self) {
        let Self {
            connection, deadline, ..
        } = self;
        // Nothing depends on the farewell being heard.
        drop(within(deadline, connection.close()).await);
    }

    async fn ask(&mut self, statement: Statement<'_>) -> Result<Vec<MySqlRow>, AdminError> {
        if self.spoiled {
            let why = "an earlier call on this session was given up";
            return Err(AdminError::Io(io::Error::new(io::ErrorKind::NotConnected, why)));
        }
        let sql = statement.sql()?;
        self.spoiled = true;
        let answer = within(
            self.deadline,
            sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut self.connection),
        )
        .await?;
        self.spoiled = !matches!(answer, Ok(_) | Err(sqlx::Error::Database(_)));
        answer.map_err(|error| admin_error(self.address, error))
    }
}

/// Options with which nothing is sent but the login: a proxy refuses what drivers say to a server on their own. Statements
/// are not logged, they may hold passwords.
pub(crate) fn quiet_options(address: SocketAddr, user: &str, password: &str) -> MySqlConnectOptions {
    let options = MySqlConnectOptions::new()
        .host(&address.ip().to_string())
        .port(address.port())
        .username(user)
        .ssl_mode(MySqlSslMode::Disabled)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .set_names(false)
        .disable_statement_logging();
    if password.is_empty() {
        options
    } else {
        options.password(password)
    }
}

pub(crate) async fn within<T>(deadline: Duration, call: impl Future<Output = T>) -> Result<T, AdminError> {
    tokio::time::timeout(deadline, call)
        .await
        .map_err(|_| AdminError::TimedOut { after: deadline })
}

pub(crate) fn connect_error(address: SocketAddr, error: sqlx::Error) -> AdminError {
    match admin_error(address, error) {
        AdminError::Server {
            code: ER_ACCESS_DENIED,
            message,
        } => AdminError::Denied { message },
        other => other,
    }
}

fn admin_error(address: SocketAddr, error: sqlx::Error) -> AdminError {
    match error {
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => AdminError::Refused { address },
        sqlx::Error::Io(error) => AdminError::Io(error),
        sqlx::Error::Database(error) => match error.try_downcast_ref::<MySqlDatabaseError>() {
            Some(error) => AdminError::Server {
                code: error.number(),
                message: error.message().to_owned(),
            },
            None => AdminError::Malformed {
                what: error.to_string(),
            },
        },
        other => AdminError::Malformed {
            what: other.to_string(),
        },
    }
}

fn without_quotes(name: &str, error: AdminError) -> AdminError {
    match error {
        AdminError::Server { code, .. } if name.to_ascii_lowercase().contains("password") => AdminError::Server {
            code,
            message: "the proxy's words are left out, they may quote the password".to_owned(),
        },
        other => other,
    }
}

fn first<'r>(rows: &'r [MySqlRow], statement: &str) -> Result<&'r MySqlRow, AdminError> {
    rows.first().ok_or_else(|| AdminError::Malformed {
        what: format!("'{statement}' was answered without a row"),
    })
}

fn only_value(rows: &[MySqlRow], statement: &str) -> Result<String, AdminError> {
    text_at(first(rows, statement)?, 0)
}

/// The value of a column as text. Its declared type does not matter: OBProxy declares some texts as binary.
fn text_at(row: &MySqlRow, index: usize) -> Result<String, AdminError> {
    let bytes: Option<&[u8]> = row.try_get_unchecked(index).map_err(|error| AdminError::Malformed {
        what: format!("column {index} cannot be read: {error}"),
    })?;
    Ok(String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned())
}

/// The value of the column of this name, whatever its case; NULL counts as empty.
fn named(row: &MySqlRow, name: &str) -> Result<String, AdminError> {
    use sqlx::Column as _;
    let column = row
        .columns()
        .iter()
        .find(|column| column.name().eq_ignore_ascii_case(name));
    match column {
        Some(column) => text_at(row, column.ordinal()),
        None => Err(AdminError::Malformed {
            what: format!("the answer has no column '{name}'"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_a_password_quotes_nothing() {
        let error = || AdminError::Server {
            code: 1064,
            message: "near 's3cret'".to_owned(),
        };
        for name in ["observer_sys_password", "Observer_Sys_Password1"] {
            assert!(!without_quotes(name, error()).to_string().contains("s3cret"), "{name}");
            assert!(without_quotes(name, error()).to_string().contains("1064"), "{name}");
        }
        assert!(
            without_quotes("proxy_mem_limited", error())
                .to_string()
                .contains("near")
        );
    }
}
