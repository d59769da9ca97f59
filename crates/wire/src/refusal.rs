//! Why a request is refused: OCP's code, its arguments and the field it is about. The server turns this into a status,
//! a sentence in the reader's language and the envelope.

use std::fmt;

use crate::reason::{Arg, Reason};

/// OCP's error codes that obfleet answers with. The variant's name is the code; `ocp-error` tables tell its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Parameter {0} is empty or invalid.
    Com10001,
    /// No record of type {0} for {1}.
    Com10002,
    /// Invalid request, cause {0}.
    Com10003,
    /// Conflict: {0} is held by task {1} ({2}).
    Com10005,
    /// A {0} named {1} exists.
    Com10006,
    /// The method is not supported.
    Com10008,
    /// Access denied: {0}.
    Com10009,
    /// Unknown error {0}.
    Com10999,
    /// Not logged on.
    Iam10000,
    /// The user is disabled.
    Iam10001,
    /// The user is locked, for {0} seconds.
    Iam10003,
    /// Wrong user or password; {0} more tries.
    Iam10004,
    /// The same, of the browser's login.
    Iam10006,
    /// Too many failures, wait.
    Iam10007,
    /// User name {0} cannot be.
    Iam10008,
    /// The password is no good one.
    Iam10009,
    /// The present password is another one.
    Iam10011,
    /// Role name {0} cannot be.
    Iam10016,
    /// The right {0} does not go so far.
    Iam10017,
    /// The user has {0} access keys, which is the most.
    Iam10018,
    /// The password has to be changed first.
    Iam10020,
    /// The new password is the old one.
    Iam10021,
    /// Not permitted without the right {0}, which roles {1} have.
    Iam11000,
    /// {0} is no right that a custom role may have.
    Iam11002,
    /// Role {0} is there from the beginning and cannot be deleted.
    Iam11003,
    /// User {0} is there from the beginning and cannot be deleted.
    Iam11004,
    /// User name {0} is reserved.
    Iam11005,
    /// The roles of user {0} cannot be changed.
    Iam11006,
    /// User {0} is there from the beginning and cannot be disabled.
    Iam11007,
    /// Nobody deletes or disables themselves.
    Iam11008,
    /// Role {0} is there from the beginning and cannot be changed.
    Iam11009,
    /// Task {0} missing.
    Tsk10001,
    /// Task {0} in state {1} does not allow it.
    Tsk10007,
    /// Task {0} cannot be rolled back.
    Tsk10009,
    /// Subtask {0} cannot be skipped.
    Tsk10010,
    /// Task {0} expected in state {1}.
    Tsk10016,
    /// Cannot connect to proxy {0}.
    Odp10001,
    /// Proxy cluster {0} missing.
    Odp21001,
    /// Proxy server {0} missing.
    Odp21002,
    /// Cluster {0} in status {1} does not allow it.
    Odp21010,
    /// OB link check failed for {0}.
    Odp21011,
    /// Proxy server {0} does not belong to cluster {1}.
    Odp21015,
    /// Proxy server {0} in status {1} does not allow it.
    Odp21016,
    /// Proxy server {0} in another status than {1}, which is needed.
    Odp21017,
    /// Proxy server {0}: version too low, at least {1}.
    Odp21018,
    /// No load balance app is named {0}.
    Odp21102,
    /// Already in status {0}: proxy server {1}.
    Odp21104,
    /// Parameter {0} is read-only.
    Odp21105,
    /// Bad password format.
    Odp21106,
    /// Operation prohibited: {0}.
    Odp21107,
    /// Directory {1} on host {0} is not empty.
    Odp21114,
    /// The cluster has no proxy.
    Odp21115,
    /// Service {1} is deployed on host {0} already.
    Odp21116,
    /// {0} {1} is in use by {2}.
    Cmp07000,
    /// Host {0} with agent port {1} exists.
    Cmp07001,
    /// Host {0} is offline or in use, expected {1}.
    Cmp07004,
    /// Host {0} missing.
    Cmp07005,
    /// Host {0} has another {1} already.
    Cmp07010,
    /// Package architecture {1} is not that of host {0}.
    Cmp07025,
    /// Path {0} is no place for an agent.
    Cmp07028,
    /// Credential {0} missing.
    Crd08001,
    /// A credential {0} exists.
    Crd08002,
    /// File suffix is {0}, must be {1}.
    Pkg10003,
    /// File is {0}, must be {1}.
    Pkg10004,
    /// Package cannot be parsed: {0}.
    Pkg10006,
    /// Package {0} is in use by {1}.
    Pkg10007,
    /// Package {0} exists.
    Pkg10012,
    /// Package {0} missing.
    Pkg10014,
    /// Architecture {0} is not supported.
    Pkg10015,
    /// Package name {0} is wrong.
    Pkg10016,
}

/// A request that is refused, with everything its sentence needs.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{code:?}({})", args.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
pub struct Refusal {
    /// Which refusal.
    pub code: Code,
    /// The arguments of its sentence, in order.
    pub args: Vec<Arg>,
    /// The request's field it is about.
    pub field: Option<String>,
    /// The object in the way, for the error's `target`.
    pub target: Option<serde_json::Value>,
}

impl Refusal {
    /// A refusal about the whole request, with names and numbers.
    pub fn new(code: Code, args: impl IntoIterator<Item = impl fmt::Display>) -> Self {
        let text = |arg: &dyn fmt::Display| Arg::Text(arg.to_string());
        Self::about(code, args.into_iter().map(|arg| text(&arg)))
    }

    /// A refusal about the whole request, with things and reasons among its arguments.
    pub fn about(code: Code, args: impl IntoIterator<Item = Arg>) -> Self {
        Self {
            code,
            args: args.into_iter().collect(),
            field: None,
            target: None,
        }
    }

    /// Names the field that is wrong.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Names the object in the way.
    #[must_use]
    pub fn target(mut self, target: serde_json::Value) -> Self {
        self.target = Some(target);
        self
    }

    /// A field with a value that cannot be: COM10001 with the reason, which the server puts beside the field.
    pub fn invalid(field: &str, reason: Reason) -> Self {
        Self::about(Code::Com10001, [reason.into()]).field(field)
    }
}
