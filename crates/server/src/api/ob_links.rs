//! The OceanBase clusters a proxy cluster serves: `/api/v2/obproxy/clusters/{id}/obLinks…`. As with OCP there is no data in
//! the answers; how far a link is, is told by its status in the cluster.

use axum::extract::State;
use obfleet_wire::obproxy::AddObLinks;

use crate::{
    app::AppState,
    auth::{Who, right::Right},
    http::{ApiResult, Idempotency, Json, NoData, PathIds},
    routes::Routes,
};

/// Below `/api/v2/obproxy`.
pub fn routes() -> Routes {
    let manage = Right::ObproxyManage.of_cluster("id");
    Routes::new()
        .post("/clusters/{id}/obLinks/batchAdd", manage, batch_add)
        .delete("/clusters/{id}/obLinks/{obClusterName}", manage, remove)
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
