//! Sessions without a database behind: OK to every statement, transactions tracked.

use std::io;
use std::sync::Arc;

use obfleet_mysqlwire::protocol::{command, status};
use obfleet_mysqlwire::{ErrPacket, ServerConnection};
use tokio::net::TcpStream;

use crate::sessions::{Activity, Session};

/// Serves an ordinary user's session until it ends.
pub async fn serve(session: &Arc<Session>, mut connection: ServerConnection<TcpStream>) -> io::Result<()> {
    let mut activity = Activity::default();
    connection.send_ok(status::AUTOCOMMIT).await?;
    while let Some(asked) = connection.next_command().await? {
        session.set_activity(Activity { busy: true, ..activity });
        match asked.code {
            command::QUIT => break,
            command::QUERY => {
                run(&String::from_utf8_lossy(&asked.body), &mut activity);
                let in_transaction = if activity.in_transaction { status::IN_TRANS } else { 0 };
                connection.send_ok(status::AUTOCOMMIT | in_transaction).await?;
            }
            command::PING | command::INIT_DB | command::RESET_CONNECTION => {
                connection.send_ok(status::AUTOCOMMIT).await?;
            }
            _ => {
                connection
                    .send_err(&ErrPacket::new(1235, "0A000", "Not supported feature or function"))
                    .await?;
            }
        }
        session.set_activity(activity);
    }
    Ok(())
}

fn run(sql: &str, activity: &mut Activity) {
    let sql = sql.trim().trim_end_matches(';').to_ascii_lowercase();
    let begins = sql == "begin" || sql.starts_with("start transaction");
    if begins {
        activity.in_transaction = true;
        return;
    }
    let ends = sql.starts_with("commit") || sql.starts_with("rollback");
    if ends || !activity.in_transaction {
        activity.in_transaction = false;
        activity.transactions += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_are_tracked() {
        let mut activity = Activity::default();
        let mut after = |sql| {
            run(sql, &mut activity);
            (activity.in_transaction, activity.transactions)
        };
        assert_eq!(after("select 1"), (false, 1));
        assert_eq!(after("BEGIN;"), (true, 1));
        assert_eq!(after("insert into t values (1)"), (true, 1));
        assert_eq!(after("Commit"), (false, 2));
        assert_eq!(after("start transaction"), (true, 2));
        assert_eq!(after("rollback"), (false, 3));
    }
}
