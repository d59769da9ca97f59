//! The fleet's inventory in SQL: what it reads ([`SqlInventory`]), and the changes tasks make to it
//! ([`InventoryApplier`]).

mod all;
mod applier;
mod credential;
mod enrolment;
mod event;
mod host;
mod ids;
mod news;
mod ob_clusters;
mod parameters;
mod replica;
mod rows;
mod sighting;
mod site;
mod take_over;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use obfleet_fleet::{
    inventory::{
        Added, Cluster, Credential, CredentialRemoved, EnrolToken, EventFilter, Events, FleetEvent, Host, HostProfile,
        HostSighting, HostsDeleted, Idc, Installation, Inventory, InventoryError, ObCluster, Package, Proxy, Removed,
        SealedAccount, Site, SiteKind, SiteMap, Sites, Vault,
    },
    plan::Snapshot,
    secrets::Sealed,
};
use obfleet_wire::time::Timestamp;

pub use applier::InventoryApplier;

use news::News;
use replica::Replica;

use crate::sql::{self, Pool, Transaction, retried};

/// The inventory in a database.
#[derive(Clone, Debug)]
pub struct SqlInventory {
    writer: Pool,
    readers: Pool,
    replica: Arc<Replica>,
}

fn failed(error: impl Into<sqlx::Error>) -> InventoryError {
    InventoryError(error.into().to_string())
}

/// Gives a new database its id.
pub(crate) async fn found(writer: &Pool) -> Result<(), sqlx::Error> {
    let found = sql::query("SELECT id FROM installation").fetch_optional(writer).await?;
    if found.is_some() {
        return Ok(());
    }
    let id = uuid::Uuid::new_v4().simple().to_string();
    let query = sql::query("INSERT INTO installation (only_row, id, era, next_id) VALUES (1, ?, 1, 1)").bind(id);
    match query.execute(writer).await {
        // Another server was faster.
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(()),
        other => other.map(drop),
    }
}

impl SqlInventory {
    pub(crate) fn new(writer: Pool, readers: Pool) -> Self {
        Self {
            writer,
            readers,
            replica: Arc::default(),
        }
    }
}

/// Writing comes first: whoever else takes an id waits for this transaction.
async fn take_id(tx: &mut Transaction) -> Result<i64, sqlx::Error> {
    let take = sql::query("UPDATE installation SET next_id = next_id + 1");
    take.execute(&mut *tx).await?;
    let read = sql::query("SELECT next_id FROM installation").fetch_one(tx).await?;
    Ok(read.get::<i64>("next_id")? - 1)
}

#[async_trait]
impl Sites for SqlInventory {
    async fn sites(&self) -> Result<SiteMap, InventoryError> {
        let mut tx = self.readers.read().await.map_err(failed)?;
        site::all(&mut tx).await.map_err(failed)
    }

    async fn insert_site(&self, kind: SiteKind, site: &Site) -> Result<Added, InventoryError> {
        let inserted = retried(|| async {
            let mut tx = self.writer.write().await?;
            let added = site::insert(&mut tx, kind, site, None).await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(added)
        });
        inserted.await.map_err(failed)
    }

    async fn insert_idc(&self, idc: &Idc) -> Result<Added, InventoryError> {
        let inserted = retried(|| async {
            let mut tx = self.writer.write().await?;
            let added = site::insert(&mut tx, SiteKind::Idc, &idc.site, Some(idc.region_id)).await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(added)
        });
        inserted.await.map_err(failed)
    }

    async fn delete_site(&self, kind: SiteKind, id: i64) -> Result<Removed, InventoryError> {
        let deleted = retried(|| async {
            let mut tx = self.writer.write().await?;
            let removed = site::delete(&mut tx, kind, id).await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(removed)
        });
        deleted.await.map_err(failed)
    }
}

#[async_trait]
impl Vault for SqlInventory {
    async fn credentials(&self, user_id: i64) -> Result<Vec<Credential>, InventoryError> {
        credential::of_user(&self.readers, user_id).await.map_err(failed)
    }

