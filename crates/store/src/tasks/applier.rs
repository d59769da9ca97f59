//! The domain's way into the engine's transactions.

use async_trait::async_trait;
use obfleet_engine::{StoreError, TaskId};

use super::codec::unavailable;
use crate::sql::Transaction;

/// Why a change was not applied. The whole transaction is rolled back either way.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It does not fit what the database holds; repeating it will not help. The text says why, for the operator.
    #[error("{0}")]
    Refused(String),
    /// The database failed.
    #[error("the database failed while a change was applied")]
    Database(#[from] sqlx::Error),
}

/// Writes domain changes of type `C`. Called inside the transaction that records the step they come from, so that either
/// both happen or neither.
#[async_trait]
pub trait ChangeApplier<C>: Send + Sync + 'static {
    /// Applies the changes of one step of a task, in their order. Must not read the clock. Others wait meanwhile, and every message
    /// to the database takes its time.
    async fn apply(&self, tx: &mut Transaction, task: TaskId, changes: &[C]) -> Result<(), ApplyError>;
}

pub(super) async fn apply<C: Sync + 'static>(
    applier: &dyn ChangeApplier<C>,
    tx: &mut Transaction,
    task: TaskId,
    changes: &[C],
) -> Result<(), StoreError> {
    let applied = applier.apply(tx, task, changes).await;
    applied.map_err(|error| match error {
        ApplyError::Refused(reason) => StoreError::Refused(reason),
        ApplyError::Database(error) => unavailable(error),
    })
}
