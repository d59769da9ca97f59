//! Sessions of the proxy's own users, answered without any backend.

mod alter;
mod show_cluster;
mod show_config;
mod show_info;
mod show_sessions;
mod show_stat;
mod statement;
mod status_text;
mod tables;

use std::io;
use std::sync::Arc;

use obfleet_mysqlwire::protocol::command;
use obfleet_mysqlwire::{Column, Command, ErrPacket, Row, ServerConnection};
use tokio::net::TcpStream;

use self::statement::Statement;
use crate::proxy::{Proxy, Status};
use crate::sessions::{Activity, Session};

/// What the proxy says to a command.
enum Answer {
    /// Done.
    Ok,
    /// A result set.
    Rows(Vec<Column>, Vec<Row>),
    /// Refused.
    Err(ErrPacket),
    /// The connection is closed without a word.
    Close,
}

impl Answer {
    fn error(code: u16, sqlstate: &str, message: impl Into<String>) -> Self {
        Self::Err(ErrPacket::new(code, sqlstate, message))
    }

    /// The proxy's answer to whatever it cannot do inside.
    fn internal_error() -> Self {
        Self::error(4016, "HY000", "Internal error")
    }

    fn not_supported() -> Self {
        Self::error(1235, "0A000", "Not supported feature or function")
    }

    fn bad_command() -> Self {
        Self::error(5010, "21000", "Unknown operator, bad internal cmd")
    }

    /// Text columns with rows of text.
    fn table<const N: usize>(columns: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Self {
        let rows = rows
            .into_iter()
            .map(|row| row.into_iter().map(|value| Some(value.into_bytes())).collect());
        Self::Rows(columns.into_iter().map(Column::text).collect(), rows.collect())
    }
}

/// Serves one such session until it ends.
pub async fn serve(
    proxy: &Proxy,
    session: &Arc<Session>,
    mut connection: ServerConnection<TcpStream>,
) -> io::Result<()> {
    let may_only_ping = session.identity().is_some_and(|identity| identity.user == "inspector");
    connection.send_ok(0).await?;
    let mut activity = Activity::default();
    while let Some(asked) = connection.next_command().await? {
        session.set_activity(Activity { busy: true, ..activity });
        if asked.code == command::QUIT {
            break;
        }
        match answer(proxy, asked, may_only_ping).await {
            Answer::Ok => connection.send_ok(0).await?,
            Answer::Rows(columns, rows) => connection.send_rows(&columns, &rows, 0).await?,
            Answer::Err(error) => connection.send_err(&error).await?,
            Answer::Close => break,
        }
        activity.transactions += 1;
        session.set_activity(activity);
    }
    Ok(())
}

async fn answer(proxy: &Proxy, asked: Command, may_only_ping: bool) -> Answer {
    match asked.code {
        command::PING => Answer::Ok,
        command::QUERY => {
            let statement = Statement::parse(&String::from_utf8_lossy(&asked.body));
            if may_only_ping && statement != Statement::PingProxy {
                return Answer::not_supported();
            }
            run(proxy, statement).await
        }
        command::INIT_DB => Answer::Close,
        _ => Answer::not_supported(),
    }
}

async fn run(proxy: &Proxy, statement: Statement) -> Answer {
    match statement {
        Statement::ShowConfig { scope, like } => show_config::answer(proxy, scope, like.as_deref()),
        Statement::Alter { name, value } => alter::answer(proxy, &name, &value).await,
        Statement::ShowBinary => show_info::binary(proxy),
        Statement::ShowUpgrade => status_text::answer(proxy),
        Statement::ShowIdc => show_info::idc(),
        Statement::ShowStat { like } => show_stat::answer(proxy, like.as_deref()),
        Statement::ShowSession => show_sessions::proxysession(proxy),
        Statement::ShowSessionAttribute { id } => show_sessions::attribute(proxy, id),
        Statement::ShowProcesslist => show_sessions::processlist(proxy),
        Statement::ShowNet => show_sessions::net_thread(proxy),
        Statement::ShowCluster => show_cluster::answer(proxy),
        Statement::ShowResource => show_info::resource(),
        Statement::ShowCongestion => show_info::congestion(),
        Statement::ShowVip => show_info::vip(),
        Statement::ShowVariables => show_info::variables(),
        Statement::Kill { id } if proxy.sessions.kill(id) => Answer::Ok,
        Statement::Kill { id } => Answer::error(1094, "HY000", format!("Unknown thread id: {id}")),
        Statement::KillQuery | Statement::SetOrBegin => Answer::Ok,
        // Balancers take the host out when its probe's connection goes.
        Statement::PingProxy if proxy.is_draining() => Answer::Close,
        Statement::PingProxy => Answer::Ok,
        Statement::SelectVersion { column } => {
            let version = proxy.reported_version().as_bytes().to_vec();
            Answer::Rows(vec![Column::binary(&column)], vec![vec![Some(version)]])
        }
        Statement::SelectStatus { column } => {
            let status = match proxy.status() {
                Status::Active => "ACTIVE",
                Status::BecomingInactive => "BE_INACTIVE",
                Status::Inactive => "INACTIVE",
            };
            Answer::table([&column], [[status.to_owned()]])
        }
        Statement::Table { sql } => tables::answer(proxy, &sql).await,
        Statement::QualifiedTable => Answer::internal_error(),
        Statement::ShowTrace => Answer::Close,
        Statement::Unsupported => Answer::not_supported(),
        Statement::Unknown => Answer::bad_command(),
    }
}
