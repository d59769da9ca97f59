//! What every route shares: the envelope around answers, errors and their sentences, and reading a request.

pub mod body;
mod domain;
pub mod envelope;
pub mod error;
pub mod language;
pub mod listing;
pub mod messages;
pub mod path;
pub mod trace;

pub use body::{Json, OptionalJson};
pub use envelope::{Data, NoData};
pub use error::{ApiError, Fault};
pub use listing::ListQuery;
pub use path::PathIds;

/// What a handler returns.
pub type ApiResult<T> = Result<T, ApiError>;