    async fn credential(&self, user_id: i64, id: i64) -> Result<Option<Credential>, InventoryError> {
        credential::one(&self.readers, user_id, id).await.map_err(failed)
    }

    async fn insert_credential(&self, credential: &Credential) -> Result<Option<i64>, InventoryError> {
        let inserted = retried(|| async {
            let mut tx = self.writer.write().await?;
            let id = credential::insert(&mut tx, credential).await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(id)
        });
        inserted.await.map_err(failed)
    }

    async fn delete_credential(&self, user_id: i64, id: i64) -> Result<CredentialRemoved, InventoryError> {
        let deleted = retried(|| async {
            let mut tx = self.writer.write().await?;
            let gone = credential::delete(&mut tx, user_id, id).await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(gone)
        });
        deleted.await.map_err(failed)
    }

    async fn ssh_host_key(&self, address: &str, port: u16) -> Result<Option<String>, InventoryError> {
        host::key(&self.readers, address, port).await.map_err(failed)
    }
}

#[async_trait]
impl Events for SqlInventory {
    async fn events(
        &self,
        filter: &EventFilter,
        skip: u64,
        most: u64,
    ) -> Result<(Vec<FleetEvent>, u64), InventoryError> {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let mut tx = self.readers.read().await.map_err(failed)?;
        let page = event::list(&mut tx, filter, number(skip), number(most)).await;
        let (events, total) = page.map_err(failed)?;
        Ok((events, total.unsigned_abs()))
    }

    async fn prune_events(&self, before: Timestamp, most: u64) -> Result<u64, InventoryError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        event::prune(&self.writer, before.millis(), most).await.map_err(failed)
    }
}

#[async_trait]
impl Inventory for SqlInventory {
    async fn installation(&self) -> Result<Installation, InventoryError> {
        let row = sql::query("SELECT id, era FROM installation")
            .fetch_one(&self.readers)
            .await
            .map_err(failed)?;
        let era: i64 = row.get("era").map_err(failed)?;
        Ok(Installation {
            id: row.get("id").map_err(failed)?,
            era: era.unsigned_abs(),
        })
    }

    async fn key_fingerprint(&self) -> Result<Option<String>, InventoryError> {
        let query = sql::query("SELECT key_fingerprint FROM installation");
        let row = query.fetch_one(&self.readers).await.map_err(failed)?;
        row.get("key_fingerprint").map_err(failed)
    }

    async fn keep_key_fingerprint(&self, fingerprint: &str) -> Result<(), InventoryError> {
        let query = sql::query("UPDATE installation SET key_fingerprint = ? WHERE key_fingerprint IS NULL");
        query.bind(fingerprint).execute(&self.writer).await.map_err(failed)?;
        Ok(())
    }

    async fn next_id(&self) -> Result<i64, InventoryError> {
        let taken = retried(|| async {
            let mut tx = self.writer.write().await?;
            let id = take_id(&mut tx).await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(id)
        });
        taken.await.map_err(failed)
    }

    async fn snapshot(&self) -> Result<Arc<Snapshot>, InventoryError> {
        self.replica.look(&self.readers).await.map_err(failed)
    }

    async fn host(&self, id: i64) -> Result<Option<Host>, InventoryError> {
        let query = sql::query("SELECT * FROM host WHERE id = ?").bind(id);
        let row = query.fetch_optional(&self.readers).await.map_err(failed)?;
        row.as_ref().map(rows::host).transpose().map_err(failed)
    }

    async fn cluster(&self, id: i64) -> Result<Option<Cluster>, InventoryError> {
        let query = sql::query("SELECT * FROM obproxy_cluster WHERE id = ?").bind(id);
        let row = query.fetch_optional(&self.readers).await.map_err(failed)?;
        row.as_ref().map(rows::cluster).transpose().map_err(failed)
    }

