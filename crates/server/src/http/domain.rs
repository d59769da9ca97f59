//! What fleet and engine refuse, in OCP's codes.

use std::time::Duration;

use axum::http::StatusCode;
use obfleet_engine::{EngineError, Halt, Lock, StoreError, TaskId, TaskOperation, TaskStatus};
use obfleet_fleet::{monitor::MonitorError, package_files::PackageFileError};
use obfleet_wire::{
    Code, Refusal,
    reason::{Reason, Thing},
};
use serde_json::json;

use super::{error::ApiError, fault::Fault};

/// A lease that can be had again is back by then, and so is a server that was restarted, mostly.
const COME_BACK: Duration = Duration::from_secs(1);

impl From<obfleet_fleet::Error> for ApiError {
    fn from(error: obfleet_fleet::Error) -> Self {
        use obfleet_fleet::Error;
        match error {
            Error::Refused(refusal) => refusal.into(),
            Error::Engine(error) => error.into(),
            Error::PackageFile(PackageFileError::Storage { path, source }) => {
                tracing::error!(path = %path.display(), error = %source, "a package file cannot be kept, read or removed");
                Self::storage("the package file cannot be kept, read or removed", &source)
            }
            Error::PackageKeys(error) => {
                let reason = std::error::Error::source(&error)
                    .map(|source| format!(": {source}"))
                    .unwrap_or_default();
                tracing::error!("no package is taken: {error}{reason}");
                Self::fault(Fault::PackageKeys)
            }
            Error::Agent(error) => {
                tracing::warn!(%error, "a host's agent did not answer");
                Self::internal(error).with_status(StatusCode::BAD_GATEWAY)
            }
            Error::Inventory(_) | Error::Seal(_) | Error::Template(_) | Error::PackageFile(_) => failed(&error),
        }
    }
}

impl From<MonitorError> for ApiError {
    fn from(error: MonitorError) -> Self {
        failed(&error)
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match &error {
            EngineError::TaskNotFound(task) => Refusal::new(Code::Tsk10001, [task]).into(),
            EngineError::SubtaskNotFound { task, subtask } => {
                Refusal::new(Code::Tsk10001, [format!("{task}/{subtask}")]).into()
            }
            EngineError::WrongTaskState {
                task,
                status: TaskStatus::Failed,
                operation: TaskOperation::Rollback,
            } => standing(*task, Reason::RollbackStopped),
            EngineError::Halted { task, halt } => standing(
                *task,
                match halt {
                    Halt::Paused => Reason::Paused,
                    Halt::Canceling => Reason::Canceling,
                },
            ),
            EngineError::Abandoned(task) => standing(*task, Reason::Abandoned),
            EngineError::RolledBack(task) => standing(*task, Reason::RolledBack),
            EngineError::TokenReused(task) => Self::fault(Fault::KeyReused { task: task.0 }),
            EngineError::WrongTaskState { task, status, .. } => {
                Refusal::new(Code::Tsk10007, [task.to_string(), status.to_string()]).into()
            }
            EngineError::WrongSubtaskState { task, subtask, status } => {
                Refusal::new(Code::Tsk10007, [format!("{task}/{subtask}"), status.to_string()]).into()
            }
            EngineError::RollbackProhibited(task) => Refusal::new(Code::Tsk10009, [task]).into(),
            EngineError::Locked { lock, by, by_name } => {
                let refusal = Refusal::about(Code::Com10005, [thing(lock).into(), by.into(), by_name.into()]);
                refusal.target(json!({"taskId": by.0, "taskName": by_name})).into()
            }
            &EngineError::ContextTooLarge { size, limit } => {
                Refusal::about(Code::Com10003, [Reason::ContextTooLarge { size, limit }.into()]).into()
            }
            EngineError::ChangeRefused(reason) => {
                tracing::info!(reason, "a change was refused by the database's contents");
                let refusal = Refusal::about(Code::Com10003, [Reason::ChangedMeanwhile.into()]);
                Self::from(refusal).with_status(StatusCode::CONFLICT)
            }
            EngineError::Store(StoreError::LeaseLost) => Self::fault(Fault::NoLease).retry_after(COME_BACK),
            EngineError::ShuttingDown => Self::fault(Fault::Stopping).retry_after(COME_BACK),
            EngineError::Fenced
            | EngineError::ContextFull
            | EngineError::UnknownClass(_)
            | EngineError::DuplicateClass(_)
            | EngineError::WaitTimedOut(_)
            | EngineError::Store(_)
            | EngineError::Broken(_) => failed(&error),
        }
    }
}

/// A task in a state that its status alone does not tell.
fn standing(task: TaskId, state: Reason) -> ApiError {
    Refusal::about(Code::Tsk10007, [(&task).into(), state.into()]).into()
}

/// What a lock of the fleet's is on.
fn thing(lock: &Lock) -> Thing {
    let name = lock.name.clone();
    match (lock.kind.as_str(), lock.name.split_once(':')) {
        ("obproxy_cluster", _) => Thing::Cluster(name),
        ("obproxy_cluster_name", _) => Thing::ClusterName(name),
        ("obproxy", _) => Thing::Proxy(name),
        ("host", _) => Thing::Hosts(name),
        ("host_address", _) => Thing::HostAddress(name),
        ("credential", _) => Thing::Credential(name),
        ("software_package", _) => Thing::Other(format!("package {name}")),
        ("ob_cluster", _) => Thing::ObCluster(name),
        ("ob_links", _) => Thing::ObLinks(name),
        ("host_port", Some((host, port))) => Thing::HostPort {
            host: host.to_owned(),
            port: port.to_owned(),
        },
        (kind, _) => Thing::Other(format!("{kind} {name}")),
    }
}

/// The server's own failure: its causes go to the log, its first sentence to the client.
fn failed(error: &(dyn std::error::Error + 'static)) -> ApiError {
    let causes: Vec<String> = std::iter::successors(error.source(), |error| error.source())
        .map(ToString::to_string)
        .collect();
    tracing::error!(causes = causes.join(": "), "{error}");
    ApiError::internal(error)
}
