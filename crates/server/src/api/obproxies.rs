//! The proxies of a cluster: `/api/v2/obproxy/clusters/{id}/obproxies…`, and where their metrics are.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    routing::{delete, get, post},
};
use obfleet_fleet::ExporterTarget;
use obfleet_wire::{
    envelope::Contents,
    obproxy::{AddObproxy, UpgradeObproxy},
    task::TaskInstance,
};

use crate::{
    api::monitor,
    app::{App, AppState},
    auth::Who,
    http::{ApiResult, Data, Idempotency, Json, OptionalJson, PathIds},
    task_view,
};

/// Below `/api/v2/obproxy`.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/clusters/{id}/obproxies/batchAdd", post(batch_add))
        .route("/clusters/{id}/obproxies/{obproxyIds}", delete(remove))
        .route("/clusters/{id}/obproxies/{obproxyIds}/upgrade", post(upgrade))
        .route("/exporterTargets", get(exporter_targets))
        .route("/metrics", get(monitor::exposition))
}

/// Installs a proxy on each of some hosts: one task a host.
pub async fn batch_add(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
    Json(body): Json<AddObproxy>,
) -> ApiResult<Data<Contents<TaskInstance>>> {
    let once = key.of(&body, None)?;
    let tasks = app
        .fleet
        .add_obproxies(&who, path.id("id")?, body, once.as_ref())
        .await?;
    Ok(Data(Contents {
        contents: tasks.iter().map(task_view::started).collect(),
    }))
}

/// Takes proxies away: one task.
pub async fn remove(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
) -> ApiResult<Data<TaskInstance>> {
    let (cluster, proxies) = (path.id("id")?, path.ids("obproxyIds")?);
    let once = key.of(&(), None)?;
    let delete = app.fleet.delete_obproxies(&who, cluster, &proxies, once.as_ref());
    let task = delete.await?;
    Ok(Data(task_view::started(&task)))
}

/// Upgrades running proxies one after another: one task. Without a body, to the newest package that fits.
pub async fn upgrade(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
    OptionalJson(body): OptionalJson<UpgradeObproxy>,
) -> ApiResult<Data<TaskInstance>> {
    let (cluster, proxies) = (path.id("id")?, path.ids("obproxyIds")?);
    let once = key.of(&body, None)?;
    let upgrade = app
        .fleet
        .upgrade_obproxies(&who, cluster, &proxies, body, once.as_ref());
    let task = upgrade.await?;
    Ok(Data(task_view::started(&task)))
}

/// The proxies' metrics endpoints, for Prometheus' HTTP service discovery: a plain JSON array, no envelope.
pub async fn exporter_targets(State(app): AppState) -> ApiResult<axum::Json<Vec<ExporterTarget>>> {
    Ok(axum::Json(app.fleet.exporter_targets().await?))
}
