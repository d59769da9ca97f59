//! The server's side of an enrolment: a certificate authority and the one route.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{Json, Router, extract::State, routing::post};
use obfleet_agent::{
    client::AgentClient,
    token::{self, Token},
};
use obfleet_wire::{
    agent::{EnrolRequest, EnrolResponse, SERVER_NAME, agent_name},
    envelope::{Envelope, ErrorBody},
    time::Timestamp,
};
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair, SanType};
use tokio::{net::TcpListener, task::JoinHandle};

/// A certificate authority that enrols whoever has its token.
pub struct Authority {
    inner: Arc<Inner>,
    pub url: String,
    server: JoinHandle<()>,
}

struct Inner {
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
    token: Token,
    enrolments: AtomicU32,
}

/// Certificate and key, PEM.
pub type Pair = (String, String);

impl Authority {
    pub async fn start() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = params.self_signed(&key).unwrap().pem();
        let token = Token {
            id: "t1".into(),
            secret: "s3cret".into(),
            ca_sha256: token::fingerprint(&ca_pem).unwrap(),
        };
        let inner = Arc::new(Inner {
            issuer: Issuer::new(params, key),
            ca_pem,
            token,
            enrolments: AtomicU32::new(0),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/api/v2/compute/agents/enrol", post(enrol))
            .with_state(Arc::clone(&inner));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { inner, url, server }
    }

    pub fn token(&self) -> Token {
        self.inner.token.clone()
    }

    pub fn ca_pem(&self) -> &str {
        &self.inner.ca_pem
    }

    pub fn enrolments(&self) -> u32 {
        self.inner.enrolments.load(Ordering::SeqCst)
    }

    /// A certificate of this authority for any name.
    pub fn certify(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.inner.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// A certificate of this authority for the key of a signing request, good from a day ago until then.
    pub fn sign(&self, csr_pem: &str, name: &str, until: SystemTime) -> String {
        let mut csr = CertificateSigningRequestParams::from_pem(csr_pem).unwrap();
        csr.params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
        csr.params.not_before = (SystemTime::now() - Duration::from_secs(24 * 60 * 60)).into();
        csr.params.not_after = until.into();
        csr.signed_by(&self.inner.issuer).unwrap().pem()
    }

    /// The server's client.
    pub fn client(&self) -> AgentClient {
        self.client_as(&self.certify(SERVER_NAME))
    }

    pub fn client_as(&self, (certificate, key): &Pair) -> AgentClient {
        AgentClient::new(self.ca_pem(), certificate, key).unwrap()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn enrol(
    State(authority): State<Arc<Inner>>,
    Json(request): Json<EnrolRequest>,
) -> Json<Envelope<EnrolResponse>> {
    let digest = token::secret_digest(&authority.token.secret);
    let proven =
        request.token_id == authority.token.id && token::proof_holds(&digest, &request.csr_pem, &request.proof);
    assert!(
        !serde_json::to_string(&request)
            .unwrap()
            .contains(&authority.token.secret)
    );
    let data = proven.then(|| {
        authority.enrolments.fetch_add(1, Ordering::SeqCst);
        let mut csr = CertificateSigningRequestParams::from_pem(&request.csr_pem).unwrap();
        let name = agent_name(&request.host.host_uid);
        csr.params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
        let _: SocketAddr = format!("{}:{}", request.address, request.port).parse().unwrap();
        EnrolResponse {
            host_id: 1,
            installation: "inst".into(),
            certificate_pem: csr.signed_by(&authority.issuer).unwrap().pem(),
            ca_pem: authority.ca_pem.clone(),
        }
    });
    Json(Envelope {
        error: data.is_none().then(|| ErrorBody {
            code: 1,
            message: "this token is not valid".into(),
            debug_message: None,
            sub_errors: Vec::new(),
            target: None,
        }),
        status: if data.is_some() { 200 } else { 401 },
        successful: data.is_some(),
        data,
        duration: 0,
        server: "0000000000".into(),
        timestamp: Timestamp::now(),
        trace_id: "0".into(),
    })
}
