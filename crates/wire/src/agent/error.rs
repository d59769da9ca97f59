//! Why an agent refuses.

use serde::{Deserialize, Serialize};

/// Why an agent refused a call: body of its 4xx and 5xx answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum AgentError {
    /// 409: a higher epoch of the subtask has been seen.
    #[error("epoch {epoch} is fenced: epoch {highest} of the same subtask has been seen")]
    Fenced {
        /// The epoch of the call.
        epoch: i64,
        /// The highest one seen.
        highest: i64,
    },
    /// 404: no such operation, package or route.
    #[error("{what} is not known here")]
    Unknown {
        /// What was asked for.
        what: String,
    },
    /// 400: the call is malformed.
    #[error("{reason}")]
    Invalid {
        /// Why.
        reason: String,
    },
    /// 500: the agent itself failed.
    #[error("{reason}")]
    Internal {
        /// Why.
        reason: String,
    },
}
