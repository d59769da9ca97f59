//! Enrolment: the one call from agent to server, which turns a token into a certificate.

use std::time::Duration;

use obfleet_wire::{
    agent::{EnrolRequest, EnrolResponse},
    envelope::Envelope,
};
use reqwest::Client;

use crate::{
    describe, host,
    identity::{Identity, IdentityError},
    tls::{self, PkiError},
    token::{self, Token},
};

const TIMEOUT: Duration = Duration::from_secs(15);

/// The agent is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// No token and no certificate from an earlier start.
    #[error("this agent is not enrolled: have the server make an enrolment token and start the agent with it")]
    TokenNeeded,
    /// The key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No answer.
    #[error("the server at {url} does not answer ({reason}): check the address")]
    Unreachable {
        /// Its address.
        url: String,
        /// Why.
        reason: String,
    },
    /// The server said no.
    #[error("the server at {url} refused to enrol this host: {reason}")]
    Refused {
        /// Its address.
        url: String,
        /// Its words.
        reason: String,
    },
    /// Somebody else answered.
    #[error("the server at {url} is not the one that made the token: the fingerprint of its authority differs")]
    Impostor {
        /// Its address.
        url: String,
    },
    /// What was issued does not fit the key.
    #[error("TLS with this server cannot be set up")]
    Tls(#[from] PkiError),
}

/// Where to enrol, and where the server will find the agent.
pub(crate) struct Enrolment<'a> {
    pub(crate) server_url: &'a str,
    pub(crate) token: &'a Token,
    pub(crate) address: &'a str,
    pub(crate) port: u16,
}

/// Asks the server for a certificate. Neither the key nor the token's secret is sent.
///
/// # Errors
/// When the server cannot be reached, refuses, or is not the one that made the token.
pub(crate) async fn enrol(identity: &Identity, enrolment: &Enrolment<'_>) -> Result<EnrolResponse, EnrolError> {
    let Enrolment { server_url, token, .. } = *enrolment;
    let csr_pem = identity.signing_request()?;
    let request = EnrolRequest {
        token_id: token.id.clone(),
        proof: token::proof(&token::secret_digest(&token.secret), &csr_pem),
        csr_pem,
        address: enrolment.address.to_owned(),
        port: enrolment.port,
        host: host::facts(&identity.host_uid),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let unreachable = |e: reqwest::Error| EnrolError::Unreachable {
        url: server_url.to_owned(),
        reason: describe(&e),
    };
    let refused = |reason: String| EnrolError::Refused {
        url: server_url.to_owned(),
        reason,
    };
    let http = Client::builder()
        // Nothing sent is secret, and the *content* of the answer must match the token's fingerprint.
        .tls_backend_preconfigured(tls::unauthenticated_config()?)
        .no_proxy()
        .timeout(TIMEOUT)
        .build()
        .map_err(unreachable)?;
    let url = format!("{}/api/v2/compute/agents/enrol", server_url.trim_end_matches('/'));
    let answer = http.post(url).json(&request).send().await.map_err(unreachable)?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(unreachable)?;
    let envelope: Envelope<EnrolResponse> =
        serde_json::from_slice(&body).map_err(|_| refused(format!("it answered {status} without an envelope")))?;
    if let Some(error) = envelope.error {
        return Err(refused(error.message));
    }
    let response = envelope.data.ok_or_else(|| refused("its answer is empty".to_owned()))?;
    if token::fingerprint(&response.ca_pem).as_deref() != Some(&*token.ca_sha256) {
        return Err(EnrolError::Impostor {
            url: server_url.to_owned(),
        });
    }
    tls::server_config(&response.ca_pem, &response.certificate_pem, &identity.key_pem)?;
    Ok(response)
}
