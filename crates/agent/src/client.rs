//! How the server calls agents.

use std::{
    collections::HashMap,
    future::ready,
    io::{self, SeekFrom},
    iter,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use obfleet_wire::agent::{
    AgentError, AgentMetrics, AgentStatus, AttemptKey, CertificateRequest, CertificateUpdate, Examination,
    ExamineRequest, Fence, FoundProxy, OperationReport, OperationRequest, OperationState, Outcome, PACKAGE_BYTES,
    ProxyLog, ProxyLogs, ProxyParameters, Validity, agent_name,
};
use obfleet_wire::time::Timestamp;
use reqwest::{
    Body, Client, RequestBuilder, Response, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::CONTENT_RANGE,
};
use serde::de::DeserializeOwned;
use tokio::{
    fs::File,
    io::AsyncSeekExt as _,
    time::{Instant, sleep},
};
use tokio_util::io::ReaderStream;

use crate::{
    describe,
    locks::Locks,
    tls::{self, PkiError},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For calls that are answered at once.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Each proxy's executable is run once, which may take ten seconds.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);
/// A fence waits up to a minute for what it fenced off.
const FENCE_TIMEOUT: Duration = Duration::from_secs(75);
/// A large package over a slow line.
const PUT_TIMEOUT: Duration = Duration::from_secs(900);
/// The end of a log file over a slow line.
const LOG_TIMEOUT: Duration = Duration::from_secs(300);
/// How long one look at an operation waits for news.
const POLL: Duration = Duration::from_secs(10);
/// Pause after a call that was not answered, doubled up to the last one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// A call to an agent did not bring what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// A higher epoch of the subtask has been seen: whoever asks has been replaced and must stop.
    #[error("epoch {epoch} is fenced off on the agent: epoch {highest} of the same subtask has been seen")]
    Fenced {
        /// Of the call.
        epoch: i64,
        /// The highest seen.
        highest: i64,
    },
    /// The operation was performed and failed, for good.
    #[error("{message}")]
    Failed {
        /// Object, reason and next step.
        message: String,
    },
    /// No answer: whether the call took effect is unknown, calling again finds out.
    #[error("the agent at {address} does not answer ({reason}): check that it runs and that the port is open")]
    Unreachable {
        /// Where it should be.
        address: SocketAddr,
        /// The last error.
        reason: String,
    },
    /// The agent answered that it will not or cannot.
    #[error("the agent at {address} refused: {error}")]
    Refused {
        /// Which agent.
        address: SocketAddr,
        /// Its answer.
        error: AgentError,
    },
    /// The file to send cannot be read.
    #[error("cannot read the package to send")]
    Package(#[source] io::Error),
}

impl CallError {
    /// Whether the same call may find an answer later.
    fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { error, .. } => matches!(error, AgentError::Internal { .. }),
            Self::Fenced { .. } | Self::Failed { .. } | Self::Package(_) => false,
        }
    }
}

/// Calls agents, as the holder of the server's client certificate.
pub struct AgentClient {
    http: Client,
    names: Arc<Names>,
    sending: Sending,
}

/// The packages on their way, by agent and digest: tasks that need the same one on the same host send it once.
type Sending = Arc<Locks<String>>;

/// Agents are called by the name in their certificate, which no name server knows.
#[derive(Default)]
struct Names(Mutex<HashMap<String, SocketAddr>>);

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let known = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name.as_str())
            .copied();
        Box::pin(ready(match known {
            Some(address) => Ok(Box::new(iter::once(address)) as Addrs),
            None => Err(format!("{} is not the name of an agent", name.as_str()).into()),
        }))
    }
}

impl AgentClient {
    /// A client that trusts agents of the authority and shows them the certificate.
    ///
    /// # Errors
    /// When one of the texts cannot be used.
    pub fn new(ca_pem: &str, certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let names = Arc::new(Names::default());
        let http = Client::builder()
            .tls_backend_preconfigured(tls::client_config(ca_pem, certificate_pem, key_pem)?)
            .dns_resolver(Arc::clone(&names))
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(PkiError::Client)?;
        Ok(Self {
            http,
            names,
            sending: Arc::default(),
        })
    }

