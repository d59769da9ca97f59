//! How the server renews an agent's certificate, over the channel that the old one protects.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Answer to `GET /v1/certificate/request`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRequest {
    /// Certificate signing request for the agent's key, PEM.
    pub csr_pem: String,
}

/// Body of `PUT /v1/certificate`; the answer is the new [`Validity`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateUpdate {
    /// The new certificate, PEM: for the agent's key and name, by the authority it is enrolled with.
    pub certificate_pem: String,
}

/// When a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Validity {
    /// From then on.
    pub not_before: Timestamp,
    /// Until then.
    pub not_after: Timestamp,
}
