//! One database of each kind for all tests of an executable, started by the first that asks.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use obfleet_mysqlwire::Client;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::{Home, LOGIN_DEADLINE, MariaDb, SeekDb};

static MARIADB: OnceCell<MariaDb> = OnceCell::const_new();
static SEEKDB: OnceCell<SeekDb> = OnceCell::const_new();

/// The URL of a new, empty schema in the shared MariaDB.
pub async fn mariadb() -> Result<String> {
    let start = || async { MariaDb::start_in(Home::doomed()?).await };
    schema(MARIADB.get_or_try_init(start).await?.address()).await
}

/// The URL of a new, empty schema in the shared OceanBase kernel.
pub async fn seekdb() -> Result<String> {
    let start = || async { SeekDb::start_in(Home::doomed()?).await };
    schema(SEEKDB.get_or_try_init(start).await?.address()).await
}

async fn schema(server: SocketAddr) -> Result<String> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut client = Client::connect(server, "root", "", Instant::now() + LOGIN_DEADLINE).await?;
    client.query(&format!("create database {name}")).await?;
    client.close().await;
    Ok(format!("mysql://root@{server}/{name}"))
}
