//! Enrolment: the one call from agent to server, which turns a token into a certificate.

use std::{sync::Arc, time::Duration};

use obfleet_wire::{
    agent::{EnrolRequest, EnrolResponse},
    envelope::Envelope,
};
use reqwest::Client;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

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
    /// TLS to the server.
    #[error("cannot prepare a connection to the server")]
    Tls(#[from] rustls::Error),
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
    #[error("the certificate from the server cannot be used")]
    Certificate(#[from] PkiError),
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
        .tls_backend_preconfigured(unauthenticated()?)
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

/// TLS that takes any certificate: before it is enrolled the agent knows the server only by the token's fingerprint,
/// which the *content* of the answer must match, and nothing it sends is secret.
fn unauthenticated() -> Result<ClientConfig, rustls::Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    Ok(config)
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
