//! What every route shares: the envelope around answers, errors and their sentences, and reading a request.

pub mod body;
mod domain;
pub mod envelope;
pub mod error;
pub mod fault;
pub mod idempotency;
pub mod language;
pub mod listing;
pub mod messages;
pub mod obstacles;
pub mod path;
pub mod range;
pub mod reasons;
pub mod trace;

pub use body::{Json, OptionalJson};
pub use envelope::{Data, NoData};
pub use error::ApiError;
pub use fault::{Fault, Wanted};
pub use idempotency::Idempotency;
pub use listing::{Entry, ListQuery};
pub use path::PathIds;

/// What a handler returns.
pub type ApiResult<T> = Result<T, ApiError>;
