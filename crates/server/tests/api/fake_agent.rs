//! An agent that enrols as a real one does, and then says yes to everything without doing any of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::{get, post},
};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use obfleet_agent::token::{Token, proof, secret_digest};
use obfleet_wire::{
    agent::{
        AgentError, AgentMetrics, AgentStatus, ConfigFacts, DrainReport, EnrolRequest, Examination, ExamineRequest,
        Exported, FoundProxy, HostFacts, Obstacle, Operation, OperationReport, OperationRequest, OperationState,
        Outcome, ParameterReading, PreflightReport, ProxyFacts, ProxyLog, ProxyLogs, ProxyParameters, ProxyReport,
        ProxySample, RestartReport, SECRET_VALUE, Series,
    },
    time::Timestamp,
    version::ProxyVersion,
};
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;

use crate::support::{Api, Reply};

pub struct FakeAgent {
    pub host_id: i64,
    state: Arc<Hands>,
    handle: Handle<SocketAddr>,
}

struct Hands {
    facts: HostFacts,
    proxies: Mutex<BTreeMap<i64, ProxyVersion>>,
    /// Values that are not as in [`ITEMS`], by proxy and name; and those the process started with.
    values: Mutex<BTreeMap<(i64, String), String>>,
    started: Mutex<BTreeMap<(i64, String), String>>,
    stopped: Mutex<BTreeSet<i64>>,
    offline: Mutex<BTreeSet<i64>>,
    sys_passwords: Mutex<BTreeMap<i64, String>>,
    found: Mutex<Vec<FoundProxy>>,
    /// Where those found ask for their OceanBase servers, if they do not have a list.
    config_url: Mutex<Option<String>>,
    busy: AtomicBool,
    refusing: Mutex<Option<String>>,
}

/// A signing request and its key.
pub fn signing_request() -> (String, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::new(Vec::new())
        .unwrap()
        .serialize_request(&key)
        .unwrap();
    (request.pem().unwrap(), key)
}

/// What an agent sends to enrol.
pub fn enrol_request(token: &Token, uid: &str, csr_pem: &str, port: u16) -> EnrolRequest {
    EnrolRequest {
        token_id: token.id.clone(),
        proof: proof(&secret_digest(&token.secret), csr_pem),
        csr_pem: csr_pem.to_owned(),
        address: "127.0.0.1".to_owned(),
        port,
        host: HostFacts {
            host_uid: uid.to_owned(),
            name: format!("host-{uid}"),
            architecture: "x86_64".to_owned(),
            kernel: "6.1.0".to_owned(),
            release: "el7".to_owned(),
        },
        agent_version: "0.1.0".to_owned(),
    }
}

/// How a real agent with a fresh token starts, its files below `dir`. It runs no proxies.
pub async fn real_agent(api: &Api, dir: &std::path::Path) -> obfleet_agent::Options {
    obfleet_agent::Options {
        server_url: api.running.url.clone(),
        token: Some(token(api).await),
        state_dir: dir.join("agent"),
        root: dir.join("root"),
        address: "127.0.0.1".to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        bind: "127.0.0.1".parse().unwrap(),
        exe: "/bin/false".into(),
        measure_every: obfleet_agent::MEASURE_EVERY,
    }
}

/// A fresh token.
pub async fn token(api: &Api) -> Token {
    token_with(api, Value::Object(serde_json::Map::new())).await
}

/// A fresh token for a host about which something is known.
pub async fn token_with(api: &Api, body: Value) -> Token {
    let made = api.post("/api/v2/compute/agents/tokens", body).await.data();
    made["token"].as_str().unwrap().parse().unwrap()
}

/// Asks to be enrolled, without a login.
pub async fn enrol(api: &Api, request: &EnrolRequest) -> Reply {
    Reply::of(
        api.bare(reqwest::Method::POST, "/api/v2/compute/agents/enrol")
            .json(request),
    )
    .await
}

impl FakeAgent {
    pub async fn start(api: &Api, uid: &str) -> Self {
        Self::start_with(api, uid, Value::Object(serde_json::Map::new())).await
    }

