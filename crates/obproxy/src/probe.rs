//! A query through a proxy as one of its clients: the only proof that it serves more than its own admin language.

use std::{net::SocketAddr, time::Duration};

use obfleet_wire::agent::ProbeQuery;
use sqlx::{AssertSqlSafe, Connection as _, mysql::MySqlConnection};

use crate::admin::{AdminError, connect_error, quiet_options, within};

/// Logs in as the probe's user and sends its query; the rows do not matter.
pub async fn run(address: SocketAddr, probe: &ProbeQuery, deadline: Duration) -> Result<(), AdminError> {
    let options = quiet_options(address, &probe.user, &probe.password);
    let query = async {
        let mut connection = MySqlConnection::connect_with(&options).await?;
        // An operator wrote the statement to be run as it is.
        let answer = sqlx::raw_sql(AssertSqlSafe(probe.sql.clone()))
            .fetch_all(&mut connection)
            .await;
        drop(connection.close().await);
        answer
    };
    within(deadline, query)
        .await?
        .map(drop)
        .map_err(|error| connect_error(address, error))
}
