//! The configuration on disk: `etc/proxyconfig_v1.db`, an SQLite database a manager may copy and look into.

use std::path::Path;
use std::time::Duration;

use obfleet_obproxy::config_items::{ConfigItem, ConfigLevel};
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, QueryBuilder, Row as _, SqliteConnection,
    TypeInfo as _, ValueRef as _,
};

use crate::config::Config;

/// The tables besides `proxy_config`; the stand-in keeps nothing in them.
const OTHER_TABLES: [&str; 4] = [
    "CREATE TABLE IF NOT EXISTS white_list (cluster_name TEXT, tenant_name TEXT, name TEXT, value TEXT)",
    "CREATE TABLE IF NOT EXISTS resource_unit (cluster_name TEXT, tenant_name TEXT, name TEXT, value TEXT)",
    "CREATE TABLE IF NOT EXISTS ssl_config (cluster_name TEXT, tenant_name TEXT, name TEXT, value TEXT)",
    "CREATE TABLE IF NOT EXISTS all_table_version (name TEXT PRIMARY KEY, version TEXT)",
];
const CONFIG_TABLE: &str = "CREATE TABLE IF NOT EXISTS proxy_config (
    vid INTEGER, vip TEXT, vport INTEGER, tenant_name TEXT, cluster_name TEXT, name TEXT, value TEXT, info TEXT, range TEXT,
    need_reboot TEXT, visible_level TEXT, config_level TEXT,
    PRIMARY KEY (vid, vip, vport, tenant_name, cluster_name, name))";
/// Attempts to get the store for this process alone, and the pause between them.
const LOCK_ATTEMPTS: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// The open store.
#[derive(Debug)]
pub struct Store {
    connection: SqliteConnection,
}

/// Rows of a statement on the store's tables: column names, and values as text.
pub type TextRows = (Vec<String>, Vec<Vec<Option<Vec<u8>>>>);

impl Store {
    /// Opens the store at `path`, made where it is missing.
    pub async fn open(path: &Path) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .busy_timeout(Duration::ZERO);
        Ok(Self {
            connection: options.connect().await?,
        })
    }

    /// Begins the start's transaction; another holder makes it fail after a second.
    pub async fn begin_exclusive(&mut self) -> Result<(), sqlx::Error> {
        let mut attempt = 1;
        while let Err(error) = sqlx::query("BEGIN EXCLUSIVE").execute(&mut self.connection).await {
            if attempt == LOCK_ATTEMPTS {
                return Err(error);
            }
            attempt += 1;
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        sqlx::query(CONFIG_TABLE).execute(&mut self.connection).await?;
        for statement in OTHER_TABLES {
            sqlx::query(statement).execute(&mut self.connection).await?;
        }
        Ok(())
    }

    /// Commits the start's transaction.
    pub async fn commit(&mut self) -> Result<(), sqlx::Error> {
        sqlx::query("COMMIT").execute(&mut self.connection).await.map(|_| ())
    }

    /// Names and values stored for the whole proxy.
    pub async fn load(&mut self) -> Result<Vec<(String, String)>, sqlx::Error> {
        sqlx::query_as("SELECT name, value FROM proxy_config WHERE vid = -1")
            .fetch_all(&mut self.connection)
            .await
    }

    /// Stores every item of `config`; items of other versions go.
    pub async fn replace_all(&mut self, config: &Config) -> Result<(), sqlx::Error> {
        sqlx::query("DELETE FROM proxy_config WHERE vid = -1")
            .execute(&mut self.connection)
            .await?;
        let mut insert = QueryBuilder::new("INSERT INTO proxy_config ");
        insert.push_values(config.shown(), |mut row, (item, value)| {
            row.push_bind(-1).push_bind("").push_bind(0).push_bind("").push_bind("");
            row.push_bind(item.name.as_str())
                .push_bind(value)
                .push_bind("")
                .push_bind(item.range.as_str());
            row.push_bind(bool_text(item.need_reboot))
                .push_bind(item.visible.as_str());
            row.push_bind(ConfigLevel::Global.as_str());
        });
        insert.build().execute(&mut self.connection).await.map(|_| ())
    }

    /// Stores one item's value.
    pub async fn set(&mut self, item: &ConfigItem, value: &str) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE proxy_config SET value = ? WHERE vid = -1 AND name = ?")
            .bind(value)
            .bind(item.name.as_str())
            .execute(&mut self.connection)
            .await
            .map(|_| ())
    }

    /// Runs a statement of an administrator on these tables.
    pub async fn run(&mut self, sql: &str) -> Result<TextRows, sqlx::Error> {
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut self.connection).await?;
        let columns = rows.first().map_or(&[][..], SqliteRow::columns);
        let columns = columns.iter().map(|column| column.name().to_owned()).collect();
        Ok((columns, rows.iter().map(text_values).collect()))
    }

    /// Closes the store.
    pub async fn close(self) -> Result<(), sqlx::Error> {
        self.connection.close().await
    }
}

fn text_values(row: &SqliteRow) -> Vec<Option<Vec<u8>>> {
    let value = |index| {
        let raw = row.try_get_raw(index).ok()?;
        if raw.is_null() {
            return None;
        }
        match raw.type_info().name() {
            "INTEGER" => row
                .try_get::<i64, _>(index)
                .ok()
                .map(|number| number.to_string().into_bytes()),
            _ => row.try_get::<String, _>(index).ok().map(String::into_bytes),
        }
    };
    (0..row.len()).map(value).collect()
}

/// A boolean as the proxy's tables write it.
pub fn bool_text(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}