    /// One whose token says something of its host.
    pub async fn start_with(api: &Api, uid: &str, of_host: Value) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (csr, key) = signing_request();
        let request = enrol_request(
            &token_with(api, of_host).await,
            uid,
            &csr,
            listener.local_addr().unwrap().port(),
        );
        let facts = request.host.clone();

        // Listens before it enrols: the server looks at a new host at once.
        let state = Arc::new(Hands {
            facts,
            proxies: Mutex::default(),
            values: Mutex::default(),
            started: Mutex::default(),
            stopped: Mutex::default(),
            offline: Mutex::default(),
            sys_passwords: Mutex::default(),
            found: Mutex::default(),
            config_url: Mutex::default(),
            busy: AtomicBool::new(false),
            refusing: Mutex::default(),
        });
        let answer: Value = enrol(api, &request).await.data();
        let certificate = answer["certificatePem"].as_str().unwrap().to_owned();
        let tls = RustlsConfig::from_pem(certificate.into_bytes(), key.serialize_pem().into_bytes())
            .await
            .unwrap();
        let router = Router::new()
            .route("/v1/status", get(status))
            .route("/v1/metrics", get(metrics))
            .route("/v1/obproxies", get(obproxies))
            .route("/v1/obproxies/examination", post(examine))
            .route("/v1/packages/{sha256}", get(async || ()))
            .route("/v1/proxies/{id}/parameters", get(parameters))
            .route("/v1/operations", post(operate))
            .route("/v1/operations/{key}", get(ask))
            .route("/v1/fence", post(async || ()))
            .route("/v1/proxies/{proxyId}/logs", get(logs))
            .route("/v1/proxies/{proxyId}/logs/{name}", get(log))
            .with_state(Arc::clone(&state));
        let handle = Handle::new();
        let server = axum_server::from_tcp_rustls(listener, tls)
            .unwrap()
            .handle(handle.clone());
        tokio::spawn(server.serve(router.into_make_service()));
        Self {
            host_id: answer["hostId"].as_i64().unwrap(),
            state,
            handle,
        }
    }

    /// While busy, every operation is under way and none ends.
    pub fn busy(&self, busy: bool) {
        self.state.busy.store(busy, Ordering::Relaxed);
    }

    /// Somebody sets a value by SQL.
    pub fn set_by_sql(&self, proxy: i64, name: &str, value: &str) {
        let mut values = self.state.values.lock().unwrap();
        values.insert((proxy, name.to_owned()), value.to_owned());
    }

    /// The value of a parameter.
    pub fn value(&self, proxy: i64, name: &str) -> String {
        let item = self
            .state
            .item(proxy, ITEMS.iter().find(|item| item.0 == name).unwrap());
        item.value
    }

    /// What a proxy has is what its process goes by, as after a restart.
    pub fn restarted(&self) {
        *self.state.started.lock().unwrap() = self.state.values.lock().unwrap().clone();
    }

    /// What runs on the host besides.
    pub fn finds(&self, found: Vec<FoundProxy>) {
        *self.state.found.lock().unwrap() = found;
    }

    /// What it finds asks a config server instead of having a list of servers.
    pub fn finds_by_url(&self, url: &str) {
        *self.state.config_url.lock().unwrap() = Some(url.to_owned());
    }

    /// The password of root@proxysys.
    pub fn sys_password(&self, proxy: i64) -> Option<String> {
        self.state.sys_passwords.lock().unwrap().get(&proxy).cloned()
    }

    /// While refusing, proxies are neither made nor taken back.
    pub fn refuse(&self, refusing: bool) {
        *self.state.refusing.lock().unwrap() = refusing.then(|| "the disk is full".to_owned());
    }

    /// Refuses from now on, with these words.
    pub fn refuse_with(&self, message: &str) {
        *self.state.refusing.lock().unwrap() = Some(message.to_owned());
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

/// How a password begins that the proxies of agent `b` do not take.
pub const NOT_TAKEN: &str = "Not-Taken";

/// Some items stand for all: name, default, need of a restart, range.
const ITEMS: [(&str, &str, bool, &str); 5] = [
    ("observer_sys_password", SECRET_VALUE, false, ""),
    ("of_a_later_version", "1", false, ""),
    ("proxy_idc_name", "", false, ""),
    ("syslog_level", "WDIAG", false, ""),
    ("work_thread_num", "128", true, "[1,128]"),
];

impl Hands {
    fn item(&self, proxy: i64, (name, default, need_restart, range): &(&str, &str, bool, &str)) -> ParameterReading {
        let of = |values: &Mutex<BTreeMap<(i64, String), String>>| {
            let values = values.lock().unwrap();
            values
                .get(&(proxy, (*name).to_owned()))
                .cloned()
                .unwrap_or((*default).to_owned())
        };
        let (value, started) = (of(&self.values), of(&self.started));
        ParameterReading {
            name: (*name).to_owned(),
            in_force: Some(started).filter(|started| *need_restart && *started != value),
            value,
            info: format!("about {name}"),
            need_restart: *need_restart,
            range: (*range).to_owned(),
            visible: "USER".to_owned(),
        }
    }

    fn parameters(&self, proxy: i64, version: ProxyVersion) -> ProxyParameters {
        // An agent never tells a secret.
        let told = |item: &(&str, &str, bool, &str)| match self.item(proxy, item) {
            secret if secret.name.contains("password") => ParameterReading {
                value: SECRET_VALUE.to_owned(),
                ..secret
            },
            item => item,
        };
        let items: Vec<_> = ITEMS.iter().map(told).collect();
        let values: Vec<_> = items.iter().map(|item| (&item.value, &item.in_force)).collect();
        let digest = secret_digest(&format!("{values:?}"));
        ProxyParameters {
            digest: hex::encode(digest),
            version,
            items,
        }
    }
}

async fn parameters(
    State(hands): State<Arc<Hands>>,
    Path(proxy): Path<i64>,
) -> Result<Json<ProxyParameters>, (StatusCode, Json<AgentError>)> {
    let version = hands.proxies.lock().unwrap().get(&proxy).cloned();
    let what = format!("proxy {proxy}");
    let version = version.ok_or((StatusCode::NOT_FOUND, Json(AgentError::Unknown { what })))?;
    Ok(Json(hands.parameters(proxy, version)))
}

async fn status(State(hands): State<Arc<Hands>>) -> Json<AgentStatus> {
    let proxies = hands.proxies.lock().unwrap();
    let (stopped, offline) = (hands.stopped.lock().unwrap(), hands.offline.lock().unwrap());
    let report = |(id, version): (&i64, &ProxyVersion)| ProxyReport {
        proxy_id: *id,
        serving: Some(!stopped.contains(id)),
        stopped: stopped.contains(id),
        offline: offline.contains(id),
        pid: Some(1),
        version: Some(version.clone()),
        restarts: 0,
        parameters: Some(hands.parameters(*id, version.clone()).digest),
        trouble: None,
    };
    Json(AgentStatus {
        version: "0.1.0".to_owned(),
        host: hands.facts.clone(),
        operations: Operation::NAMES.map(str::to_owned).to_vec(),
        proxies: proxies.iter().map(report).collect(),
        time: Timestamp::now(),
        certificate: None,
    })
}

async fn obproxies(State(hands): State<Arc<Hands>>) -> Json<Vec<FoundProxy>> {
    Json(hands.found.lock().unwrap().clone())
}

/// What root@proxysys of a proxy that somebody else installed is let in with.
pub const FOREIGN_PASSWORD: &str = "Foreign-s3cret1";

async fn examine(State(hands): State<Arc<Hands>>, Json(request): Json<ExamineRequest>) -> Json<Examination> {
    let port = request.sql_port;
    let found = hands.found.lock().unwrap();
    let proxy = found.iter().find(|proxy| proxy.sql_port == Some(port)).cloned();
    let let_in = request.passwords.iter().any(|password| password == FOREIGN_PASSWORD);
    let parameters = proxy.as_ref().filter(|_| let_in).map(|proxy| {
        let mut has = hands.parameters(0, proxy.version.clone().unwrap());
        let url = hands.config_url.lock().unwrap().clone();
        let by_list = [
            ("rootservice_cluster_name", "ob"),
            ("rootservice_list", "127.0.0.1:2881"),
        ];
        let backend = match &url {
            Some(url) => vec![("obproxy_config_server_url", url.as_str()), ("rootservice_list", "")],
            None => by_list.to_vec(),
        };
        for (name, value) in backend {
            has.items.push(ParameterReading {
                name: name.to_owned(),
                value: value.to_owned(),
                in_force: None,
                info: String::new(),
                need_restart: true,
                range: String::new(),
                visible: "SYS".to_owned(),
            });
        }
        has
    });
    let obstacles = match (&proxy, &parameters) {
        (None, _) => vec![Obstacle::NotRunning { port }],
        (_, None) => vec![Obstacle::WrongPassword],
        _ => Vec::new(),
    };
    Json(Examination {
        proxy,
        parameters,
        obstacles,
    })
}

/// As of the last two minutes: transactions at 10 a second for each proxy, and its exporter.
async fn metrics(State(hands): State<Arc<Hands>>) -> Json<AgentMetrics> {
    let now = Timestamp::now();
    let proxies = hands.proxies.lock().unwrap();
    let sample = |proxy_id: i64, ago: i64| {
        let at = now.millis() / 15_000 * 15_000 - ago * 15_000;
        let transactions = f64::from(u32::try_from(at / 1000).unwrap()) * 10.0;
        ProxySample {
            proxy_id,
            at: Timestamp(at),
            values: BTreeMap::from([
                ("odp_transaction_total".to_owned(), transactions),
                ("odp_sql_request_total/SELECT".to_owned(), transactions * 2.0),
                ("obproxy_rss_memory".to_owned(), 1e8),
                ("obproxy_up".to_owned(), 1.0),
            ]),
        }
    };
    let exported = |proxy_id: &i64| Exported {
        proxy_id: *proxy_id,
        at: now,
        series: vec![Series {
            name: "odp_transaction_total".to_owned(),
            labels: vec![("tenant".to_owned(), "sys".to_owned())],
            value: 7.0,
        }],
    };
    Json(AgentMetrics {
        time: now,
        samples: proxies
            .keys()
            .flat_map(|id| (0..8).rev().map(|ago| sample(*id, ago)))
            .collect(),
        exported: proxies.keys().map(exported).collect(),
    })
}

/// What the only log file of every proxy says.
pub const LOG: &str = "0123456789";

async fn logs() -> Json<ProxyLogs> {
    Json(ProxyLogs {
        logs: vec![ProxyLog {
            modify_time: Timestamp(1_700_000_000_123),
            name: "obproxy.log".to_owned(),
            size: LOG.len() as u64,
        }],
    })
}

async fn log(
    Path((_, name)): Path<(i64, String)>,
    Query(query): Query<BTreeMap<String, usize>>,
) -> Result<String, (StatusCode, Json<AgentError>)> {
    if name != "obproxy.log" {
        return Err((StatusCode::NOT_FOUND, Json(AgentError::Unknown { what: name })));
    }
    Ok(LOG[LOG.len().saturating_sub(query["tail"])..].to_owned())
}

fn report(state: OperationState) -> OperationReport {
    OperationReport {
        lines: Vec::new(),
        next: 0,
        state,
    }
}

fn facts(version: ProxyVersion) -> ProxyFacts {
    ProxyFacts {
        pid: 1,
        version,
        binary_sha256: "00".repeat(32),
    }
}

/// What became of the operation that began while busy.
async fn ask(State(hands): State<Arc<Hands>>) -> Json<OperationReport> {
    Json(report(match hands.busy.load(Ordering::Relaxed) {
        true => OperationState::Running,
        false => OperationState::Done { outcome: Outcome::Done },
    }))
}

async fn operate(State(hands): State<Arc<Hands>>, Json(request): Json<OperationRequest>) -> Json<OperationReport> {
    if hands.busy.load(Ordering::Relaxed) {
        return Json(report(OperationState::Running));
    }
    let about_a_proxy = matches!(
        request.operation,
        Operation::CreateProxy { .. } | Operation::DiscardProxy { .. } | Operation::SetParameters { .. }
    );
    let refusing = hands.refusing.lock().unwrap().clone();
    if let Some(message) = refusing.filter(|_| about_a_proxy) {
        return Json(report(OperationState::Failed { message }));
    }
    if matches!(&request.operation, Operation::SetSysPassword { password, .. } if password.starts_with(NOT_TAKEN))
        && hands.facts.host_uid == "b"
    {
        let message = "the proxy does not take it".to_owned();
        return Json(report(OperationState::Failed { message }));
    }
    let mut proxies = hands.proxies.lock().unwrap();
    let mut runs = |id: i64, version: &ProxyVersion| proxies.insert(id, version.clone()).unwrap_or(version.clone());
    let outcome = match request.operation {
        Operation::InstallPackage { version, .. } => Outcome::Slot {
            version,
            binary_sha256: "00".repeat(32),
            created: true,
        },
        Operation::CreateProxy { spec, version } => {
            runs(spec.proxy_id, &version);
            hands
                .sys_passwords
                .lock()
                .unwrap()
                .insert(spec.proxy_id, spec.sys_password);
            Outcome::Proxy(facts(version))
        }
        Operation::Restart { proxy_id, version, .. } => Outcome::Restarted(RestartReport {
            before: facts(runs(proxy_id, &version)),
            after: facts(version),
            probed: false,
            answered_after_ms: 1,
        }),
        Operation::StopProxy { proxy_id, .. } => {
            hands.stopped.lock().unwrap().insert(proxy_id);
            Outcome::Done
        }
        Operation::StartProxy { proxy_id, .. } | Operation::CycleProxy { proxy_id, .. } => {
            hands.stopped.lock().unwrap().remove(&proxy_id);
            Outcome::Proxy(facts(proxies[&proxy_id].clone()))
        }
        Operation::SetOnline { proxy_id, online, .. } => {
            let mut offline = hands.offline.lock().unwrap();
            let _ = if online {
                offline.remove(&proxy_id)
            } else {
                offline.insert(proxy_id)
            };
            Outcome::Done
        }
        Operation::Inspect { proxy_id } | Operation::AwaitServing { proxy_id, .. } => {
            Outcome::Proxy(facts(proxies[&proxy_id].clone()))
        }
        Operation::Preflight { proxy_id, .. } => Outcome::Preflight(PreflightReport {
            running: facts(proxies[&proxy_id].clone()),
            sessions: 0,
            warnings: Vec::new(),
        }),
        Operation::SetParameters { proxy_id, values } => {
            let mut known = hands.values.lock().unwrap();
            known.extend(values.into_iter().map(|(name, value)| ((proxy_id, name), value)));
            Outcome::Done
        }
        Operation::SetSysPassword { proxy_id, password } => {
            hands.sys_passwords.lock().unwrap().insert(proxy_id, password);
            Outcome::Done
        }
        Operation::AdoptProxy { spec, .. } => {
            let version: ProxyVersion = "4.2.1.0-11".parse().unwrap();
            hands.found.lock().unwrap().clear();
            runs(spec.proxy_id, &version);
            Outcome::Proxy(facts(version))
        }
        Operation::ReleaseProxy { proxy_id, .. } => {
            proxies.remove(&proxy_id);
            Outcome::Done
        }
        Operation::InspectConfig { .. } => Outcome::Config(ConfigFacts {
            version: Some("one".to_owned()),
            clusters: vec!["ob".to_owned()],
        }),
        Operation::RefreshConfig { version, clusters, .. } => Outcome::Config(ConfigFacts {
            version: Some(version),
            clusters,
        }),
        Operation::AwaitRestart { .. } => Outcome::Drained(DrainReport::default()),
        Operation::RemoveProxy { proxy_id, .. } => {
            proxies.remove(&proxy_id);
            Outcome::Done
        }
        _ => Outcome::Done,
    };
    Json(report(OperationState::Done { outcome }))
}
