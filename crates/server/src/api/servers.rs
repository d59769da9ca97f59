//! The proxies of a cluster, chosen in the body: `/api/v2/obproxy/clusters/{id}/servers/…`. One task each.

use axum::extract::State;
use obfleet_fleet::plan::{Selection, operate::Restart, upgrade::Wanted};
use obfleet_wire::{
    obproxy::{ChosenServers, DeleteServers, RestartServers, UpgradeServers},
    task::TaskInstance,
};

use crate::{
    app::AppState,
    auth::{Who, right::Right},
    http::{ApiResult, Data, Idempotency, Json, PathIds},
    routes::Routes,
    task_view,
};

/// Below `/api/v2/obproxy`.
pub fn routes() -> Routes {
    let manage = Right::ObproxyManage.of_cluster("id");
    Routes::new()
        .post("/clusters/{id}/servers/stop", manage, stop)
        .post("/clusters/{id}/servers/start", manage, start)
        .post("/clusters/{id}/servers/restart", manage, restart)
        .post("/clusters/{id}/servers/upgrade", manage, upgrade)
        .post("/clusters/{id}/servers/delete", manage, delete)
}

/// Drains and stops proxies one after another, until they are started.
pub async fn stop(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
    Json(body): Json<ChosenServers>,
) -> ApiResult<Data<TaskInstance>> {
    let once = key.of(&body, None)?;
    let selection = Selection::in_body(&body.obproxy_server_ids);
    let stop = app.fleet.stop_obproxies(&who, path.id("id")?, selection, once.as_ref());
    Ok(Data(task_view::started(&stop.await?)))
}

/// Starts proxies that are down.
pub async fn start(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
    Json(body): Json<ChosenServers>,
) -> ApiResult<Data<TaskInstance>> {
    let once = key.of(&body, None)?;
    let selection = Selection::in_body(&body.obproxy_server_ids);
    let start = app
        .fleet
        .start_obproxies(&who, path.id("id")?, selection, once.as_ref());
    Ok(Data(task_view::started(&start.await?)))
}

/// Restarts proxies: hot, one after another, or by force, all at once.
pub async fn restart(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
    Json(body): Json<RestartServers>,
) -> ApiResult<Data<TaskInstance>> {
    let once = key.of(&body, None)?;
    let how = if body.hot_restart {
        Restart::Hot
    } else {
        Restart::Forced
    };
    let selection = Selection::in_body(&body.obproxy_server_ids);
    let restart = app
        .fleet
        .restart_obproxies(&who, path.id("id")?, selection, how, once.as_ref());
    Ok(Data(task_view::started(&restart.await?)))
}

/// Upgrades running proxies one after another.
pub async fn upgrade(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
    Json(body): Json<UpgradeServers>,
) -> ApiResult<Data<TaskInstance>> {
    let once = key.of(&body, None)?;
    let wanted = Wanted {
        short_rpm_name: Some(&body.short_rpm_name),
        operating_system: body.package_operating_system.as_deref(),
    };
    let selection = Selection::in_body(&body.obproxy_server_ids);
    let upgrade = app
        .fleet
        .upgrade_obproxies(&who, path.id("id")?, selection, wanted, once.as_ref());
    Ok(Data(task_view::started(&upgrade.await?)))
}

/// Takes proxies away, also such whose hosts are gone for good.
pub async fn delete(
    State(app): AppState,
    Who(who, _): Who,
    path: PathIds,
    key: Idempotency,
    Json(body): Json<DeleteServers>,
) -> ApiResult<Data<TaskInstance>> {
    let once = key.of(&body, None)?;
    let delete = app.fleet.delete_servers(&who, path.id("id")?, body, once.as_ref());
    Ok(Data(task_view::started(&delete.await?)))
}
