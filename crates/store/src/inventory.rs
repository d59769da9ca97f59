//! The fleet's inventory in SQL: what it reads ([`SqlInventory`]), and the changes tasks make to it
//! ([`InventoryApplier`]).

mod all;
mod applier;
mod rows;

use async_trait::async_trait;
use obfleet_fleet::{
    inventory::{Cluster, EnrolToken, Host, HostSighting, Installation, Inventory, InventoryError, Package, Proxy},
    plan::Snapshot,
};
use obfleet_wire::obproxy::{OperateStatus, ProxyStatus};
use sqlx::{Row as _, Sqlite, SqlitePool, Transaction};

pub use applier::InventoryApplier;

use crate::database::DatabaseError;

/// The inventory on SQLite.
#[derive(Clone, Debug)]
pub struct SqlInventory {
    writer: SqlitePool,
    readers: SqlitePool,
}

fn failed(error: impl Into<sqlx::Error>) -> InventoryError {
    InventoryError(error.into().to_string())
}

/// Gives a new database its id.
pub(crate) async fn found(writer: &SqlitePool, path: &std::path::Path) -> Result<(), DatabaseError> {
    let open = |source| DatabaseError::Open {
        path: path.to_owned(),
        source,
    };
    let found = sqlx::query("SELECT id FROM installation")
        .fetch_optional(writer)
        .await
        .map_err(open)?;
    if found.is_none() {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let query = sqlx::query("INSERT INTO installation (id, era, next_id) VALUES (?, 1, 1)").bind(id);
        query.execute(writer).await.map_err(open)?;
    }
    Ok(())
}

impl SqlInventory {
    pub(crate) fn new(writer: SqlitePool, readers: SqlitePool) -> Self {
        Self { writer, readers }
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, InventoryError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)
    }
}

async fn take_id(tx: &mut Transaction<'static, Sqlite>) -> Result<i64, InventoryError> {
    let row = sqlx::query("SELECT next_id FROM installation")
        .fetch_one(&mut **tx)
        .await
        .map_err(failed)?;
    let id: i64 = row.try_get(0).map_err(failed)?;
    sqlx::query("UPDATE installation SET next_id = ?")
        .bind(id + 1)
        .execute(&mut **tx)
        .await
        .map_err(failed)?;
    Ok(id)
}

#[async_trait]
impl Inventory for SqlInventory {
    async fn installation(&self) -> Result<Installation, InventoryError> {
        let row = sqlx::query("SELECT id, era FROM installation")
            .fetch_one(&self.readers)
            .await
            .map_err(failed)?;
        let era: i64 = row.try_get("era").map_err(failed)?;
        Ok(Installation {
            id: row.try_get("id").map_err(failed)?,
            era: era.unsigned_abs(),
        })
    }

    async fn next_id(&self) -> Result<i64, InventoryError> {
        let mut tx = self.begin().await?;
        let id = take_id(&mut tx).await?;
        tx.commit().await.map_err(failed)?;
        Ok(id)
    }

    async fn snapshot(&self) -> Result<Snapshot, InventoryError> {
        // One transaction is one state of the database: nothing can be half-way between two of the reads.
        let mut tx = self.readers.begin().await.map_err(failed)?;
        let hosts = all::hosts(&mut *tx).await.map_err(failed)?;
        let clusters = all::clusters(&mut *tx).await.map_err(failed)?;
        let proxies = all::proxies(&mut *tx).await.map_err(failed)?;
        let packages = all::packages(&mut *tx).await.map_err(failed)?;
        Ok(Snapshot {
            hosts: hosts.into_iter().map(|host| (host.id, host)).collect(),
            clusters: clusters.into_iter().map(|cluster| (cluster.id, cluster)).collect(),
            proxies: proxies.into_iter().map(|proxy| (proxy.id, proxy)).collect(),
            packages: packages.into_iter().map(|package| (package.id, package)).collect(),
        })
    }

