//! The end of an orderly stop, and of an outage of the database that outlasted the lease: what this server has claimed and
//! does not run any more is given back, so that it counts as no crash, and begins again at once, here or elsewhere.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::shared::Shared;
use crate::core::Command;
use crate::error::EngineError;
use crate::state::TaskId;
use crate::store::StoreError;

/// Gives back what this server holds, one commit for each task. Nothing of its attempts may run any more. What does not
/// succeed is left to whoever takes over from the dead.
pub(super) async fn give_back<C: Send + Sync + 'static>(shared: &Arc<Shared<C>>) {
    let held = match held_here(shared).await {
        Ok(held) => held,
        Err(error) => return untold(&error),
    };
    let mut moves = JoinSet::new();
    for task in held {
        let shared = Arc::clone(shared);
        moves.spawn(async move {
            match shared.advance(task, None, Command::Release, &[], None).await {
                Ok(_) => {}
                Err(EngineError::Store(error)) => untold(&error),
                Err(error) => tracing::debug!(%task, %error, "another server was faster"),
            }
        });
    }
    moves.join_all().await;
}

async fn held_here<C: Send + Sync + 'static>(shared: &Shared<C>) -> Result<BTreeSet<TaskId>, StoreError> {
    let tenure = shared.lease.current()?;
    let sighting = shared.store.look(shared.clock.steady_ms(), 0).await?;
    let own = sighting
        .held
        .into_iter()
        .filter(|row| row.owner.server == tenure.owner.server);
    Ok(own.map(|row| row.task).collect())
}

fn untold(error: &StoreError) {
    tracing::warn!(
        error = error as &dyn std::error::Error,
        "what is under way could not be given back: it is taken over as after a crash"
    );
}
