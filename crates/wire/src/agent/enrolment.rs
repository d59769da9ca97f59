//! How an agent becomes one of the server's, and the names both sides know each other by.

use serde::{Deserialize, Serialize};

use super::HostFacts;

/// Body of an agent's enrolment.
///
/// The token, printed once by the server, is `id.secret.ca-sha256`. The secret is not sent: `proof` is the hexadecimal
/// HMAC-SHA256 of `csr_pem` with SHA-256(secret) as its key. The agent accepts the answer only if the certificate
/// authority in it has the token's fingerprint.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrolRequest {
    /// First part of the token.
    pub token_id: String,
    /// See above.
    pub proof: String,
    /// Certificate signing request.
    pub csr_pem: String,
    /// Where the server reaches the agent.
    pub address: String,
    /// Port of the agent's API.
    pub port: u16,
    /// The host.
    pub host: HostFacts,
    /// Version of the agent.
    pub agent_version: String,
}

/// Answer to an enrolment, in the envelope.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrolResponse {
    /// The certificate authority; clients must show a certificate of it with the DNS name `server.obfleet`.
    pub ca_pem: String,
    /// The agent's certificate; its DNS name is `{host_uid}.agent.obfleet`.
    pub certificate_pem: String,
    /// The host's id.
    pub host_id: i64,
    /// The server's installation.
    pub installation: String,
}

/// DNS name in the server's client certificate.
pub const SERVER_NAME: &str = "server.obfleet";

/// DNS name in the certificate of the agent of a host.
pub fn agent_name(host_uid: &str) -> String {
    format!("{host_uid}.agent.obfleet")
}
