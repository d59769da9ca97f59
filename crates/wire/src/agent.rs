//! The contract between server and host agent: HTTPS with mutual TLS, JSON bodies, served by the agent.
//!
//! | route | does |
//! |---|---|
//! | `GET /v1/status` | [`AgentStatus`] |
//! | `GET /v1/metrics?after=T&exported=B` | [`AgentMetrics`]: what was measured of its proxies after T, in ms since the epoch; with `exported=true` also what their exporters said last |
//! | `HEAD /v1/packages/{sha256}` | 200: the package file is here; 404: so much of it is, see [`PACKAGE_BYTES`]; 409: it is arriving from elsewhere, ask again |
//! | `PUT /v1/packages/{sha256}` | stores a package file; with `Content-Range` what follows the bytes that are there |
//! | `POST /v1/operations` | starts an [`OperationRequest`], or attaches to it when its key is known |
//! | `GET /v1/operations/{key}?from=N&waitMs=M` | [`OperationReport`]: log lines from line N on, and the state; waits up to M ms for news |
//! | `GET /v1/proxies/{id}/parameters` | [`ProxyParameters`]: reads the proxy's whole configuration |
//! | `GET /v1/obproxies` | a list of [`FoundProxy`]: every proxy that runs on the host, its own or not |
//! | `GET /v1/proxies/{id}/logs` | [`ProxyLogs`]: the proxy's log files |
//! | `GET /v1/proxies/{id}/logs/{name}?tail=bytes` | the last bytes of one of them, at most [`LOG_TAIL_MOST`] |
//! | `POST /v1/obproxies/examination` | [`Examination`] of the proxy of an [`ExamineRequest`]: what would keep it from being taken over |
//! | `GET /v1/certificate/request` | [`CertificateRequest`]: a signing request for the agent's key |
//! | `PUT /v1/certificate` | [`CertificateUpdate`]: the certificate to use from the next connection on |
//! | `POST /v1/fence` | [`Fence`]: refuses every lower epoch from now on, breaks off or waits out what earlier attempts began |
//!
//! An operation is named by its [`AttemptKey`]: what was done under a key is never done twice, its stored result is
//! answered instead. Only a failure is no answer to a higher epoch: an undo that is tried again keeps its name. A request
//! with a lower epoch than the subtask's highest is refused with 409 and [`AgentError::Fenced`].
//!
//! The one call the other way is the enrolment, `POST /api/v2/compute/agents/enrol` on the server: [`EnrolRequest`].

/// Header of the answer to `HEAD /v1/packages/{sha256}`: bytes of the package file that have arrived so far. Agents that
/// keep no part of a file do not tell.
pub const PACKAGE_BYTES: &str = "package-bytes";

mod attempt;
mod certificate;
mod discovery;
mod enrolment;
mod error;
mod examination;
mod metrics;
mod operation;
mod outcome;
mod parameters;
mod proxy_log;
mod status;

pub use attempt::{AttemptKey, AttemptKeyError, Fence};
pub use certificate::{CertificateRequest, CertificateUpdate, Validity};
pub use discovery::{CronEntry, FoundProcess, FoundProxy, FoundWatchdog, HOLDING_DROP_IN, PackageLayout, StartMethod};
pub use enrolment::{EnrolRequest, EnrolResponse, SERVER_NAME, agent_name};
pub use error::AgentError;
pub use examination::{Caution, Examination, ExamineRequest, Obstacle};
pub use metrics::{AgentMetrics, Exported, ProxySample, Series};
pub use operation::{DrainPolicy, Operation, OperationRequest, ProbeQuery, ProxySpec, RestartMethod};
pub use outcome::{
    ConfigFacts, DrainReport, OperationReport, OperationState, Outcome, PreflightReport, ProxyFacts, RestartReport,
    Straggler,
};
pub use parameters::{ParameterReading, ProxyParameters, SECRET_VALUE};
pub use proxy_log::{LOG_TAIL_MOST, ProxyLog, ProxyLogs};
pub use status::{AgentStatus, HostFacts, ProxyReport};
