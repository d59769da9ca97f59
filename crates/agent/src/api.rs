//! The agent's HTTP API: the routes of [`obfleet_wire::agent`].

use std::{io, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, Query, State, rejection::JsonRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_RANGE},
    response::{IntoResponse, Response},
    routing::{get, head, post, put},
};
use futures::TryStreamExt as _;
use obfleet_wire::agent::{
    AgentError, AgentMetrics, AgentStatus, AttemptKey, CertificateRequest, CertificateUpdate, Examination,
    ExamineRequest, Fence, FoundProxy, LOG_TAIL_MOST, OperationReport, OperationRequest, PACKAGE_BYTES, ProxyLogs,
    ProxyParameters, Validity,
};
use obfleet_wire::time::Timestamp;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use crate::{
    certificate::{Certificate, ReplaceError},
    describe, discovery,
    metrics::Gauges,
    operations::OperationError,
    packages::{Packages, Presence, PutError},
    proxies::{Phase, Registry, RegistryError},
    proxy_logs::LogDir,
    runner::Runner,
    status::StatusBoard,
};

/// A request other than a package is small.
const MAX_JSON_BYTES: usize = 1024 * 1024;
/// No report is waited for longer, whatever the caller asks.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// What the handlers work on.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) runner: Arc<Runner>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) packages: Packages,
    pub(crate) status: Arc<StatusBoard>,
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) certificate: Arc<Certificate>,
}

/// The routes.
pub(crate) fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/metrics", get(metrics))
        .route("/v1/obproxies", get(obproxies))
        .route("/v1/obproxies/examination", post(examine))
        .route(
            "/v1/packages/{sha256}",
            head(has_package).put(put_package).layer(DefaultBodyLimit::disable()),
        )
        .route("/v1/operations", post(start))
        .route("/v1/operations/{key}", get(report))
        .route("/v1/fence", post(fence))
        .route("/v1/proxies/{proxyId}/parameters", get(parameters))
        .route("/v1/proxies/{proxyId}/logs", get(logs))
        .route("/v1/proxies/{proxyId}/logs/{name}", get(log))
        .route("/v1/certificate/request", get(certificate_request))
        .route("/v1/certificate", put(replace_certificate))
        .fallback(async || {
            Answer(AgentError::Unknown {
                what: "this route".into(),
            })
        })
        .layer(DefaultBodyLimit::max(MAX_JSON_BYTES))
        .with_state(api)
}

/// An error as the contract writes it.
struct Answer(AgentError);

impl From<AgentError> for Answer {
    fn from(error: AgentError) -> Self {
        Self(error)
    }
}

impl From<JsonRejection> for Answer {
    fn from(rejection: JsonRejection) -> Self {
        Self(AgentError::Invalid {
            reason: rejection.body_text(),
        })
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = match self.0 {
            AgentError::Fenced { .. } => StatusCode::CONFLICT,
            AgentError::Unknown { .. } => StatusCode::NOT_FOUND,
            AgentError::Invalid { .. } => StatusCode::BAD_REQUEST,
            AgentError::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self.0)).into_response()
    }
}

async fn status(State(api): State<Api>) -> Json<AgentStatus> {
    Json(api.status.read())
}

async fn obproxies(State(api): State<Api>) -> Result<Json<Vec<FoundProxy>>, Answer> {
    let found = discovery::find(&api.registry)
        .await
        .map_err(|error| AgentError::Internal {
            reason: format!("the processes of this host cannot be read: {error}"),
        })?;
    Ok(Json(found.into_iter().map(|proxy| proxy.told).collect()))
}

async fn examine(
    State(api): State<Api>,
    request: Result<Json<ExamineRequest>, JsonRejection>,
) -> Result<Json<Examination>, Answer> {
    let Json(request) = request?;
    let examined = api.status.node().examine(&request).await;
    let examined = examined.map_err(|error| AgentError::Internal {
        reason: format!("the processes of this host cannot be read: {error}"),
    })?;
    Ok(Json(examined.told))
}

#[derive(Debug, Deserialize)]
struct Measured {
    /// In ms since the epoch.
    #[serde(default)]
    after: i64,
    #[serde(default)]
    exported: bool,
}

async fn metrics(State(api): State<Api>, Query(wanted): Query<Measured>) -> Json<AgentMetrics> {
    Json(api.gauges.read(Timestamp(wanted.after), wanted.exported))
}

/// 200 when the package is here; 409 while it arrives, 404 otherwise, with how much of it is here.
async fn has_package(State(api): State<Api>, Path(sha256): Path<String>) -> Response {
    match api.packages.look(&sha256).await {
        Presence::Whole => StatusCode::OK.into_response(),
        Presence::Arriving => StatusCode::CONFLICT.into_response(),
        Presence::Part(bytes) => (StatusCode::NOT_FOUND, [(PACKAGE_BYTES, bytes.to_string())]).into_response(),
    }
}

