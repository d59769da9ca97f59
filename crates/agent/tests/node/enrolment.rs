use std::{fs, os::unix::fs::PermissionsExt as _};

use obfleet_agent::{client::CallError, token::Token};
use obfleet_wire::agent::SERVER_NAME;

use crate::{authority::Authority, host::Host};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_enrols_once_and_only_the_server_is_let_in() {
    let authority = Authority::start().await;
    let mut host = Host::started(&authority);
    let status = host.endpoint(&authority.client()).status().await.unwrap();
    assert_eq!(status.host.host_uid, host.uid());
    assert!(!status.host.name.is_empty());
    let identity = host.state().join("identity.json");
    assert_eq!(fs::metadata(identity).unwrap().permissions().mode() & 0o777, 0o600);

    // Another certificate of the authority, such as another agent's.
    let other = authority.client_as(&authority.certify("x.agent.obfleet"));
    assert!(matches!(
        host.endpoint(&other).status().await,
        Err(CallError::Unreachable { .. })
    ));
    // The right name by another authority.
    let stranger = Authority::start().await;
    let forged = authority.client_as(&stranger.certify(SERVER_NAME));
    assert!(matches!(
        host.endpoint(&forged).status().await,
        Err(CallError::Unreachable { .. })
    ));
    // No certificate at all.
    let bare = reqwest::Client::builder()
        .tls_backend_preconfigured(trusting(authority.ca_pem()))
        .resolve("bare.agent.obfleet", host.address())
        .build()
        .unwrap();
    let url = format!("https://bare.agent.obfleet:{}/v1/status", host.address().port());
    assert!(bare.get(url).send().await.is_err());
    // The server does not talk to an agent of another name.
    let wrong = authority.client().endpoint("0000", host.address());
    assert!(matches!(wrong.status().await, Err(CallError::Unreachable { .. })));

    let (uid, address) = (host.uid(), host.address());
    assert!(host.stop_agent());
    host.start().unwrap();
    assert_eq!(
        (host.uid(), host.address()),
        (uid, address),
        "without a token, at the same port"
    );
    assert_eq!(authority.enrolments(), 1);
    host.endpoint(&authority.client()).status().await.unwrap();
}

/// TLS that shows no certificate. Names are not what is tested here.
fn trusting(ca_pem: &str) -> rustls::ClientConfig {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
        .unwrap();
    rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_or_an_impostor_is_refused() {
    let authority = Authority::start().await;
    let mut host = Host::new(&authority);
    host.use_token("-".into());
    assert!(host.start().unwrap_err().contains("enrolment token"));
    let wrong_secret = Token {
        secret: "guess".into(),
        ..authority.token()
    };
    host.use_token(wrong_secret.to_string());
    assert!(host.start().unwrap_err().contains("this token is not valid"));
    let other_authority = Token {
        ca_sha256: "ab".repeat(32),
        ..authority.token()
    };
    host.use_token(other_authority.to_string());
    assert!(host.start().unwrap_err().contains("fingerprint"));
    host.use_token(authority.token().to_string());
    host.start().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_agent_a_state_directory() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let uid = host.uid();
    assert!(host.start_second().contains("another agent runs"));
    assert_eq!(host.uid(), uid);
}
