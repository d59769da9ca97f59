//! The agent's certificate while it runs: shown in every handshake, and replaced by the server before it expires.
//!
//! A new certificate is for the same key, is checked as the server would check it, is on disk before it is used, and
//! takes effect with the next handshake. Until then, and after a refusal, the old one is shown.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum_server::tls_rustls::RustlsConfig;
use obfleet_wire::agent::{Validity, agent_name};

use crate::{
    durable::FileError,
    identity::{Identity, IdentityError},
    tls::{self, PkiError},
};

/// A certificate was not replaced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplaceError {
    /// It is not for this agent, not by its authority, or not good now.
    #[error("the new certificate is refused")]
    Refused(#[from] PkiError),
    /// It cannot be kept.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is nothing to replace.
    #[error("the agent is not enrolled")]
    NotEnrolled,
}

/// The certificate in use.
pub(crate) struct Certificate {
    identity: Mutex<Identity>,
    path: PathBuf,
    tls: RustlsConfig,
}

impl Certificate {
    /// The certificate of an enrolled agent's identity, which is kept at `path`.
    pub(crate) fn open(identity: Identity, path: PathBuf) -> Result<Self, PkiError> {
        let enrolled = identity
            .enrolment
            .as_ref()
            .ok_or(PkiError::Pem { what: "certificate" })?;
        let config = tls::server_config(&enrolled.ca_pem, &enrolled.certificate_pem, &identity.key_pem)?;
        Ok(Self {
            tls: RustlsConfig::from_config(Arc::new(config)),
            identity: Mutex::new(identity),
            path,
        })
    }

    fn identity(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the API listens with; follows every replacement.
    pub(crate) fn tls(&self) -> RustlsConfig {
        self.tls.clone()
    }

    /// When the certificate in use is good.
    pub(crate) fn validity(&self) -> Option<Validity> {
        self.identity().validity()
    }

    /// A signing request for the agent's key, PEM.
    pub(crate) fn request(&self) -> Result<String, IdentityError> {
        self.identity().signing_request()
    }

    /// Puts a new certificate in the place of the one in use. Writes a file, so it blocks.
    pub(crate) fn replace(&self, certificate_pem: &str) -> Result<Validity, ReplaceError> {
        let mut identity = self.identity();
        let mut renewed = identity.clone();
        let enrolled = renewed.enrolment.as_mut().ok_or(ReplaceError::NotEnrolled)?;
        let validity = tls::check_agent(&enrolled.ca_pem, certificate_pem, &agent_name(&renewed.host_uid))?;
        // Refuses a certificate for another key.
        let config = tls::server_config(&enrolled.ca_pem, certificate_pem, &renewed.key_pem)?;
        certificate_pem.clone_into(&mut enrolled.certificate_pem);
        renewed.store(&self.path)?;
        *identity = renewed;
        self.tls.reload_from_config(Arc::new(config));
        tracing::info!(expires = %validity.not_after, "the agent's certificate was renewed");
        Ok(validity)
    }
}
