//! The enrolment authority of the installation, so that all its servers have the same.

use obfleet_fleet::secrets::Sealed;

use crate::sql::{self, Pool};

/// An authority as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAuthority {
    /// Its certificate, PEM.
    pub certificate_pem: String,
    /// Its private key, PEM, sealed.
    pub key: Sealed,
}

/// The authority cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the state database failed while it was asked for the enrolment authority")]
pub struct AuthorityError(#[from] sqlx::Error);

/// Where it is kept.
#[derive(Debug, Clone)]
pub struct Authorities {
    writer: Pool,
    readers: Pool,
}

impl Authorities {
    pub(crate) fn new(writer: Pool, readers: Pool) -> Self {
        Self { writer, readers }
    }

    /// The authority; `None` until one was kept.
    pub async fn find(&self) -> Result<Option<StoredAuthority>, AuthorityError> {
        let query = sql::query("SELECT authority_certificate, authority_key FROM installation");
        let row = query.fetch_one(&self.readers).await?;
        let certificate: Option<String> = row.get("authority_certificate")?;
        let key: Option<String> = row.get("authority_key")?;
        Ok(certificate.zip(key).map(|(certificate_pem, key)| StoredAuthority {
            certificate_pem,
            key: Sealed::from_text(key),
        }))
    }

    /// Keeps this authority, unless there is one already. Whoever kept one asks again which it is.
    pub async fn keep(&self, new: &StoredAuthority) -> Result<(), AuthorityError> {
        let query = sql::query(
            "UPDATE installation SET authority_certificate = ?, authority_key = ? WHERE authority_certificate IS NULL",
        );
        let query = query.bind(&new.certificate_pem).bind(new.key.text());
        query.execute(&self.writer).await?;
        Ok(())
    }

    /// Forgets the authority. → false when there was none
    pub async fn forget(&self) -> Result<bool, AuthorityError> {
        let query = sql::query(
            "UPDATE installation SET authority_certificate = NULL, authority_key = NULL \
             WHERE authority_certificate IS NOT NULL",
        );
        Ok(query.execute(&self.writer).await? > 0)
    }
}
