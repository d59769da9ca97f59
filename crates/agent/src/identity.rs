//! Who this agent is: host uid and key from its first start on, certificate and authority once it is enrolled.
//!
//! One file holds all of it, so that there is no half enrolled state.

use std::path::Path;

use obfleet_wire::agent::{EnrolResponse, Validity};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    durable::{self, FileError},
    tls, token,
};

/// Host uid, key, and what the enrolment brought.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Random, made at the first start; a DNS label.
    pub host_uid: String,
    /// The agent's private key. It never leaves the host.
    pub key_pem: String,
    /// Port of the API, remembered when the system chose it: the server knows this one.
    pub port: Option<u16>,
    /// What the server answered.
    pub enrolment: Option<EnrolResponse>,
}

/// The agent has no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Its file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Key or signing request.
    #[error("cannot make a key and a signing request")]
    Key(#[from] rcgen::Error),
}

impl Identity {
    /// Reads the identity, or makes and stores a new one.
    ///
    /// # Errors
    /// When the file cannot be read or written, or no key can be made.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        if let Some(identity) = durable::read_json(path)? {
            return Ok(identity);
        }
        let identity = Self {
            host_uid: Uuid::new_v4().simple().to_string(),
            key_pem: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?.serialize_pem(),
            port: None,
            enrolment: None,
        };
        identity.store(path)?;
        Ok(identity)
    }

    /// Writes the identity, readable by its owner only.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn store(&self, path: &Path) -> Result<(), FileError> {
        durable::write_json(path, self)
    }

    /// A signing request for the key. The server alone decides which names the certificate gets.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn signing_request(&self) -> Result<String, IdentityError> {
        let key = KeyPair::from_pem(&self.key_pem)?;
        let mut params = CertificateParams::new(Vec::new())?;
        params
            .distinguished_name
            .push(DnType::CommonName, self.host_uid.as_str());
        Ok(params.serialize_request(&key)?.pem()?)
    }

    /// When the certificate is good, once there is one.
    pub fn validity(&self) -> Option<Validity> {
        tls::validity(&self.enrolment.as_ref()?.certificate_pem).ok()
    }

    /// Whether the agent is enrolled with the authority of this fingerprint.
    pub fn belongs_to(&self, ca_sha256: &str) -> bool {
        let enrolled = self.enrolment.as_ref().and_then(|e| token::fingerprint(&e.ca_pem));
        enrolled.as_deref() == Some(ca_sha256)
    }
}
