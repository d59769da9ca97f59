//! What was changed, and by whom: records that are added and never altered, one after another whichever server adds them.

use std::error::Error;

use obfleet_wire::audit::{AuditRecord, BrokenChain, Chain};
use obfleet_wire::time::Timestamp;
use serde_json::value::RawValue;

use crate::database::{DatabaseError, to_read};
use crate::location::Location;
use crate::sql::{self, Pool, Query, Row, Transaction, retried};

/// Records read at a time.
const PAGE: i64 = 200;

/// The records cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the state database failed while it was asked for audit records")]
pub struct AuditError(#[from] sqlx::Error);

/// Which records are wanted.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Of this user, by name.
    pub user: Option<String>,
    /// About paths that begin like this.
    pub path: Option<String>,
    /// Answered like this.
    pub status: Option<i64>,
}

/// The table of audit records.
#[derive(Debug, Clone)]
pub struct Audit {
    writer: Pool,
    readers: Pool,
}

impl Audit {
    pub(crate) fn new(writer: Pool, readers: Pool) -> Self {
        Self { writer, readers }
    }

    /// Adds a record; its number and digests are made here. → the record as it is kept
    ///
    /// # Errors
    /// The database failed. Whether the record is kept is unknown if it failed at the end.
    pub async fn append(&self, record: &AuditRecord) -> Result<AuditRecord, AuditError> {
        let appended = retried(|| async {
            let mut tx = self.writer.write().await?;
            let record = append(&mut tx, record.clone()).await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(record)
        });
        Ok(appended.await?)
    }

    /// Records, the newest first, and how many there are in all.
    pub async fn list(
        &self,
        filter: &AuditFilter,
        skip: i64,
        most: i64,
    ) -> Result<(Vec<AuditRecord>, i64), AuditError> {
        let mut tx = self.readers.read().await?;
        let conditions = conditions(filter);
        let count = sql::composed(format!("SELECT COUNT(*) AS total FROM audit_record{conditions}"));
        let total = bound(count, filter).fetch_one(&mut tx).await?.get("total")?;
        let page = sql::composed(format!(
            "SELECT * FROM audit_record{conditions} ORDER BY seq DESC LIMIT ? OFFSET ?"
        ));
        let page = bound(page, filter).bind(most).bind(skip).fetch_all(&mut tx).await?;
        Ok((page.iter().map(read).collect::<Result<_, _>>()?, total))
    }

    /// Removes the oldest records, as many as follow each other from before that moment, `most` at a time, and adds one that
    /// tells of it: the chain can be verified on. → how many were removed, and the record that tells of it
    ///
    /// # Errors
    /// The database failed.
    pub async fn prune(
        &self,
        before: Timestamp,
        most: i64,
        now: Timestamp,
    ) -> Result<Option<(u64, AuditRecord)>, AuditError> {
        let oldest = sql::query("SELECT seq, at, hash FROM audit_record ORDER BY seq LIMIT ?").bind(most);
        let mut last = None;
        for row in oldest.fetch_all(&self.readers).await? {
            if row.get::<i64>("at")? >= before.millis() {
                break;
            }
            last = Some((row.get::<i64>("seq")?, row.get::<String>("hash")?));
        }
        let Some((seq, hash)) = last else {
            return Ok(None);
        };
        let removal = AuditRecord::of_removal(seq, &hash, now).map_err(|error| sqlx::Error::Encode(error.into()))?;
        let removed = retried(|| async {
            let mut tx = self.writer.write().await?;
            let told = append(&mut tx, removal.clone()).await?;
            let delete = sql::query("DELETE FROM audit_record WHERE seq <= ?").bind(seq);
            let removed = delete.execute(&mut tx).await?;
            if removed == 0 {
                // Another server was first, and has told of it.
                return Ok(None);
            }
            tx.commit().await?;
            Ok::<_, sqlx::Error>(Some((removed, told)))
        });
        Ok(removed.await?)
    }

    /// Up to some hundred records after this number, the oldest first.
    pub async fn after(&self, seq: i64) -> Result<Vec<AuditRecord>, AuditError> {
        Ok(after(&self.readers, seq).await?)
    }
}