    async fn hosts(&self) -> Result<Vec<Host>, InventoryError> {
        all::hosts(&self.readers).await.map_err(failed)
    }

    async fn proxies(&self) -> Result<Vec<Proxy>, InventoryError> {
        all::proxies(&self.readers).await.map_err(failed)
    }

    async fn packages(&self) -> Result<Vec<Package>, InventoryError> {
        all::packages(&self.readers).await.map_err(failed)
    }

    async fn host(&self, id: i64) -> Result<Option<Host>, InventoryError> {
        let query = sqlx::query("SELECT * FROM host WHERE id = ?").bind(id);
        let row = query.fetch_optional(&self.readers).await.map_err(failed)?;
        row.as_ref().map(rows::host).transpose().map_err(failed)
    }

    async fn cluster(&self, id: i64) -> Result<Option<Cluster>, InventoryError> {
        let query = sqlx::query("SELECT * FROM obproxy_cluster WHERE id = ?").bind(id);
        let row = query.fetch_optional(&self.readers).await.map_err(failed)?;
        row.as_ref().map(rows::cluster).transpose().map_err(failed)
    }

    async fn proxy(&self, id: i64) -> Result<Option<Proxy>, InventoryError> {
        let query = sqlx::query("SELECT * FROM obproxy_server WHERE id = ?").bind(id);
        let row = query.fetch_optional(&self.readers).await.map_err(failed)?;
        row.as_ref().map(rows::proxy).transpose().map_err(failed)
    }

