//! The proxy's stored configuration, `etc/proxyconfig_v1.db`: a copy aside before a restart, and back for an undo.
//!
//! Copies are made by SQLite itself (`VACUUM INTO`), so they are consistent while the proxy writes. They hold password
//! hashes and are readable by their owner only.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use obfleet_wire::version::ProxyVersion;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

use crate::{process, run_as::RunAs};

/// The store since 4.1.
const STORE: &str = "etc/proxyconfig_v1.db";
/// The store of versions before 4.1.
const OLD_STORE: &str = "etc/proxyconfig.db";
/// The first version that reads [`STORE`]; it does not import the old one.
const NEW_STORE_SINCE: &str = "4.1.0";

/// A proxy holds its store for moments only, at its start for up to one second.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the store could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is none.
    #[error("{} holds no configuration store", home.display())]
    Missing {
        /// The home.
        home: PathBuf,
    },
    /// A proxy has it open.
    #[error("process {pid} runs in {} and has the store open", home.display())]
    InUse {
        /// The home.
        home: PathBuf,
        /// Who.
        pid: i32,
    },
    /// SQLite cannot read or write it.
    #[error("{} cannot be copied", path.display())]
    Sqlite {
        /// The store.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A file operation failed.
    #[error("{} cannot be written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Copies the store of the proxy in `home`, running or not, to `to`, replacing what is there.
pub async fn back_up(home: &Path, to: &Path) -> Result<(), StoreError> {
    let store = path(home).ok_or_else(|| StoreError::Missing { home: home.to_owned() })?;
    copy(&store, to).await
}

/// The store of the proxy in `home`, whichever version it is of.
pub(crate) fn path(home: &Path) -> Option<PathBuf> {
    let stores = [STORE, OLD_STORE].map(|name| home.join(name));
    stores.into_iter().find(|path| path.exists())
}

/// Makes the store readable for `target`: versions from 4.1 on want a new file and do not import the old one.
/// Whether anything had to be done.
pub async fn prepare_for(home: &Path, target: &ProxyVersion) -> Result<bool, StoreError> {
    let (old, new) = (home.join(OLD_STORE), home.join(STORE));
    if !target.at_least(NEW_STORE_SINCE) || new.exists() || !old.exists() {
        return Ok(false);
    }
    copy(&old, &new).await?;
    give_to_owner_of(&old, &new).map_err(|source| StoreError::Io { path: new, source })?;
    Ok(true)
}

/// Puts a copy back, for a proxy that does not run.
pub fn restore(home: &Path, from: &Path) -> Result<(), StoreError> {
    let store = home.join(STORE);
    let failed = |source| StoreError::Io {
        path: store.clone(),
        source,
    };
    if let Some(process) = process::of_home(home).map_err(failed)?.first() {
        return Err(StoreError::InUse {
            home: home.to_owned(),
            pid: process.id.pid,
        });
    }
    let temporary = beside(&store);
    fs::copy(from, &temporary)
        .and_then(|_| seal(&temporary))
        .and_then(|()| match store.exists() {
            true => give_to_owner_of(&store, &temporary),
            false => Ok(()),
        })
        .map_err(failed)?;
    // A journal left by the store that goes would be replayed into the one that comes.
    for suffix in ["-journal", "-wal", "-shm"] {
        let mut journal = store.clone().into_os_string();
        journal.push(suffix);
        match fs::remove_file(&journal) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    put(&temporary, &store).map_err(failed)
}

/// A proxy that runs as another user than this process has to read it.
fn give_to_owner_of(other: &Path, store: &Path) -> io::Result<()> {
    RunAs::give(RunAs::owner_of(other)?, store)
}

async fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let io_failed = |source| StoreError::Io {
        path: to.to_owned(),
        source,
    };
    let sql_failed = |source| StoreError::Sqlite {
        path: from.to_owned(),
        source,
    };
    let temporary = beside(to);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_failed(error)),
        _ => {}
    }
    let options = SqliteConnectOptions::new()
        .filename(from)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging();
    let mut connection = options.connect().await.map_err(sql_failed)?;
    let target = temporary.display().to_string().replace('\'', "''");
    let copied = sqlx::raw_sql(AssertSqlSafe(format!("VACUUM INTO '{target}'")))
        .execute(&mut connection)
        .await;
    connection.close().await.map_err(sql_failed)?;
    copied.map_err(sql_failed)?;
    seal(&temporary).and_then(|()| put(&temporary, to)).map_err(io_failed)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(".tmp");
    name.into()
}

fn seal(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    File::open(path)?.sync_all()
}

fn put(temporary: &Path, to: &Path) -> io::Result<()> {
    fs::rename(temporary, to)?;
    to.parent()
        .map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sql(path: &Path, sql: &'static str) -> Option<String> {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        let value: Option<String> = sqlx::query_scalar(sql).fetch_optional(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        value
    }

    #[tokio::test]
    async fn copies_a_store_in_use_and_puts_it_back() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("etc")).unwrap();
        let backup = home.path().join("it's a backup.db");
        assert!(matches!(
            back_up(home.path(), &backup).await,
            Err(StoreError::Missing { .. })
        ));

        let (old, new) = (home.path().join(OLD_STORE), home.path().join(STORE));
        sql(&old, "create table proxy_config (value text)").await;
        sql(&old, "insert into proxy_config values ('first')").await;
        assert!(!prepare_for(home.path(), &"3.2.3-1".parse().unwrap()).await.unwrap());
        assert!(prepare_for(home.path(), &"4.3.1.0-1".parse().unwrap()).await.unwrap());
        assert!(!prepare_for(home.path(), &"4.3.1.0-1".parse().unwrap()).await.unwrap());

        let mut reader = SqliteConnectOptions::new().filename(&new).connect().await.unwrap();
        sqlx::query("begin").execute(&mut reader).await.unwrap();
        sqlx::query("select * from proxy_config")
            .fetch_all(&mut reader)
            .await
            .unwrap();
        back_up(home.path(), &backup).await.unwrap();
        reader.close().await.unwrap();
        assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);

        sql(&new, "update proxy_config set value = 'second'").await;
        restore(home.path(), &backup).unwrap();
        assert_eq!(
            sql(&new, "select value from proxy_config").await.as_deref(),
            Some("first")
        );
    }
}
