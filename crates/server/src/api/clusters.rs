//! Proxy clusters: `/api/v2/obproxy/clusters…`.

use std::sync::Arc;

use axum::{Router, extract::State, routing::get};
use obfleet_wire::{
    envelope::Paged,
    obproxy::{CreateObproxyCluster, ObproxyCluster, PatchObproxyCluster},
    task::TaskInstance,
};
use serde_json::Value;

use crate::{
    app::{App, AppState},
    auth::Who,
    http::{ApiResult, Data, Idempotency, Json, ListQuery, PathIds},
    task_view,
};

/// Below `/api/v2/obproxy`.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/clusters", get(list).post(create))
        .route("/clusters/{id}", get(detail).patch(change).delete(remove))
}

/// Lists all clusters.
pub async fn list(State(app): AppState, query: ListQuery) -> ApiResult<Data<Paged<Value>>> {
    Ok(Data(query.page(app.fleet.clusters().await?)?))
}

/// Shows one cluster.
pub async fn detail(State(app): AppState, path: PathIds) -> ApiResult<Data<ObproxyCluster>> {
    Ok(Data(app.fleet.cluster(path.id("id")?).await?))
}

/// Makes a cluster, with its first proxies if hosts are given.
pub async fn create(
    State(app): AppState,
    Who(who, _): Who,
    key: Idempotency,
    Json(body): Json<CreateObproxyCluster>,
) -> ApiResult<Data<TaskInstance>> {
    let once = key.of(&body, body.client_token.as_deref())?;
    let started = app.fleet.create_cluster(&who, body, once.as_ref()).await?;
    let mut task = task_view::started(&started.task);
    task.obproxy_cluster_id = Some(started.cluster_id);
    Ok(Data(task))
}

/// Changes what clients of a cluster connect to.
pub async fn change(
    State(app): AppState,
    path: PathIds,
    Json(body): Json<PatchObproxyCluster>,
) -> ApiResult<Data<ObproxyCluster>> {
    Ok(Data(app.fleet.patch_cluster(path.id("id")?, body).await?))
}

/// Deletes a cluster with its proxies.
pub async fn remove(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
) -> ApiResult<Data<TaskInstance>> {
    let once = key.of(&(), None)?;
    let task = app.fleet.delete_cluster(&who, path.id("id")?, once.as_ref()).await?;
    Ok(Data(task_view::started(&task)))
}
