//! Agents that say yes to everything and do none of it: what is measured is the server.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use obfleet_agent::token::{Token, proof, secret_digest};
use obfleet_client::Client;
use obfleet_wire::agent::{
    AgentMetrics, AgentStatus, DrainReport, EnrolRequest, EnrolResponse, HostFacts, Operation, OperationReport,
    OperationRequest, OperationState, Outcome, PreflightReport, ProxyFacts, ProxyParameters, ProxyReport,
    RestartReport,
};
use obfleet_wire::time::Timestamp;
use obfleet_wire::version::ProxyVersion;
use rcgen::{CertificateParams, KeyPair};
use reqwest::Method;
use serde_json::json;

/// An enrolled agent; it ends when it is dropped.
pub struct Agent {
    /// Its host.
    pub host_id: i64,
    handle: Handle<SocketAddr>,
}

struct Hands {
    host: HostFacts,
    /// The version of each proxy there is.
    proxies: Mutex<BTreeMap<i64, ProxyVersion>>,
}

impl Hands {
    fn proxies(&self) -> MutexGuard<'_, BTreeMap<i64, ProxyVersion>> {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Agent {
    /// Has itself enrolled as the agent of a new host.
    pub async fn start(client: &Client, number: usize) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let host = HostFacts {
            host_uid: format!("bench-{number}"),
            name: format!("host-{number}"),
            architecture: "x86_64".to_owned(),
            kernel: "6.1.0".to_owned(),
            release: "el7".to_owned(),
        };
        let key = KeyPair::generate()?;
        let csr_pem = CertificateParams::new(Vec::new())?.serialize_request(&key)?.pem()?;
        let enrolled = enrol(client, &host, csr_pem, listener.local_addr()?.port()).await?;

        let hands = Arc::new(Hands {
            host,
            proxies: Mutex::default(),
        });
        let router = Router::new()
            .route("/v1/status", get(status))
            .route("/v1/metrics", get(metrics))
            .route("/v1/packages/{sha256}", get(async || ()))
            .route("/v1/proxies/{id}/parameters", get(parameters))
            .route("/v1/operations", post(operate))
            .route("/v1/fence", post(async || ()))
            .with_state(hands);
        let certificate = enrolled.certificate_pem.into_bytes();
        let tls = RustlsConfig::from_pem(certificate, key.serialize_pem().into_bytes()).await?;
        let handle = Handle::new();
        let server = axum_server::from_tcp_rustls(listener, tls)?.handle(handle.clone());
        tokio::spawn(server.serve(router.into_make_service()));
        Ok(Self {
            host_id: enrolled.host_id,
            handle,
        })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

async fn enrol(client: &Client, host: &HostFacts, csr_pem: String, port: u16) -> Result<EnrolResponse> {
    let nothing = json!({});
    let made = client.call(Method::POST, "/api/v2/compute/agents/tokens", &[], Some(&nothing));
    let made = made.await?;
    let token: Token = made["token"].as_str().context("there is no token")?.parse()?;
    let request = EnrolRequest {
        token_id: token.id.clone(),
        proof: proof(&secret_digest(&token.secret), &csr_pem),
        csr_pem,
        address: Ipv4Addr::LOCALHOST.to_string(),
        port,
        host: host.clone(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let request = serde_json::to_value(request)?;
    let enrolled = client.call(Method::POST, "/api/v2/compute/agents/enrol", &[], Some(&request));
    Ok(serde_json::from_value(enrolled.await?)?)
}

async fn status(State(hands): State<Arc<Hands>>) -> Json<AgentStatus> {
    let report = |(id, version): (&i64, &ProxyVersion)| ProxyReport {
        proxy_id: *id,
        serving: Some(true),
        stopped: false,
        offline: false,
        pid: Some(1),
        version: Some(version.clone()),
        restarts: 0,
        parameters: None,
        trouble: None,
    };
    Json(AgentStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: hands.host.clone(),
        operations: Operation::NAMES.map(str::to_owned).to_vec(),
        proxies: hands.proxies().iter().map(report).collect(),
        time: Timestamp::now(),
        certificate: None,
    })
}

async fn metrics() -> Json<AgentMetrics> {
    Json(AgentMetrics {
        time: Timestamp::now(),
        samples: Vec::new(),
        exported: Vec::new(),
    })
}

async fn parameters(
    State(hands): State<Arc<Hands>>,
    Path(proxy): Path<i64>,
) -> Result<Json<ProxyParameters>, StatusCode> {
    let version = hands.proxies().get(&proxy).cloned();
    Ok(Json(ProxyParameters {
        digest: String::new(),
        version: version.ok_or(StatusCode::NOT_FOUND)?,
        items: Vec::new(),
    }))
}

fn facts(version: &ProxyVersion) -> ProxyFacts {
    ProxyFacts {
        pid: 1,
        version: version.clone(),
        binary_sha256: "00".repeat(32),
    }
}

async fn operate(State(hands): State<Arc<Hands>>, Json(request): Json<OperationRequest>) -> Json<OperationReport> {
    let mut proxies = hands.proxies();
    let outcome = match request.operation {
        Operation::InstallPackage { version, .. } => Outcome::Slot {
            version,
            binary_sha256: "00".repeat(32),
            created: true,
        },
        Operation::CreateProxy { spec, version } => {
            let created = Outcome::Proxy(facts(&version));
            proxies.insert(spec.proxy_id, version);
            created
        }
        Operation::Restart { proxy_id, version, .. } => {
            let before = proxies.insert(proxy_id, version.clone());
            Outcome::Restarted(RestartReport {
                before: facts(before.as_ref().unwrap_or(&version)),
                after: facts(&version),
                probed: false,
                answered_after_ms: 1,
            })
        }
        Operation::AwaitRestart { .. } => Outcome::Drained(DrainReport::default()),
        Operation::Preflight { proxy_id, .. } => match proxies.get(&proxy_id) {
            Some(version) => Outcome::Preflight(PreflightReport {
                running: facts(version),
                sessions: 0,
                warnings: Vec::new(),
            }),
            None => Outcome::Done,
        },
        Operation::Inspect { proxy_id } | Operation::AwaitServing { proxy_id, .. } => match proxies.get(&proxy_id) {
            Some(version) => Outcome::Proxy(facts(version)),
            None => Outcome::Done,
        },
        _ => Outcome::Done,
    };
    Json(OperationReport {
        lines: Vec::new(),
        next: 0,
        state: OperationState::Done { outcome },
    })
}