    async fn cluster_names(&self, ids: &BTreeSet<i64>) -> Result<BTreeMap<i64, String>, InventoryError> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let marks = sql::marks(ids.len());
        let query = sql::composed(format!("SELECT id, name FROM obproxy_cluster WHERE id IN ({marks})")).once();
        let query = ids.iter().fold(query, |query, id| query.bind(*id));
        let rows = query.fetch_all(&self.readers).await.map_err(failed)?;
        let named = rows.iter().map(|row| Ok((row.get("id")?, row.get("name")?)));
        named.collect::<Result<_, sqlx::Error>>().map_err(failed)
    }

    async fn set_cluster_endpoint(
        &self,
        cluster_id: i64,
        address: Option<&str>,
        port: Option<u16>,
        at: Timestamp,
    ) -> Result<(), InventoryError> {
        let query = sql::query(
            "UPDATE obproxy_cluster SET address = COALESCE(?, address), port = COALESCE(?, port), updated_at = ? \
             WHERE id = ? AND deleted = FALSE",
        );
        let query = query.bind(address).bind(port).bind(at.millis()).bind(cluster_id);
        let set = retried(|| async {
            let mut tx = self.writer.write().await?;
            query.clone().execute(&mut tx).await?;
            news::tell(&mut tx, News::Cluster(cluster_id));
            tx.commit().await
        });
        set.await.map_err(failed)
    }

    async fn proxy(&self, id: i64) -> Result<Option<Proxy>, InventoryError> {
        let query = sql::query("SELECT * FROM obproxy_server WHERE id = ?").bind(id);
        let row = query.fetch_optional(&self.readers).await.map_err(failed)?;
        row.as_ref().map(rows::proxy).transpose().map_err(failed)
    }

    async fn take_over_password(&self, proxy_id: i64) -> Result<Option<Sealed>, InventoryError> {
        take_over::password(&self.readers, proxy_id).await.map_err(failed)
    }

    async fn insert_package(&self, package: &Package) -> Result<bool, InventoryError> {
        let query = sql::query(
            "INSERT INTO software_package (id, file_name, is_proxy, size, sha1, sha256, signed_by, created_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
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
            .bind(package.signed_by.as_deref())
            .bind(package.created.millis());
        let inserted = retried(|| async {
            let mut tx = self.writer.write().await?;
            query.clone().execute(&mut tx).await?;
            news::tell(&mut tx, News::Package(package.id));
            tx.commit().await
        });
        match inserted.await {
            Ok(()) => Ok(true),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    async fn set_package_signer(&self, id: i64, signed_by: &str) -> Result<bool, InventoryError> {
        let set = retried(|| async {
            let mut tx = self.writer.write().await?;
            let query = sql::query("UPDATE software_package SET signed_by = ? WHERE id = ?");
            let set = query.bind(signed_by).bind(id).execute(&mut tx).await? == 1;
            news::tell(&mut tx, News::Package(id));
            tx.commit().await?;
            Ok::<_, sqlx::Error>(set)
        });
        set.await.map_err(failed)
    }

    async fn delete_package(&self, id: i64) -> Result<bool, InventoryError> {
        let deleted = retried(|| async {
            let mut tx = self.writer.write().await?;
            let query = sql::query("DELETE FROM software_package WHERE id = ?").bind(id);
            let deleted = query.execute(&mut tx).await? == 1;
            news::tell(&mut tx, News::Package(id));
            tx.commit().await?;
            Ok::<_, sqlx::Error>(deleted)
        });
        deleted.await.map_err(failed)
    }

    async fn insert_ob_cluster(&self, cluster: &ObCluster) -> Result<bool, InventoryError> {
        let inserted = retried(|| async {
            let mut tx = self.writer.write().await?;
            let inserted = ob_clusters::insert(&mut tx, cluster).await?;
            news::tell(&mut tx, News::ObCluster(cluster.id));
            tx.commit().await?;
            Ok::<_, sqlx::Error>(inserted)
        });
        inserted.await.map_err(failed)
    }

    async fn keep_ob_secrets(
        &self,
        id: i64,
        proxyro_password: Option<&Sealed>,
        account: Option<&SealedAccount>,
        at: Timestamp,
    ) -> Result<bool, InventoryError> {
        let kept = retried(|| async {
            let mut tx = self.writer.write().await?;
            let kept = ob_clusters::keep_secrets(&mut tx, id, proxyro_password, account, at).await?;
            news::tell(&mut tx, News::ObCluster(id));
            tx.commit().await?;
            Ok::<_, sqlx::Error>(kept)
        });
        kept.await.map_err(failed)
    }

    async fn delete_ob_cluster(&self, id: i64) -> Result<bool, InventoryError> {
        let deleted = retried(|| async {
            let mut tx = self.writer.write().await?;
            let deleted = ob_clusters::delete(&mut tx, id).await?;
            news::tell(&mut tx, News::ObCluster(id));
            tx.commit().await?;
            Ok::<_, sqlx::Error>(deleted)
        });
        deleted.await.map_err(failed)
    }

    async fn insert_token(&self, token: &EnrolToken) -> Result<(), InventoryError> {
        let query = sql::query(
            "INSERT INTO enrol_token (id, proof_key, expires_at, used, host_id, idc_id, type_id) \
             VALUES (?, ?, ?, FALSE, ?, ?, ?)",
        );
        let query = query
            .bind(&token.id)
            .bind(hex::encode(&token.key))
            .bind(token.expires.millis());
        let query = query
            .bind(token.host_id)
            .bind(token.place.idc_id)
            .bind(token.place.type_id);
        query.execute(&self.writer).await.map_err(failed)?;
        Ok(())
    }

    async fn token(&self, id: &str) -> Result<Option<EnrolToken>, InventoryError> {
        let query = sql::query("SELECT * FROM enrol_token WHERE id = ? AND used = FALSE").bind(id);
        let row = query.fetch_optional(&self.readers).await.map_err(failed)?;
        row.as_ref().map(rows::token).transpose().map_err(failed)
    }

    async fn enrol(&self, token_id: &str, host: &Host) -> Result<Option<i64>, InventoryError> {
        let facts = serde_json::to_string(&host.facts).map_err(|error| InventoryError(error.to_string()))?;
        let enrolled = retried(|| async {
            let mut tx = self.writer.write().await?;
            let id = enrolment::enrol(&mut tx, token_id, host, &facts).await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(id)
        });
        enrolled.await.map_err(failed)
    }

    async fn delete_hosts(&self, ids: &[i64]) -> Result<HostsDeleted, InventoryError> {
        let at = Timestamp::now();
        let deleted = retried(|| async {
            let mut tx = self.writer.write().await?;
            let deleted = host::delete(&mut tx, ids, at).await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(deleted)
        });
        deleted.await.map_err(failed)
    }

    async fn edit_host(&self, id: i64, profile: &HostProfile) -> Result<bool, InventoryError> {
        let at = Timestamp::now().millis();
        let edited = retried(|| async {
            let mut tx = self.writer.write().await?;
            let place = site::still_there(&mut tx, profile.place).await?;
            let query = sql::query(
                "UPDATE host SET alias = ?, description = ?, idc_id = ?, type_id = ?, updated_at = ? \
                 WHERE id = ? AND deleted = FALSE",
            );
            let query = query.bind(&profile.alias).bind(&profile.description);
            let query = query.bind(place.idc_id).bind(place.type_id).bind(at).bind(id);
            let edited = query.execute(&mut tx).await? > 0;
            news::tell(&mut tx, News::Host(id));
            tx.commit().await?;
            Ok::<_, sqlx::Error>(edited)
        });
        edited.await.map_err(failed)
    }

    async fn record_sightings(&self, sightings: &[HostSighting]) -> Result<(), InventoryError> {
        let recorded = retried(|| async {
            let mut tx = self.writer.write().await?;
            for sighting in sightings {
                sighting::record(&mut tx, sighting).await?;
            }
            // This is written often enough.
            news::prune(&mut tx).await?;
            tx.commit().await
        });
        recorded.await.map_err(failed)
    }
}