    /// The agent of a host. Only the agent whose certificate names this host is talked to; nothing is sent yet.
    pub fn endpoint(&self, host_uid: &str, address: SocketAddr) -> Endpoint {
        let name = agent_name(host_uid);
        let base = format!("https://{name}:{}/v1", address.port());
        self.names
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, address);
        Endpoint {
            http: self.http.clone(),
            base,
            address,
            sending: Arc::clone(&self.sending),
        }
    }
}

/// One agent.
#[derive(Clone)]
pub struct Endpoint {
    http: Client,
    base: String,
    address: SocketAddr,
    sending: Sending,
}

impl Endpoint {
    /// What the agent is and runs.
    ///
    /// # Errors
    /// Without an answer.
    pub async fn status(&self) -> Result<AgentStatus, CallError> {
        let call = self.http.get(format!("{}/status", self.base)).timeout(CALL_TIMEOUT);
        self.json(call).await
    }

    /// What the agent measured of its proxies after that moment by its clock, and, if wanted, what their exporters said
    /// last.
    ///
    /// # Errors
    /// Without an answer; from agents that measure nothing, [`CallError::Refused`].
    pub async fn metrics(&self, after: Timestamp, exported: bool) -> Result<AgentMetrics, CallError> {
        let url = format!("{}/metrics?after={}&exported={exported}", self.base, after.millis());
        self.json(self.http.get(url).timeout(CALL_TIMEOUT)).await
    }

    /// The whole configuration of a proxy, read now.
    ///
    /// An agent that does not answer, or cannot read it yet, is asked again for as long as `patience`.
    ///
    /// # Errors
    /// [`CallError::Refused`] when the agent does not have the proxy, or it cannot be read; without an answer.
    pub async fn parameters(&self, proxy_id: i64, patience: Duration) -> Result<ProxyParameters, CallError> {
        let url = format!("{}/proxies/{proxy_id}/parameters", self.base);
        until_answered(patience, || self.json(self.http.get(&url).timeout(CALL_TIMEOUT))).await
    }

    /// Every proxy that runs on the host.
    ///
    /// # Errors
    /// Without an answer.
    pub async fn obproxies(&self) -> Result<Vec<FoundProxy>, CallError> {
        let call = self.http.get(format!("{}/obproxies", self.base)).timeout(LOOK_TIMEOUT);
        self.json(call).await
    }

    /// The proxy that serves on a port, looked at closely.
    ///
    /// # Errors
    /// Without an answer.
    pub async fn examine(&self, request: &ExamineRequest) -> Result<Examination, CallError> {
        let call = self.http.post(format!("{}/obproxies/examination", self.base));
        self.json(call.json(request).timeout(LOOK_TIMEOUT)).await
    }

    /// A signing request for the agent's key, PEM.
    ///
    /// # Errors
    /// Without an answer.
    pub async fn certificate_request(&self) -> Result<String, CallError> {
        let url = format!("{}/certificate/request", self.base);
        let request: CertificateRequest = self.json(self.http.get(url).timeout(CALL_TIMEOUT)).await?;
        Ok(request.csr_pem)
    }

    /// Has the agent use another certificate from its next connection on. → when that one is good
    ///
    /// # Errors
    /// [`CallError::Refused`] when it is not for the agent's key and name, or not by its authority; without an answer.
    pub async fn replace_certificate(&self, certificate_pem: String) -> Result<Validity, CallError> {
        let url = format!("{}/certificate", self.base);
        let call = self.http.put(url).json(&CertificateUpdate { certificate_pem });
        self.json(call.timeout(CALL_TIMEOUT)).await
    }

    /// Sends the package file unless the agent has it; only what is missing of it, when a part has arrived before. → bytes
    /// that were sent, in all tries
    ///
    /// An agent that does not answer is asked again for as long as `patience`: it may be starting again. One that gets the
    /// same file from elsewhere is waited for.
    ///
    /// # Errors
    /// When the file cannot be read, or the agent does not take it; without an answer.
    pub async fn put_package(&self, sha256: &str, path: &Path, patience: Duration) -> Result<u64, CallError> {
        let _turn = self.sending.lock(format!("{}/{sha256}", self.base)).await;
        let sent = Arc::new(AtomicU64::new(0));
        until_answered(patience, || self.try_put_package(sha256, path, &sent)).await?;
        Ok(sent.load(Ordering::Relaxed))
    }

