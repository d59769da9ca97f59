//! An agent's certificate is renewed while it runs.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use obfleet_agent::client::CallError;
use obfleet_wire::agent::{AgentError, Validity, agent_name};
use rcgen::{CertificateParams, KeyPair};

use crate::{authority::Authority, host::Host};

const HOUR: Duration = Duration::from_secs(60 * 60);

async fn validity(host: &Host, authority: &Authority) -> Validity {
    let status = host.endpoint(&authority.client()).status().await.unwrap();
    status.certificate.unwrap()
}

fn seconds(at: SystemTime) -> i64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_replaced_without_a_restart() {
    let authority = Authority::start().await;
    let mut host = Host::started(&authority);
    let endpoint = host.endpoint(&authority.client());
    let before = validity(&host, &authority).await;
    let name = agent_name(&host.uid());
    let until = SystemTime::now() + HOUR;

    let csr = endpoint.certificate_request().await.unwrap();
    assert_eq!(validity(&host, &authority).await, before, "asking changes nothing");
    let certificate = authority.sign(&csr, &name, until);
    let told = endpoint.replace_certificate(certificate.clone()).await.unwrap();
    assert_eq!(told.not_after.millis(), seconds(until) * 1000);
    // A client that has no connection yet sees the new one.
    assert_eq!(validity(&host, &authority).await, told);
    let kept = fs::read_to_string(host.state().join("identity.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept["enrolment"]["certificatePem"], certificate.as_str());

    assert!(host.stop_agent());
    host.start().unwrap();
    assert_eq!(validity(&host, &authority).await, told);
    assert_eq!(authority.enrolments(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_its_own_is_refused() {
    let authority = Authority::start().await;
    let host = Host::started(&authority);
    let endpoint = host.endpoint(&authority.client());
    let before = validity(&host, &authority).await;
    let (name, until) = (agent_name(&host.uid()), SystemTime::now() + HOUR);
    let own = endpoint.certificate_request().await.unwrap();
    let other_key = CertificateParams::new(Vec::new())
        .unwrap()
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap()
        .pem()
        .unwrap();
    let stranger = Authority::start().await;
    for (what, certificate) in [
        ("by another authority", stranger.sign(&own, &name, until)),
        ("for another key", authority.sign(&other_key, &name, until)),
        ("for another name", authority.sign(&own, &agent_name("0000"), until)),
        ("expired", authority.sign(&own, &name, SystemTime::now() - HOUR)),
        ("none", "no certificate".to_owned()),
    ] {
        let refused = endpoint.replace_certificate(certificate).await;
        let invalid = |error: &CallError| matches!(error, CallError::Refused { error, .. } if matches!(error, AgentError::Invalid { .. }));
        assert!(refused.as_ref().is_err_and(invalid), "{what}: {refused:?}");
        assert_eq!(validity(&host, &authority).await, before, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_certificate_has_expired_enrols_again() {
    let authority = Authority::start().await;
    let mut host = Host::started(&authority);
    let uid = host.uid();
    let csr = host.endpoint(&authority.client()).certificate_request().await.unwrap();
    assert!(host.stop_agent());
    let path = host.state().join("identity.json");
    let mut identity: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let expired = authority.sign(&csr, &agent_name(&uid), SystemTime::now() - HOUR);
    identity["enrolment"]["certificatePem"] = expired.into();
    fs::write(&path, identity.to_string()).unwrap();

    host.start().unwrap();
    let unheard = host.endpoint(&authority.client()).status().await;
    assert!(matches!(unheard, Err(CallError::Unreachable { .. })), "{unheard:?}");
    assert!(host.stop_agent());

    host.use_token(authority.token().to_string());
    host.start().unwrap();
    assert_eq!(host.uid(), uid, "it is the same host");
    host.endpoint(&authority.client()).status().await.unwrap();
    assert_eq!(authority.enrolments(), 2);
}