    async fn insert_package(&self, package: &Package) -> Result<bool, InventoryError> {
        let query = sqlx::query(
            "INSERT INTO software_package (id, file_name, is_proxy, size, sha1, sha256, created_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        );
        let size = i64::try_from(package.size).unwrap_or(i64::MAX);
        let query = query
            .bind(package.id)
            .bind(package.name.file_name())
            .bind(package.is_proxy)
            .bind(size);
        let query = query
            .bind(&package.sha1)
            .bind(&package.sha256)
            .bind(package.created.millis());
        match query.execute(&self.writer).await {
            Ok(_) => Ok(true),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    async fn delete_package(&self, id: i64) -> Result<bool, InventoryError> {
        let query = sqlx::query("DELETE FROM software_package WHERE id = ?").bind(id);
        Ok(query.execute(&self.writer).await.map_err(failed)?.rows_affected() == 1)
    }

    async fn insert_token(&self, token: &EnrolToken) -> Result<(), InventoryError> {
        let query = sqlx::query("INSERT INTO enrol_token (id, proof_key, expires_at, used) VALUES (?, ?, ?, FALSE)");
        let query = query
            .bind(&token.id)
            .bind(hex::encode(&token.key))
            .bind(token.expires.millis());
        query.execute(&self.writer).await.map_err(failed)?;
        Ok(())
    }

    async fn token(&self, id: &str) -> Result<Option<EnrolToken>, InventoryError> {
        let query = sqlx::query("SELECT * FROM enrol_token WHERE id = ? AND used = FALSE").bind(id);
        let row = query.fetch_optional(&self.readers).await.map_err(failed)?;
        row.as_ref().map(rows::token).transpose().map_err(failed)
    }

    async fn enrol(&self, token_id: &str, host: &Host) -> Result<Option<i64>, InventoryError> {
        let mut tx = self.begin().await?;
        let used = sqlx::query("UPDATE enrol_token SET used = TRUE WHERE id = ? AND used = FALSE").bind(token_id);
        if used.execute(&mut *tx).await.map_err(failed)?.rows_affected() == 0 {
            return Ok(None);
        }
        let known = sqlx::query("SELECT id FROM host WHERE host_uid = ?").bind(&host.facts.host_uid);
        let known = known.fetch_optional(&mut *tx).await.map_err(failed)?;
        let facts = serde_json::to_string(&host.facts).map_err(|error| InventoryError(error.to_string()))?;
        let id = match known {
            Some(row) => {
                let id: i64 = row.try_get("id").map_err(failed)?;
                let query = sqlx::query(
                    "UPDATE host SET facts = ?, address = ?, agent_port = ?, agent_version = ?, online = ?, \
                     updated_at = ? WHERE id = ?",
                );
                let query = query
                    .bind(facts)
                    .bind(&host.address)
                    .bind(host.agent_port)
                    .bind(&host.agent_version);
                let query = query.bind(host.online).bind(host.updated.millis()).bind(id);
                query.execute(&mut *tx).await.map_err(failed)?;
                id
            }
            None => {
                let id = take_id(&mut tx).await?;
                let query = sqlx::query(
                    "INSERT INTO host (id, host_uid, facts, address, agent_port, agent_version, online, reserved, \
                     created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                );
                let query = query
                    .bind(id)
                    .bind(&host.facts.host_uid)
                    .bind(facts)
                    .bind(&host.address);
                let query = query.bind(host.agent_port).bind(&host.agent_version).bind(host.online);
                let query = query
                    .bind(host.reserved)
                    .bind(host.created.millis())
                    .bind(host.updated.millis());
                query.execute(&mut *tx).await.map_err(failed)?;
                id
            }
        };
        tx.commit().await.map_err(failed)?;
        Ok(Some(id))
    }

    async fn record_sighting(&self, sighting: &HostSighting) -> Result<(), InventoryError> {
        let mut tx = self.begin().await?;
        let query = sqlx::query(
            "UPDATE host SET online = ?, agent_version = COALESCE(?, agent_version), updated_at = ? WHERE id = ?",
        );
        let query = query
            .bind(sighting.online)
            .bind(&sighting.agent_version)
            .bind(sighting.at.millis());
        query.bind(sighting.host_id).execute(&mut *tx).await.map_err(failed)?;
        // Away agents say nothing of their proxies: those keep their status, and their last active time grows old.
        for (proxy_id, serving) in &sighting.serving {
            if *serving {
                let query = sqlx::query("UPDATE obproxy_server SET last_active_at = ? WHERE id = ? AND host_id = ?");
                let query = query.bind(sighting.at.millis()).bind(proxy_id).bind(sighting.host_id);
                query.execute(&mut *tx).await.map_err(failed)?;
            }
            let status = if *serving {
                ProxyStatus::Running
            } else {
                ProxyStatus::Unavailable
            };
            let query =
                sqlx::query("UPDATE obproxy_server SET status = ? WHERE id = ? AND host_id = ? AND operate_status = ?");
            let query = query.bind(rows::word(&status)).bind(proxy_id).bind(sighting.host_id);
            query
                .bind(rows::word(&OperateStatus::Normal))
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
        }
        tx.commit().await.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use obfleet_wire::{agent::HostFacts, time::Timestamp};

    use super::*;
    use crate::Database;

    fn host(uid: &str, address: &str) -> Host {
        Host {
            id: 0,
            facts: HostFacts {
                host_uid: uid.into(),
                name: uid.into(),
                architecture: "x86_64".into(),
                kernel: "6.1".into(),
                release: "el7".into(),
            },
            address: address.into(),
            agent_port: 62888,
            agent_version: "0.1.0".into(),
            online: true,
            reserved: false,
            created: Timestamp(1),
            updated: Timestamp(1),
        }
    }

    fn token(id: &str) -> EnrolToken {
        EnrolToken {
            id: id.into(),
            key: vec![1, 2],
            expires: Timestamp(9),
        }
    }

    async fn open() -> (tempfile::TempDir, SqlInventory) {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&dir.path().join("state.db")).await.unwrap();
        (dir, database.inventory())
    }

    #[tokio::test]
    async fn a_token_enrols_once_and_a_host_that_comes_back_keeps_its_id() {
        let (_dir, inventory) = open().await;
        inventory.insert_token(&token("t1")).await.unwrap();
        inventory.insert_token(&token("t2")).await.unwrap();
        assert_eq!(inventory.token("t1").await.unwrap(), Some(token("t1")));

        let id = inventory.enrol("t1", &host("a", "10.0.0.1")).await.unwrap().unwrap();
        assert_eq!(inventory.enrol("t1", &host("b", "10.0.0.2")).await.unwrap(), None);
        assert_eq!(inventory.token("t1").await.unwrap(), None);
        assert_eq!(inventory.enrol("t2", &host("a", "10.0.0.9")).await.unwrap(), Some(id));
        let hosts = inventory.hosts().await.unwrap();
        assert_eq!((hosts.len(), hosts[0].address.as_str()), (1, "10.0.0.9"));
    }

    #[tokio::test]
    async fn an_installation_keeps_its_id_and_gives_no_id_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let first = Database::open(&path).await.unwrap();
        let installation = first.inventory().installation().await.unwrap();
        let id = first.inventory().next_id().await.unwrap();
        first.close().await;
        let second = Database::open(&path).await.unwrap().inventory();
        assert_eq!(second.installation().await.unwrap(), installation);
        assert!(second.next_id().await.unwrap() > id);
    }

    #[tokio::test]
    async fn a_package_name_is_taken_once() {
        let (_dir, inventory) = open().await;
        let package = Package {
            id: 1,
            name: "obproxy-ce-4.3.1.0-1.el7.x86_64.rpm".parse().unwrap(),
            is_proxy: true,
            size: 5,
            sha1: "a".into(),
            sha256: "b".into(),
            created: Timestamp(3),
        };
        assert!(inventory.insert_package(&package).await.unwrap());
        assert!(
            !inventory
                .insert_package(&Package {
                    id: 2,
                    ..package.clone()
                })
                .await
                .unwrap()
        );
        assert_eq!(inventory.packages().await.unwrap(), [package]);
        assert!(inventory.delete_package(1).await.unwrap());
        assert!(!inventory.delete_package(1).await.unwrap());
    }

    #[tokio::test]
    async fn a_sighting_leaves_proxies_that_a_task_holds_alone() {
        let (_dir, inventory) = open().await;
        inventory.insert_token(&token("t")).await.unwrap();
        let host_id = inventory.enrol("t", &host("a", "10.0.0.1")).await.unwrap().unwrap();
        for (id, operate_status) in [(10, OperateStatus::Normal), (11, OperateStatus::Operating)] {
            let mut tx = inventory.begin().await.unwrap();
            applier::insert_proxy(
                &mut tx,
                &Proxy {
                    id,
                    cluster_id: 1,
                    host_id,
                    version: "4.2.1.0-11".parse().unwrap(),
                    sql_port: 2883,
                    exporter_port: 2884,
                    rpc_port: None,
                    status: ProxyStatus::Running,
                    operate_status,
                    parameter_version: 1,
                    exporter_registered: true,
                    last_active: None,
                    deleted: false,
                },
            )
            .await
            .unwrap();
            tx.commit().await.unwrap();
        }
        let sighting = |serving, at| HostSighting {
            host_id,
            online: true,
            agent_version: None,
            serving: BTreeMap::from([(10, serving), (11, serving)]),
            at: Timestamp(at),
        };
        inventory.record_sighting(&sighting(false, 5)).await.unwrap();
        let status = |proxies: Vec<Proxy>| proxies.iter().map(|proxy| proxy.status).collect::<Vec<_>>();
        assert_eq!(
            status(inventory.proxies().await.unwrap()),
            [ProxyStatus::Unavailable, ProxyStatus::Running]
        );
        inventory.record_sighting(&sighting(true, 6)).await.unwrap();
        assert_eq!(
            inventory.proxy(10).await.unwrap().unwrap().last_active,
            Some(Timestamp(6))
        );
    }
}