    async fn try_put_package(&self, sha256: &str, path: &Path, sent: &Arc<AtomicU64>) -> Result<(), CallError> {
        let url = format!("{}/packages/{sha256}", self.base);
        let there = loop {
            let known = self.http.head(&url).timeout(CALL_TIMEOUT).send().await;
            let known = known.map_err(|e| self.unreachable(&e))?;
            match known.status() {
                status if status.is_success() => return Ok(()),
                // The agent itself has waited before it said so.
                StatusCode::CONFLICT => {}
                _ => break arrived(&known),
            }
        };
        let mut file = File::open(path).await.map_err(CallError::Package)?;
        let size = file.metadata().await.map_err(CallError::Package)?.len();
        // More than there is to send is not this file.
        let from = if there < size { there } else { 0 };
        let mut call = self.http.put(&url).timeout(PUT_TIMEOUT);
        if from > 0 {
            file.seek(SeekFrom::Start(from)).await.map_err(CallError::Package)?;
            call = call.header(CONTENT_RANGE, format!("bytes {from}-{}/{size}", size - 1));
        }
        let sent = Arc::clone(sent);
        let pieces = ReaderStream::with_capacity(file, 256 * 1024).inspect_ok(move |piece| {
            sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        });
        self.send(call.body(Body::wrap_stream(pieces))).await?;
        Ok(())
    }

    /// The log files of a proxy.
    ///
    /// # Errors
    /// [`CallError::Refused`] with [`AgentError::Unknown`] when the proxy is not there; without an answer.
    pub async fn proxy_logs(&self, proxy_id: i64) -> Result<Vec<ProxyLog>, CallError> {
        let url = format!("{}/proxies/{proxy_id}/logs", self.base);
        let answer: ProxyLogs = self.json(self.http.get(url).timeout(CALL_TIMEOUT)).await?;
        Ok(answer.logs)
    }

    /// The last `tail` bytes of a log file, at most [`LOG_TAIL_MOST`](obfleet_wire::agent::LOG_TAIL_MOST).
    ///
    /// # Errors
    /// [`CallError::Refused`] with [`AgentError::Unknown`] when there is no such file; without an answer. The stream ends
    /// with an error when the connection breaks, or after five minutes.
    pub async fn proxy_log(
        &self,
        proxy_id: i64,
        name: &str,
        tail: u64,
    ) -> Result<impl Stream<Item = reqwest::Result<Bytes>> + Send + use<>, CallError> {
        let unknown = || CallError::Refused {
            address: self.address,
            error: AgentError::Unknown {
                what: format!("log file {name} of proxy {proxy_id}"),
            },
        };
        // A URL has no way to write these as the name of something.
        if matches!(name, "" | "." | "..") {
            return Err(unknown());
        }
        let mut url = Url::parse(&format!("{}/proxies/{proxy_id}/logs", self.base)).map_err(|_| unknown())?;
        url.path_segments_mut().map_err(|()| unknown())?.push(name);
        url.set_query(Some(&format!("tail={tail}")));
        let answer = self.send(self.http.get(url).timeout(LOG_TIMEOUT)).await?;
        Ok(answer.bytes_stream())
    }

    /// Starts an operation, attaches to it, or finds its stored result.
    ///
    /// # Errors
    /// [`CallError::Fenced`] when a higher epoch has been seen; without an answer; when the agent refuses.
    pub async fn start(&self, request: &OperationRequest) -> Result<OperationReport, CallError> {
        let call = self.http.post(format!("{}/operations", self.base)).json(request);
        self.json(call.timeout(CALL_TIMEOUT)).await
    }

    /// Where an operation stands, once there is something after line `from` or `wait` is over.
    ///
    /// # Errors
    /// [`CallError::Refused`] with [`AgentError::Unknown`] when it is not at work: start it again.
    pub async fn report(&self, key: &AttemptKey, from: u64, wait: Duration) -> Result<OperationReport, CallError> {
        let wait_ms = wait.as_millis();
        let url = format!("{}/operations/{key}?from={from}&waitMs={wait_ms}", self.base);
        self.json(self.http.get(url).timeout(wait + CALL_TIMEOUT)).await
    }