async fn put_package(
    State(api): State<Api>,
    Path(sha256): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Answer> {
    let from = match headers.get(CONTENT_RANGE) {
        None => 0,
        Some(range) => first_byte(range).ok_or_else(|| AgentError::Invalid {
            reason: "its Content-Range is not of the form 'bytes 5-9/10'".into(),
        })?,
    };
    let body = body.into_data_stream().map_err(io::Error::other);
    api.packages.put(&sha256, from, body).await.map_err(|error| {
        let reason = describe(&error);
        Answer(match error {
            // What was here before may be at fault, or have changed; and who went away comes back.
            PutError::Digest { resumed: true, .. }
            | PutError::Offset { .. }
            | PutError::Body(_)
            | PutError::File(_) => AgentError::Internal { reason },
            PutError::Name(_) | PutError::TooLarge { .. } | PutError::Digest { .. } | PutError::NoRoom { .. } => {
                AgentError::Invalid { reason }
            }
        })
    })?;
    Ok(StatusCode::NO_CONTENT)
}

/// The first byte of a `Content-Range`.
fn first_byte(range: &HeaderValue) -> Option<u64> {
    let range = range.to_str().ok()?.strip_prefix("bytes ")?;
    range.split_once('-')?.0.parse().ok()
}

async fn start(
    State(api): State<Api>,
    request: Result<Json<OperationRequest>, JsonRejection>,
) -> Result<Json<OperationReport>, Answer> {
    let Json(request) = request?;
    // The journal is synced to disk before the operation starts.
    let started = tokio::task::spawn_blocking(move || api.runner.start(request)).await;
    let report = started.unwrap_or_else(|e| Err(AgentError::Internal { reason: e.to_string() }))?;
    Ok(Json(report))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReportQuery {
    #[serde(default)]
    from: u64,
    #[serde(default)]
    wait_ms: u64,
}

async fn report(
    State(api): State<Api>,
    Path(key): Path<String>,
    Query(query): Query<ReportQuery>,
) -> Result<Json<OperationReport>, Answer> {
    let key: AttemptKey = key
        .parse()
        .map_err(|e| AgentError::Invalid { reason: format!("{e}") })?;
    let wait = Duration::from_millis(query.wait_ms).min(MAX_WAIT);
    Ok(Json(api.runner.report(&key, query.from, wait).await?))
}

async fn fence(State(api): State<Api>, fence: Result<Json<Fence>, JsonRejection>) -> Result<StatusCode, Answer> {
    let Json(fence) = fence?;
    api.runner.fence(&fence).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn parameters(State(api): State<Api>, Path(proxy_id): Path<i64>) -> Result<Json<ProxyParameters>, Answer> {
    let read = api.status.node().read_parameters(proxy_id).await;
    let parameters = read.map_err(|error| {
        let reason = describe(&error);
        match error {
            OperationError::Registry(RegistryError::NotOwned(_)) => AgentError::Unknown {
                what: format!("proxy {proxy_id}"),
            },
            _ => AgentError::Internal { reason },
        }
    })?;
    Ok(Json(parameters))
}

/// The log directory of a proxy that is installed here.
async fn log_dir<T: Send + 'static>(
    api: Api,
    proxy_id: i64,
    read: impl FnOnce(LogDir) -> io::Result<T> + Send + 'static,
) -> Result<T, Answer> {
    let owned = api.registry.find(proxy_id);
    let owned = owned.filter(|owned| !matches!(owned.phase, Phase::Removed { .. }));
    let owned = owned.ok_or_else(|| AgentError::Unknown {
        what: RegistryError::NotOwned(proxy_id).to_string(),
    })?;
    let read = tokio::task::spawn_blocking(move || LogDir::open(&owned.home).and_then(read)).await;
    let read = read.map_err(io::Error::other).flatten();
    Ok(read.map_err(|error| AgentError::Internal {
        reason: format!("the log directory of proxy {proxy_id} cannot be read: {error}"),
    })?)
}

async fn logs(State(api): State<Api>, Path(proxy_id): Path<i64>) -> Result<Json<ProxyLogs>, Answer> {
    let logs = log_dir(api, proxy_id, |dir| dir.list()).await?;
    Ok(Json(ProxyLogs { logs }))
}

#[derive(Deserialize)]
struct LogQuery {
    tail: u64,
}

async fn log(
    State(api): State<Api>,
    Path((proxy_id, name)): Path<(i64, String)>,
    Query(query): Query<LogQuery>,
) -> Result<Body, Answer> {
    let what = format!("log file {name} of proxy {proxy_id}");
    let tail = query.tail.min(LOG_TAIL_MOST);
    let found = log_dir(api, proxy_id, move |dir| dir.open_at(&name, tail)).await?;
    let (file, length) = found.ok_or(AgentError::Unknown { what })?;
    // It may grow while it is read.
    let file = tokio::fs::File::from_std(file).take(length);
    Ok(Body::from_stream(ReaderStream::new(file)))
}

async fn certificate_request(State(api): State<Api>) -> Result<Json<CertificateRequest>, Answer> {
    let csr_pem = api.certificate.request().map_err(|error| AgentError::Internal {
        reason: describe(&error),
    })?;
    Ok(Json(CertificateRequest { csr_pem }))
}

async fn replace_certificate(
    State(api): State<Api>,
    update: Result<Json<CertificateUpdate>, JsonRejection>,
) -> Result<Json<Validity>, Answer> {
    let Json(update) = update?;
    // The certificate is synced to disk before it is used.
    let replaced = tokio::task::spawn_blocking(move || api.certificate.replace(&update.certificate_pem)).await;
    let replaced = replaced.map_err(|error| AgentError::Internal {
        reason: error.to_string(),
    })?;
    let validity = replaced.map_err(|error| {
        let reason = describe(&error);
        match error {
            ReplaceError::Refused(_) => AgentError::Invalid { reason },
            ReplaceError::File(_) | ReplaceError::NotEnrolled => AgentError::Internal { reason },
        }
    })?;
    Ok(Json(validity))
}
