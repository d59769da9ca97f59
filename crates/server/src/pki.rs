//! The enrolment authority: signs the certificates by which server and agents know each other.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use obfleet_agent::token;
use obfleet_wire::agent::{SERVER_NAME, agent_name};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};

/// The authority, and this server's own certificate, which lives as long as the process.
const VALID: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Clocks of hosts may be behind by this much.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 60 * 60);

/// The authority cannot be made, or cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// Its certificate and key do not belong together, or are none.
    #[error("certificate and key of the enrolment authority are damaged: restore them from a backup")]
    Damaged,
    /// Key or certificate.
    #[error("the enrolment authority cannot make a certificate")]
    Certificate(#[source] rcgen::Error),
    /// The signing request is not one, or its signature is wrong.
    #[error("the certificate signing request cannot be used")]
    Request(#[source] rcgen::Error),
}

/// The authority. Cheap to clone.
#[derive(Clone)]
pub struct Authority {
    inner: Arc<Inner>,
}

struct Inner {
    certificate_pem: String,
    fingerprint: String,
    issuer: Issuer<'static, KeyPair>,
    agents_valid: Duration,
}

/// A certificate and its key, PEM.
pub struct Identity {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: String,
}

impl Authority {
    /// The authority with this certificate and key. Agents' certificates will be good for `agents_valid`.
    pub fn new(identity: &Identity, agents_valid: Duration) -> Result<Self, PkiError> {
        let Identity {
            certificate_pem,
            key_pem,
        } = identity;
        let fingerprint = token::fingerprint(certificate_pem).ok_or(PkiError::Damaged)?;
        let key = KeyPair::from_pem(key_pem).map_err(|_| PkiError::Damaged)?;
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, key).map_err(|_| PkiError::Damaged)?;
        Ok(Self {
            inner: Arc::new(Inner {
                certificate_pem: certificate_pem.clone(),
                fingerprint,
                issuer,
                agents_valid,
            }),
        })
    }

    /// Certificate and key of an authority that nobody knows yet.
    pub fn generate() -> Result<Identity, PkiError> {
        generate().map_err(PkiError::Certificate)
    }

    /// The authority's certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.inner.certificate_pem
    }

    /// Hexadecimal SHA-256 of the authority's certificate: the last part of every enrolment token.
    pub fn fingerprint(&self) -> &str {
        &self.inner.fingerprint
    }

    /// A new key and certificate for this server to call agents with. Agents know the name, not the certificate, so it
    /// is made at every start and never written down.
    pub fn server_identity(&self) -> Result<Identity, PkiError> {
        let make = || {
            let key = KeyPair::generate()?;
            let certificate_pem = self.sign(SERVER_NAME, ExtendedKeyUsagePurpose::ClientAuth, VALID, &key)?;
            Ok(Identity {
                certificate_pem,
                key_pem: key.serialize_pem(),
            })
        };
        make().map_err(PkiError::Certificate)
    }

    /// The certificate of the agent of a host. Of the signing request only the public key counts: the name is ours to
    /// give, and an agent's certificate is good for serving, never for calling other agents.
    pub fn agent_certificate(&self, csr_pem: &str, host_uid: &str) -> Result<String, PkiError> {
        let request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(PkiError::Request)?;
        let name = agent_name(host_uid);
        let (usage, valid) = (ExtendedKeyUsagePurpose::ServerAuth, self.inner.agents_valid);
        self.sign(&name, usage, valid, &request.public_key)
            .map_err(PkiError::Certificate)
    }

    fn sign(
        &self,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
        valid: Duration,
        key: &impl PublicKeyData,
    ) -> Result<String, rcgen::Error> {
        let mut params = params(vec![name.to_owned()], name, valid)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(key, &self.inner.issuer)?.pem())
    }
}

fn params(names: Vec<String>, common_name: &str, valid: Duration) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW.min(valid)).into();
    params.not_after = (now + valid).into();
    Ok(params)
}

fn generate() -> Result<Identity, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = params(Vec::new(), "obfleet enrolment authority", VALID)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    Ok(Identity {
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    })
}

#[cfg(test)]
mod tests {
    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
        crypto::ring,
        pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
        server::WebPkiClientVerifier,
    };

    use super::*;

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    struct Judge(Arc<RootCertStore>);

    impl Judge {
        fn of(authority: &Authority) -> Self {
            let mut roots = RootCertStore::empty();
            roots.add(der(authority.certificate_pem())).unwrap();
            Self(Arc::new(roots))
        }

        fn serves_as(&self, pem: &str, name: &str) -> bool {
            let provider = Arc::new(ring::default_provider());
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.0), provider)
                .build()
                .unwrap();
            let name = ServerName::try_from(name.to_owned()).unwrap();
            verifier
                .verify_server_cert(&der(pem), &[], &name, &[], UnixTime::now())
                .is_ok()
        }

        fn calls(&self, pem: &str) -> bool {
            let provider = Arc::new(ring::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.0), provider)
                .build()
                .unwrap();
            verifier.verify_client_cert(&der(pem), &[], UnixTime::now()).is_ok()
        }
    }

    /// A signing request that asks for more than it should get.
    fn greedy_request() -> String {
        let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params
            .serialize_request(&KeyPair::generate().unwrap())
            .unwrap()
            .pem()
            .unwrap()
    }

    #[test]
    fn an_agent_gets_its_name_and_no_other_right() {
        let authority = Authority::new(&generate().unwrap(), VALID).unwrap();
        let judge = Judge::of(&authority);
        let agent = authority.agent_certificate(&greedy_request(), "ab12").unwrap();
        assert!(judge.serves_as(&agent, "ab12.agent.obfleet"));
        assert!(!judge.serves_as(&agent, SERVER_NAME));
        assert!(!judge.calls(&agent));
        let server = authority.server_identity().unwrap();
        assert!(judge.calls(&server.certificate_pem));
        assert!(!judge.serves_as(&server.certificate_pem, "ab12.agent.obfleet"));
        assert!(matches!(
            authority.agent_certificate("no request", "ab12"),
            Err(PkiError::Request(_))
        ));
    }

    #[test]
    fn certificate_and_key_are_the_authority() {
        let identity = generate().unwrap();
        let first = Authority::new(&identity, VALID).unwrap();
        let agent = first.agent_certificate(&greedy_request(), "ab12").unwrap();
        let second = Authority::new(&identity, VALID).unwrap();
        assert_eq!(first.fingerprint(), second.fingerprint());
        assert!(Judge::of(&second).serves_as(&agent, "ab12.agent.obfleet"));
        assert!(Judge::of(&second).calls(&second.server_identity().unwrap().certificate_pem));

        let other = Authority::new(&generate().unwrap(), VALID).unwrap();
        assert!(!Judge::of(&other).serves_as(&agent, "ab12.agent.obfleet"));
        let no_key = Identity {
            key_pem: String::new(),
            ..identity
        };
        assert!(matches!(Authority::new(&no_key, VALID), Err(PkiError::Damaged)));
    }
}
