//! Mutual TLS between server and agent: both sides trust the enrolment authority only, and each other's name only. The
//! enrolment itself comes before all trust, and authenticates by the token.

use std::sync::Arc;

use obfleet_wire::{
    agent::{SERVER_NAME, Validity},
    time::Timestamp,
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error as TlsError, RootCertStore,
    ServerConfig, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

/// A certificate, key or authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// Not PEM, or not of the expected kind.
    #[error("the {what} is not readable PEM")]
    Pem {
        /// Which of them.
        what: &'static str,
    },
    /// The TLS library refuses it.
    #[error("the {what} cannot be used for TLS")]
    Unusable {
        /// Which of them.
        what: &'static str,
        /// Why.
        #[source]
        source: TlsError,
    },
    /// The client authority makes no verifier.
    #[error("the certificate authority cannot verify clients")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    /// The server authority makes no verifier.
    #[error("the certificate authority cannot verify agents")]
    AgentVerifier(#[source] rustls::client::VerifierBuilderError),
    /// No HTTP client can be made of it.
    #[error("cannot prepare calls to agents")]
    Client(#[source] reqwest::Error),
}

fn unusable(what: &'static str) -> impl FnOnce(TlsError) -> PkiError {
    move |source| PkiError::Unusable { what, source }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn roots(ca_pem: &str) -> Result<RootCertStore, PkiError> {
    let what = "certificate authority";
    let certificate = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|_| PkiError::Pem { what })?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).map_err(unusable(what))?;
    Ok(roots)
}

fn chain_and_key(
    certificate_pem: &str,
    key_pem: &str,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), PkiError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| PkiError::Pem { what: "certificate" })?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| PkiError::Pem { what: "private key" })?;
    Ok((chain, key))
}

/// What the agent listens with: lets in nobody but the holder of a certificate of the authority named [`SERVER_NAME`].
///
/// # Errors
/// When one of the three texts cannot be used.
pub fn server_config(ca_pem: &str, certificate_pem: &str, key_pem: &str) -> Result<ServerConfig, PkiError> {
    let (chain, key) = chain_and_key(certificate_pem, key_pem)?;
    let by_authority = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca_pem)?), provider())
        .build()
        .map_err(PkiError::Verifier)?;
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable("provider"))?
        .with_client_cert_verifier(Arc::new(NamedClient { by_authority }))
        .with_single_cert(chain, key)
        .map_err(unusable("agent's certificate"))
}

/// Checks an agent's certificate as the server does at each connection: by the authority, for the name, good now.
///
/// # Errors
/// When it is not.
pub(crate) fn check_agent(ca_pem: &str, certificate_pem: &str, name: &str) -> Result<Validity, PkiError> {
    let what = "agent's certificate";
    let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|_| PkiError::Pem { what })?;
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| unusable(what)(TlsError::InvalidCertificate(CertificateError::NotValidForName)))?;
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots(ca_pem)?), provider())
        .build()
        .map_err(PkiError::AgentVerifier)?
        .verify_server_cert(&certificate, &[], &name, &[], UnixTime::now())
        .map_err(unusable(what))?;
    validity(certificate_pem)
}

/// When a certificate is good.
///
/// # Errors
/// When it is none.
pub(crate) fn validity(certificate_pem: &str) -> Result<Validity, PkiError> {
    let unreadable = PkiError::Pem { what: "certificate" };
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes()) else {
        return Err(unreadable);
    };
    let Ok(certificate) = pem.parse_x509() else {
        return Err(unreadable);
    };
    let validity = certificate.validity();
    Ok(Validity {
        not_before: Timestamp(validity.not_before.timestamp() * 1000),
        not_after: Timestamp(validity.not_after.timestamp() * 1000),
    })
}

/// What the server calls agents with: trusts the authority only.
///
/// # Errors
/// When one of the three texts cannot be used.
pub fn client_config(ca_pem: &str, certificate_pem: &str, key_pem: &str) -> Result<ClientConfig, PkiError> {
    let (chain, key) = chain_and_key(certificate_pem, key_pem)?;
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable("provider"))?
        .with_root_certificates(roots(ca_pem)?)
        .with_client_auth_cert(chain, key)
        .map_err(unusable("server's client certificate"))
}

/// What the agent enrols with, and servers call each other with: takes any certificate. Before it is enrolled an agent knows
/// the server by the token's fingerprint alone, and a call between servers is known by its pass.
///
/// # Errors
/// When the TLS library has no protocol version for it.
pub fn unauthenticated_config() -> Result<ClientConfig, PkiError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable("provider"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    Ok(config)
}

/// A certificate of the authority is not enough: other agents have one too.
#[derive(Debug)]
struct NamedClient {
    by_authority: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for NamedClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.by_authority.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        let verified = self.by_authority.verify_client_cert(end_entity, intermediates, now)?;
        let name = ServerName::try_from(SERVER_NAME)
            .map_err(|_| TlsError::InvalidCertificate(CertificateError::NotValidForName))?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, &name)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.by_authority.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.by_authority.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authority.supported_verify_schemes()
    }
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
        provider().signature_verification_algorithms.supported_schemes()
    }
}
