//! What lies in a home: the traces of who started the proxy, and what it is configured for.

use std::{collections::BTreeMap, fs, path::Path};

use sqlx::{ConnectOptions as _, Connection as _, Row as _, sqlite::SqliteConnectOptions};

use crate::config_store;

/// The items that tell where a proxy listens and whom it serves. No others are read: some are secrets.
const ITEMS: [&str; 7] = [
    "listen_port",
    "local_bound_ip",
    "obproxy_config_server_url",
    "prometheus_listen_port",
    "rootservice_cluster_name",
    "rootservice_list",
    "rpc_listen_port",
];

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HomeFacts {
    /// Names of the files in `run`.
    pub run_files: Vec<String>,
    /// Some items of the stored configuration. One that takes a restart may have been changed since the proxy started.
    pub settings: BTreeMap<String, String>,
}

impl HomeFacts {
    /// Reads them; what cannot be read is not there.
    pub(super) async fn read(home: &Path) -> Self {
        let run = fs::read_dir(home.join("run")).into_iter().flatten().flatten();
        let mut run_files: Vec<_> = run
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        run_files.sort();
        let settings = match config_store::path(home) {
            Some(store) => stored(&store).await.unwrap_or_default(),
            None => BTreeMap::new(),
        };
        Self { run_files, settings }
    }

    /// A stored item that is not empty.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// A stored port.
    pub fn port(&self, name: &str) -> Option<u16> {
        self.setting(name)?.parse().ok()
    }
}

/// Reads the items without taking a lock that a proxy would have to wait for: what is being written in this moment may be
/// missed.
async fn stored(store: &Path) -> Result<BTreeMap<String, String>, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(store)
        .read_only(true)
        .immutable(true)
        .disable_statement_logging();
    let mut connection = options.connect().await?;
    let rows = sqlx::query("select name, value from proxy_config where vid = -1")
        .fetch_all(&mut connection)
        .await;
    connection.close().await?;
    let mut settings = BTreeMap::new();
    for row in rows? {
        let (name, value): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        if ITEMS.contains(&name.as_str()) {
            settings.insert(name, value);
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reads_ports_and_no_secrets_while_the_store_is_in_use() {
        let home = tempfile::tempdir().unwrap();
        for dir in ["etc", "run"] {
            fs::create_dir(home.path().join(dir)).unwrap();
        }
        fs::write(home.path().join("run/obproxy.pid"), "1").unwrap();
        let options = SqliteConnectOptions::new()
            .filename(home.path().join("etc/proxyconfig_v1.db"))
            .create_if_missing(true);
        let mut proxy = options.connect().await.unwrap();
        for sql in [
            "create table proxy_config (vid int, name text, value text)",
            "insert into proxy_config values (-1, 'listen_port', '2883'), (-1, 'obproxy_sys_password', 'hash')",
            "insert into proxy_config values (-1, 'rootservice_list', ''), (5, 'listen_port', '1')",
            "begin exclusive",
        ] {
            sqlx::query(sql).execute(&mut proxy).await.unwrap();
        }
        let facts = HomeFacts::read(home.path()).await;
        assert_eq!(facts.port("listen_port"), Some(2883));
        assert_eq!((facts.setting("rootservice_list"), facts.settings.len()), (None, 2));
        assert_eq!(facts.run_files, ["obproxy.pid"]);
        proxy.close().await.unwrap();
        assert_eq!(HomeFacts::read(Path::new("/nonexistent")).await, HomeFacts::default());
    }
}
