//! One database of each kind for all tests of an executable, started by the first that asks.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use obfleet_mysqlwire::Client;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::database::{Database, Home, LOGIN_DEADLINE};

static MARIADB: OnceCell<Database> = OnceCell::const_new();
static SEEKDB: OnceCell<Database> = OnceCell::const_new();

/// The URL of a new, empty schema in the shared MariaDB.
pub async fn mariadb() -> Result<String> {
    let start = || async { Database::mariadb_in(Home::doomed()?).await };
    schema(MARIADB.get_or_try_init(start).await?.address()).await
}

/// The URL of a new, empty schema in the shared OceanBase kernel.
pub async fn seekdb() -> Result<String> {
    let start = || async { Database::seekdb_in(Home::doomed()?).await };
    schema(SEEKDB.get_or_try_init(start).await?.address()).await
}

/// The URL of a new, empty schema on this server.
pub async fn schema(server: SocketAddr) -> Result<String> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut client = Client::connect(server, "root", "", Instant::now() + LOGIN_DEADLINE).await?;
    client.query(&format!("create database {name}")).await?;
    client.close().await;
    Ok(format!("mysql://root@{server}/{name}"))
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;
    use std::process::Command;

    use super::*;
    use crate::SEEKDB_VARIABLE;

    /// Set where this test runs in a process that finds no program.
    const WITHOUT_PROGRAMS: &str = "OBFLEET_TESTDB_WITHOUT_PROGRAMS";

    #[tokio::test]
    async fn a_program_that_is_missing_leaves_no_folder_behind() {
        if env::var_os(WITHOUT_PROGRAMS).is_some() {
            for missing in [mariadb().await, seekdb().await] {
                let reason = missing.unwrap_err().to_string();
                assert!(reason.contains("is missing"), "{reason}");
            }
            return;
        }
        let folders = tempfile::tempdir().unwrap();
        let mut child = Command::new(env::current_exe().unwrap());
        child.args([
            "--exact",
            "shared::tests::a_program_that_is_missing_leaves_no_folder_behind",
        ]);
        child
            .env(WITHOUT_PROGRAMS, "1")
            .env("PATH", "")
            .env_remove(SEEKDB_VARIABLE);
        let output = child.env("TMPDIR", folders.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        let left: Vec<_> = fs::read_dir(folders.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