    /// Refuses every lower epoch of the subtask from now on, and waits until nothing of earlier attempts is at work.
    ///
    /// An agent that does not answer, or still waits, is asked again for as long as `patience`.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn fence(&self, fence: &Fence, patience: Duration) -> Result<(), CallError> {
        until_answered(patience, || self.try_fence(fence)).await
    }

    async fn try_fence(&self, fence: &Fence) -> Result<(), CallError> {
        let call = self.http.post(format!("{}/fence", self.base)).json(fence);
        self.send(call.timeout(FENCE_TIMEOUT)).await?;
        Ok(())
    }

    /// Performs an operation to its end and hands on what it says, each line once.
    ///
    /// Restarts of the agent and lost connections are bridged, as long as the agent is not without an answer for
    /// longer than `patience`. How long the operation itself may take is the caller's to limit: dropping the future
    /// leaves it running on the agent, and performing the same request again attaches to it.
    ///
    /// # Errors
    /// [`CallError::Failed`] when it failed; else as [`Self::start`].
    pub async fn perform(
        &self,
        request: &OperationRequest,
        patience: Duration,
        mut on_line: impl FnMut(&str),
    ) -> Result<Outcome, CallError> {
        let mut told = 0;
        let mut started = false;
        let mut answered = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let look = if started {
                self.report(&request.key, told, POLL).await
            } else {
                self.start(request).await.map(|whole| after(whole, told))
            };
            let error = match look {
                Ok(report) => {
                    report.lines.iter().for_each(|line| on_line(line));
                    told = report.next.max(told);
                    match report.state {
                        OperationState::Running => {}
                        OperationState::Done { outcome } => return Ok(outcome),
                        OperationState::Failed { message } => return Err(CallError::Failed { message }),
                    }
                    (started, answered, pause) = (true, Instant::now(), FIRST_PAUSE);
                    continue;
                }
                Err(error) => error,
            };
            // An agent that was restarted: starting again attaches or does the rest.
            let forgot = started
                && matches!(&error, CallError::Refused { error, .. } if matches!(error, AgentError::Unknown { .. }));
            if !(forgot || error.is_passing()) || answered.elapsed() + pause > patience {
                return Err(error);
            }
            started = false;
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn json<T: DeserializeOwned>(&self, call: RequestBuilder) -> Result<T, CallError> {
        let answer = self.send(call).await?;
        answer.json().await.map_err(|e| self.unreachable(&e))
    }

    async fn send(&self, call: RequestBuilder) -> Result<Response, CallError> {
        let answer = call.send().await.map_err(|e| self.unreachable(&e))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let error = answer.json().await.unwrap_or_else(|_| self.foreign(status));
        Err(match error {
            AgentError::Fenced { epoch, highest } => CallError::Fenced { epoch, highest },
            error => CallError::Refused {
                address: self.address,
                error,
            },
        })
    }

    /// An answer that is not an agent's.
    fn foreign(&self, status: StatusCode) -> AgentError {
        AgentError::Invalid {
            reason: format!("it answered {status} without a reason"),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> CallError {
        CallError::Unreachable {
            address: self.address,
            reason: describe(error),
        }
    }
}

/// How much of a package the agent says it has.
fn arrived(answer: &Response) -> u64 {
    let bytes = answer.headers().get(PACKAGE_BYTES);
    bytes.and_then(|bytes| bytes.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// Makes a call again while its error is a passing one, for as long as `patience`.
async fn until_answered<T, F>(patience: Duration, mut call: impl FnMut() -> F) -> Result<T, CallError>
where
    F: Future<Output = Result<T, CallError>>,
{
    let give_up = Instant::now() + patience;
    let mut pause = FIRST_PAUSE;
    loop {
        match call().await {
            Err(error) if error.is_passing() && Instant::now() + pause <= give_up => sleep(pause).await,
            end => return end,
        }
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// The report of a start begins at line 0; what has been told before is cut off.
fn after(mut report: OperationReport, told: u64) -> OperationReport {
    let skip = usize::try_from(told).unwrap_or(usize::MAX).min(report.lines.len());
    report.lines.drain(..skip);
    report
}