async fn append(tx: &mut Transaction, mut record: AuditRecord) -> Result<AuditRecord, sqlx::Error> {
    // Whoever else adds one waits here.
    sql::query("UPDATE audit_head SET seq = seq + 1")
        .execute(&mut *tx)
        .await?;
    let head = sql::query("SELECT seq, hash FROM audit_head")
        .fetch_one(&mut *tx)
        .await?;
    record.seq = head.get("seq")?;
    record.previous = head.get("hash")?;
    record.hash = record.digest().map_err(|error| sqlx::Error::Encode(error.into()))?;
    let insert = sql::query(
        "INSERT INTO audit_record (seq, at, user_id, user_name, address, right_name, method, path, status, trace_id, \
         detail, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    );
    let insert = insert.bind(record.seq).bind(record.time.millis());
    let insert = insert
        .bind(record.user_id)
        .bind(&record.user_name)
        .bind(&record.address);
    let insert = insert.bind(&record.right).bind(&record.method).bind(&record.path);
    let insert = insert.bind(i64::from(record.status)).bind(&record.trace_id);
    let insert = insert
        .bind(record.detail.get())
        .bind(&record.previous)
        .bind(&record.hash);
    insert.execute(&mut *tx).await?;
    let head = sql::query("UPDATE audit_head SET hash = ?").bind(&record.hash);
    head.execute(tx).await?;
    Ok(record)
}

fn conditions(filter: &AuditFilter) -> String {
    let conditions = [
        filter.user.as_ref().map(|_| "user_name = ?"),
        filter.path.as_ref().map(|_| "SUBSTR(path, 1, ?) = ?"),
        filter.status.map(|_| "status = ?"),
    ];
    let conditions: Vec<&str> = conditions.into_iter().flatten().collect();
    match conditions.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", conditions.join(" AND ")),
    }
}

fn bound<'q>(mut query: Query<'q>, filter: &'q AuditFilter) -> Query<'q> {
    if let Some(user) = &filter.user {
        query = query.bind(user);
    }
    if let Some(path) = &filter.path {
        let length = i64::try_from(path.chars().count()).unwrap_or(i64::MAX);
        query = query.bind(length).bind(path);
    }
    match filter.status {
        Some(status) => query.bind(status),
        None => query,
    }
}

async fn after(pool: &Pool, seq: i64) -> Result<Vec<AuditRecord>, sqlx::Error> {
    let page = sql::query("SELECT * FROM audit_record WHERE seq > ? ORDER BY seq LIMIT ?");
    let page = page.bind(seq).bind(PAGE).fetch_all(pool).await?;
    page.iter().map(read).collect()
}

fn read(row: &Row) -> Result<AuditRecord, sqlx::Error> {
    fn undecodable(error: impl Into<Box<dyn Error + Send + Sync>>) -> sqlx::Error {
        sqlx::Error::Decode(error.into())
    }
    let detail: String = row.get("detail")?;
    let status: i64 = row.get("status")?;
    Ok(AuditRecord {
        address: row.get("address")?,
        detail: RawValue::from_string(detail).map_err(undecodable)?,
        hash: row.get("hash")?,
        method: row.get("method")?,
        path: row.get("path")?,
        previous: row.get("previous")?,
        right: row.get("right_name")?,
        seq: row.get("seq")?,
        status: u16::try_from(status).map_err(undecodable)?,
        time: Timestamp(row.get("at")?),
        trace_id: row.get("trace_id")?,
        user_id: row.get("user_id")?,
        user_name: row.get("user_name")?,
    })
}

/// Why records are not known to be as they were written.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The database cannot be opened.
    #[error("there is nothing to verify")]
    Database(#[from] DatabaseError),
    /// It failed, or has no such records.
    #[error("the audit records cannot be read; `obfleet migrate status` tells whether the database has them")]
    Read(#[from] sqlx::Error),
    /// They are not what was written.
    #[error(
        "the audit records are not what was written: keep a copy of the database, and look into who could write to it"
    )]
    Broken(#[from] BrokenChain),
    /// The newest ones are gone.
    #[error(
        "the newest audit records are missing: {wanted} were written, the last there is is {found}; keep a copy of the \
         database, and look into who could write to it"
    )]
    CutOff {
        /// The newest that was written.
        wanted: i64,
        /// The newest that is there.
        found: i64,
    },
    /// What was told of them cannot be passed on.
    #[error("the records cannot be written")]
    Tell(#[from] std::io::Error),
}

/// Goes along all records of a database, also while servers add to them, and tells each. They begin with the first that was
/// ever written, or with the first that was not removed as too old.
///
/// # Errors
/// At the first that is not as it was written.
pub async fn verify(
    location: &Location,
    mut tell: impl FnMut(&AuditRecord) -> std::io::Result<()>,
) -> Result<Chain, VerifyError> {
    let pool = to_read(location).await?;
    // Before the records, so that those which are added meanwhile are not missed.
    let head = sql::query("SELECT seq, hash FROM audit_head").fetch_one(&pool).await?;
    let (wanted, hash): (i64, String) = (head.get("seq")?, head.get("hash")?);
    let mut chain = Chain::default();
    loop {
        let last = chain.last().map_or(0, |(seq, _)| seq);
        let page = after(&pool, last).await?;
        for record in &page {
            chain.follow(record)?;
            if record.seq == wanted && record.hash != hash {
                return Err(BrokenChain::Replaced(wanted).into());
            }
            tell(record)?;
        }
        if page.is_empty() {
            break;
        }
    }
    pool.close().await;
    if !chain.has_its_beginning() {
        let found = chain.first();
        return Err(BrokenChain::Gap { wanted: 1, found }.into());
    }
    let found = chain.last().map_or(0, |(seq, _)| seq);
    match found < wanted {
        true => Err(VerifyError::CutOff { wanted, found }),
        false => Ok(chain),
    }
}
