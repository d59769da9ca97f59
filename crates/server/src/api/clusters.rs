//! Proxy clusters: `/api/v2/obproxy/clusters…`.

use axum::extract::State;
use obfleet_wire::{
    envelope::Paged,
    obproxy::{CreateObproxyCluster, ObproxyCluster, PatchObproxyCluster},
    task::TaskInstance,
};

use crate::{
    app::AppState,
    auth::{Who, granted::Scope, right::Right},
    http::{ApiResult, Data, Entry, Idempotency, Json, ListQuery, PathIds},
    routes::Routes,
    task_view,
};

/// Below `/api/v2/obproxy`.
pub fn routes() -> Routes {
    Routes::new()
        .get("/clusters", Right::ObproxyView.filtered(), list)
        .post("/clusters", Right::ObproxyManage.whole(), create)
        .get("/clusters/{id}", Right::ObproxyView.of_cluster("id"), detail)
        .patch("/clusters/{id}", Right::ObproxyManage.of_cluster("id"), change)
        .delete("/clusters/{id}", Right::ObproxyManage.of_cluster("id"), remove)
}

/// Lists the clusters that the user may see.
pub async fn list(
    State(app): AppState,
    scope: Scope,
    query: ListQuery,
) -> ApiResult<Data<Paged<Entry<ObproxyCluster>>>> {
    let fleet = app.fleet.snapshot().await?;
    let clusters = fleet.clusters.values().filter(|cluster| scope.holds(cluster.id));
    Ok(Data(query.page_of(clusters.collect(), |cluster| {
        app.fleet.show_cluster(&fleet, cluster)
    })?))
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
