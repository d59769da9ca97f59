//! The OceanBase clusters a proxy cluster serves: `/api/v2/obproxy/clusters/{id}/obLinks…`. As with OCP there is no data in
//! the answers; how far a link is, is told by its status in the cluster.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    routing::{delete, post},
};
use obfleet_wire::obproxy::AddObLinks;

use crate::{
    app::{App, AppState},
    auth::Who,
    http::{ApiResult, Idempotency, Json, NoData, PathIds},
};

/// Below `/api/v2/obproxy`.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/clusters/{id}/obLinks/batchAdd", post(batch_add))
        .route("/clusters/{id}/obLinks/{obClusterName}", delete(remove))
}

/// Adds links: one task.
pub async fn batch_add(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
    Json(body): Json<AddObLinks>,
) -> ApiResult<NoData> {
    let once = key.of(&body, None)?;
    let cluster = path.id("id")?;
    app.fleet.add_ob_links(&who, cluster, &body.0, once.as_ref()).await?;
    Ok(NoData)
}

/// Takes a link away: one task.
pub async fn remove(State(app): AppState, Who(who, _): Who, path: PathIds, key: Idempotency) -> ApiResult<NoData> {
    let once = key.of(&(), None)?;
    let (cluster, name) = (path.id("id")?, path.text("obClusterName"));
    app.fleet.delete_ob_link(&who, cluster, name, once.as_ref()).await?;
    Ok(NoData)
}
