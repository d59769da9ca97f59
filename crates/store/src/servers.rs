//! The servers that have a lease, and where they are.

use crate::sql::{self, Pool};

/// Another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherServer {
    /// Its id.
    pub id: String,
    /// Where servers reach it, `http://host:port`.
    pub url: String,
}

/// The servers cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the state database failed while it was asked for the other servers")]
pub struct ServersError(#[from] sqlx::Error);

/// The table of servers.
#[derive(Debug, Clone)]
pub struct Servers {
    readers: Pool,
}

impl Servers {
    pub(crate) fn new(readers: Pool) -> Self {
        Self { readers }
    }

    /// All that have a lease, but the one with this id.
    pub async fn others(&self, own: &str) -> Result<Vec<OtherServer>, ServersError> {
        let query = sql::composed(format!(
            "SELECT server, url FROM engine_server WHERE server <> ? AND url IS NOT NULL AND lease_expires_at > {}",
            self.readers.dialect().now_us()
        ));
        let rows = query.bind(own).fetch_all(&self.readers).await?;
        let others = rows.iter().map(|row| {
            Ok(OtherServer {
                id: row.get("server")?,
                url: row.get("url")?,
            })
        });
        Ok(others.collect::<Result<_, sqlx::Error>>()?)
    }
}
